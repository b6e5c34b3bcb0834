"""DIANNE's GAN: cross-entropy with labels 0.85 and 0.15, fresh noise for the generator."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class GAN(AdversarialStrategy):
    """Generator against discriminator with smoothed labels: real 0.85, fake 0.15, and 0.85 in the generator's update.

    Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, as DIANNE's GANLearningStrategy plays it: the gradients of
    both halves are summed into one discriminator update, and the generator's update starts from fresh noise.

    Deviations: dropout is on in every pass (there the generator's second pass ran in evaluation mode by accident);
    the smoothed targets are settings; all losses are reported, not the generator's alone.
    """

    preset = {"objective": "labelled"}


@hookimpl
def register_strategies(register: Any) -> None:
    """GAN."""
    register("GAN", GAN)
