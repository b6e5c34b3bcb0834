"""What the learner stores and goes back to: checkpoints of one run, each with the length of the trace at its moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ganglion.engine.runs import Run

Weights = Mapping[str, Mapping[str, Tensor]]


class Store:
    """Checkpoints of `run`; `flush` brings the trace file up to date and gives its length in bytes."""

    def __init__(self, run: Run, keep: int, flush: Callable[[], int]) -> None:
        self.run = run
        self.keep = keep
        self.flush = flush
        self.checkpoints = run.checkpoints()
        self.pinned: set[int] = set()

    def has_checkpoint(self) -> bool:
        """Whether anything was stored yet."""
        return bool(self.checkpoints.iterations())

    def save(
        self, iteration: int, weights: Weights, averaged: Weights, state: Mapping[str, Any], pinned: bool, best: bool
    ) -> Path:
        """Store a checkpoint; `pinned` ones are never removed. Raises DivergedError, StoreError."""
        if pinned:
            self.pinned.add(iteration)
        content = {**state, "trace": {"offset": self.flush(), "pinned": sorted(self.pinned)}}
        path = self.checkpoints.store(iteration, weights, averaged, content, self.keep, self.pinned)
        if best:
            self.checkpoints.mark_best(iteration)
        return path

    def restore(self) -> tuple[Weights, Mapping[str, Any]]:
        """The last good checkpoint's weights and state; the trace file is cut to where it was then."""
        weights, state, _ = self.open("latest")
        return weights, state

    def open(self, which: str | int) -> tuple[Weights, Mapping[str, Any], list[str]]:
        """The same, with sentences on damaged checkpoints that were passed over."""
        checkpoint = self.checkpoints.load(which)
        self.flush()
        self.run.truncate_trace(checkpoint.state["trace"]["offset"])
        self.pinned = set(checkpoint.state["trace"]["pinned"])
        return checkpoint.networks, checkpoint.state, list(checkpoint.notices)
