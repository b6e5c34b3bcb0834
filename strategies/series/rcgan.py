"""The recurrent conditional GAN: both players are told the class in every step."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.series.windows import SequenceStrategy
from ganglion.strategies.telling import ToldStrategy


class RCGAN(SequenceStrategy, ToldStrategy):
    """RGAN with classes: the label, one-hot, stands in every step beside the noise and beside the data.

    Esteban, Hyland and Raetsch 2017, https://arxiv.org/abs/1706.02633, section 2.1: losses and optimisers of RGAN;
    noise of 10 numbers a step and 3 generator updates per iteration, as the authors' code has them for medical data.
    Fakes have the labels of the real windows they are judged beside, so a label never tells a fake. `wrongLabels=1`
    lets real windows beside another class's label count as fake too, an option of the authors' code.

    Deviations: rows are drawn with replacement, not in epochs; labels are classes, where the paper's are seven yes-no
    answers at once; the order of the players does not change from epoch to epoch.
    """

    preset = {
        "objective": "nonsaturating",
        "discriminator.method": "SGD",
        "discriminator.learningRate": 0.1,
        "generator.method": "ADAM",
        "generator.learningRate": 1e-3,
        "generatorIterations": 3,
        "generatorDim": 10,
        "batchSize": 28,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """RCGAN."""
    register("RCGAN", RCGAN)
