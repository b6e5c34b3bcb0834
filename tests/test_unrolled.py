"""UnrolledGAN: the gradient through updates of the discriminator that are undone, by hand, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ganglion.engine.api import Batch, learn
from ganglion.engine.assembly import assemble
from ganglion.engine.errors import ConfigError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.strategies.charges import Drawn

REGISTRY = Registry().load()
PAIR = "PerceptronGenerator,PerceptronDiscriminator"
KEYS = {"batchSize": 8, "size": 64, "testSize": 16, "iterations": 10, "strategy": "UnrolledGAN", "generatorDim": 2}
LINEAR = "name: Psi\ndoc: psi times x\nlayers:\n  - Linear: {out_features: 1, bias: false}\n"
COUPLED = "name: Coupled\ndoc: With BatchNorm.\nlayers:\n  - Linear: 4\n  - BatchNorm1d\n  - Linear: 1\n"


def session(networks: str = PAIR, **keys: Any) -> Session:
    asked = request(networks, "Circle", {**KEYS, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("joint", ["yes", "no"])
@pytest.mark.parametrize("saturating", [True, False])
def test_one_gradient_step_ahead_in_the_dirac_gan(tmp_path: Path, joint: str, saturating: bool) -> None:
    """Data at 0, one fake at theta, D(x) = psi x: D's loss is ln 2 + softplus(psi theta)."""
    (tmp_path / "psi.yaml").write_text(LINEAR)
    keys = {"unroll": 1, "unrollMethod": "sgd", "unrollRate": 0.5, "jointPass": joint, "saturating": saturating}
    live = session(f"PerceptronGenerator,{tmp_path / 'psi.yaml'}", objective="ns", **keys)
    with torch.no_grad():
        next(live.networks["discriminator"].parameters()).copy_(torch.tensor([[1.0, 0.0]]))
    strategy: Any = live.strategy
    fake = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = strategy.generator_contest(fake, Batch(torch.zeros(1, 2))).total
    psi = 1 - 0.5 * sigmoid(1)
    slope = -0.5 * (sigmoid(1) * (1 - sigmoid(1)) + sigmoid(1))  # of psi after the step, by theta
    (gradient,) = torch.autograd.grad(loss, fake)
    if saturating:
        assert float(loss.detach()) == pytest.approx(-math.log(2) - math.log(1 + math.exp(psi)))
        assert float(gradient[0, 0]) == pytest.approx(-sigmoid(psi) * (psi + slope), rel=1e-5)
        assert float(gradient[0, 0]) == pytest.approx(-0.11151, abs=1e-5)
    else:
        assert float(loss.detach()) == pytest.approx(math.log(1 + math.exp(-psi)))
        assert float(gradient[0, 0]) == pytest.approx(-sigmoid(-psi) * (psi + slope), rel=1e-5)


@pytest.mark.parametrize(("method", "ahead"), [("ADAM", "adam"), ("SGD", "sgd")])
def test_the_weights_ahead_are_those_that_the_discriminator_would_get(method: str, ahead: str) -> None:
    live = session(unroll=3, unrollMethod=ahead, method=method, **{"discriminator.learningRate": 0.01})
    strategy: Any = live.strategy
    for i in range(3):
        live.strategy.process_iteration(i)
    batch = strategy.real_batch()
    with torch.no_grad():
        fake = strategy.fake(strategy.draw_noise(8), None)
    weights = strategy._ahead(batch, fake)
    for _ in range(3):
        live.chains["discriminator"].update(strategy.discriminator_loss, batch, fake, Drawn())
    for name, value in live.networks["discriminator"].named_parameters():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)


def test_without_looking_ahead_it_is_the_plain_game() -> None:
    same = {"learningRate": 0.001, "beta1": 0.5, "init": "none"}
    unrolled = session(unroll=0, **{f"{role}.learningRate": 0.001 for role in ("generator", "discriminator")}, **same)
    plain = session(**{**same, "strategy": "Minimax", "method": "ADAM"})
    unrolled.strategy.process_iteration(0)
    plain.strategy.process_iteration(0)
    for role in plain.networks:
        for name, value in plain.networks[role].state_dict().items():
            torch.testing.assert_close(value, unrolled.networks[role].state_dict()[name], rtol=1e-4, atol=1e-6)


def test_the_updates_ahead_are_undone_and_spectral_normalisation_is_welcome() -> None:
    live = session(**{"discriminator.spectralNorm": True})
    strategy: Any = live.strategy
    before = [parameter.detach().clone() for parameter in live.networks["discriminator"].parameters()]
    moments = str(live.chains["discriminator"].method.state_dict())
    assert torch.isfinite(strategy.train_generator()["generatorLoss"])
    assert str(live.chains["discriminator"].method.state_dict()) == moments
    for old, parameter in zip(before, live.networks["discriminator"].parameters(), strict=True):
        assert torch.equal(old, parameter) and parameter.grad is None


def test_only_what_learns_is_looked_ahead() -> None:
    live = session(fixed="discriminator.layers.0")
    strategy: Any = live.strategy
    batch = strategy.real_batch()
    weights = strategy._ahead(batch, batch.input)
    assert sorted(weights) == [f"layers.{place}.{name}" for place in (2, 4, 6) for name in ("bias", "weight")]
    still: Any = session(fixed="discriminator").strategy
    assert still._ahead(batch, batch.input) == {}


def test_a_unit_that_is_never_active_does_no_harm() -> None:
    live = session()
    with torch.no_grad():
        for parameter in live.networks["discriminator"].parameters():
            parameter.zero_()
    strategy: Any = live.strategy
    strategy.train_generator()
    assert all(bool(parameter.isfinite().all()) for parameter in live.networks["generator"].parameters())


def test_batch_statistics_are_refused(tmp_path: Path) -> None:
    (tmp_path / "coupled.yaml").write_text(COUPLED)
    networks = f"PerceptronGenerator,{tmp_path / 'coupled.yaml'}"
    with pytest.raises(ConfigError, match="unroll: the discriminator has batch statistics"):
        session(networks)
    assert session(networks, unroll=0)


def test_adam_ahead_needs_adam() -> None:
    with pytest.raises(ConfigError, match="goes on from the discriminator's Adam, and its method is SGD; use unroll"):
        session(method="SGD")


def test_a_way_of_looking_ahead_without_looking_ahead_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unrollRate=0\.1: it has no effect with unroll=0"):
        session(unroll=0, unrollRate=0.1)


def test_it_learns_a_gaussian(tmp_path: Path) -> None:
    keys = {
        **KEYS, "mean": "1,-1", "size": 4000, "iterations": 200, "batchSize": 64, "unroll": 2, "generator.ema": 0.97,
        "discriminator.learningRate": 0.001, "generator.learningRate": 0.002, "traces": "lines", "sampleInterval": 0,
        "threads": 1, "tag": "learnt",
    }  # fmt: skip
    learn(PAIR, "Gaussians", keys, runs=tmp_path, quiet=True)
    samples = draw_samples(open_run(REGISTRY, Repository(tmp_path).find("learnt")), 2500, 0)
    assert float((samples.mean(0) - torch.tensor([1.0, -1.0])).abs().max()) < 0.2
    assert float((samples.T.cov() - torch.tensor([[1.0, 0.6], [0.6, 1.0]])).abs().max()) < 0.4
