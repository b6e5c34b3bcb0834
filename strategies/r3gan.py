"""The regularised relativistic GAN."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.whitening import WhitenedStrategy


class R3GAN(WhitenedStrategy):
    """The relativistic paired game with the penalties R1 and R2, which make its play converge locally.

    Huang et al. 2024, https://arxiv.org/abs/2501.05441, equation 5: the weight (gamma) is multiplied by 1/2 and falls
    along half a cosine to a tenth; Adam 2e-4 falling to 5e-5, betas 0 and 0.99, batch 512, weight 0.05 as for its 32x32
    pictures; averaged generator weights. For other data the weights have to be found anew: penalties are per unit of
    the input, so twice the scale of the data asks for four times the weight. `whiten=0.8` is for windows of series, or
    other rows whose numbers depend on each other: see `WhitenedStrategy`.

    Deviations: beta2 stays at 0.99 (there 0.9 rising to it), the average has a fixed decay of 0.999 (there a half-life
    that grows), batch 256; networks are the user's, not the paper's.
    """

    preset = {
        "objective": "relativisticPaired",
        "penalty": "R1,R2",
        "R1.weight": 0.05,
        "R1.finalWeight": 0.005,
        "R2.weight": 0.05,
        "R2.finalWeight": 0.005,
        "method": "ADAM",
        "learningRate": 0.0002,
        "beta1": 0.0,
        "beta2": 0.99,
        "decayType": "cosine",
        "minLearningRate": 5e-05,
        "generator.ema": 0.999,
        "batchSize": 256,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """R3GAN."""
    register("R3GAN", R3GAN)
