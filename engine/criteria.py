"""The criteria: losses per sample, all with one reduction rule.

The rule: the loss of a sample is the mean over its event (every dimension but the first), for a batch of one just as
for any other. With a `mask` it is the weighted mean; `mask` starts with the batch dimension and may lack later ones, or
have 1 there. Where it is 0 nothing counts, and the target may hold anything; a sample masked as a whole has loss 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ganglion.engine.contracts import Criterion
from ganglion.engine.errors import ConfigError
from ganglion.engine.settings import Settings, setting

Target = Tensor | float


def event_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean (batch,) of `values` (batch, ...) over all dimensions but the first, weighted by `mask`."""
    if mask is None:
        if values.dim() == 1:
            return values
        if values.numel() == values.shape[0]:  # one value per sample, such as a score: a view will do
            return values.reshape(-1)
        return values.flatten(1).mean(1)
    weights = spread(mask, values).to(values.dtype)
    kept = torch.where(weights != 0, values * weights, 0.0).reshape(values.shape[0], -1).sum(1)
    weight = weights.expand_as(values).reshape(values.shape[0], -1).sum(1)
    return kept / torch.where(weight == 0, 1.0, weight)


def spread(mask: Tensor, values: Tensor) -> Tensor:
    """`mask` with the trailing dimensions that it lacks against `values`."""
    return mask.reshape(mask.shape + (1,) * (values.dim() - mask.dim()))


class ElementCriterion(Criterion):
    """A criterion that compares element with element; the target may be one number for all elements."""

    def loss(self, output: Tensor, target: Target, mask: Tensor | None = None) -> Tensor:
        if isinstance(target, Tensor):
            target = self._matched(output, target)
            if mask is not None:  # missing numbers under the mask must not reach the gradient
                target = target.masked_fill(spread(mask, target) == 0, 0.0)
        return event_mean(self.values(output, target), mask)

    def _matched(self, output: Tensor, target: Tensor) -> Tensor:
        if target.shape == output.shape:
            return target if target.is_floating_point() else target.to(output.dtype)
        if target.dim() == 0:
            return target.expand_as(output)
        if target.shape[0] == output.shape[0] and target.numel() == output.numel():
            return target.reshape(output.shape).to(output.dtype)
        hint = "" if target.is_floating_point() else "; class indices are for criterion=NLL"
        raise ConfigError(
            f"criterion {type(self).__name__}: the output has shape {tuple(output.shape)} and the target "
            f"{tuple(target.shape)}; both must have the same{hint}"
        )

    @abstractmethod
    def values(self, output: Tensor, target: Target) -> Tensor:
        """The loss of every element, in the shape of `output`."""


class MSE(ElementCriterion):
    """Squared error: (output - target)^2, averaged over the event."""

    def values(self, output: Tensor, target: Target) -> Tensor:
        return (output - target).square()


class ABS(ElementCriterion):
    """Absolute error: |output - target|, averaged over the event."""

    def values(self, output: Tensor, target: Target) -> Tensor:
        return (output - target).abs()


class HubSettings(Settings):
    """Settings of HUB."""

    delta: float = setting(1.0, "error at which the loss turns from squared to straight", gt=0)


class HUB(ElementCriterion):
    """Pseudo-Huber: delta^2 (sqrt(1 + (e / delta)^2) - 1) with e = output - target; DIANNE's has delta = 1."""

    Settings = HubSettings
    settings: HubSettings

    def values(self, output: Tensor, target: Target) -> Tensor:
        squares = (output - target).square()
        # The same value as written above, without the loss of digits that the difference has for small errors.
        return squares / ((1.0 + squares / self.settings.delta**2).sqrt() + 1.0)


class BCE(ElementCriterion):
    """Binary cross-entropy of logits: softplus(x) - t x, averaged over the event (DIANNE sums, over probabilities)."""

    def values(self, output: Tensor, target: Target) -> Tensor:
        if isinstance(target, Tensor):
            return functional.softplus(output) - target * output
        if target == 0.0:
            return functional.softplus(output)
        if target == 1.0:  # as -log(sigmoid(x)): keeps a gradient where sigmoid(x) rounds to 1
            return functional.softplus(-output)
        return torch.sub(functional.softplus(output), output, alpha=target)


class NllSettings(Settings):
    """Settings of NLL."""

    input: Literal["logits", "logProbabilities", "probabilities"] = setting(
        "logits", "what the network puts out; never guessed from the values"
    )


