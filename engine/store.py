"""What the learner stores and goes back to: checkpoints of one run, each with the length of the trace at its moment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ganglion.engine.checkpoint_files import Checkpoint
from ganglion.engine.runs import Run

MAY_BE_INFINITE = ("session.strategy.",)  # a strategy may remember infinity, as the best loss so far

Weights = Mapping[str, Mapping[str, Tensor]]


class Keeper(ABC):
    """What a learner stores with and goes back to."""

    @abstractmethod
    def has_checkpoint(self) -> bool:
        """Whether anything was stored yet."""

    @abstractmethod
    def save(
        self, iteration: int, weights: Weights, averaged: Weights, state: Mapping[str, Any], pinned: bool, best: bool
    ) -> Path:
        """Store a checkpoint; `pinned` ones are never removed. Raises DivergedError, StoreError."""

    @abstractmethod
    def load(self) -> Checkpoint:
        """The last good checkpoint; its notices name damaged ones that were passed over. Raises StoreError."""

    @abstractmethod
    def take_up(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""

    def note(self, sentences: Sequence[str]) -> None:  # noqa: B027
        """Keep what has happened to the data with the run."""


class Store(Keeper):
    """Checkpoints of `run`; `flush` brings the trace file up to date and gives its length in bytes."""

    def __init__(self, run: Run, keep: int, flush: Callable[[], int]) -> None:
        self.run = run
        self.keep = keep
        self.flush = flush
        self.checkpoints = run.checkpoints()
        self.pinned: set[int] = set()

    def has_checkpoint(self) -> bool:
        return bool(self.checkpoints.iterations())

    def save(
        self, iteration: int, weights: Weights, averaged: Weights, state: Mapping[str, Any], pinned: bool, best: bool
    ) -> Path:
        if pinned:
            self.pinned.add(iteration)
        content = {**state, "trace": {"offset": self.flush(), "pinned": sorted(self.pinned)}}
        path = self.checkpoints.store(iteration, weights, averaged, content, self.keep, self.pinned, MAY_BE_INFINITE)
        if best:
            self.checkpoints.mark_best(iteration)
        return path

    def load(self) -> Checkpoint:
        return self.checkpoints.load("latest")

    def note(self, sentences: Sequence[str]) -> None:
        before = self.run.read_record().get("notices") or []
        self.run.update_record(notices=[*before, *(sentence for sentence in sentences if sentence not in before)])

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Cut the trace file to where it was then."""
        self.flush()
        self.run.truncate_trace(checkpoint.state["trace"]["offset"])
        self.pinned = set(checkpoint.state["trace"]["pinned"])
