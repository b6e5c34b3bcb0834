"""What a chain notes of an update while somebody watches: the gradient's norm, and the step as a share of the weights.

Both are 0-d tensors that stay on the device until they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SMALLEST = 1e-12  # what a norm is at least where something is divided by it


class Watch:
    """Notes the last update of one chain; None where there was none, or none with a gradient."""

    def __init__(self, norm_of_all: Callable[[Sequence[Tensor]], Tensor] | None = None) -> None:
        self._norm = norm_of_all or norm
        self.gradient: Tensor | None = None
        self.step: Tensor | None = None
        self._before: list[Tensor] = []

    def before(self, parameters: Sequence[Tensor]) -> None:
        """Called with the gradients as the loss gave them."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            self.gradient = self._norm(gradients)
            self._before = [parameter.detach().clone() for parameter in parameters]

    def after(self, parameters: Sequence[Tensor], counts: bool = True) -> None:
        """Called with the updated weights; what a gate may have put back says nothing of steps."""
        if self._before and counts:
            steps = torch._foreach_sub([parameter.detach() for parameter in parameters], self._before)
            self.step = self._norm(steps) / self._norm(self._before).clamp_min(SMALLEST)
        self._before = []


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all numbers together, 0-d."""
    norms: Sequence[Tensor] = torch._foreach_norm(list(tensors))
    whole: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return whole
