"""The GAN whose generator matches the mean of the discriminator's hidden features."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganglion.engine.api import Batch, ConfigError, LearningContext, Loss, Settings, hookimpl, setting
from ganglion.strategies.adversarial import AdversarialStrategy, score_of, shown_rows
from ganglion.strategies.features import feature_place, with_features
from ganglion.strategies.playing import AdversarialSettings


class MatchingSettings(AdversarialSettings):
    """Settings of FeatureMatchingGAN."""

    feature_weight: float = setting(1.0, "weight of matched features in the generator's loss", ge=0, lt=math.inf)
    adversarial_weight: float = setting(0.0, "weight of the objective in the generator's loss", ge=0, lt=math.inf)


class FeatureMatchingGAN(AdversarialStrategy):
    """The generator minimises |E f(x) - E f(G(z))|^2, f being hidden features of the discriminator.

    Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 3.1; the discriminator plays for its objective as
    usual. f is what the layer named `features` gives, where the discriminator has one, else what its last Linear layer
    (without one, its last convolution) is given. Adam 3e-4, beta1 0.5, batch 100, as in the authors' code.

    With `accumulate` the means are those of its parts.

    Deviations: without classes, so the discriminator's objective is the non-saturating one; the squared norm of the
    paper, where the code for CIFAR takes the mean of absolute differences.
    """

    Settings: ClassVar[type[Settings]] = MatchingSettings
    preset = {
        "objective": "nonsaturating",
        "method": "ADAM",
        "learningRate": 0.0003,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 100,
    }

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        settings = context.settings
        if not settings.feature_weight and not settings.adversarial_weight:
            raise ConfigError("featureWeight=0 and adversarialWeight=0 leave the generator nothing to minimise")
        self._place = feature_place(self._discriminator, "the discriminator")

    def reads_real(self) -> bool:
        return True

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        """The distance between mean features, and the objective where it has a weight."""
        assert batch is not None and self._objective is not None
        settings = self.context.settings
        made = with_features(self._discriminator, self._place, fake)
        with torch.no_grad():
            real = with_features(self._discriminator, self._place, shown_rows(batch))
        distance = (_mean(real.features) - _mean(made.features)).square().sum()
        terms, total = {"featureDistance": distance}, distance * settings.feature_weight
        if settings.adversarial_weight:
            adversarial = self._objective.generator(score_of(real.output), score_of(made.output))
            terms["adversarial"] = adversarial
            total = total + adversarial * settings.adversarial_weight
        return Loss(total, terms)


def _mean(features: Tensor) -> Tensor:
    """The mean (size,) over the rows of all processes."""
    return Batch(features).gather().input.mean(0)


@hookimpl
def register_strategies(register: Any) -> None:
    """FeatureMatchingGAN."""
    register("FeatureMatchingGAN", FeatureMatchingGAN)
