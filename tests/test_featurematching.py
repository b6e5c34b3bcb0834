"""FeatureMatchingGAN, and the helper that catches a network's hidden features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine.api import Batch, learn
from ganglion.engine.assembly import assemble
from ganglion.engine.errors import ConfigError, NetworkError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.strategies.features import feature_place, with_features

REGISTRY = Registry().load()
DISCRIMINATOR = """
name: Small
doc: Two layers.
layers:
  - Linear: {out_features: 2, bias: false}
  - Linear: {out_features: 1, bias: false}
"""
KEYS = {"batchSize": 8, "size": 64, "testSize": 16, "iterations": 10, "strategy": "FeatureMatchingGAN"}


def session(discriminator: str = "PerceptronDiscriminator", **keys: Any) -> Session:
    asked = request(f"PerceptronGenerator,{discriminator}", "Circle", {**KEYS, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def by_hand(tmp_path: Path, **keys: Any) -> Any:
    """A strategy whose discriminator has the features (x, 2 y) and the score x + 2 y."""
    (tmp_path / "small.yaml").write_text(DISCRIMINATOR)
    live = session(str(tmp_path / "small.yaml"), **keys)
    first, last = live.networks["discriminator"].parameters()
    with torch.no_grad():
        first.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        last.copy_(torch.tensor([[1.0, 1.0]]))
    return live.strategy


REAL = Batch(torch.tensor([[1.0, 1.0], [3.0, 1.0]]))  # mean features 2, 2


def fakes() -> Tensor:
    return torch.tensor([[0.0, 0.0], [0.0, 1.0]], requires_grad=True)  # mean features 0, 1


def test_the_loss_is_the_squared_distance_of_mean_features(tmp_path: Path) -> None:
    fake = fakes()
    loss = by_hand(tmp_path).generator_contest(fake, REAL)
    assert float(loss.total.detach()) == float(loss.terms["featureDistance"].detach()) == 5.0
    loss.total.backward()
    assert fake.grad is not None and fake.grad.tolist() == [[-2, -2], [-2, -2]]  # -2 (2, 1) / 2 rows, times 1 and 2


def test_the_objective_is_mixed_in_by_its_weight(tmp_path: Path) -> None:
    strategy = by_hand(tmp_path, featureWeight=2, adversarialWeight=3)
    loss = strategy.generator_contest(fakes(), REAL)
    softplus = (torch.tensor([0.0, -2.0]).exp() + 1).log().mean()  # of minus the scores 0 and 2
    assert float(loss.terms["adversarial"].detach()) == pytest.approx(float(softplus))
    assert float(loss.total.detach()) == pytest.approx(10 + 3 * float(softplus))


def test_one_pass_gives_scores_and_features_and_real_rows_are_not_differentiated(tmp_path: Path) -> None:
    strategy = by_hand(tmp_path, adversarialWeight=1)
    passes: list[bool] = []
    strategy._discriminator.register_forward_hook(lambda _, given, output: passes.append(output.requires_grad))
    strategy.generator_contest(fakes(), REAL)
    assert sorted(passes) == [False, True]
    assert all(not layer._forward_pre_hooks for layer in strategy._discriminator.modules())


def test_nothing_to_minimise_is_refused() -> None:
    with pytest.raises(ConfigError, match="featureWeight=0 and adversarialWeight=0 leave the generator nothing"):
        session(featureWeight=0)


# --- the helper ---------------------------------------------------------------------------------------------------


class Judged(NamedTuple):
    score: Tensor
    features: Tensor | None = None


class Named(nn.Module):
    """Its output has features of its own, unless it is told to leave that to the layer of that name."""

    def __init__(self, gives: bool) -> None:
        super().__init__()
        self.gives = gives
        self.features = nn.Linear(2, 3)
        self.last = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Judged:
        return Judged(self.last(self.features(x)), x * 10 if self.gives else None)


def test_features_of_the_output_win_over_a_layer_of_that_name_over_the_last_linear() -> None:
    rows = torch.ones(4, 2)
    giving, naming = Named(True), Named(False)
    assert torch.equal(with_features(giving, feature_place(giving), rows).features, rows * 10)
    assert torch.equal(with_features(naming, feature_place(naming), rows).features, naming.features(rows))
    plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    output, features = with_features(plain, feature_place(plain), rows)
    assert torch.equal(features, plain[:2](rows)) and torch.equal(output, plain(rows))


def test_a_convolution_stands_in_for_a_linear_and_features_are_flat() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Conv2d(3, 1, 2), nn.Flatten())
    pictures = torch.rand(5, 1, 3, 3)
    assert with_features(network, feature_place(network), pictures).features.shape == (5, 12)


def test_a_network_without_features_is_refused() -> None:
    with pytest.raises(NetworkError, match="the critic has no layer named 'features', no Linear and no convolution"):
        feature_place(nn.Sequential(nn.Flatten(), nn.ReLU()), "the critic")


def test_it_learns_a_gaussian(tmp_path: Path) -> None:
    keys = {
        **KEYS, "mean": "1,-1", "size": 4000, "iterations": 350, "batchSize": 64, "learningRate": 0.001,
        "generator.ema": 0.98, "traces": "lines", "sampleInterval": 0, "threads": 1, "tag": "learnt",
    }  # fmt: skip
    learn("PerceptronGenerator,PerceptronDiscriminator", "Gaussians", keys, runs=tmp_path, quiet=True)
    samples = draw_samples(open_run(REGISTRY, Repository(tmp_path).find("learnt")), 2500, 0)
    assert float((samples.mean(0) - torch.tensor([1.0, -1.0])).abs().max()) < 0.2
    assert float((samples.T.cov() - torch.tensor([[1.0, 0.6], [0.6, 1.0]])).abs().max()) < 0.4
