"""Penalties: terms added to the discriminator's loss, pure functions of its scores and the samples.

A gradient penalty asks for the gradient of every sample's score with respect to that sample at certain points; its
norm is taken per sample, over all of the sample's numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ganglion.engine.api import ConfigError, Penalty, PenaltySettings, RandomStream, gathered, hookimpl, setting

ROOT = 1e-12  # added under the square root of a norm, whose gradient is not a number at 0 otherwise


class GradientPenalty(Penalty):
    """A penalty on the gradient of the scores; `own` names the samples themselves where it is taken there.

    The adversarial loop then takes the gradient from the pass that scores them anyway.
    """

    own: ClassVar[Literal["real", "fake"] | None] = None

    @abstractmethod
    def of_gradient(self, gradient: Tensor) -> Tensor:
        """The term, 0-d, from the gradients (batch, *shape)."""

    def at(self, real: Tensor, fake: Tensor, drawn: Tensor | None) -> Tensor:
        """The points (batch, *shape) at which the gradient is taken."""
        return fake if self.own == "fake" else real

    def penalty(self, scores: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, drawn: Tensor | None) -> Tensor:
        return self.of_gradient(input_gradient(scores, self.at(real, fake, drawn)))


class R1(GradientPenalty):
    """weight / 2 * E |gradient of the score at real samples|^2 (Mescheder et al. 2018, arXiv:1801.04406).

    The paper's own code multiplies by the weight without the half.
    """

    own = "real"

    def of_gradient(self, gradient: Tensor) -> Tensor:
        return squared_norm(gradient).mean() * 0.5


class R2(GradientPenalty):
    """weight / 2 * E |gradient of the score at fake samples|^2 (Mescheder et al. 2018, arXiv:1801.04406)."""

    own = "fake"

    def of_gradient(self, gradient: Tensor) -> Tensor:
        return squared_norm(gradient).mean() * 0.5


class NormSettings(PenaltySettings):
    """Settings of the penalties that hold the gradient's norm at a value."""

    weight: float = setting(10.0, "lambda: multiplies the term", also=("penaltyWeight",), ge=0, lt=float("inf"))
    norm: float = setting(1.0, "the norm that the gradient is held to", ge=0, lt=float("inf"))


class NormPenalty(GradientPenalty):
    """Holds the gradient's norm at a value, at points on the lines between real and fake samples."""

    Settings = NormSettings
    one_sided: ClassVar[bool] = False  # whether only a norm above the value costs anything

    def draw(self, stream: RandomStream, rows: Tensor) -> Tensor:
        return stream.uniform(len(rows))

    def at(self, real: Tensor, fake: Tensor, drawn: Tensor | None) -> Tensor:
        return between(real, fake, drawn)

    def of_gradient(self, gradient: Tensor) -> Tensor:
        wanted: float = self.settings.norm
        excess = norm(gradient) - wanted
        return (excess.clamp(min=0) if self.one_sided else excess).square().mean()


class GP(NormPenalty):
    """weight * E (|gradient of the score| - norm)^2 between a real and a fake sample (arXiv:1704.00028, equation 3).

    Gulrajani et al. 2017. The points lie on the line between the i-th real and the i-th fake sample, at one uniform
    place per sample. `norm=0` is the zero-centred form (Thanh-Tung et al. 2019, arXiv:1902.03984).
    """


class LP(NormPenalty):
    """weight * E max(0, |gradient of the score| - norm)^2 between a real and a fake sample (arXiv:1709.08894, eq. 8).

    Petzka et al. 2018: only a norm above `norm` costs anything. The points are those of `GP`.
    """

    one_sided = True


class DraganSettings(NormSettings):
    """Settings of the penalty `DRAGAN`."""

    spread: float = setting(0.5, "c: the noise reaches so many standard deviations of the batch", gt=0, lt=float("inf"))
    two_sided: bool = setting(False, "noise in both directions; the authors' code adds in one direction only")


