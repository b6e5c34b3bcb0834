"""Exact Wasserstein-1 of points against hand-computed numbers, and point sets in the published scales."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tiny import learn_tiny
from torch import Tensor

from ganglion.datasets.grid import Grid
from ganglion.datasets.ring import Ring
from ganglion.datasets.swissroll import SwissRoll
from ganglion.engine.api import DataContext, DataError, DataSpec, EvaluationContext, Splits, TensorDataset
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.strategies.metrics.transport import Transport, wasserstein


def make(kind: Any, seed: int = 0, **settings: Any) -> Any:
    return kind(kind.Settings(**settings), DataContext((), Path("no cache"), seed, lambda text: None))


def context(samples: Callable[[int], Tensor], splits: Splits, seed: int = 0) -> EvaluationContext:
    def refuse(*given: Any) -> Any:
        raise AssertionError("not asked for")

    return EvaluationContext(
        strategy=cast("Any", SimpleNamespace(generates=lambda: True)),
        spec=splits.train.spec,
        device=torch.device("cpu"),
        seed=seed,
        own_scale=lambda rows: rows * 10,
        splits=lambda: splits,
        factory=refuse,
        samples=samples,
        labelled=refuse,
        run=refuse,
    )


def table(values: Tensor) -> TensorDataset:
    return TensorDataset(DataSpec("vector", (values.shape[1],)), values)


# --- distance -----------------------------------------------------------------------------------------------------


def test_the_cheapest_assignment_is_found() -> None:
    one = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    other = torch.tensor([[4.0, 3.0], [0.0, 0.0]])
    assert wasserstein(one, other) == 1.5  # (0 + 3) / 2; in the order given it is (5 + 4) / 2
    far = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    # (1, 0) stays where it is, though (0, 0) comes first and is nearer to it than to (1, 1)
    assert wasserstein(far, torch.tensor([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(2**0.5 / 2)


def test_on_a_line_it_is_the_mean_difference_of_the_sorted_points() -> None:
    one, other = torch.randn(200, 1).double(), 3 * torch.randn(200, 1).double() + 1
    expected = (one.sort(0).values - other.sort(0).values).abs().mean()
    assert wasserstein(one, other) == pytest.approx(float(expected), rel=1e-12)


def test_a_shift_costs_its_length() -> None:
    points = torch.randn(100, 3)
    assert wasserstein(points, points + torch.tensor([2.0, 3.0, 6.0])) == pytest.approx(7.0, rel=1e-6)
    assert wasserstein(points, points.flip(0)) == 0.0


# --- metric -------------------------------------------------------------------------------------------------------


def test_figures_in_the_datas_own_scale() -> None:
    train, test = torch.full((9, 2), 0.5), torch.zeros(6, 2)
    judged = Transport(Transport.Settings(count=6)).evaluate(
        context(lambda count: torch.tensor([[6.0, 8.0]]).repeat(count, 1), Splits(table(train), None, table(test)))
    )
    assert judged.values == {
        "w1": 10.0,
        "floor": pytest.approx(50**0.5),
        "excess": pytest.approx(10 - 50**0.5),
        "samples": 6.0,
    }


def test_rows_that_are_fewer_than_asked_for_are_all_used() -> None:
    splits = Splits(table(torch.randn(300, 2)), None, table(torch.randn(40, 2)))
    drawn: list[int] = []
    judged = Transport().evaluate(context(lambda count: (drawn.append(count), torch.zeros(count, 2))[1], splits))
    assert judged.values["samples"] == 40 and drawn == [40]
    assert judged.values["w1"] == pytest.approx(float(splits.test.rows(torch.arange(40)).input.norm(dim=1).mean()) * 10)


def test_a_perfect_generator_has_no_excess_and_a_collapsed_one_has() -> None:
    source = make(Grid, test_size=600, size=600)
    generator = torch.Generator().manual_seed(9)
    scaled = context(lambda count: 10 * source.draw(count, generator).positions, source.load())
    metric = Transport(Transport.Settings(count=500))
    values = metric.evaluate(scaled).values
    assert 1.5 < values["floor"] < 5.5 and abs(values["excess"]) < 2.5  # of points ten times as far apart
    collapsed = context(lambda count: torch.zeros(count, 2), source.load())
    assert metric.evaluate(collapsed).values["w1"] > 30


def test_the_seed_chooses_the_rows() -> None:
    splits = Splits(table(torch.randn(300, 2)), None, table(torch.randn(300, 2)))
    metric = Transport(Transport.Settings(count=20))
    first, again, other = (metric.evaluate(context(lambda n: torch.zeros(n, 2), splits, seed)) for seed in (0, 0, 1))
    assert first == again and first.values["floor"] != other.values["floor"]


def test_what_it_cannot_judge() -> None:
    points, wide = table(torch.randn(30, 2)), table(torch.randn(30, 17))
    images = TensorDataset(DataSpec("image", (1, 2, 2)), torch.zeros(30, 1, 2, 2))
    metric = Transport()
    assert metric.applies(context(torch.zeros, Splits(points, None, points)))
    assert metric.applies(context(torch.zeros, Splits(points, points)))
    for splits in (Splits(points), Splits(wide, None, wide), Splits(images, None, images)):
        assert not metric.applies(context(torch.zeros, splits))
    with pytest.raises(DataError, match=r"at most 16 numbers, and these data are of kind vector with shape \(17,\)"):
        metric.evaluate(context(torch.zeros, Splits(wide, None, wide)))
    broken = torch.zeros(30, 2)
    broken[3, 1], broken[4] = torch.nan, torch.inf
    with pytest.raises(DataError, match="2 of 30 samples are not finite numbers"):
        metric.evaluate(context(lambda count: broken, Splits(points, None, points)))


def test_a_run_is_judged(tmp_path: Path) -> None:
    learn_tiny("Minimax", tmp_path, iterations=2)
    run = Repository(tmp_path).find("tiny")
    found = [evaluate_run(Registry().load(), run, None, "latest", "cpu", 0, {}, lambda text: None) for _ in range(2)]
    values = {evaluation.metric: evaluation.values for evaluation in found[0]}
    assert set(values) == {"points-v1", "transport-v1"} and found[0] == found[1]
    assert values["transport-v1"]["samples"] == 32 and values["transport-v1"]["floor"] > 0


# --- published scales ---------------------------------------------------------------------------------------------


def test_the_defaults_are_the_protocol_of_veegan_and_pacgan() -> None:
    ring, grid = make(Ring), make(Grid)
    assert len(ring.means()) == 8 and ring.std() == 0.01
    assert ring.means().norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert len(grid.means()) == 25 and grid.std() == 0.05
    assert sorted(grid.means().unique().tolist()) == [-4.0, -2.0, 0.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("source", "std"),
    [
        (make(Ring, radius=2.0, std=0.02, scale=1.414), 0.02 / 1.414),
        (make(Grid, scale=2.828), 0.05 / 2.828),
    ],
)
def test_the_scales_of_wgan_gp_with_figures_that_follow(source: Any, std: float) -> None:
    assert source.std() == pytest.approx(std)
    real = source.assess(source.load().train.input)
    assert 0.985 < real["highQuality"] < 0.993 and 0.96 < real["stdRatio"] < 0.985
    shifted = source.means() + torch.tensor([2.9 * std, 0.0])
    assert source.assess(shifted)["highQuality"] == 1.0
    assert source.assess(source.means() + torch.tensor([3.1 * std, 0.0]))["highQuality"] == 0.0


def test_scaled_points_are_the_same_points_divided() -> None:
    for kind in (Ring, Grid, SwissRoll):
        plain, scaled = (make(kind, scale=scale, size=50).load().train.input for scale in (1.0, 4.0))
        assert torch.allclose(plain / 4, scaled)
    assert make(Ring, radius=2.0, scale=1.414).means().norm(dim=1).tolist() == pytest.approx([2 / 1.414] * 8)
