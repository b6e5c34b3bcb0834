"""The recurrent GAN: a score in every step."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.series.windows import SequenceStrategy


class RGAN(SequenceStrategy, AdversarialStrategy):
    """Recurrent players: noise goes in at every step, every step gets a score, and a loss is the mean over the steps.

    Esteban, Hyland and Raetsch 2017, https://arxiv.org/abs/1706.02633, equations 1 and 2: cross-entropies, the
    generator's non-saturating; the discriminator by plain SGD at 0.1, the generator by Adam at 1e-3; batch 28, noise of
    5 numbers a step and 5 discriminator updates per iteration, as the authors' code has them for sine waves (for
    medical data 1 and `generatorIterations=3`, for digits 1 and 2). Made for `RecurrentGenerator,
    RecurrentDiscriminator`, an LSTM of 100 units each; `batchMean=true` of the latter shows it the mean of the batch.
    Penalties can be added, which the authors' code could not differentiate.

    Deviations: rows are drawn with replacement, not in epochs; the discriminator of the authors' script for medical
    data kept its output layer as it was initialised, by a mistake that is not repeated.
    """

    preset = {
        "objective": "nonsaturating",
        "discriminator.method": "SGD",
        "discriminator.learningRate": 0.1,
        "generator.method": "ADAM",
        "generator.learningRate": 1e-3,
        "discriminatorIterations": 5,
        "generatorDim": 5,
        "batchSize": 28,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """RGAN."""
    register("RGAN", RGAN)
