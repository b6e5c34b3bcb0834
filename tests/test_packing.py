"""PacGAN: what a pack is, that everything the discriminator sees is one, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganglion.engine.api import DataSpec, learn
from ganglion.engine.assembly import assemble
from ganglion.engine.errors import ConfigError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.strategies.pacgan import PacGAN, PackedSettings

REGISTRY = Registry().load()
PAIR = "PerceptronGenerator,PerceptronDiscriminator"
KEYS = {"batchSize": 8, "size": 64, "testSize": 16, "iterations": 10}


def session(strategy: str = "PacGAN", **keys: Any) -> Session:
    asked = request(PAIR, "Circle", {**KEYS, "strategy": strategy, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def packed(kind: Any, rows: Tensor, pack: int) -> Tensor:
    strategy: Any = object.__new__(PacGAN)
    strategy._pack = pack
    strategy._axis = 1 if kind == "sequence" else 0
    result: Tensor = strategy._packed(rows)
    return result


def test_consecutive_rows_are_joined_along_features_or_channels() -> None:
    assert packed("vector", torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8]]), 2).tolist() == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
    ]
    pictures = torch.arange(8.0).view(4, 1, 1, 2)
    assert packed("image", pictures, 2).tolist() == [[[[0, 1]], [[2, 3]]], [[[4, 5]], [[6, 7]]]]
    series = torch.arange(8.0).view(2, 2, 2)  # two rows of two steps with two features
    assert packed("sequence", series, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]


@pytest.mark.parametrize(
    ("kind", "shape", "seen"), [("vector", (2,), (6,)), ("image", (1, 4, 5), (3, 4, 5)), ("sequence", (7, 2), (7, 6))]
)
def test_the_discriminator_is_made_for_packs_and_the_generator_for_samples(kind: Any, shape: Any, seen: Any) -> None:
    shapes = PacGAN.shapes(PackedSettings(pack=3), DataSpec(kind, shape))
    assert shapes["discriminator"].input == (kind, seen)
    assert shapes["generator"].output == (kind, shape)


def test_real_packs_are_the_rows_of_the_batch_and_fake_packs_the_samples_of_the_noise() -> None:
    live = session(pack=4)
    strategy: Any = live.strategy
    rows = session("NSGAN").sampler.next_batch().input
    assert torch.equal(strategy.real_batch().input, rows.view(2, 8))
    noise = strategy.draw_noise(2)
    assert noise.shape == (2, 4, 2)
    torch.testing.assert_close(strategy.fake(noise, None), strategy.generate(noise.view(8, 2)).view(2, 8))


@pytest.mark.parametrize("joint", ["yes", "no"])
def test_all_that_the_discriminator_is_shown_are_packs_of_one_batch(joint: str) -> None:
    live = session(penalty="R1,GP", objective="relativisticPaired", jointPass=joint, instanceNoise=0.1)
    seen: list[tuple[int, ...]] = []
    live.networks["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    made: list[int] = []
    live.networks["generator"].register_forward_pre_hook(lambda _, given: made.append(len(given[0])))
    values = live.strategy.process_iteration(0).values
    assert set(seen) == ({(4, 4), (8, 4)} if joint == "yes" else {(4, 4)})
    assert made == [8, 8]
    assert float(values["GP"]) > 0 and float(values["R1"]) >= 0


def test_packs_of_one_are_the_game_without_packs() -> None:
    same = {"learningRate": 0.001, "beta1": 0.5, "halves": "sum"}
    one, plain = session(pack=1, **same), session("NSGAN", **same)
    for i in range(3):
        one.strategy.process_iteration(i)
        plain.strategy.process_iteration(i)
    for role in one.networks:
        for name, value in one.networks[role].state_dict().items():
            torch.testing.assert_close(value, plain.networks[role].state_dict()[name])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"pack": 3}, "pack=3 must divide batchSize=8, which counts samples"),
        (
            {"pack": 4, "discriminator.accumulate": 4},
            r"pack=4 and discriminator\.accumulate=4 must divide batchSize=8",
        ),
    ],
)
def test_a_pack_that_does_not_fit_is_refused_before_anything_is_written(
    keys: Any, sentence: str, tmp_path: Path
) -> None:
    runs = tmp_path / "here"
    with pytest.raises(ConfigError, match=sentence):
        learn(PAIR, "Circle", {**KEYS, "strategy": "PacGAN", **keys}, runs=runs)
    assert not runs.exists() or not list(runs.iterdir())


def test_micro_batches_of_packs_give_the_same_update() -> None:
    results = []
    for parts in (1, 4):
        live = session(accumulate=parts)
        live.strategy.process_iteration(0)
        results.append(live.networks["generator"].state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-4, atol=1e-6)


def test_it_learns_a_gaussian(tmp_path: Path) -> None:
    keys = {
        "strategy": "PacGAN", "mean": "1,-1", "size": 4000, "testSize": 16, "iterations": 450, "batchSize": 64,
        "learningRate": 0.001, "beta1": 0.5, "generator.ema": 0.98, "traces": "lines", "sampleInterval": 0,
        "threads": 1, "tag": "learnt",
    }  # fmt: skip
    learn(PAIR, "Gaussians", keys, runs=tmp_path, quiet=True)
    samples = draw_samples(open_run(REGISTRY, Repository(tmp_path).find("learnt")), 2500, 0)
    assert float((samples.mean(0) - torch.tensor([1.0, -1.0])).abs().max()) < 0.2
    assert float((samples.T.cov() - torch.tensor([[1.0, 0.6], [0.6, 1.0]])).abs().max()) < 0.4
