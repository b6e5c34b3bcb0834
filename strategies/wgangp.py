"""The Wasserstein GAN with a gradient penalty."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class WGAN_GP(AdversarialStrategy):
    """A critic estimates the Wasserstein distance; the norm of its gradient is held at 1 between real and fake samples.

    Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, algorithm 1: weight 10, 5 critic updates per iteration,
    Adam 1e-4, betas 0 and 0.9, batch 64. For 2-D points the authors' code has the weight 0.1 (`GP.weight=0.1`) and
    batches of 256. No BatchNorm in the critic: it would couple the samples whose gradients are penalised.

    Deviations: none known; the authors' code has beta1 0.5 where the paper has 0.
    """

    preset = {
        "objective": "wasserstein",
        "penalty": "GP",
        "GP.weight": 10.0,
        "discriminatorIterations": 5,
        "method": "ADAM",
        "learningRate": 0.0001,
        "beta1": 0.0,
        "beta2": 0.9,
        "batchSize": 64,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """WGAN_GP."""
    register("WGAN_GP", WGAN_GP)