class NLL(Criterion):
    """Negative log-likelihood of classes, which are the last dimension of the output.

    The target is class indices (the output's shape without the last dimension) or one weight per class (its shape;
    one-hot for instance). The classes are summed over, and the event's other dimensions, such as steps, averaged.
    """

    Settings = NllSettings
    settings: NllSettings
    takes_classes = True

    def loss(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        if target.shape == output.shape:
            weights = target.to(output.dtype)
            if mask is not None:
                weights = weights.masked_fill(spread(mask, weights) == 0, 0.0)
            scores = self._log_probabilities(output)
            return event_mean(-torch.where(weights == 0, 0.0, weights * scores).sum(-1), mask)
        if target.is_floating_point() or target.shape != output.shape[:-1]:
            raise ConfigError(
                f"criterion NLL: the output has shape {tuple(output.shape)} and the target {tuple(target.shape)} of "
                f"{target.dtype}; class indices {tuple(output.shape[:-1])} or a target of the output's shape are wanted"
            )
        indices = target.long()
        if mask is not None:
            indices = indices.masked_fill(spread(mask, indices) == 0, 0)
        scores = self._log_probabilities(output).flatten(0, -2)
        return event_mean(functional.nll_loss(scores, indices.flatten(), reduction="none").reshape(target.shape), mask)

    def _log_probabilities(self, output: Tensor) -> Tensor:
        if self.settings.input == "logits":
            return output.log_softmax(-1)
        if self.settings.input == "logProbabilities":
            return output
        return output.clamp_min(torch.finfo(output.dtype).tiny).log()


def halves(criterion: str, values: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations, the two halves of the last dimension."""
    if values.shape[-1] % 2:
        raise ConfigError(
            f"criterion {criterion}: the last dimension holds means, then as many standard deviations, "
            f"so its size must be even; it is {values.shape[-1]}"
        )
    mean, deviation = values.chunk(2, -1)
    return mean, deviation


class GAU(Criterion):
    """Negative log-likelihood under a Gaussian: ((t - m) / s)^2 / 2 + log s + log(2 pi) / 2, averaged over the event.

    The output's last dimension holds means m, then standard deviations s (not variances, nor their logarithms), which
    must be positive: let the network end in a Softplus there. The target has the shape of the means.
    """

    def loss(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        mean, deviation = halves("GAU", output)
        if target.shape != mean.shape:
            raise ConfigError(
                f"criterion GAU: the output {tuple(output.shape)} holds means of shape {tuple(mean.shape)}, "
                f"and the target has shape {tuple(target.shape)}; both must have the same"
            )
        if mask is not None:
            target = target.masked_fill(spread(mask, target) == 0, 0.0)
        error = (target - mean) / deviation
        return event_mean(0.5 * error.square() + deviation.log() + 0.5 * math.log(2 * math.pi), mask)


class GKL(Criterion):
    """Divergence KL(output || target) of factorised Gaussians, averaged over the event: mean m, deviation s each.

    log(s' / s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2, where s and s' must be positive. The last dimension holds means,
    then standard deviations; target None is the standard normal. For the sum, as in a variational autoencoder,
    multiply by the number of means.
    """

    def loss(self, output: Tensor, target: Tensor | None, mask: Tensor | None = None) -> Tensor:
        mean, deviation = halves("GKL", output)
        if target is None:
            return event_mean(0.5 * (deviation.square() + mean.square() - 1.0) - deviation.log(), mask)
        if target.shape != output.shape:
            raise ConfigError(
                f"criterion GKL: the output has shape {tuple(output.shape)} and the target {tuple(target.shape)}; "
                "both must have the same"
            )
        other_mean, other_deviation = halves("GKL", target)
        if mask is not None:
            other_mean = other_mean.masked_fill(spread(mask, mean) == 0, 0.0)
            other_deviation = other_deviation.masked_fill(spread(mask, mean) == 0, 1.0)
        spread_out = (deviation.square() + (mean - other_mean).square()) / (2.0 * other_deviation.square())
        return event_mean((other_deviation / deviation).log() + spread_out - 0.5, mask)


CRITERIA: dict[str, type[Criterion]] = {
    "MSE": MSE,
    "NLL": NLL,
    "ABS": ABS,
    "BCE": BCE,
    "HUB": HUB,
    "GAU": GAU,
    "GKL": GKL,
}
