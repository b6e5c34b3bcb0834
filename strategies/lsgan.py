"""The least-squares GAN."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class LSGAN(AdversarialStrategy):
    """Least squares against the targets 1 for real, 0 for fake and, in the generator's update, 1, on raw scores.

    Mao et al. 2016, https://arxiv.org/abs/1611.04076, equation 9 (a, b, c = 0, 1, 1); Adam 2e-4, beta1 0.5 as in DCGAN,
    batch 64. `leastSquares.a=-1 b=1 c=0` is the coding of its equation 8, which minimises Pearson's chi-square.

    Deviations: the learning rate is DCGAN's for every data set (the paper uses 1e-3 for LSUN).
    """

    preset = {
        "objective": "leastSquares",
        "method": "ADAM",
        "learningRate": 0.0002,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 64,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """LSGAN."""
    register("LSGAN", LSGAN)
