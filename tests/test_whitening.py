"""Whitened data: uncorrelated and of variance 1 inside, as they were outside, what holds exactly kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganglion.engine.api import ConfigError, DataSpec
from ganglion.engine.conformance.courses import Job
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.data import TensorDataset
from ganglion.engine.launch import learn
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.engine.testing import check_strategy
from ganglion.strategies.whitening import whitening_of

PAIR = ["PerceptronGenerator", "PerceptronDiscriminator"]
KEYS: dict[str, Any] = {
    "noiseForm": "window", "scoreForm": "window", "batchSize": 16, "whiten": 1.0, "size": 200, "testSize": 20,
}  # fmt: skip


def dataset(rows: Tensor, kind: Any = "sequence") -> TensorDataset:
    """Rows as a data set."""
    return TensorDataset(DataSpec(kind, tuple(rows.shape[1:])), rows)


def related(count: int = 500) -> Tensor:
    """Windows (count, 4, 3) whose second column is the first, whose third column's steps add up to 1, far from 0."""
    torch.manual_seed(0)
    first, third = torch.randn(count, 4, 1).cumsum(1), torch.rand(count, 4, 1)
    return torch.cat((first, first, third / third.sum(1, keepdim=True)), 2) + torch.tensor([50.0, 50.0, 0.0])


def test_directions_are_uncorrelated_and_lead_back() -> None:
    rows = related()
    centre, inward, outward = whitening_of(dataset(rows))
    assert inward.shape == (12, 4 + 3) and outward.shape == (7, 12)
    white = (rows.flatten(1) - centre) @ inward
    torch.testing.assert_close(white.mean(0), torch.zeros(7), atol=1e-3, rtol=0)
    torch.testing.assert_close(white.T @ white / len(rows), torch.eye(7), atol=1e-3, rtol=0)
    torch.testing.assert_close(white @ outward + centre, rows.flatten(1), atol=1e-4, rtol=0)
    assert inward.norm(dim=0).diff().min() > 0  # the largest variance first


@pytest.mark.parametrize("power", [0.8, 0.5])
def test_part_of_the_way_large_differences_stay_larger(power: float) -> None:
    rows = related()
    centre, inward, outward = whitening_of(dataset(rows), power)
    flat = rows.flatten(1) - centre
    spread = (flat @ (inward / inward.norm(dim=0))).std(0, correction=0)  # along the directions themselves
    torch.testing.assert_close((flat @ inward).std(0, correction=0), spread ** (1 - power), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(flat @ inward @ outward, flat, atol=1e-4, rtol=0)


def test_directions_are_the_same_whatever_the_order_of_the_rows() -> None:
    rows = related()
    one, other = whitening_of(dataset(rows)), whitening_of(dataset(rows[torch.randperm(len(rows))]))
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)
    assert one.outward.gather(1, one.outward.abs().argmax(1, keepdim=True)).min() > 0  # of two signs, always the same


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (torch.ones(10, 4, 3), "all training rows are the same"),
        (torch.rand(2, 4097, 1), "rows have 4,097 numbers each; at most 4,096"),
    ],
)
def test_what_cannot_be_whitened(rows: Tensor, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        whitening_of(dataset(rows))


def test_bounded_generators_are_refused() -> None:
    keys = {"whiten": 1.0, "batchSize": 8}
    refused = pytest.raises(ConfigError, match="whiten: the generator's values are bounded")
    with refused, session(["DCGANGenerator", "DCGANDiscriminator"], "Digits", **keys):
        pass


@contextmanager
def session(networks: list[str], data: str, **keys: Any) -> Iterator[Session]:
    """R3GAN set up."""
    with Job(find_subject("strategy", "R3GAN"), networks, data, keys).session() as made:
        yield made


def test_players_see_whitened_rows_and_samples_are_in_the_datas_scale() -> None:
    with session(PAIR, "Sine", **KEYS) as made:
        strategy: Any = made.strategy
        real = torch.cat([strategy.real_batch().input for _ in range(60)]).flatten(1)
        width = strategy._inward.shape[1]
        torch.testing.assert_close(real[:, :width].std(0), torch.ones(width), atol=0.3, rtol=0)
        noise = strategy.draw_noise(16)
        fake = strategy.fake(noise, None)
        assert fake.shape == (16, *made.spec.shape) and fake.flatten(1)[:, :width].abs().min() > 0
        samples = strategy.generate(noise)
        back = (samples.flatten(1) - strategy._centre) @ strategy._inward
        torch.testing.assert_close(back, fake.flatten(1)[:, :width], atol=1e-3, rtol=1e-3)


def test_constant_directions_are_zero_for_both_players() -> None:
    """Else the discriminator would tell rows from samples by them alone."""
    with session(PAIR, "Sine", **KEYS) as made:
        strategy: Any = made.strategy
        strategy._inward, strategy._outward = strategy._inward[:, :5], strategy._outward[:5]
        rows, fake = strategy.real_batch().input, strategy.fake(strategy.draw_noise(16), None)
        for each in (rows, fake):
            assert (each.flatten(1)[:, 5:] == 0).all() and (each.flatten(1)[:, :5] != 0).any()


def test_a_stored_run_gives_the_samples_of_the_run(tmp_path: Path) -> None:
    keys = {**KEYS, "iterations": 6, "threads": 1, "sampleInterval": 0, "tag": "white", "strategy": "R3GAN", "seed": 1}
    learn(PAIR, "Sine", runs=tmp_path, quiet=True, **keys)
    opened = open_run(Registry().load(), Repository(tmp_path).find("white"))
    strategy: Any = opened.strategy
    with session(PAIR, "Sine", **KEYS) as made:
        fitted = whitening_of(made.data.train)
    for mine, theirs in zip((strategy._centre, strategy._inward, strategy._outward), fitted, strict=True):
        assert torch.equal(mine, theirs)
    samples = draw_samples(opened, 50, 0)
    assert samples.shape == (50, 30, 1)
    off = samples.flatten(1) - fitted.centre
    torch.testing.assert_close(off @ fitted.inward @ fitted.outward, off, atol=1e-3, rtol=1e-3)


def test_it_passes_the_conformance_kit() -> None:
    check_strategy("R3GAN", PAIR, "Sine", skip=["graphs"], **KEYS)
