"""The Wasserstein GAN with clipped weights."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class WGAN(AdversarialStrategy):
    """A critic estimates the Wasserstein distance; its weights are clipped to [-0.01, 0.01] after each of its updates.

    Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875, algorithm 1: RMSprop 5e-5, batch 64, 5 critic updates per
    iteration; and DIANNE's warm-up of 100 critic updates in each of the first 25 iterations.
    Minus the discriminatorLoss, the sum of the two halves, is the estimate of the distance (up to a factor).

    Deviations: every critic update draws a fresh batch and the generator fresh noise (`reuseBatch`, `reuseNoise`
    otherwise); the clip touches parameters only, never running statistics.
    """

    preset = {
        "objective": "wasserstein",
        "method": "RMSPROP",
        "learningRate": 5e-5,
        "alpha": 0.99,
        "discriminator.clamp": 0.01,
        "discriminatorIterations": 5,
        "initDiscriminatorIterations": 100,
        "initIterations": 25,
        "batchSize": 64,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """WGAN."""
    register("WGAN", WGAN)
