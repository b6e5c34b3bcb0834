"""The lines of a run's `trace.jsonl`, read from a byte offset on, so that a page can follow a run that is learning.

    reader = TraceReader(run.trace_path)
    history = History()                       # engine/pages/series.py
    batch = reader.read()                     # the whole lines that are new since the last call
    if batch.restarted:                       # the file was cut or replaced: what was read before counts no more
        history = History()
    history.add(batch.lines)

Nothing in a trace is trusted: a line that the lines trace would not write is counted in `reader.damaged`, and left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine.tables import one_line

CHUNK = 2**23  # bytes that one reading takes at a time
LONGEST = 2**20  # bytes of a line; a longer one is damaged
MARK = 64  # bytes before the offset by which a file is known to be the one that was read
NAME = 80  # characters of a name that are shown
FIXED = ("iteration", "seconds", "iterationsPerSecond", "nonFinite")


class Alarm(NamedTuple):
    """What a reading of a run's health says is wrong."""

    kind: str
    sentence: str


class Line(NamedTuple):
    """One event: `kind` is progress, validation or health; a value that is not finite is nan."""

    kind: str
    iteration: int
    values: Mapping[str, float]
    seconds: float | None = None
    rate: float | None = None
    alarms: tuple[Alarm, ...] = ()
    best: bool = False


class Batch(NamedTuple):
    """The new lines, and whether the file had to be read from its beginning again."""

    lines: list[Line]
    restarted: bool = False


class TraceReader:
    """Follows one `trace.jsonl`; the file may be missing, grow, be cut when its run goes on, or be replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.damaged = 0
        self._mark = b""

    def read(self, most: int | None = None) -> Batch:
        """All new whole lines, or about `most` bytes of them; a last line without its end is left for the next call."""
        try:
            with open(self.path, "rb") as file:
                restarted = not self._is_same(file)
                if restarted:
                    self.offset, self.damaged, self._mark = 0, 0, b""
                file.seek(self.offset)
                return Batch(self._lines(file, most), restarted)
        except OSError:  # missing, or a folder: there is nothing yet
            return Batch([])

    def _is_same(self, file: Any) -> bool:
        if not self.offset:
            return True
        file.seek(self.offset - len(self._mark))
        return bool(file.read(len(self._mark)) == self._mark)

    def _lines(self, file: Any, most: int | None) -> list[Line]:
        found: list[Line] = []
        taken = 0
        while most is None or taken < most:
            block = file.read(CHUNK)
            end = block.rfind(b"\n") + 1
            if not end:
                if len(block) < CHUNK:  # the end of the file, or half a line
                    break
                end, self.damaged = len(block), self.damaged + 1
            whole = block[:end]
            found += self._parsed(whole)
            self.offset += end
            taken += end
            self._mark = (self._mark + whole[-MARK:])[-MARK:]
            file.seek(self.offset)
        return found

    def _parsed(self, block: bytes) -> list[Line]:
        lines = []
        for text in block.splitlines():
            line = _parse(text) if text.strip() else None
            if line is not None:
                lines.append(line)
            elif text.strip():
                self.damaged += 1
        return lines


def _parse(text: bytes) -> Line | None:
    if len(text) > LONGEST:
        return None
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    iteration = row.get("iteration") if isinstance(row, dict) else None
    if type(iteration) is not int or not 0 <= iteration < 2**53:
        return None
    if isinstance(row.get("validation"), dict):
        return Line("validation", iteration, _numbers(row["validation"]), best=row.get("best") is True)
    if isinstance(row.get("health"), dict):
        return Line("health", iteration, _numbers(row["health"]), alarms=_alarms(row.get("alarms")))
    seconds, rate = _number(row.get("seconds")), _number(row.get("iterationsPerSecond"))
    for name in FIXED:
        row.pop(name, None)
    return Line("progress", iteration, _numbers(row), seconds, rate)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers by name; null stands for one that is not finite, and what is no number is left out."""
    found = {}
    for name, value in values.items():
        number = math.nan if value is None else value if type(value) is float else _number(value)
        if number is not None:
            found[_name(name)] = number
    return found


@lru_cache(10_000)
def _name(name: str) -> str:
    return one_line(name, NAME)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _alarms(value: Any) -> tuple[Alarm, ...]:
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    return tuple(
        Alarm(one_line(entry.get("kind", ""), NAME), one_line(entry.get("sentence", ""), 1000))
        for entry in entries[:50]
    )
