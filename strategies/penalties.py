"""Penalties: terms added to the discriminator's loss, pure functions of its scores and the samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import Penalty, Settings, hookimpl, setting


class R1Settings(Settings):
    """Settings of the penalty `R1`."""

    weight: float = setting(
        1.0, "gamma: half of it multiplies the squared gradient norm", also=("penaltyWeight",), gt=0
    )


class R1(Penalty):
    """weight / 2 * E |gradient of the score at real samples|^2 (Mescheder et al. 2018, arXiv:1801.04406).

    The norm is taken per sample. The paper's own code multiplies by the weight without the half.
    """

    Settings = R1Settings

    def penalty(self, scores: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        weight: float = self.settings.weight
        return input_gradient(scores, real).square().flatten(1).sum(1).mean() * (weight / 2)


def input_gradient(scores: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    """Gradient of every sample's score with respect to that sample, (batch, *shape), itself differentiable."""
    samples = samples.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(scores(samples).sum(), samples, create_graph=True)
    return gradient


@hookimpl
def register_penalties(register: Any) -> None:
    """R1."""
    register("R1", R1)
