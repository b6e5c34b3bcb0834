"""Objectives: what both players minimise, as pure functions of raw scores.

Formulas: Goodfellow et al. 2014 (minimax, non-saturating), arXiv:1406.2661; Salimans et al. 2016 (label smoothing),
arXiv:1606.03498; Mao et al. 2016 (least squares), arXiv:1611.04076; Nowozin et al. 2016 (f-divergences),
arXiv:1606.00709; Arjovsky et al. 2017 (Wasserstein), arXiv:1701.07875; Lim and Ye 2017 (hinge, "geometric"),
arXiv:1705.02894; Jolicoeur-Martineau 2018 (relativistic), arXiv:1807.00734.
Scores are (batch, 1) or (batch, steps, 1); every loss is the mean over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus

from ganglion.engine.api import Objective, PluginError, Settings, averaged, hookimpl, setting


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


class LeastSquaresSettings(Settings):
    """Settings of the objective `leastSquares`; the paper's a, b and c."""

    real_target: float = setting(1.0, "b: the discriminator's target for real samples", also=("b",))
    fake_target: float = setting(0.0, "a: the discriminator's target for fake samples", also=("a",))
    generator_target: float = setting(1.0, "c: the generator's target for its own samples", also=("c",))


class LeastSquares(Objective):
    """D: (real - b)^2 / 2 + (fake - a)^2 / 2. G: (fake - c)^2 / 2, on raw scores.

    a, b, c = 0, 1, 1 by default; -1, 1, 0 is the coding that minimises Pearson's chi-square (the paper's section 3.2).
    """

    Settings = LeastSquaresSettings

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return half_square(real - self.settings.real_target), half_square(fake - self.settings.fake_target)

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return half_square(fake - self.settings.generator_target)


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


class RelativisticPaired(Objective):
    """D: softplus(fake - real), the i-th real sample paired with the i-th fake. G: softplus(real - fake).

    RpGAN, the paper's section 4.2; only differences of scores matter, so the scores themselves may drift.
    """

    reads_real = True

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, None]:
        return softplus(fake - real).mean(), None

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        return softplus(known(real) - fake).mean()


class RelativisticAverage(Objective):
    """D: softplus(-(real - mean fake)) + softplus(fake - mean real). G: the same with the two exchanged.

    RaGAN, the paper's equation 14; the published loss is the mean of the two halves (`halves=mean`). The means are
    over the batch, so the batch size is part of what is learnt; with `accumulate` over its parts.
    """

    reads_real = True

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return softplus(averaged(fake.mean(0)) - real).mean(), softplus(fake - averaged(real.mean(0))).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        real_half, fake_half = self.discriminator(fake, known(real))
        return (real_half + fake_half) * 0.5


class RelativisticLeastSquares(Objective):
    """D: (real - mean fake - 1)^2 + (fake - mean real + 1)^2. G: the same with the two exchanged.

    RaLSGAN, the paper's appendix; halves and means as in `relativisticAverage`.
    """

    reads_real = True

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return (real - averaged(fake.mean(0)) - 1).square().mean(), (fake - averaged(real.mean(0)) + 1).square().mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        real_half, fake_half = self.discriminator(fake, known(real))
        return (real_half + fake_half) * 0.5


LOG2 = 0.6931471805599453


class _Divergence(NamedTuple):
    """An f-divergence (the paper's table 6): the activation g of the score, and f* of g in one, which rounds less."""

    activation: Callable[[Tensor], Tensor]
    bound: Callable[[Tensor], Tensor]


DIVERGENCES = {
    "KL": _Divergence(lambda v: v, lambda v: torch.exp(v - 1)),
    "reverseKL": _Divergence(lambda v: -torch.exp(-v), lambda v: v - 1),
    "pearson": _Divergence(lambda v: v, lambda v: v.square() / 4 + v),
    "hellinger": _Divergence(lambda v: 1 - torch.exp(-v), torch.expm1),
    "JS": _Divergence(lambda v: logsigmoid(v) + LOG2, lambda v: softplus(v) - LOG2),
}


class DivergenceSettings(Settings):
    """Settings of the objective `divergence`."""

    divergence: Literal["KL", "reverseKL", "pearson", "hellinger", "JS"] = setting(
        "KL", "which one: of the data from the generator's distribution"
    )
    saturating: bool = setting(False, "the generator minimises the divergence itself instead of -mean(T(fake))")


class Divergence(Objective):
    """f-GAN: D maximises mean(T(real)) - mean(f*(T(fake))), a lower bound of an f-divergence; T is g of the score.

    G minimises -mean(T(fake)) (the paper's section 3.2), or with `saturating=true` the bound, -mean(f*(T(fake))).
    Minus the sum of D's halves is the estimate of the divergence.
    """

    Settings = DivergenceSettings

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        kind = DIVERGENCES[self.settings.divergence]
        return -kind.activation(real).mean(), kind.bound(fake).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        kind = DIVERGENCES[self.settings.divergence]
        return -(kind.bound(fake) if self.settings.saturating else kind.activation(fake)).mean()


def logistic_halves(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of real scores against 1 and of fake scores against 0."""
    return softplus(-real).mean(), softplus(fake).mean()


def cross_entropy(scores: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of logits against one constant target: softplus(s) - target * s."""
    loss = softplus(scores).mean()
    return loss if target == 0 else loss - scores.mean() * target


def half_square(values: Tensor) -> Tensor:
    """Half the mean of the squares."""
    return values.square().mean() * 0.5


def known(real: Tensor | None) -> Tensor:
    """The real scores that an objective with `reads_real` is given. Raises PluginError where a strategy gives none."""
    if real is None:
        raise PluginError(
            "this objective compares fake scores with real ones in the generator's loss too, and the strategy gives it "
            "none: use another objective=, or let the strategy call self.played(scores, batch)"
        )
    return real


@hookimpl
def register_objectives(register: Any) -> None:
    """labelled, nonsaturating, minimax, leastSquares, wasserstein, hinge, the relativistic ones, divergence."""
    register("labelled", Labelled)
    register("nonsaturating", NonSaturating, aliases=("ns", "softplus"))
    register("minimax", Minimax, aliases=("saturating",))
    register("leastSquares", LeastSquares, aliases=("lsgan", "ls"))
    register("wasserstein", Wasserstein, aliases=("w",))
    register("hinge", Hinge, aliases=("geometric",))
    register("relativisticPaired", RelativisticPaired, aliases=("rp", "rpgan"))
    register("relativisticAverage", RelativisticAverage, aliases=("ra", "ragan"))
    register("relativisticLeastSquares", RelativisticLeastSquares, aliases=("rals",))
    register("divergence", Divergence, aliases=("fgan",))
