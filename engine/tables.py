"""The one way in which commands and traces print: cleaned text, numbers, aligned pairs, tables, sparklines, JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

BLUE = "#56B4E9"  # this pair stays apart for every common kind of colour blindness
ORANGE = "#E69F00"
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-~=+*#"
NARROWEST_COLUMN = 8
SAME = 1e-12  # share by which numbers differ that were the same before their means were taken

# Whole escape sequences go, not only their first character: OSC and similar strings, CSI, then any two-byte form.
ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]).*?(?:\x07|\x1b\\|\x9c|$)|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b.?"
)
BIDIRECTIONAL = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_text(text: object) -> str:
    """Text that is safe on a terminal: no escape sequences, control or direction characters; blanks for line ends."""
    plain = ESCAPES.sub("", str(text))
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(_clean_character(character) for character in plain)


def clean_lines(text: object) -> str:
    """Cleaned text of several lines."""
    return "\n".join(map(clean_text, str(text).splitlines()))


def one_line(text: object, longest: int = 2000) -> str:
    """Cleaned text for a person: what is quoted in it may be of any length, so the middle of a long one is left out."""
    plain = clean_text(text)
    if len(plain) <= longest:
        return plain
    return f"{plain[: longest // 2]} ... {plain[5 - longest // 2 :]}"


def _clean_character(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\n\t" or category in ("Zl", "Zp"):
        return " "
    if category == "Cs":  # half a character, as undecodable file names hold: it cannot be written
        return "\ufffd"
    return "" if category == "Cc" or character in BIDIRECTIONAL else character


# --- numbers ------------------------------------------------------------------------------------------------------


def format_number(value: float) -> str:
    """A measured value with about four significant digits, in at most ten characters."""
    if not math.isfinite(value):
        return str(float(value))
    if value == 0:
        return "0"
    text = f"{value:.3e}"
    magnitude = int(text.partition("e")[2])
    if -4 <= magnitude < 6:
        return f"{value:.{max(0, min(6, 3 - magnitude))}f}"
    return text if len(text) <= 10 else f"{value:.2e}"


def format_duration(seconds: float, precise: bool = True) -> str:
    """Seconds as `12.3 s`, `1:02` or `49:02:03`; `-` where they are not known."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s" if precise else f"{max(0, int(seconds))} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: Sequence[float], width: int, ascii_only: bool = False) -> str:
    """`values` as at most `width` characters of bar heights, `!` where one is not finite."""
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    edges = [len(values) * index // count for index in range(count + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    if high - low <= SAME * max(abs(low), abs(high)):  # only the rounding of means differs
        low = high
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    return "".join(_block(mean, low, high, blocks) for mean in means)


def _block(value: float, low: float, high: float, blocks: str) -> str:
    if not math.isfinite(value):
        return "!"
    if high <= low:
        return blocks[len(blocks) // 2 - 1]
    share = value / (high - low) - low / (high - low)  # in this order nothing overflows
    return blocks[min(len(blocks) - 1, max(0, int(share * len(blocks))))] if math.isfinite(share) else "!"


# --- pairs and tables ---------------------------------------------------------------------------------------------


def shorten(text: str, width: int, ascii_only: bool = False) -> Text:
    """Cleaned text in at most `width` cells, with an ellipsis where something was left out."""
    line = Text(clean_text(text), no_wrap=True)
    if line.cell_len > width:
        mark = "..." if ascii_only else "…"
        line.truncate(max(0, width - len(mark)))
        line.append(mark[: max(0, width)])
    return line


def shorten_middle(text: str, width: int, ascii_only: bool = False) -> Text:
    """As `shorten`, but both ends stay: names that begin alike are told apart by their ends."""
    plain, mark = clean_text(text), "..." if ascii_only else "…"
    if Text(plain).cell_len <= width or width < 2 * len(mark) + 2:
        return shorten(plain, width, ascii_only)
    room = (width - len(mark) + 1) // 2
    head, end = Text(plain, no_wrap=True), plain[-room:]
    while Text(end).cell_len > room:
        end = end[1:]
    head.truncate(width - len(mark) - Text(end).cell_len)
    return head.append(mark + end)


def wrap(text: str, width: int, first: Text, console: Console | None = None, style: str = "") -> list[Text]:
    """Cleaned text after `first`, in lines of at most `width` cells; the later ones hang below the text."""
    room = max(1, width - first.cell_len)
    parts = Text(clean_text(text), style=style).wrap(console or Console(), room, overflow="fold")
    lines = []
    for number, part in enumerate(parts):
        part.rstrip()
        lines.append(Text.assemble(first if number == 0 else " " * first.cell_len, part))
    return lines or [first]


def pair_lines(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], width: int, indent: int = 2) -> list[Text]:
    """Label and text pairs with the texts aligned; long texts go on in the next line, below the text."""
    items = [
        (clean_text(label), _cell(value)) for label, value in (pairs.items() if isinstance(pairs, Mapping) else pairs)
    ]
    column = min(max((Text(label).cell_len for label, _ in items), default=0), max(1, width // 2))
    lines = []
    for label, value in items:
        first = Text(" " * indent) + Text(label, style="bold")
        if first.cell_len > indent + column:  # a label wider than the column has a line of its own
            lines += wrap(label, width, Text(" " * indent), style="bold")
            first = Text()
        first.append(" " * (indent + column + 2 - first.cell_len))
        lines += wrap(value, width, first)
    for line in lines:
        line.rstrip()
    return lines


def print_pairs(
    pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], console: Console | None = None, title: str | None = None
) -> None:
    """Print label and text pairs, aligned, under an optional title."""
    console = console or Console()
    if title is not None:
        _print(console, wrap(title, console.width, Text(), style="bold"))
    _print(console, pair_lines(pairs, console.width, indent=0 if title is None else 2))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], console: Console | None = None, title: str | None = None
) -> None:
    """Print rows under column heads: numbers to the right, long cells wrapped, plain when not on a terminal."""
    console = console or Console()
    values = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in values]
    if title is not None:
        _print(console, wrap(title, console.width, Text(), style="bold"))
    if _narrowest(columns, cells) > console.width:
        for row in cells:
            _print(console, [*pair_lines(zip(columns, row, strict=True), console.width), Text()])
        return
    table = Table(
        box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, padding=(0, 1), collapse_padding=False
    )
    for index, column in enumerate(columns):
        numeric = _is_numeric([row[index] for row in values])
        table.add_column(
            Text(clean_text(column)),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=numeric,
            min_width=min(NARROWEST_COLUMN, _longest(column, cells, index)),
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    if console.is_terminal:
        console.print(table)
        return
    for line in console.render_lines(table, pad=False):
        _print(console, [Text("".join(segment.text for segment in line).rstrip())])


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    return clean_text(value)


def _is_numeric(values: Iterable[Any]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present)


def _longest(column: str, cells: Sequence[Sequence[str]], index: int) -> int:
    return max(Text(text).cell_len for text in (clean_text(column), *(row[index] for row in cells)))


def _narrowest(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """The width below which a table would have columns too narrow to read."""
    return sum(min(NARROWEST_COLUMN, _longest(column, cells, index)) + 2 for index, column in enumerate(columns)) - 2


# --- JSON ---------------------------------------------------------------------------------------------------------


def print_json(value: Any, file: TextIO | None = None) -> None:
    """Print `value` as valid JSON on the standard output: ASCII only, null for what is not finite."""
    stream = file or sys.stdout
    stream.write(json.dumps(to_plain(value), indent=2, allow_nan=False) + "\n")
    stream.flush()


def to_plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers that are not finite become null, records objects, unknown things text."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    record = _record(value)
    if record is not None:
        return {str(key): to_plain(item) for key, item in record.items()}
    if hasattr(value, "tolist"):  # arrays and tensors
        return to_plain(value.tolist())
    if isinstance(value, (set, frozenset)):
        return sorted((to_plain(item) for item in value), key=str)
    return [to_plain(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


def _record(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "_asdict"):
        return dict(value._asdict())
    if hasattr(value, "model_dump"):
        return dict(value.model_dump(by_alias=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None
