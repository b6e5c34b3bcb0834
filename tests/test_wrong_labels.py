"""Real samples beside a wrong label: the third kind of example that a discriminator can be shown."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from ganglion.engine.assembly import assemble
from ganglion.engine.contracts import Batch, DataSpec, LearningContext
from ganglion.engine.data import TensorDataset
from ganglion.engine.errors import ConfigError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.registry import Registry
from ganglion.engine.samplers import BatchSampler, Sequential
from ganglion.engine.session import Session
from ganglion.engine.streams import Streams
from ganglion.strategies.cgan import CGAN
from ganglion.strategies.objectives import NonSaturating, RelativisticPaired

REGISTRY = Registry().load()
CPU = torch.device("cpu")
LABELS = torch.tensor([2, 0, 1, 0, 2, 2])
POINTS = torch.arange(12.0).view(6, 2) / 6 - 1
WRONG = torch.tensor([0, 1, 2, 2, 1, 0])


def ready(discriminator: nn.Module, objective: Any = None, classes: int = 3, **keys: Any) -> Any:
    """CGAN on six points, with a linear generator."""
    spec = DataSpec("vector", (2,), classes=("a", "b", "c")[:classes])
    data = TensorDataset(spec, POINTS, LABELS.clamp(max=classes - 1))
    networks = {"generator": nn.Linear(2 + classes, 2), "discriminator": discriminator}
    sampler = BatchSampler(data, Sequential(None, data), 6, 0, CPU)
    context = LearningContext(
        CGAN.Settings(**keys), spec, networks, dict.fromkeys(networks, CPU), Streams(0, CPU), sampler, {},
        {"objective": objective or NonSaturating(), "penalty": ()},
    )  # fmt: skip
    strategy = CGAN()
    strategy.bind(context)
    strategy.setup(context)
    return strategy


def judge() -> nn.Linear:
    """score = x - 2 y + (0.5, -1, 2) of the class."""
    network = nn.Linear(5, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, -2.0, 0.5, -1.0, 2.0]]))
    return network


def scores(points: Tensor, labels: Tensor) -> Tensor:
    return points @ torch.tensor([1.0, -2.0]) + torch.tensor([0.5, -1.0, 2.0])[labels]


@pytest.mark.parametrize(("weight", "halves", "share"), [(1.0, "sum", 1.0), (0.5, "sum", 0.5), (1.0, "mean", 0.5)])
def test_real_rows_beside_a_wrong_label_count_as_fake(weight: float, halves: str, share: float) -> None:
    strategy = ready(judge(), wrong_labels=weight, halves=halves)
    fake = POINTS.flip(0)
    batch = Batch(POINTS, LABELS, {"wrong": WRONG.unsqueeze(1)})
    loss = strategy.discriminator_loss(batch, fake, strategy.draw_rest(batch))
    real, false = softplus(-scores(POINTS, LABELS)).mean(), softplus(scores(fake, LABELS)).mean()
    wrong = softplus(scores(POINTS, WRONG)).mean()
    torch.testing.assert_close(loss.terms["discriminatorWrong"], wrong)
    torch.testing.assert_close(loss.total, (real + false) * (1.0 if halves == "sum" else 0.5) + share * wrong)


def test_a_wrong_label_is_any_other_one() -> None:
    strategy = ready(judge(), wrong_labels=1.0)
    labels = LABELS.repeat(200)
    drawn = strategy.wrong_labels(Batch(POINTS.repeat(200, 1), labels))[:, 0]
    assert not bool((drawn == labels).any())
    for own in range(3):
        counts = drawn[labels == own].bincount(minlength=3)
        others = [int(counts[each]) for each in range(3) if each != own]
        assert min(others) > 0.35 * int(counts.sum())


def test_what_wrong_labels_cannot_go_with_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no part for fake ones alone"):
        ready(judge(), RelativisticPaired(), wrong_labels=1.0)
    with pytest.raises(ConfigError, match="the data have one class"):
        ready(nn.Linear(3, 1), wrong_labels=1.0, classes=1)
    ready(judge(), RelativisticPaired())


def series(**keys: Any) -> tuple[Any, Session]:
    small = {"size": 40, "testSize": 12, "length": 8, "hidden": 5, "classes": 3, "batchSize": 6, "iterations": 9}
    pair = "RecurrentGenerator,RecurrentDiscriminator"
    asked = request(pair, "Sine", {**small, "strategy": "RCGAN", **keys})
    made = assemble(REGISTRY, asked, data_context(lambda sentence: None))
    return made.strategy, made


def test_rcgan_shows_its_discriminator_every_window_three_times() -> None:
    strategy, made = series(wrongLabels=1)
    seen: list[Tensor] = []
    made.networks["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    batch = strategy.real_batch()
    values = strategy.train_discriminator(batch)
    own, wrong = seen[0][:6], seen[1]
    assert torch.equal(own[..., :1], wrong[..., :1]) and torch.equal(own[..., :1], batch.input)
    assert torch.equal(own[:, 0, 1:], one_hot(batch.target, 3).float())
    assert wrong[..., 1:].sum(2).eq(1).all() and not bool((wrong[..., 1:] * own[..., 1:]).any())
    terms = ("discriminatorReal", "discriminatorFake", "discriminatorWrong")
    assert float(values["discriminatorLoss"]) == pytest.approx(sum(float(values[name]) for name in terms), rel=1e-6)


def test_without_the_setting_nothing_is_drawn_or_shown() -> None:
    strategy, _ = series()
    assert "discriminatorWrong" not in strategy.train_discriminator(strategy.real_batch())
