"""FinGAN: long series of returns, made from one vector of noise."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.strategies.series.drawnlabels import DrawnLabelStrategy
from ganglion.strategies.series.windows import SequenceStrategy


class FinGAN(SequenceStrategy, DrawnLabelStrategy):
    """Two players with noisy labels and two time-scales, for windows of thousands of returns.

    Takahashi, Chen and Tanaka-Ishii 2019, https://doi.org/10.1016/j.physa.2019.121261: 100 normal numbers of noise per
    window, one score per window, targets of real windows uniform in 0.9..1.1 and of fake ones in 0.1..0.3, the
    generator's 1; the discriminator's loss is the mean over real and fake windows (`halves=mean`); Adam at 1e-5 (beta1
    0.1) for the discriminator and 2e-4 (beta1 0.5) for the generator; batch 24, 10,240 iterations. Made for
    `FinGANGenerator,FinGANDiscriminator` and the data set `Returns`.

    Deviations: a window comes from one index, not from a random member of it; targets above 1 make the cross-entropy
    unbounded below for real scores, as published (`realTargets=0.9,1` does not).
    """

    preset = {
        "objective": "labelled",
        "labelled.generatorTarget": 1.0,
        "halves": "mean",
        "noiseForm": "window",
        "scoreForm": "window",
        "generatorDim": 100,
        "method": "ADAM",
        "beta2": 0.999,
        "discriminator.learningRate": 1e-5,
        "discriminator.beta1": 0.1,
        "generator.learningRate": 2e-4,
        "generator.beta1": 0.5,
        "batchSize": 24,
        "iterations": 10240,
        "traceInterval": 50,
    }


@hookimpl
def register_strategies(register: Any) -> None:
    """FinGAN."""
    register("FinGAN", FinGAN)
