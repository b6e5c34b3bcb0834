"""The engine's side of a measurement: a job assembled as `learn` does, its learner driven some iterations at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from ganglion.engine.assembly import assemble
from ganglion.engine.contracts import DataContext, LearnProgress
from ganglion.engine.errors import fold
from ganglion.engine.execution import settle_execution
from ganglion.engine.folders import cache_folder
from ganglion.engine.job import JobSettings, RoleSettings, read_job, request
from ganglion.engine.learner import Learner
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.engine.settings import describe
from ganglion.engine.store import Store
from ganglion.engine.threads import settle_threads
from ganglion.engine.trace import Traces

PLUGIN = "ganglion.engine.bench.things"
JOBS = Path(__file__).parent / "jobs"
PLAIN = "eager"
# Ways in which the engine carries out the same job: key settings by name. One whose keys no job has is left out; the
# first is always there, for an engine without a choice is eager.
VARIANTS: Mapping[str, Mapping[str, str]] = {
    PLAIN: {"execution": "eager"},
    "auto": {"execution": "auto"},
    "bf16": {"execution": "auto", "precision": "bf16"},
}
# Nothing but iterations: no pictures, no checkpoints by the clock; trace points as in any run.
KEYS: Mapping[str, Any] = {
    "iterations": -1, "sampleInterval": 0, "storeSeconds": 0, "traceInterval": 100, "traces": "lines",
}  # fmt: skip


def variants() -> dict[str, Mapping[str, str]]:
    """The variants that this engine has, each with its keys."""
    known = {fold(info.key) for model in (JobSettings, RoleSettings) for info in describe(model)}
    found = {name: keys for name, keys in VARIANTS.items() if {fold(key) for key in keys} <= known}
    return {PLAIN: {}, **found}


class _NoCheckpoints(Store):
    """Keeps nothing: the learner stores at the end of every stretch, which is not what is measured."""

    def save(self, iteration: int, *content: Any) -> Path:
        return self.run.directory


class _Stretches(Learner):
    """A learner that stops and goes on without what the end of a run brings."""

    end = 0  # iterations of all stretches so far and of the one to come

    def _next_event(self) -> int:
        return min(super()._next_event(), self.end)

    def _attend(self, progress: LearnProgress, due: bool) -> str | None:
        reason = super()._attend(progress, due)
        return "measured" if self.iteration >= self.end else reason


class Engine(NamedTuple):
    """One job ready to iterate; `execution` is what was decided for it, as `auto` does."""

    session: Session
    learner: _Stretches
    execution: str

    def run(self, iterations: int) -> None:
        """Carry out that many iterations, as the learner does in any run without end."""
        self.learner.end = self.learner.iteration + iterations
        self.learner._iterate()

    def rows(self) -> torch.Tensor:
        """All training rows (rows, *shape) as the networks are given them, on the CPU."""
        train = self.session.data.train
        return train.rows(torch.arange(len(train))).input.cpu()


@contextmanager
def engine(task: str, keys: Mapping[str, Any], threads: int, device: str) -> Iterator[Engine]:
    """The job of a task, assembled with further keys; gone at the end. Raises InputError where the keys do not fit."""
    given = {**KEYS, "threads": threads, "device": device, **keys}
    asked = request(None, None, given, read_job(JOBS / f"{task}.yaml"), [PLUGIN])
    session = assemble(_registry(), asked, _data)
    with TemporaryDirectory(prefix="ganglion-bench-") as folder:
        run = Repository(folder).run("bench")
        run.lock()
        try:
            settle_threads(session)
            execution = settle_execution(session).name
            yield Engine(session, _Stretches(session, _NoCheckpoints(run, 1, lambda: 0), Traces([])), execution)
        finally:
            run.release()
            session.sampler.close()


@cache
def _registry() -> Registry:
    return Registry().load([PLUGIN])


def _data(seed: int) -> DataContext:
    """All data are made: no folder is looked into."""
    return DataContext((), cache_folder(), seed, lambda sentence: None)
