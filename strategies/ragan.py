"""The relativistic average GAN."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class RaGAN(AdversarialStrategy):
    """Every real sample against the average fake and every fake against the average real sample, and the reverse for G.

    Jolicoeur-Martineau 2018, https://arxiv.org/abs/1807.00734, section 4.3 (RaSGAN): Adam 2e-4, betas 0.5 and 0.999,
    batch 64, mean of the two halves. `objective=relativisticLeastSquares` is RaLSGAN.

    Deviations: the signs are those of the paper; the author has confirmed that her first code had two exchanged.
    """

    preset = {
        "objective": "relativisticAverage",
        "halves": "mean",
        "method": "ADAM",
        "learningRate": 0.0002,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 64,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """RaGAN."""
    register("RaGAN", RaGAN)
