"""Reads CSV files: separator and header guessed or given, quoted cells, every row as long as the first."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ganglion.datasets.columns import Columns
from ganglion.engine.api import ConfigError, DataError

SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
GUESSED = ("\t", ";", ",")  # a comma may also be part of a number or a text, so it comes last
LOOK_AT = 20  # rows


def read_csv(path: Path, separator: str = "auto", header: bool | None = None) -> Columns:
    """The columns as text. Raises DataError, naming the line, for ragged rows and broken quotes, and for no rows."""
    rows = list(_rows(path, _separator(path, separator)))
    if not rows:
        raise DataError(f"{path}: the file is empty, expected rows of numbers")
    has_header = _is_header([cells for _, cells in rows[:2]]) if header is None else header
    width = len(rows[0][1])
    for line, cells in rows:
        if len(cells) != width:
            raise DataError(f"{path}: line {line} has {len(cells)} cells, the first row has {width}")
    names = tuple(name or str(i) for i, name in enumerate(rows[0][1])) if has_header else tuple(map(str, range(width)))
    body = rows[1:] if has_header else rows
    if not body:
        raise DataError(f"{path}: the file has a header ({', '.join(names[:5])}) but no rows")
    lines = [line for line, _ in body]
    columns = list(zip(*(cells for _, cells in body), strict=True))
    return Columns(path, names, columns, lambda row: f"line {lines[row]}")


def _rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row ends, and its cells without blanks around them; blank lines are left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=separator, strict=True)
            try:
                for cells in reader:
                    if cells:
                        yield reader.line_num, [cell.strip() for cell in cells]
            except csv.Error as error:
                raise DataError(f"{path}: line {reader.line_num} is not valid CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 (byte {error.start} of a block)") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _separator(path: Path, given: str) -> str:
    if given != "auto":
        separator = SEPARATORS.get(given.lower(), given)
        if len(separator) != 1 or separator in '"\r\n':
            raise ConfigError(f"separator={given}: expected auto, tab, or one character")
        return separator
    widths = {candidate: _widths(path, candidate) for candidate in GUESSED}
    for candidate, found in widths.items():
        if found and found[0] > 1 and len(set(found)) == 1:
            return candidate
    return max(reversed(GUESSED), key=lambda candidate: (widths[candidate] or [0])[0])


def _widths(path: Path, separator: str) -> list[int]:
    """Cells in each of the first rows; what is broken is told when the file is read in earnest."""
    widths: list[int] = []
    with suppress(DataError):
        for _, cells in _rows(path, separator):
            widths.append(len(cells))
            if len(widths) == LOOK_AT:
                break
    return widths


def _is_header(first_rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row holds names: none of its cells is a number, and one below is, or there is no row below.

    A number among the names would make a first row with one bad cell look like a header, and lose it without a word.
    """
    if any(_is_number(cell) for cell in first_rows[0]) or not any(first_rows[0]):
        return False
    return len(first_rows) == 1 or any(_is_number(cell) for cell in first_rows[1])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
