"""The hinge GAN with spectral normalisation."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class SNGAN(AdversarialStrategy):
    """Hinge loss; every weight matrix of the discriminator is divided by its largest singular value.

    Miyato et al. 2018, https://arxiv.org/abs/1802.05957: Adam 2e-4, betas 0 and 0.9, 5 discriminator updates per
    iteration, batch 64, one power iteration per pass.

    Deviations: the generator's batch is the discriminator's (the authors' code doubles it); a constant learning rate
    (there it falls to 0: `decayType=linear`).
    """

    preset = {
        "objective": "hinge",
        "discriminator.spectralNorm": True,
        "discriminatorIterations": 5,
        "method": "ADAM",
        "learningRate": 0.0002,
        "beta1": 0.0,
        "beta2": 0.9,
        "batchSize": 64,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """SNGAN."""
    register("SNGAN", SNGAN)
