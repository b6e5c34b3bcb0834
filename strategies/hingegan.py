"""The hinge (geometric) GAN."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class HingeGAN(AdversarialStrategy):
    """The discriminator's margin is held at 1 on both sides; the generator raises the scores of its samples.

    Lim and Ye 2017, https://arxiv.org/abs/1705.02894; Adam 2e-4, beta1 0.5 and batch 64 as in DCGAN, whose recipe the
    paper follows. With spectral normalisation it is SNGAN.

    Deviations: beta1, beta2 and the rate are DCGAN's, whatever the data.
    """

    preset = {
        "objective": "hinge",
        "method": "ADAM",
        "learningRate": 0.0002,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 64,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """HingeGAN."""
    register("HingeGAN", HingeGAN)
