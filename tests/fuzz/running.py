"""Gives inputs to a target and counts what becomes of them: accepted, refused in one sentence, or a crash."""

from __future__ import annotations

import random
import signal
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fuzz.mutation import mutated

from ganglion.engine.errors import InputError
from ganglion.engine.tables import BIDIRECTIONAL, one_line

SECONDS = 20  # that one input may take
LONGEST = 2000  # characters of a sentence
CORPUS = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    """A parser under test: the valid inputs that are mutated, and what reads an input (InputError: it was refused)."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], object]


class Crash(NamedTuple):
    """An input that was answered with anything but acceptance or one sentence."""

    data: bytes
    reason: str


class TooSlow(BaseException):
    """An input takes longer than any may."""


@dataclass
class Tally:
    """What became of the inputs of one target."""

    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    crashes: dict[str, Crash] = field(default_factory=dict)  # the first of each kind
    crashed: int = 0

    @property
    def refused(self) -> int:
        """How many were answered with one sentence."""
        return self.inputs - self.accepted - self.crashed


def answer(target: Target, data: bytes) -> str | None:
    """None where the input was accepted, else the sentence with which it was refused. Any other exception escapes."""
    with _limited(), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            target.read(data)
        except InputError as error:
            sentence = one_line(error)
            assert not any(map(is_command, sentence)), f"a terminal would obey: {sentence[:200]!r}"
            assert 0 < len(sentence) <= LONGEST, f"no sentence: {sentence[:200]!r}"
            return sentence
    return None


def run(target: Target, inputs: int, seed: int = 0) -> Tally:
    """Give `inputs` mutations of the target's seeds to it."""
    draw, seeds, tally = random.Random(seed), list(target.seeds()), Tally()
    began = time.monotonic()
    for _ in range(inputs):
        data = mutated(seeds, draw)
        started = time.monotonic()
        tally.inputs += 1
        try:
            tally.accepted += answer(target, data) is None
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            tally.crashed += 1
            tally.crashes.setdefault(_place(error), Crash(data, f"{type(error).__name__}: {error}"[:300]))
        tally.slowest = max(tally.slowest, time.monotonic() - started)
    tally.seconds = time.monotonic() - began
    return tally


def corpus(target: str) -> list[Path]:
    """Inputs that once crashed a target, or stand for a kind of attack."""
    return sorted((CORPUS / target).glob("*"))


def is_command(character: str) -> bool:
    """Whether a terminal does something else than to draw this character."""
    return character in BIDIRECTIONAL or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _place(error: BaseException) -> str:
    """Where a crash came from, so that one mistake counts as one kind."""
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " ".join((type(error).__name__, *places[-2:]))


@contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TooSlow(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
