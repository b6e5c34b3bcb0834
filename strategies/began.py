"""The boundary equilibrium GAN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import Batch, LearningContext, Loss, hookimpl, setting
from ganglion.strategies.charges import Drawn
from ganglion.strategies.reconstructing import ReconstructingSettings, ReconstructingStrategy


class BeganSettings(ReconstructingSettings):
    """Settings of BEGAN."""

    gamma: float = setting(
        0.75, "diversity ratio: the error of fakes over that of real samples that is held", ge=0, lt=math.inf
    )
    lambda_k: float = setting(1e-3, "how fast k follows the balance of the two errors", ge=0, lt=math.inf)


class BEGAN(ReconstructingStrategy):
    """An autoencoder as discriminator, and a proportional control that keeps it in balance with the generator.

    Berthelot et al. 2017, https://arxiv.org/abs/1703.10717, section 3.4. L is the mean absolute error of the
    reconstruction; the discriminator minimises L(real) - k L(fake), the generator L(fake), and after each of its
    updates k moves by lambdaK (gamma L(real) - L(fake)) and is held in 0..1, from 0 on. Reported are k and the
    convergence measure L(real) + |gamma L(real) - L(fake)|. lambdaK 0.001, Adam 1e-4, betas 0.5 and 0.999, batch 16.
    The discriminator gives back its input: network Autoencoder is made for that, and Discriminator takes the shape of
    the data here too. An autoencoder can learn to copy points, and then samples shrink; Discriminator, whose dropout
    prevents that, gamma=1 and lambdaK=0.5 keep more of the width.

    Deviations: gamma 0.75, as implementations have it (the paper shows 0.3 to 0.7); the generator answers a
    discriminator that has just been updated, where the paper updates both at once; the rate falls only if decayType
    asks for it; the noise is normal (noise=uniform is the paper's).
    """

    Settings = BeganSettings

    preset = {
        "method": "ADAM",
        "learningRate": 1e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 16,
    }

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        self._k = torch.zeros((), device=self._discriminator_device)
        self._real_error = torch.zeros((), device=self._discriminator_device)  # of the last discriminator update

    @staticmethod
    def error(reconstruction: Tensor, samples: Tensor) -> Tensor:
        return (reconstruction - samples).abs().flatten(1).mean(1)

    def discriminator_loss(self, batch: Batch, fake: Tensor, drawn: Drawn) -> Loss:
        real, false = (errors.mean() for errors in self.both_errors(batch, fake))
        return Loss(real - self._k * false, {"realError": real, "fakeError": false})

    def generator_loss(self, noise: Tensor, batch: Batch | None, blur: Tensor | None = None) -> Loss:
        return Loss(self.errors(self.seen_fake(noise, batch, blur)).mean())

    def train_discriminator(self, batch: Batch) -> Mapping[str, Tensor]:
        values = super().train_discriminator(batch)
        self._real_error.copy_(values["realError"])
        return values

    def train_generator(self) -> Mapping[str, Tensor]:
        """The generator's update, and the step of k that its error asks for."""
        values = super().train_generator()
        balance = self.context.settings.gamma * self._real_error - values["generatorLoss"]
        self._k.add_(balance, alpha=self.context.settings.lambda_k).clamp_(0.0, 1.0)
        return {**values, "k": self._k.clone(), "convergence": self._real_error + balance.abs()}


@hookimpl
def register_strategies(register: Any) -> None:
    """BEGAN."""
    register("BEGAN", BEGAN)
