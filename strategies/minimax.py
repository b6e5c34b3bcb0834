"""The two-player game on one shared loss: the discriminator minimises it, the generator maximises it."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy


class Minimax(AdversarialStrategy):
    """Both players on the same cross-entropy: l(D(fake), 0) + l(D(real), 1), minimised by D and maximised by G.

    Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, equation 1; presets of the two-dimensional circle example
    (Adam at 1e-3, 2 numbers of noise). It saturates where the discriminator wins clearly: see NSGAN.

    Deviations: the generator's loss leaves out the real half, whose gradient is zero for the generator.
    """

    preset = {"objective": "minimax", "method": "ADAM", "learningRate": 1e-3, "batchSize": 64}


@hookimpl
def register_strategies(register: Any) -> None:
    """Minimax."""
    register("Minimax", Minimax)
