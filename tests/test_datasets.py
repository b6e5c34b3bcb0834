"""The data sets that are made or embedded: their points, the judges by hand-computed numbers, the real digits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ganglion.datasets import points
from ganglion.datasets.circle import Circle
from ganglion.datasets.digits import Digits
from ganglion.datasets.gaussians import Gaussians
from ganglion.datasets.grid import Grid
from ganglion.datasets.mnist import MNIST
from ganglion.datasets.mnistall import MNISTAll
from ganglion.datasets.ring import Ring
from ganglion.datasets.swissroll import SwissRoll
from ganglion.engine.api import ConfigError, DataContext, DataError, Subset, TensorDataset
from ganglion.engine.contracts import DataSpec
from ganglion.engine.data import check_finite, data_digest, take

POINT_SETS = (Circle, Ring, Grid, SwissRoll, Gaussians)


def make(kind: Any, seed: int = 0, folders: tuple[Path, ...] = (), **settings: Any) -> Any:
    context = DataContext(folders, Path("no cache"), seed, lambda text: None)
    return kind(kind.Settings(**settings), context)


# --- points -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", POINT_SETS)
def test_points_are_the_same_for_the_same_seed_and_others_in_the_test_part(kind: Any) -> None:
    state = torch.get_rng_state()
    first, again, other = (make(kind, seed, size=200, test_size=200).load() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.train.input, again.train.input) and torch.equal(first.test.input, again.test.input)
    assert not torch.equal(first.train.input, other.train.input)
    assert not torch.equal(first.train.input, first.test.input)
    spec = first.train.spec
    assert (spec.kind, spec.shape, spec.value_range, spec.features) == ("vector", (2,), None, ("x", "y"))
    assert len(make(kind).load().train) == 10000 and len(make(kind).load().test) == 2500


@pytest.mark.parametrize("kind", POINT_SETS)
def test_real_points_get_good_marks(kind: Any) -> None:
    source = make(kind)
    figures = source.assess(source.load().train.input)
    expected = {
        Circle: {"withinTenth": (1, 1), "arcsHit": (36, 36), "radiusMean": (0.999, 1.001), "radiusStd": (0, 1e-6)},
        Ring: {"modes": (8, 8), "highQuality": (0.985, 0.993), "reverseKL": (0, 0.002), "stdRatio": (0.96, 0.985)},
        Grid: {"modes": (25, 25), "highQuality": (0.985, 0.993), "reverseKL": (0, 0.004), "stdRatio": (0.96, 0.985)},
        SwissRoll: {"onRoll": (0.995, 0.999)},
        # the entropy of the default Gaussian is 1 + ln 2 pi + ln(1 - 0.36) / 2 = 2.6147
        Gaussians: {"meanError": (0, 0.04), "covarianceError": (0, 0.06), "logDensity": (-2.65, -2.58)},
    }[kind]
    assert figures.keys() == expected.keys()
    for name, (low, high) in expected.items():
        assert low <= figures[name] <= high, (name, figures)


def test_modes_are_targets_with_names() -> None:
    ring = make(Ring, std=1e-6).load().train
    assert ring.spec.classes[:2] == ("0 degrees", "45 degrees") and len(ring.spec.classes) == 8
    batch = ring.rows(torch.arange(100))
    angles = torch.atan2(batch.input[:, 1], batch.input[:, 0]) / math.pi * 4
    assert torch.equal(angles.round().to(torch.int64) % 8, batch.target)
    grid = make(Grid, std=1e-6, scale=2.0).load().train
    assert grid.spec.classes[0] == "(-4,-4)" and grid.spec.classes[24] == "(4,4)"
    assert grid.input[grid.target == 0].allclose(torch.tensor([-2.0, -2.0]), atol=1e-4)
    assert grid.input[grid.target == 1].allclose(torch.tensor([-2.0, -1.0]), atol=1e-4)


def test_circle_and_its_noise() -> None:
    assert make(Circle, radius=2.0).load().train.input.norm(dim=1).allclose(torch.tensor(2.0))
    noisy = make(Circle, std=0.05).load().train.input.norm(dim=1)
    assert 0.045 < float(noisy.std()) < 0.055


def test_circle_figures_by_hand() -> None:
    samples = torch.tensor([[1.0, 0.0], [0.0, 1.09], [0.0, -0.89], [math.cos(0.1), math.sin(0.1)], [-0.95, 0.0]])
    figures = points.circle_figures(samples, 1.0)
    assert figures["withinTenth"] == 0.8  # 0.89 is farther than 0.1 from the circle
    assert figures["arcsHit"] == 3.0  # 0 and 0.1 radians (5.7 degrees) share the first arc; 90; 180
    assert figures["radiusMean"] == pytest.approx((1 + 1.09 + 0.89 + 1 + 0.95) / 5)
    assert points.circle_figures(2 * samples, 2.0)["withinTenth"] == 0.8
    angles = torch.arange(36) * math.pi / 18 + 0.01
    assert points.circle_figures(torch.stack([angles.cos(), angles.sin()], 1), 1.0)["arcsHit"] == 36.0
    assert points.circle_figures(torch.stack([angles.cos(), angles.sin()], 1)[:18], 1.0)["arcsHit"] == 18.0
    below = torch.tensor([[1.0, -1e-12]], dtype=torch.float64)  # an angle that rounds up to a whole turn
    assert points.circle_figures(below, 1.0)["arcsHit"] == 1.0


def test_mode_figures_by_hand() -> None:
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    samples = torch.tensor(
        [[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [10.0, 1.0], [0.0, 6.9], [5.0, 5.0], [10.0, 3.1], [50, 50]]
    )
    figures = points.mode_figures(samples, means, 1.0)
    # within 3 of a mean: the first three of mode 0 (3.0 counts), one of mode 1; 6.9 is 3.1 from mode 2
    assert figures["modes"] == 2.0 and figures["highQuality"] == 0.5
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert figures["reverseKL"] == pytest.approx(math.log(4) - entropy)
    # mode 0 has mean (0, 1): squares 1+1, 1+1, 0+4; mode 1 has one sample; freedom 2 (4 - 2)
    assert figures["stdRatio"] == pytest.approx(math.sqrt(8 / 4))
    assert points.mode_figures(2 * samples, 2 * means, 2.0) == pytest.approx(figures)


def test_mode_figures_of_collapsed_missed_and_broken_samples() -> None:
    means = points.ring_means(8, 1.0)
    collapsed = points.mode_figures(means[:1].repeat(10, 1), means, 0.01)
    assert collapsed == {"modes": 1.0, "highQuality": 1.0, "reverseKL": pytest.approx(math.log(8)), "stdRatio": 0.0}
    broken = torch.tensor([[math.nan, 0.0], [math.inf, 1.0], [9.0, 9.0]])
    missed = points.mode_figures(broken, means, 0.01)
    assert missed == {"modes": 0.0, "highQuality": 0.0, "reverseKL": pytest.approx(math.log(8)), "stdRatio": 0.0}


def test_ring_has_no_mode_twice_and_grid_is_centered() -> None:
    means = points.ring_means(8, 2.0)
    assert torch.pdist(means).min() > 1.5 and means.norm(dim=1).allclose(torch.tensor(2.0, dtype=torch.float64))
    grid = points.grid_means(5, 2.0)
    assert sorted(set(grid.flatten().tolist())) == [-4.0, -2.0, 0.0, 2.0, 4.0] and len(grid.unique(dim=0)) == 25


def test_scaled_grid_is_judged_by_its_own_deviation() -> None:
    source = make(Grid, scale=2.828)
    real = source.load().train.input
    assert 0.98 < float(real.std()) < 1.02
    assert source.assess(real)["highQuality"] > 0.98
    wide = source.means().repeat(100, 1) + 0.05 * torch.randn(2500, 2)  # the deviation before scaling
    assert source.assess(wide)["highQuality"] < 0.85


def test_swiss_roll_is_that_of_scikit_learn() -> None:
    from sklearn.datasets import make_swiss_roll

    theirs = torch.from_numpy(make_swiss_roll(10000, noise=0.25, random_state=0)[0][:, [0, 2]] / 7.5)
    ours = make(SwissRoll).load().train.input.to(torch.float64)
    assert ours.mean(0).allclose(theirs.mean(0), atol=0.04) and ours.std(0).allclose(theirs.std(0), atol=0.03)
    assert make(SwissRoll).assess(theirs)["onRoll"] > 0.99
    assert make(SwissRoll).assess(torch.zeros(5, 2))["onRoll"] == 0.0


def test_log_density_by_hand() -> None:
    means, identity = torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.eye(2)
    one = points.mixture_log_density(torch.tensor([[3.0, 4.0]]), means[:1], identity[None])
    assert float(one) == pytest.approx(-12.5 - math.log(2 * math.pi))
    wide = points.mixture_log_density(torch.tensor([[2.0, 0.0]]), means[:1], torch.tensor([[[4.0, 0.0], [0.0, 1.0]]]))
    assert float(wide) == pytest.approx(-0.5 - math.log(2 * math.pi) - math.log(2.0))
    middle = points.mixture_log_density(torch.tensor([[2.0, 0.0]]), means, identity.expand(2, 2, 2))
    assert float(middle) == pytest.approx(-2.0 - math.log(2 * math.pi))
    reference = torch.distributions.MultivariateNormal(means[1], torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
    source = make(Gaussians, mean=(4.0, 0.0))
    samples = torch.randn(5, 2)
    assert source.log_density(samples).to(torch.float32).allclose(reference.log_prob(samples), atol=1e-5)


def test_gaussians_with_several_modes() -> None:
    source = make(Gaussians, mean=(-2.0, 0.0, 2.0, 1.0), covariance=(1.0, 0.0, 1.0, 0.25, 0.1, 0.5))
    data = source.load().train
    assert data.spec.classes == ("(-2,0)", "(2,1)")
    second = data.input[data.target == 1].to(torch.float64)
    assert torch.cov(second.T).allclose(torch.tensor([[0.25, 0.1], [0.1, 0.5]], dtype=torch.float64), atol=0.03)
    figures = source.assess(data.input)
    assert figures["meanError"] < 0.06 and figures["covarianceError"] < 0.15
    assert source.assess(data.input + 1)["meanError"] == pytest.approx(math.sqrt(2), abs=0.06)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": (1.0,)}, "mean has 1 numbers"),
        ({"covariance": (1.0, 0.0)}, "covariance has 2 numbers"),
        ({"covariance": (1.0, 1.0, 1.0)}, "XX \\* YY > XY \\* XY"),
        ({"covariance": (-1.0, 0.0, -1.0)}, "XX > 0"),
    ],
)
def test_gaussians_that_do_not_exist(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(Gaussians, **settings)


# --- digits -------------------------------------------------------------------------------------------------------


def test_digits_are_embedded_and_split_alike_for_every_seed() -> None:
    train, _, test = make(Digits).load()
    assert (len(train), len(test)) == (1442, 355)
    assert train.spec == DataSpec("image", (1, 8, 8), (0.0, 1.0), tuple("0123456789"))
    rows = train.rows(torch.arange(len(train)))
    assert train.input.dtype == torch.uint8 and rows.input.dtype == torch.float32
    assert (float(rows.input.min()), float(rows.input.max())) == (0.0, 1.0)
    assert test.targets().bincount().tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    assert data_digest(make(Digits, seed=5).load().train) == data_digest(train)


def test_real_mnist(real_data: Path) -> None:
    train, _, test = make(MNIST, folders=(real_data,)).load()
    assert (len(train), len(test)) == (60000, 10000)
    assert train.targets()[:5].tolist() == [5, 0, 4, 1, 9] and test.targets()[:3].tolist() == [7, 2, 1]
    first = train.rows(torch.tensor([0])).input
    assert first.shape == (1, 1, 28, 28) and float(first.max()) == pytest.approx(1.0)
    assert train.input.to(torch.float64).mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert train.input.dtype == torch.uint8
    everything = make(MNISTAll, folders=(real_data,)).load()
    assert len(everything.train) == 70000 and everything.test is None
    assert torch.equal(everything.train.input[60000:], test.input)


# --- digest, finiteness, views ---------------------------------------------------------------------------------------


def table(values: torch.Tensor, target: torch.Tensor | None = None) -> TensorDataset:
    spec = DataSpec("vector", (values.shape[1],), features=tuple("abcdefgh"[: values.shape[1]]))
    return TensorDataset(spec, values, target)


def test_the_digest_sees_values_targets_types_and_counts() -> None:
    values, target = torch.arange(20.0).view(10, 2), torch.arange(10)
    digest = data_digest(table(values, target))
    assert digest == data_digest(table(values.clone(), target.clone())) and len(digest) == 64
    changed = values.clone()
    changed[9, 1] += 1
    others = (
        table(changed, target),
        table(values, target + 1),
        table(values.double(), target),
        table(values[:9], target[:9]),
    )
    assert len({digest, *(data_digest(other) for other in others)}) == 5
    assert data_digest(Subset(table(values, target), torch.arange(10))) == digest


def test_the_digest_reads_few_rows() -> None:
    asked: list[int] = []

    class Huge(TensorDataset):
        def __len__(self) -> int:
            return 10_000_000

        def rows(self, indices: torch.Tensor) -> Any:
            asked.extend(indices.tolist())
            return super().rows(indices * 0)

    data_digest(Huge(table(torch.zeros(1, 2)).spec, torch.zeros(1, 2)))
    assert len(asked) == 256 and (asked[0], asked[-1]) == (0, 9_999_999)


def test_values_that_are_no_numbers_are_named() -> None:
    values = torch.zeros(10, 3)
    check_finite(table(values), "Mine")
    values[7, 1] = math.nan
    with pytest.raises(DataError, match="Mine: input row 7, column 'b', is nan"):
        check_finite(table(values), "Mine", rows_at_once=4)
    with pytest.raises(DataError, match="Mine: target row 2, column 0, is -inf"):
        check_finite(table(torch.zeros(3, 1), torch.tensor([[0.0], [0.0], [-math.inf]])), "Mine")
    pictures = TensorDataset(DataSpec("image", (1, 2, 2)), torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    check_finite(pictures, "Bytes")
    pictures.fields["history"] = torch.tensor([0.0, 1.0, math.inf])
    with pytest.raises(DataError, match="Bytes: history row 2 is inf"):
        check_finite(pictures, "Bytes")


def test_take_gives_views_of_consecutive_rows() -> None:
    source = table(torch.arange(20.0).view(10, 2), torch.arange(10))
    assert take(source, torch.arange(10)) is source
    part = take(source, torch.arange(3, 6))
    assert isinstance(part, TensorDataset) and part.input.data_ptr() == source.input[3:].data_ptr()
    assert part.rows(torch.tensor([0, 2])).target.tolist() == [3, 5]
    scattered = take(source, torch.tensor([5, 1, 2]))
    assert isinstance(scattered, Subset) and scattered.rows(torch.tensor([0, 2])).target.tolist() == [5, 2]
