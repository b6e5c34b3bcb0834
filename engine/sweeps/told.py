"""What a trial's run tells as it learns, from its `trace.jsonl`, and what it came to in the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine.errors import suggestion
from ganglion.engine.pages.lines import Line, TraceReader
from ganglion.engine.sweeps.planning import Aim

KINDS = ("validation", "health")


class Verdict(NamedTuple):
    """The figure that is searched for; where there is none, why, and whether that is so for every trial."""

    value: float | None
    problem: str = ""
    always: bool = False


class Follower:
    """Reads one figure of a trace, step by step, while the run goes on."""

    def __init__(self, path: Path, aim: Aim) -> None:
        self.aim = aim
        self._reader = TraceReader(path)

    def read(self) -> list[tuple[int, float]]:
        """Iterations and values that are new; after a run went on from a checkpoint, some for a second time."""
        return figures(self._reader.read().lines, self.aim.name)


def figures(lines: Iterable[Line], name: str) -> list[tuple[int, float]]:
    """One figure of a trace: `validation.loss`, `health.collapse`, or the name of what a strategy reports."""
    head, _, rest = name.partition(".")
    kind, figure = (head, rest) if head in KINDS else ("progress", name)
    return [(line.iteration, line.values[figure]) for line in lines if line.kind == kind and figure in line.values]


def verdict(aim: Aim, result: Mapping[str, Any], trace: Path) -> Verdict:
    """What a trial that learnt to its end is worth."""
    if aim.validated:
        told = [value for _, value in figures(TraceReader(trace).read().lines, aim.name) if math.isfinite(value)]
        return Verdict(min(told) if aim.lower else max(told)) if told else Verdict(None, f"it told no {aim.name}")
    for reason in result.get("problems", {}).values():
        return Verdict(None, f"it could not be judged: {reason}")
    metric, _, figure = aim.name.rpartition(".")
    values = {name: value for found in result["evaluations"].values() for name, value in found.get(metric, {}).items()}
    if figure not in values:
        hint = suggestion(aim.name, [f"{metric}.{name}" for name in values])
        return Verdict(None, f"metric={aim.name}: there is no such figure{hint}", always=True)
    value = values[figure]
    if value is None or not math.isfinite(value):
        return Verdict(None, f"its {aim.name} is no number")
    return Verdict(float(value))
