"""A limit on the time that compiling a session's graphs may take."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ganglion.engine.tracing import CannotCapture, Compiler, Runner

LATER = 0.5  # what a further graph takes to make, as a share of those before: the first one compiles headers too


class Bounded:
    """A compiler that makes no further graph once it is clear that those of a session take too long."""

    def __init__(self, compiler: Compiler, seconds: float, graphs: int) -> None:
        self.compiler = compiler
        self.seconds = seconds
        self.graphs = graphs  # as many as are expected
        self.made = 0
        self.given_up = False
        self.began = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def __call__(self, graph: torch.fx.GraphModule, examples: Sequence[Tensor]) -> Runner:
        """A graph's machine code. Raises CannotCapture for any that would take too long."""
        if self.made and not self.given_up:
            further = max(1, self.graphs - self.made) * LATER / self.made
            self.given_up = self.spent * (1 + further) > self.seconds
        if self.given_up:
            raise CannotCapture("the graphs of this run take too long to make")
        self.made += 1
        return self.compiler(graph, examples)
