"""A run's trace as curves for pages: grouped into charts, thinned so that every extreme stays, JSON for `charts.js`.

What `charts.js` takes, for a page as for what is new on a live one, is the document

    {"groups": [{"key": "losses", "title": "Losses", "curves": [{"name": "generatorLoss", "x": [...], "y": [...]}]}],
     "alarms": [{"kind": "collapse", "sentence": "...", "first": 2000, "last": 3000, "over": false}],
     "readings": 40, "last": 20000, "seconds": 508.7, "rate": 40.1}

`history.add(lines)` takes new lines; `history.document()` is that of everything so far, for `charts.show`, and
`history.document(lines)` that of these lines, which have been added, alone, for `charts.append`. x are iterations, a y
that is not finite is null, and `alarms` are always complete: each from the first to the last reading that told of it,
`over` when a later one did not; `readings` counts the readings of health. A history never holds more than 20,000 points
per curve, however long the run is.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ganglion.engine.pages.lines import Alarm, Line

POINTS = 1500  # of a curve that a page gets
KEPT = 20_000  # of a curve that a history keeps before it thins it
CURVES = 200  # that a page shows; a trace with more names than that is not from a run
ALARMS = 500
TITLES = {
    "losses": "Losses",
    "parts": "Parts of the losses",
    "validation": "Validation",
    "speed": "Speed (iterations per second)",
}
SPEED = "iterationsPerSecond"


class Curve:
    """Points of one figure, in the order of their iterations."""

    def __init__(self) -> None:
        self.x = array("d")
        self.y = array("d")

    def add(self, iteration: float, value: float) -> None:
        """One more point; a run that went back to a checkpoint takes the later points with it."""
        x, y = self.x, self.y
        while x and x[-1] >= iteration:
            x.pop()
            y.pop()
        x.append(iteration)
        y.append(value)
        if len(x) > KEPT:
            chosen = thinned(x, y, KEPT // 4)
            self.x = array("d", (x[index] for index in chosen))
            self.y = array("d", (y[index] for index in chosen))

    def document(self, name: str, limit: int = POINTS) -> dict[str, Any]:
        """The curve as `charts.js` takes it."""
        chosen = thinned(self.x, self.y, limit)
        return {"name": name, "x": [int(self.x[i]) for i in chosen], "y": [_plain(self.y[i]) for i in chosen]}


def thinned(x: Sequence[float], y: Sequence[float], limit: int) -> list[int]:
    """Which points to keep, at most `limit`: of equal stretches of x the lowest, the highest and a missing one."""
    count = len(x)
    if count <= limit:
        return list(range(count))
    stretches = max(1, (limit - 2) // 3)
    places, values = np.asarray(x), np.asarray(y)
    stretch = np.minimum(((places - places[0]) * (stretches / max(places[-1] - places[0], 1.0))).astype(int), stretches)
    finite = np.isfinite(values)
    order = np.lexsort((np.where(finite, values, np.inf), stretch))  # the lowest of each stretch first
    first = np.flatnonzero(np.diff(stretch[order], prepend=-1))
    counts = np.bincount(stretch[finite], minlength=stretches + 1)[stretch[order[first]]]
    lowest, highest = order[first[counts > 0]], order[(first + counts - 1)[counts > 0]]
    missing = np.flatnonzero(~finite)
    missing = missing[np.unique(stretch[missing], return_index=True)[1]]
    return sorted({0, count - 1, *lowest.tolist(), *highest.tolist(), *missing.tolist()})


class History:
    """Everything that a page shows of one trace so far."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Curve]] = {}
        self.alarms: list[dict[str, Any]] = []
        self.last = 0
        self.seconds: float | None = None
        self.rate: float | None = None
        self.best: int | None = None  # iteration of the best validation
        self.readings = 0  # of health
        self.left_out: set[str] = set()  # names beyond the limit

    def add(self, lines: Iterable[Line]) -> None:
        """Take new lines, in their order."""
        for line in lines:
            self._note(line)
            for group, name, value in _figures(line):
                curve = self.groups.get(group, {}).get(name) or self._new_curve(group, name)
                if curve is not None:
                    curve.add(line.iteration, value)

    def document(self, lines: Iterable[Line] | None = None) -> dict[str, Any]:
        """Everything so far, or the curves of `lines` alone."""
        groups = self.groups
        if lines is not None:
            new = History()
            new.add(lines)
            groups = new.groups
        described = [
            {"key": key, "title": title(key), "curves": [curve.document(name) for name, curve in curves.items()]}
            for key, curves in sorted(groups.items(), key=lambda item: _place(item[0]))
        ]
        return {
            "groups": described,
            "alarms": [dict(alarm) for alarm in self.alarms],
            "readings": self.readings,
            "last": self.last,
            "seconds": self.seconds,
            "rate": self.rate,
        }

    def newest(self, kind: str) -> dict[str, float | None]:
        """The newest value of every figure of a kind: losses, parts, validation, health or speed."""
        groups = {key: curves for key, curves in self.groups.items() if key.partition(".")[0] == kind}
        return {name: self.latest(key, name) for key, curves in groups.items() for name in curves}

    def latest(self, group: str, name: str) -> float | None:
        """The newest value of a figure; None where there is none or it is not finite."""
        curve = self.groups.get(group, {}).get(name)
        return _plain(curve.y[-1]) if curve is not None and curve.y else None

    def _note(self, line: Line) -> None:
        self.last = line.iteration
        if line.kind == "progress":
            self.seconds, self.rate = line.seconds, _plain(line.rate)
        elif line.kind == "validation" and line.best:
            self.best = line.iteration
        elif line.kind == "health":
            self.readings += 1
            self._note_alarms(line.iteration, line.alarms)

    def _note_alarms(self, iteration: int, alarms: Sequence[Alarm]) -> None:
        self.alarms = [alarm for alarm in self.alarms if alarm["first"] < iteration]
        current = {alarm["kind"]: alarm for alarm in self.alarms if not alarm["over"]}
        told = {alarm.kind: alarm.sentence for alarm in alarms}
        for kind, alarm in current.items():
            alarm["over"] = kind not in told
        for kind, sentence in told.items():
            if kind in current:
                current[kind].update(sentence=sentence, last=iteration)
            elif len(self.alarms) < ALARMS:
                new = {"kind": kind, "sentence": sentence, "first": iteration, "last": iteration, "over": False}
                self.alarms.append(new)

    def _new_curve(self, group: str, name: str) -> Curve | None:
        if sum(map(len, self.groups.values())) >= CURVES:
            self.left_out.add(name)
            return None
        return self.groups.setdefault(group, {}).setdefault(name, Curve())


