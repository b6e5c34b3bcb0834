"""Real stock prices, spoilt in known ways: honest metrics must catch each, and the published scores do not."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest
import torch
from benchmarks.series_controls import RealParts, stocks

from ganglion.strategies.metrics.series.controls import CONTROLS
from ganglion.strategies.metrics.series.discriminative import held_out_accuracy
from ganglion.strategies.metrics.series.memorising import memorising
from ganglion.strategies.metrics.series.mmd import median_distance, permuted_mmd
from ganglion.strategies.metrics.series.series import distances
from ganglion.strategies.metrics.series.timegandiscriminative import published_score
from ganglion.strategies.metrics.series.timeganpredictive import published_error

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(scope="module")
def real() -> RealParts:
    folder = os.environ.get("GANGLION_DATA", "")
    if not folder or not (Path(folder) / "stocks" / "stock_data.csv").is_file():
        pytest.skip("needs the real data: set GANGLION_DATA to a folder that holds stocks/")
    return stocks(Path(folder))


def test_no_value_is_in_two_parts(real: RealParts) -> None:
    rows = [{row.numpy().tobytes() for row in part.flatten(0, 1)} for part in real]
    assert all(not one & other for one, other in combinations(rows, 2))
    assert all(600 < len(part) < 800 and part.shape[1:] == (24, 6) for part in real)


@pytest.mark.parametrize("name", CONTROLS)
def test_memorising_finds_the_copies_and_only_those(real: RealParts, name: str) -> None:
    found = memorising(real.train, real.unseen, real.made(name)[:400], 0, 400)
    if name == "copied":
        assert found["ratio"] < 1e-6 and found["copies"] == found["copiesWithin"] == 1.0
    elif name not in ("frozen", "constant"):  # these are nearer to many windows, without being one
        assert found["ratio"] > 0.6 and found["copies"] < 0.1 and found["copiesWithin"] < 0.1


def test_series_finds_what_time_and_features_tell(real: RealParts) -> None:
    """Each flaw moves the distance that is made for it far more than other real windows do."""
    floor = distances(real.train, real.made("real"))
    for name, figure in (
        ("permuted", "autocorrelation"),
        ("frozen", "autocorrelation"),
        ("constant", "autocorrelation"),
        ("independent", "autocorrelation"),
        ("shuffled", "crossCorrelation"),
        ("independent", "crossCorrelation"),
        ("constant", "marginal"),
    ):
        assert distances(real.train, real.made(name))[figure] > 2 * floor[figure] + 0.05, (name, figure)


def test_mmd_finds_what_whole_windows_tell(real: RealParts) -> None:
    train = real.train[torch.randperm(len(real.train), generator=torch.Generator().manual_seed(0))[:400]]
    bandwidth = median_distance(train)
    found = {name: permuted_mmd(real.made(name)[:400], train, bandwidth, 100, 0) for name in CONTROLS}
    assert found["copied"].p_value > 0.05
    for name in ("shuffled", "constant", "independent"):
        assert found[name].p_value == 1 / 101 and found[name].squared > 10 * abs(found["real"].squared), name


def honest_score(real: RealParts, name: str, seeds: int = 1) -> float:
    made = real.judged(name)
    found = [held_out_accuracy(real.train, real.unseen, made, seed, 32, 200) for seed in range(seeds)]
    return sum((each.real + each.made) / 2 - 0.5 for each in found) / seeds


@pytest.mark.parametrize("name", ["frozen", "permuted", "reversed"])
def test_the_honest_judge_sees_what_the_published_one_does_not(real: RealParts, name: str) -> None:
    """For the published judge, windows without time or with time reversed are better than TimeGAN's own .102."""
    assert published_score(real.train, real.made(name), 1, 500) < 0.1
    assert honest_score(real, name) > 0.3


def test_the_honest_judge_does_not_mind_other_real_windows(real: RealParts) -> None:
    assert honest_score(real, "real", seeds=2) < 0.1


def test_the_published_predictor_does_not_mind_lost_time(real: RealParts) -> None:
    """The last feature is the volume; windows without time predict it as well as real ones do."""
    reference = published_error(real.train, real.train, 0, 1200)
    volume = real.train[:, 1:, -1]
    assert reference < 0.95 * float((volume - volume.median()).abs().mean())  # it did learn something
    for name in ("frozen", "permuted"):
        assert published_error(real.made(name), real.train, 0, 1200) < 1.15 * reference, name
