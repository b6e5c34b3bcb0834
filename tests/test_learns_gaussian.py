"""Every strategy that makes samples learns a Gaussian in seconds: place, widths and tilt, from 5,000 samples.

The published defaults are made for pictures and hours; each row says what it changes for points and seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tiny import QUIET

from ganglion.engine.contracts import DataSpec
from ganglion.engine.errors import ConfigError
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.launch import learn
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository

REGISTRY = Registry().load()
MAKING = {
    entry.name: entry.thing.__module__
    for entry in REGISTRY.all("strategy")
    if entry.origin == "built-in" and entry.thing.generates()
}
SERIES = {name for name, module in MAKING.items() if ".series." in module}
GENERATIVE = [name for name in MAKING if name not in SERIES]
PAIR, AUTOENCODED = "Generator,Discriminator", "Generator,Autoencoder"
TILTED = {"mean": "1,-1", "covariance": "1,0.6,1"}
# two of them as classes, for strategies that take labels: the same mean, a covariance of 1.25, 0.35, 1.25 in all
TWO = {"mean": "0.5,-0.5,1.5,-1.5", "covariance": "1,0.6,1"}

# higher rates, which fall to 0, a slower generator and its average; no momentum, no dropout
FALLING = {"method": "ADAM", "learningRate": 2e-3, "beta1": 0, "beta2": 0.9, "decayType": "cosine", "batchSize": 64}
EVEN = {**FALLING, "generator.learningRate": 2e-3, "generator.ema": 0.99, "discriminator.Dropout.p": 0}
FAST = {**EVEN, "generator.learningRate": 1e-3}
RECONSTRUCTED = {**FALLING, "generator.ema": 0.99}
AT_ONCE = {"initIterations": 0}  # no warm-up of the critic


class Row(NamedTuple):
    """How a strategy learns, and how far its mean and its covariance (Frobenius norm) may be from the true ones."""

    keys: Mapping[str, Any] = FAST
    iterations: int = 800
    networks: str = PAIR
    data: Mapping[str, str] = TILTED
    mean: float = 0.2
    covariance: float = 0.4


ROWS: dict[str, Row] = {
    "GAN": Row(),
    "Minimax": Row(),
    "NSGAN": Row(),
    "LSGAN": Row(),
    "HingeGAN": Row(iterations=1000),
    "RpGAN": Row(),
    "RaGAN": Row(iterations=1000),
    "R3GAN": Row(),
    "DRAGAN": Row({**FAST, "DRAGAN.weight": 0.1}),
    "SNGAN": Row({**EVEN, "discriminatorIterations": 2}, 400),
    "WGAN": Row({**FAST, **AT_ONCE, "clamp": 0.05, "discriminatorIterations": 3}, 1000),
    "WGAN_GP": Row({**FAST, "GP.weight": 0.1, "discriminatorIterations": 2}, 600),
    "WGAN_LP": Row({**FAST, **AT_ONCE, "LP.weight": 1, "discriminatorIterations": 2}, 600),
    "PacGAN": Row(),
    "FeatureMatchingGAN": Row(),
    "UnrolledGAN": Row({**EVEN, "unroll": 3}, 250),
    "InfoGAN": Row({**EVEN, "information": 0.1}),
    "CGAN": Row(data=TWO),
    "ACGAN": Row(EVEN, data=TWO),
    "ProjectionGAN": Row({**EVEN, "discriminatorIterations": 2}, 400, data=TWO),
    "EBGAN": Row({**RECONSTRUCTED, "generator.learningRate": 1e-3}, 1000, AUTOENCODED),
    # errors of reconstruction say little of how dense points are: it finds the place, and is narrower
    "BEGAN": Row({**RECONSTRUCTED, "gamma": 1, "lambdaK": 0.1}, 1000, covariance=0.9),
    "FlowMatching": Row({"batchSize": 64, "width": 64, "blocks": 2, "warmUpIterations": 50}, 600, "FlowMLP"),
    "VAE": Row({"learningRate": 3e-3, "decayType": "cosine", "batchSize": 64, "beta": 0.1}, 800, "Encoder,Decoder"),
}


def test_every_generative_strategy_has_a_row() -> None:
    assert set(GENERATIVE) == set(ROWS)


@pytest.mark.parametrize("strategy", sorted(SERIES))
def test_strategies_without_a_row_refuse_points(strategy: str) -> None:
    chosen = REGISTRY.get("strategy", strategy).thing
    with pytest.raises(ConfigError, match=r"time series|class labels"):
        chosen.shapes(chosen.Settings(), DataSpec("vector", (2,)))


@pytest.mark.parametrize("strategy", GENERATIVE)
def test_learns_a_gaussian(strategy: str, tmp_path: Path) -> None:
    row = ROWS[strategy]
    keys = {**QUIET, **row.data, **row.keys, "traceInterval": 100, "strategy": strategy, "iterations": row.iterations}
    learn(row.networks, "Gaussians", {**keys, "tag": "gaussian", "seed": 1}, runs=tmp_path)
    run, asked = Repository(tmp_path).find("gaussian"), {"count": "5000"}
    (found,) = evaluate_run(REGISTRY, run, "points-v1", "latest", "cpu", 0, asked, lambda sentence: None)
    assert found.values["meanError"] <= row.mean
    assert found.values["covarianceError"] <= row.covariance