def _figures(line: Line) -> Iterator[tuple[str, str, float]]:
    """Every value of a line with the chart that it belongs to."""
    if line.rate is not None:
        yield "speed", SPEED, line.rate
    for name, value in line.values.items():
        yield _group(line.kind, name), name, value


@lru_cache(10_000)
def _group(kind: str, name: str) -> str:
    """Losses, what they consist of, validation; figures of health by what `generator.` and `...Real` leave of them."""
    if kind == "progress":
        return "losses" if name.lower().endswith("loss") else "parts"
    figure = name.rpartition(".")[2]
    return kind if kind == "validation" else f"health.{re.sub(r'(?<=[a-z])(Real|Fake)$', '', figure) or figure}"


def title(key: str) -> str:
    """What stands above a chart."""
    return TITLES.get(key) or f"Health: {in_words(key.partition('.')[2])}"


def in_words(name: str) -> str:
    """`updateRatio` as `update ratio`, `generator.update` as `generator: update`."""
    parted = re.sub(r"(?<=[a-z0-9])([A-Z])(?=[a-z])", lambda match: f" {match[1].lower()}", name)
    return parted.replace(".", ": ")


def _place(key: str) -> int:
    """Losses first, then what they consist of, validation, health, speed."""
    order = ("losses", "parts", "validation", "health", "speed")
    kind = key.partition(".")[0]
    return order.index(kind) if kind in order else len(order)


def _plain(value: float | None) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
