"""The Wasserstein GAN with a one-sided penalty."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class WGAN_LP(AdversarialStrategy):
    """A critic estimates the Wasserstein distance; only gradient norms above 1 are penalised (Lipschitz penalty).

    Petzka et al. 2018, https://arxiv.org/abs/1709.08894, section 5: weight 5, RMSprop 5e-5, batch 256, 100 critic
    updates in each of the first 25 iterations and 10 in the later ones, all on one real batch, as in its authors'
    2-D code.

    Deviations: the points lie between real and fake samples (the authors' code also has them around the data: DRAGAN).
    """

    preset = {
        "objective": "wasserstein",
        "penalty": "LP",
        "LP.weight": 5.0,
        "method": "RMSPROP",
        "learningRate": 5e-05,
        "discriminatorIterations": 10,
        "initDiscriminatorIterations": 100,
        "initIterations": 25,
        "reuseBatch": True,
        "batchSize": 256,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """WGAN_LP."""
    register("WGAN_LP", WGAN_LP)
