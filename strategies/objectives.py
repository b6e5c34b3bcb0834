"""Objectives: what both players minimise, as pure functions of raw scores.

Formulas: Goodfellow et al. 2014 (minimax, non-saturating), arXiv:1406.2661; Salimans et al. 2016 (label smoothing),
arXiv:1606.03498; Arjovsky et al. 2017 (Wasserstein), arXiv:1701.07875; Lim and Ye 2017 (hinge), arXiv:1705.02894.
Scores are (batch, 1) or (batch, steps, 1); every loss is the mean over all of them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import relu, softplus

from ganglion.engine.api import Objective, Settings, hookimpl, setting


class LabelledSettings(Settings):
    """Settings of the objective `labelled`."""

    real_target: float = setting(0.85, "the discriminator's target for real samples", ge=0, le=1)
    fake_target: float = setting(0.15, "the discriminator's target for fake samples", ge=0, le=1)
    generator_target: float = setting(0.85, "the generator's target for its own samples", ge=0, le=1)


class Labelled(Objective):
    """Binary cross-entropy against a target per kind of sample; label smoothing, one-sided or not, is a setting."""

    Settings = LabelledSettings

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return cross_entropy(real, self.settings.real_target), cross_entropy(fake, self.settings.fake_target)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return cross_entropy(fake, self.settings.generator_target)


class NonSaturating(Objective):
    """D: softplus(-real) + softplus(fake). G: softplus(-fake), whose gradient stays large while D wins."""

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return logistic_halves(real, fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return softplus(-fake).mean()


class Minimax(Objective):
    """D: softplus(-real) + softplus(fake). G: minus the fake half, so both players play for one shared loss."""

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return logistic_halves(real, fake)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -softplus(fake).mean()


class Wasserstein(Objective):
    """D (a critic): mean(fake) - mean(real). G: -mean(fake). The critic must be kept Lipschitz by other means."""

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return -real.mean(), fake.mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake.mean()


class Hinge(Objective):
    """D: relu(1 - real) + relu(1 + fake). G: -mean(fake)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return relu(1 - real).mean(), relu(1 + fake).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return -fake.mean()


def logistic_halves(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of real scores against 1 and of fake scores against 0."""
    return softplus(-real).mean(), softplus(fake).mean()


def cross_entropy(scores: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of logits against one constant target: softplus(s) - target * s."""
    loss = softplus(scores).mean()
    return loss if target == 0 else loss - scores.mean() * target


@hookimpl
def register_objectives(register: Any) -> None:
    """labelled, nonsaturating, minimax, wasserstein, hinge."""
    register("labelled", Labelled)
    register("nonsaturating", NonSaturating, aliases=("ns",))
    register("minimax", Minimax, aliases=("saturating",))
    register("wasserstein", Wasserstein, aliases=("w",))
    register("hinge", Hinge)
