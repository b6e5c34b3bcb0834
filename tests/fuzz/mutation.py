"""A seeded mutator: bit flips, cuts, splices, repeats, and the numbers and words at which parsers go wrong."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
EDGES = (
    b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"4294967295", b"9223372036854775808", b"-9223372036854775809",
    b"1e400", b"-1e-400", b"nan", b"inf", b"1" * 5000, b"0x10", b"1_000", b"0.1", "\u0663".encode(), b"true", b"none",
)  # fmt: skip
WORDS = (
    b"\x00", b"\n", b"\r", b"\t", b"\x1b[2J", b"\x9b1m", "\u202e".encode(), b"\xff\xfe", b"\xed\xa0\x80", b"'", b'"',
    b"{", b"[", b"}", b"]", b": ", b"- ", b"&a ", b"*a", b"<<: ", b"!!", b"!!python/object/apply:os.system [x]", b"? ",
    b"| ", b"> ", b"%YAML 1.1\n", b"---\n", b"...\n", b"${", b"}", b"../", b"/dev/zero", b"~", b"=", b",", b".", b":",
    b"__class__", b"__proto__", b"%s", b"{0}", b"\\x1b", b"\xef\xbb\xbf", b"--", b"-", b"*", b"<<", b"1 2", b";", b"[["
)  # fmt: skip
BYTES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff" * 8, b"\x00\x01")

Change = Callable[[random.Random, bytearray, bytes], None]


def _flip(draw: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _overwrite(draw: random.Random, data: bytearray, other: bytes) -> None:
    at, what = _place(draw, data), draw.choice((*BYTES, *WORDS))
    data[at : at + len(what)] = what


def _insert(draw: random.Random, data: bytearray, other: bytes) -> None:
    at = _place(draw, data)
    data[at:at] = draw.choice((*WORDS, *EDGES, draw.randbytes(draw.randrange(1, 5))))


def _cut(draw: random.Random, data: bytearray, other: bytes) -> None:
    at = _place(draw, data)
    del data[at : at + draw.choice((1, 2, 8, len(data)))]


def _repeat(draw: random.Random, data: bytearray, other: bytes) -> None:
    at = _place(draw, data)
    part = bytes(data[at : at + draw.randrange(1, 40)])
    data[at:at] = part * draw.choice((1, 2, 50))


def _splice(draw: random.Random, data: bytearray, other: bytes) -> None:
    at, start = _place(draw, data), draw.randrange(len(other) + 1)
    data[at : at + draw.randrange(40)] = other[start : start + draw.randrange(60)]


def _number(draw: random.Random, data: bytearray, other: bytes) -> None:
    found = list(NUMBER.finditer(data))
    if found:
        match = draw.choice(found)
        data[match.start() : match.end()] = draw.choice(EDGES)


def _swap_lines(draw: random.Random, data: bytearray, other: bytes) -> None:
    lines = bytes(data).split(b"\n")
    one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    data[:] = b"\n".join(lines)


CHANGES: Sequence[Change] = (_flip, _overwrite, _insert, _cut, _repeat, _splice, _number, _number, _swap_lines)


def _place(draw: random.Random, data: bytearray) -> int:
    return draw.randrange(len(data) + 1)


def mutated(seeds: Sequence[bytes], draw: random.Random) -> bytes:
    """One of the seeds with one to five changes, most often with one."""
    data, other = bytearray(draw.choice(seeds)), draw.choice(seeds)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 5))):
        draw.choice(CHANGES)(draw, data, other)
    return bytes(data)
