"""Compares two runs of one job bit for bit: every checkpoint that both have, and their trace points."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

from torch import Tensor

from ganglion.engine.checkpoint_files import Checkpoint
from ganglion.engine.errors import StoreError
from ganglion.engine.files import read_text
from ganglion.engine.runs import Run
from ganglion.engine.trees import same_bytes

# What the clock decides: seconds of learning, and the length of a trace that tells of seconds.
OF_THE_CLOCK = ("state learner.seconds", "state trace.offset")
TIMING = ("seconds", "iterationsPerSecond")
NOTHING: Any = object()


class Difference(NamedTuple):
    """The first thing that two runs do not share; `same_until` is the last equal checkpoint, None where there is none.

    `others` is how many tensors and values of the same checkpoint differ besides.
    """

    what: str
    iteration: int
    same_until: int | None
    others: int = 0

    def __str__(self) -> str:
        before = "none before it" if self.same_until is None else f"the last same one is {self.same_until}"
        others = f", and {self.others} more" if self.others else ""
        return f"{self.what}{others}, at iteration {self.iteration} (the first checkpoint that differs; {before})"


class TraceDifference(NamedTuple):
    """The first trace point that two runs with the same checkpoints do not share."""

    what: str
    iteration: int | None

    def __str__(self) -> str:
        return f"{self.what} (every checkpoint is the same)"


class Compared(NamedTuple):
    """How much was compared, and the first difference."""

    checkpoints: tuple[int, ...]
    tensors: int
    points: int
    difference: Difference | TraceDifference | None


def compare_runs(one: Run, other: Run, timed: bool = False) -> Compared:
    """Compare two runs; `timed`: the clock decided on some of their checkpoints. Raises StoreError."""
    there, here = one.checkpoints().iterations(), other.checkpoints().iterations()
    common = sorted(set(there) & set(here))
    tensors, before = 0, None
    for iteration in common:
        first, second = (_contents(run.checkpoints().load(iteration)) for run in (one, other))
        tensors += sum(isinstance(value, Tensor) for value in first.values())
        both = {**first, **second}
        unlike = [name for name in both if not _same(first.get(name, NOTHING), second.get(name, NOTHING))]
        if unlike:
            difference = Difference(_described(unlike[0], first, second), iteration, before, len(unlike) - 1)
            return Compared(tuple(common), tensors, 0, difference)
        before = iteration
    lonely = sorted(set(there) ^ set(here))
    if lonely and not timed:
        what = f"the checkpoint, which only '{(one if lonely[0] in there else other).tag}' has"
        return Compared(tuple(common), tensors, 0, Difference(what, lonely[0], before))
    points, unlike_point = _compare_traces(one, other)
    return Compared(tuple(common), tensors, points, unlike_point)


def _contents(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything in a checkpoint by name, but for what the clock decides."""
    found: dict[str, Any] = {}
    for role, weights in checkpoint.networks.items():
        found.update({f"{role} {name}": weights[name] for name in sorted(weights, key=_in_order)})
    for role, weights in checkpoint.averaged.items():
        found.update({f"{role} (averaged) {name}": weights[name] for name in sorted(weights, key=_in_order)})
    found.update(_leaves(checkpoint.state, "state "))
    return {name: value for name, value in found.items() if name not in OF_THE_CLOCK}


def _in_order(name: str) -> list[tuple[int, str]]:
    """Layer 2 before layer 10, and a weight before its bias: files give names in any order."""
    parts = name.replace("bias", "~bias").split(".")
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    start = path if path.endswith(" ") else f"{path}."
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{start}{key if isinstance(key, str) else repr(key)}")
    elif isinstance(tree, (list, tuple)) and tree:
        for number, value in enumerate(tree):
            yield from _leaves(value, f"{start}{number}")
    else:
        yield path, tree


def _same(one: Any, other: Any) -> bool:
    """Whether all bits are the same: -0 is not 0, and NaN is itself."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return same_bytes(one, other)
    return type(one) is type(other) and repr(one) == repr(other)


def _described(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    values = [each.get(name, NOTHING) for each in (one, other)]
    if any(value is NOTHING for value in values):
        return f"{name}, which only one of the runs has"
    if any(isinstance(value, Tensor) for value in values):
        return name
    return f"{name} ({values[0]!r:.60}, not {values[1]!r:.60})".replace("\n", " ")


# --- traces -------------------------------------------------------------------------------------------------------


def _compare_traces(one: Run, other: Run) -> tuple[int, TraceDifference | None]:
    """How many trace points there are, and the first that differs."""
    first, second = _lines(one), _lines(other)
    points = sum("validation" not in line and "health" not in line for line in first)
    for number, (line, counterpart) in enumerate(zip_longest(first, second), start=1):
        if line is None or counterpart is None:
            have = f"{len(first)} and {len(second)} lines"
            return points, TraceDifference(f"line {number} of trace.jsonl: there are {have}", None)
        unlike = [key for key in {**line, **counterpart} if repr(line.get(key)) != repr(counterpart.get(key))]
        if unlike:
            key, iteration = unlike[0], line.get("iteration")
            values = f"{line.get(key)!r:.60}, not {counterpart.get(key)!r:.60}"
            return points, TraceDifference(f"{key} at iteration {iteration} in trace.jsonl ({values})", iteration)
    return points, None


def _lines(run: Run) -> list[dict[str, Any]]:
    """The lines of `trace.jsonl` without what the clock decides; none where the job keeps no such file."""
    if not run.trace_path.exists():
        return []
    try:
        lines = [json.loads(line) for line in read_text(run.trace_path).splitlines()]
        return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{run.trace_path}: not one JSON object per line ({error})") from error
