"""The events of a run, in the order in which traces receive them, and the bus that hands them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ganglion.engine.contracts import DataSpec, Trace


@dataclass(frozen=True)
class RunPrepared:
    """What is found out before a run starts, which may take a while: a clause whose subject is the run's tag."""

    tag: str
    message: str


@dataclass(frozen=True)
class RunStarted:
    """A run begins or goes on. `position` gives the iterations completed so far, for displays with their own timer."""

    tag: str
    directory: Path
    iteration: int
    iterations: int | None  # None: endless
    summary: Mapping[str, str]  # what, in lines of (label, text), ready to show
    notices: Sequence[str]  # what the engine decided and the user should know
    position: Callable[[], int]
    verbose: bool  # trace=true


@dataclass(frozen=True)
class TracePoint:
    """Progress read from the device after `iteration` completed iterations; `seconds` of learning over all sessions."""

    iteration: int
    seconds: float
    rate: float  # iterations per second since the last trace point
    values: Mapping[str, float]


@dataclass(frozen=True)
class SamplesMade:
    """Samples (count, *spec.shape) in the data's own scale, on the CPU, from the same noise every time."""

    iteration: int
    samples: Tensor
    real: Tensor | None
    spec: DataSpec


@dataclass(frozen=True)
class Validated:
    """Validation figures after `iteration` iterations; `best` when they are the best so far."""

    iteration: int
    values: Mapping[str, float]
    best: bool


class Alarm(NamedTuple):
    """What is wrong with a run: the `kind` that `stopOn` names, and one sentence: seen, usual meaning, what to try."""

    kind: str
    sentence: str


@dataclass(frozen=True)
class HealthRead:
    """Figures of a run's health after `iteration` iterations, by name, and what is wrong with it, if anything is."""

    iteration: int
    values: Mapping[str, float]
    alarms: Sequence[Alarm] = field(default_factory=tuple)


@dataclass(frozen=True)
class CheckpointStored:
    """A checkpoint is complete on disk."""

    iteration: int
    directory: Path


@dataclass(frozen=True)
class Notice:
    """One sentence that the user should read."""

    message: str


@dataclass(frozen=True)
class RunFinished:
    """The run ended by itself or was stopped (`status`: finished, stopped); `hints` say what to type next."""

    iteration: int
    seconds: float
    status: str
    reason: str
    values: Mapping[str, float]
    hints: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class RunFailed:
    """The run failed for `reason`, one sentence."""

    iteration: int
    reason: str


class Traces:
    """Hands each event to every trace, in the order in which they were named."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.traces = list(traces)

    def __call__(self, event: Any) -> None:
        for trace in self.traces:
            trace.receive(event)

    def close(self) -> None:
        """Close all traces, the last one first."""
        with ExitStack() as stack:  # calls the last one first, and every one even where one raises
            for trace in self.traces:
                stack.callback(trace.close)


@dataclass(frozen=True)
class TraceContext:
    """What a trace may use: the run's directory and whether results are wanted for programs."""

    directory: Path
    quiet: bool = False
