"""The non-saturating GAN with hard labels and averaged halves."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class NSGAN(AdversarialStrategy):
    """Cross-entropy with hard labels; the generator maximises log D(fake) instead of minimising log(1 - D(fake)).

    Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 3; optimiser of DCGAN (Radford et al. 2015,
    https://arxiv.org/abs/1511.06434): Adam 2e-4, betas 0.5 and 0.999. The discriminator's loss is the average of its
    real and fake half.

    Deviations: batch 64 (DCGAN: 128).
    """

    preset = {
        "objective": "nonsaturating",
        "halves": "mean",
        "method": "ADAM",
        "learningRate": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 64,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """NSGAN."""
    register("NSGAN", NSGAN)
