"""The relativistic paired GAN."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class RpGAN(AdversarialStrategy):
    """The discriminator tells which of a real and a fake sample is the real one; the generator turns that around.

    Jolicoeur-Martineau 2018, https://arxiv.org/abs/1807.00734, section 4.2 (RpGAN): Adam 2e-4, betas 0.5 and 0.999,
    batch 64. Scores are told apart, not judged: they may drift by a constant. R3GAN adds the penalties R1 and R2.

    Deviations: none known.
    """

    preset = {
        "objective": "relativisticPaired",
        "method": "ADAM",
        "learningRate": 0.0002,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 64,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """RpGAN."""
    register("RpGAN", RpGAN)
