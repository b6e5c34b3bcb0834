"""The GAN with a gradient penalty around the data."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class DRAGAN(AdversarialStrategy):
    """Non-saturating cross-entropy; the norm of the discriminator's gradient is held at 1 around the real samples.

    Kodali et al. 2017, https://arxiv.org/abs/1705.07215, algorithm 1: weight 10, noise of up to half the batch's
    standard deviation; Adam 1e-4, betas 0.5 and 0.9, batch 128, as in the authors' code.

    Deviations: the gradient is that of the raw score, not of the probability.
    """

    preset = {
        "objective": "nonsaturating",
        "penalty": "DRAGAN",
        "DRAGAN.weight": 10.0,
        "method": "ADAM",
        "learningRate": 0.0001,
        "beta1": 0.5,
        "beta2": 0.9,
        "batchSize": 128,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """DRAGAN."""
    register("DRAGAN", DRAGAN)