class Dragan(NormPenalty):
    """weight * E (|gradient of the score| - norm)^2 around the real samples (Kodali et al. 2017, arXiv:1705.07215).

    The points are x + a d with d uniform in [0, spread * std), one number for each value of a sample, std the standard
    deviation of all values of the batch, and a uniform, one per sample. It mixes the samples of a batch, through std.
    """

    Settings = DraganSettings

    def draw(self, stream: RandomStream, rows: Tensor) -> Tensor:
        noise = stream.uniform(*rows.shape)
        if self.settings.two_sided:
            noise = noise * 2 - 1
        return noise * stream.uniform(len(rows)).view(-1, *[1] * (rows.dim() - 1))

    def at(self, real: Tensor, fake: Tensor, drawn: Tensor | None) -> Tensor:
        assert drawn is not None
        spread: float = self.settings.spread
        return real + drawn.to(real.device) * (gathered(real).std(correction=0) * spread)


class ConsistencySettings(PenaltySettings):
    """Settings of the penalty `consistency`."""

    weight: float = setting(10.0, "multiplies the term", also=("penaltyWeight",), ge=0, lt=float("inf"))
    noise_std: float = setting(0.05, "standard deviation of the noise, in the scale of the networks' data", gt=0)


class Consistency(Penalty):
    """weight * E (score(x) - score(x + noise))^2 at real samples: small changes leave the score alone.

    Zhang et al. 2019 (arXiv:1910.12027, equation 3), with Gaussian noise as the change, which fits data of every kind.
    """

    Settings = ConsistencySettings
    differentiates = False

    def draw(self, stream: RandomStream, rows: Tensor) -> Tensor:
        return stream.normal(*rows.shape)

    def penalty(self, scores: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, drawn: Tensor | None) -> Tensor:
        assert drawn is not None
        real = real.detach()
        changed = real + drawn.to(real.device) * self.settings.noise_std
        return (scores(real) - scores(changed)).square().mean()


def input_gradient(scores: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    """Gradient of every sample's score with respect to that sample, (batch, *shape), itself differentiable."""
    samples = samples.detach().requires_grad_()
    return gradients(per_sample(scores(samples)), samples)[0]


def gradients(scores: Tensor, *samples: Tensor) -> tuple[Tensor, ...]:
    """Gradients of scores that are there already with respect to the samples they come from, differentiable."""
    try:
        return torch.autograd.grad(scores.sum(), samples, create_graph=True)
    except RuntimeError as error:
        if "does not require grad" in str(error) or "not have been used" in str(error):
            raise ConfigError("the penalty needs a discriminator whose score depends on its input") from error
        raise


def per_sample(scores: Tensor) -> Tensor:
    """The score of every sample: of scores (batch, steps, 1), one per step, the mean over the steps."""
    return scores if scores.dim() < 3 else scores.mean(1)


def squared_norm(gradient: Tensor) -> Tensor:
    """Squared Euclidean norm per sample, (batch,)."""
    return gradient.square().flatten(1).sum(1)


def norm(gradient: Tensor) -> Tensor:
    """Euclidean norm per sample, (batch,), with a gradient at 0 too."""
    return (squared_norm(gradient) + ROOT).sqrt()


def between(real: Tensor, fake: Tensor, place: Tensor | None) -> Tensor:
    """Points on the lines from real (place 1) to fake samples (place 0), `place` (batch,)."""
    assert place is not None
    place = place.to(real.device, real.dtype).view(-1, *[1] * (real.dim() - 1))
    return torch.lerp(fake, real, place)


@hookimpl
def register_penalties(register: Any) -> None:
    """R1, R2, GP, LP, DRAGAN, consistency."""
    register("R1", R1)
    register("R2", R2)
    register("GP", GP, aliases=("gradientPenalty",))
    register("LP", LP, aliases=("lipschitzPenalty",))
    register("DRAGAN", Dragan)
    register("consistency", Consistency)
