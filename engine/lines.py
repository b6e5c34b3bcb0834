"""The lines trace: one JSON object per trace point, appended to the run's `trace.jsonl`."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from typing import Any

from ganglion.engine.contracts import Trace
from ganglion.engine.errors import StoreError
from ganglion.engine.settings import Settings, setting
from ganglion.engine.trace import CheckpointStored, HealthRead, TraceContext, TracePoint, Validated

RESERVED = ("iteration", "seconds", "iterationsPerSecond", "validation", "best", "health", "alarms", "nonFinite")


class LinesSettings(Settings):
    """What `traces=lines` takes."""

    flush_seconds: float = setting(1.0, "the longest that lines wait in memory while events arrive", unit="s", ge=0)


class LinesTrace(Trace):
    """Appends to `trace.jsonl`: valid JSON always, numbers that are not finite as null and named in `nonFinite`."""

    Settings = LinesSettings

    def __init__(
        self, settings: LinesSettings, context: TraceContext, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = context.directory / "trace.jsonl"
        self.flush_seconds = settings.flush_seconds
        self.clock = clock
        self._file: FileIO | None = None
        self._pending = bytearray()
        self._flushed = -math.inf
        self._failed = False

    def receive(self, event: Any) -> None:
        if isinstance(event, TracePoint):
            fixed = {"iteration": event.iteration, "seconds": round(event.seconds, 3)}
            self._write({**fixed, "iterationsPerSecond": _significant(event.rate), **_renamed(event.values)})
        elif isinstance(event, Validated):
            self._write_nested(event.iteration, "validation", event.values, {"best": event.best})
        elif isinstance(event, HealthRead):
            alarms = [alarm._asdict() for alarm in event.alarms]
            self._write_nested(event.iteration, "health", event.values, {"alarms": alarms} if alarms else {})
        elif isinstance(event, CheckpointStored):
            self.flush()

    def offset(self) -> int:
        """Flush to the disk itself; the file's length in bytes, which a checkpoint records."""
        self.flush()
        with self._explained():
            file = self._open()
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def flush(self) -> None:
        """Hand everything written so far to the file. Raises StoreError where that is not possible."""
        with self._explained():
            file = self._open()
            while self._pending:  # what a partly successful write took is not written twice
                del self._pending[: file.write(self._pending)]
        self._flushed = self.clock()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise StoreError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def close(self) -> None:
        try:
            if self._pending and not self._failed:  # after a failure the error has been told already
                self.flush()
        finally:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def _write_nested(self, iteration: int, name: str, values: Mapping[str, float], more: Mapping[str, Any]) -> None:
        numbers, wrong = _finite(values)
        line = {"iteration": iteration, name: numbers, **more}
        self._write({**line, "nonFinite": wrong} if wrong else line)

    def _write(self, line: Mapping[str, Any]) -> None:
        values, wrong = _finite(line)
        if wrong:
            values["nonFinite"] = wrong
        self._pending += json.dumps(values, allow_nan=False, separators=(", ", ": ")).encode() + b"\n"
        if self.clock() - self._flushed >= self.flush_seconds:
            self.flush()

    def _open(self) -> FileIO:
        if self._file is None:  # unbuffered: the buffer is ours, so that its fate after an error is known
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        return self._file


def _finite(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values with null for each number that is not finite, and the names of those."""
    wrong = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    return {name: None if name in wrong else value for name, value in values.items()}, wrong


def _renamed(values: Mapping[str, float]) -> dict[str, float]:
    """Plain floats; a progress value that bears the name of a fixed key becomes `progress.<name>`."""
    return {f"progress.{name}" if name in RESERVED else name: float(value) for name, value in values.items()}


def _significant(value: float) -> float:
    return float(f"{value:.6g}")
