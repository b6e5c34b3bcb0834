"""What the events of one run have said so far: bounded histories, the latest of each kind, the rate."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from ganglion.engine.terminal.samples import MOST, Kept, keep
from ganglion.engine.trace import (
    CheckpointStored,
    HealthRead,
    Notice,
    RunStarted,
    SamplesMade,
    TracePoint,
    Validated,
)

RATE_WINDOW = 10.0  # seconds over which the rate between trace points is measured
KEPT_NOTICES = 30


class History:
    """A bounded history of one value: when full, neighbours are averaged, so that it always spans the whole run."""

    def __init__(self, capacity: int = 240) -> None:
        self.capacity = capacity
        self.values: list[float] = []
        self.last, self.low, self.high = math.nan, math.inf, -math.inf
        self._stride = 1
        self._open: list[float] = []

    def append(self, value: float) -> None:
        self.last = value
        if math.isfinite(value):
            self.low, self.high = min(self.low, value), max(self.high, value)
        self._open.append(value)
        if len(self._open) < self._stride:
            return
        self.values.append(sum(self._open) / self._stride)
        self._open.clear()
        if len(self.values) >= self.capacity:
            self.values = [
                (first + second) / 2 for first, second in zip(self.values[::2], self.values[1::2], strict=False)
            ]
            self._stride *= 2

    def curve(self) -> list[float]:
        """What is to be drawn, the values not yet averaged included."""
        return [*self.values, self._open[-1]] if self._open else list(self.values)


@dataclass
class RunState:
    """What the events of one run have said so far; samples are kept only where a picture is wanted."""

    started: RunStarted
    clock: Callable[[], float]
    with_picture: bool = False
    histories: dict[str, History] = field(default_factory=dict)
    point: TracePoint | None = None
    validated: Validated | None = None
    checkpoint: CheckpointStored | None = None
    health: HealthRead | None = None
    samples: Kept | None = None
    notices: dict[str, int] = field(default_factory=dict)  # message -> how often, the latest last
    dropped: int = 0
    drawn: tuple[Any, list[Text]] | None = None  # the picture as it was drawn last, under what it depends on
    moves: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=128))

    def __post_init__(self) -> None:
        self.begun = self.pointed = self.stored = self.clock()

    def note(self, event: Any) -> None:
        """Take in one event."""
        if isinstance(event, TracePoint):
            self.point, self.pointed = event, self.clock()
            self.record(event.values)
        elif isinstance(event, Validated):
            self.validated = event
        elif isinstance(event, CheckpointStored):
            self.checkpoint, self.stored = event, self.clock()
        elif isinstance(event, HealthRead):
            self.health = event
        elif isinstance(event, SamplesMade):
            if self.with_picture and event.spec.kind in MOST:
                self.samples = keep(event)
        elif isinstance(event, Notice):
            self.notices[event.message] = self.notices.pop(event.message, 0) + 1
            if len(self.notices) > KEPT_NOTICES:
                self.dropped += self.notices.pop(next(iter(self.notices)))

    def record(self, values: Mapping[str, float]) -> None:
        """Add to the history of each value."""
        for name, value in values.items():
            self.histories.setdefault(name, History()).append(float(value))

    def rate(self, iteration: int) -> float:
        """Iterations per second over the last seconds; between trace points too, so that it is never stale."""
        now = self.clock()
        self.moves.append((now, iteration))
        while len(self.moves) > 2 and now - self.moves[0][0] > RATE_WINDOW:
            self.moves.popleft()
        start, first = self.moves[0]
        moved = iteration - first
        if moved > 0 and now - start >= 0.5:
            return moved / (now - start)
        return self.point.rate if self.point is not None else math.nan

    def elapsed(self) -> float:
        """Seconds of learning over all sessions, as far as they are known."""
        if self.point is not None:
            return self.point.seconds + self.clock() - self.pointed
        return self.clock() - self.begun if self.started.iteration == 0 else math.nan

    def news(self) -> list[tuple[str, int]]:
        """The notices, with how often each came, without those that repeat a standing alarm."""
        alarms = self.health.alarms if self.health is not None else ()
        return [
            (message, times)
            for message, times in list(self.notices.items())
            if not any(alarm.sentence in message for alarm in alarms)
        ]
