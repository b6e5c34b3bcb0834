"""Metrics of time series against hand-computed numbers, and against series whose flaw is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ganglion.engine.api import (
    ConfigError,
    DataError,
    DataSpec,
    EvaluationContext,
    LearningStrategy,
    Splits,
    TensorDataset,
)
from ganglion.engine.registry import Registry
from ganglion.strategies.metrics.series import discriminative, mmd, timegandiscriminative, timeganpredictive
from ganglion.strategies.metrics.series.controls import CONTROLS, control
from ganglion.strategies.metrics.series.discriminative import Discriminative, held_out_accuracy, shared_rows, steps_of
from ganglion.strategies.metrics.series.memorising import Memorising, memorising, nearest, nearest_apart
from ganglion.strategies.metrics.series.mmd import Mmd, median_distance, permuted_mmd, squared_mmd
from ganglion.strategies.metrics.series.music import Music, notes_of, repetitions, scale_consistency, statistics
from ganglion.strategies.metrics.series.recurrent import Recurrent, seeded
from ganglion.strategies.metrics.series.returns import (
    Returns,
    autocorrelation,
    facts,
    leverages,
    series_of,
    tail_exponents,
)
from ganglion.strategies.metrics.series.series import Series, autocorrelations, cross_correlations, distances
from ganglion.strategies.metrics.series.timegandiscriminative import TimeganDiscriminative, published_score
from ganglion.strategies.metrics.series.timeganpredictive import TimeganPredictive, published_error
from ganglion.strategies.metrics.series.tstr import Tstr, changes, next_step_error
from ganglion.strategies.metrics.series.tstrclasses import TstrClasses, mean_share
from ganglion.strategies.metrics.series.windows import interval, published_scale, spread, unit_scale

METRICS = {
    "timegan-discriminative-v1": TimeganDiscriminative(
        TimeganDiscriminative.Settings(repeats=2, judge_iterations=3, judge_batch=16)
    ),
    "timegan-predictive-v1": TimeganPredictive(
        TimeganPredictive.Settings(repeats=2, judge_iterations=3, judge_batch=16)
    ),
    "discriminative-v1": Discriminative(
        Discriminative.Settings(repeats=2, judge_iterations=3, judge_batch=16, units=4)
    ),
    "tstr-v1": Tstr(Tstr.Settings(repeats=2, judge_iterations=3, judge_batch=16, units=4)),
    "mmd-v1": Mmd(Mmd.Settings(permutations=20)),
    "series-v1": Series(),
    "memorising-v1": Memorising(Memorising.Settings(count=20)),
    "returns-v1": Returns(Returns.Settings(count=20)),
}
every_metric = pytest.mark.parametrize("name", METRICS)


class Strategy(LearningStrategy):
    """Makes windows; nothing else is asked of it here."""

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Any:
        raise NotImplementedError

    def process_iteration(self, i: int) -> Any:
        raise NotImplementedError

    def generate(self, noise: Tensor) -> Tensor:
        raise NotImplementedError


class Asked(Strategy):
    """Takes classes."""

    def requested(self, noise: Tensor) -> Tensor:
        return noise


def sines(count: int, seed: int = 0, steps: int = 12, frequency: float = 0.5) -> Tensor:
    """Sine waves in two features, the second an eighth behind, of random phase and amplitude."""
    generator = torch.Generator().manual_seed(seed)
    phase = 2 * math.pi * torch.rand(count, 1, 1, generator=generator)
    height = 0.2 + torch.rand(count, 1, 1, generator=generator)
    times = frequency * torch.arange(steps)[None, :, None] + torch.tensor([0.0, -math.pi / 4])
    return height * (times + phase).sin()


def noise(*shape: int, seed: int = 9) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def table(windows: Tensor, labels: Tensor | None = None, features: tuple[str, ...] = ()) -> TensorDataset:
    classes = () if labels is None else ("slow", "fast")
    return TensorDataset(DataSpec("sequence", tuple(windows.shape[1:]), None, classes, None, features), windows, labels)


def context(
    samples: Callable[[int], Tensor],
    splits: Splits,
    labelled: Callable[[int], tuple[Tensor, Tensor]] | None = None,
    unscale: Callable[[Tensor], Tensor] | None = None,
) -> EvaluationContext:
    def refuse(*given: Any) -> Any:
        raise AssertionError("not asked for")

    return EvaluationContext(
        strategy=Asked() if labelled else Strategy(),
        spec=splits.train.spec,
        device=torch.device("cpu"),
        seed=0,
        own_scale=lambda rows: rows,
        splits=lambda: splits,
        factory=lambda: cast("Any", SimpleNamespace(**({"unscale": unscale} if unscale else {}))),
        samples=samples,
        labelled=labelled or refuse,
        run=refuse,
    )


def parts(train: Tensor, test: Tensor) -> Splits:
    return Splits(table(train), None, table(test))


def usual(samples: Callable[[int], Tensor] = lambda count: sines(count, 3)) -> EvaluationContext:
    return context(samples, parts(sines(60, 1), sines(40, 2)))


# --- all of them --------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def torchs_own_generator_is_left_alone() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())


def test_all_are_registered() -> None:
    registry = Registry().load()
    for name in (*METRICS, "tstr-classes-v1", "music-v1"):
        assert registry.get("metric", name).name == name
    assert registry.quarantined() == []


@every_metric
def test_figures_are_finite_and_repeat(name: str) -> None:
    first, again = (METRICS[name].evaluate(usual()) for _ in range(2))
    assert first == again and first.metric == name and first.values["samples"] >= 10
    assert all(math.isfinite(value) for value in first.values.values())


@every_metric
def test_samples_that_are_not_finite_are_refused(name: str) -> None:
    def broken(count: int) -> Tensor:
        windows = sines(count, 3)
        windows[3, 2, 1], windows[5] = torch.nan, torch.inf
        return windows

    with pytest.raises(DataError, match=rf"^metric {name}: 2 of \d+ samples hold numbers that are not finite$"):
        METRICS[name].evaluate(usual(broken))


@every_metric
def test_data_that_say_nothing_are_refused(name: str) -> None:
    metric, samples = METRICS[name], lambda count: sines(count, 3)
    still = context(samples, parts(torch.ones(60, 12, 2), torch.ones(40, 12, 2)))
    with pytest.raises(DataError, match=rf"^metric {name}: .*constant"):
        metric.evaluate(still)
    with pytest.raises(DataError, match=r"^metric .* and these data are of kind image with shape \(1, 2, 2\)$"):
        image = TensorDataset(DataSpec("image", (1, 2, 2)), torch.zeros(30, 1, 2, 2))
        metric.evaluate(context(samples, Splits(image, None, image)))
    if name != "returns-v1":
        with pytest.raises(DataError, match=r"needs at least 10 training windows, and there are 9$"):
            metric.evaluate(context(samples, parts(sines(9), sines(40))))
    with pytest.raises(DataError, match=r"two steps or more, and their shape is \(\d+, 1, 2\)$"):
        metric.evaluate(context(lambda count: sines(count, 3, 1), parts(sines(60, 1, 1), sines(40, 2, 1))))


def test_what_is_judged_without_being_asked_for() -> None:
    judged = {name for name, metric in METRICS.items() if metric.applies(usual())}
    assert judged == {"mmd-v1", "series-v1", "memorising-v1"}  # the others train judges for minutes
    alone = context(sines, Splits(table(sines(60))))
    assert not any(metric.applies(alone) for metric in METRICS.values())
    named = [Splits(table(sines(60), features=names)) for names in (("open", "close"), ("return", "market Return"))]
    assert [METRICS["returns-v1"].applies(context(sines, splits)) for splits in named] == [False, True]
    image = TensorDataset(DataSpec("image", (1, 2, 2)), torch.zeros(30, 1, 2, 2))
    points = context(sines, Splits(image, None, image))
    assert not any(metric.applies(points) for metric in (*METRICS.values(), Music(), TstrClasses()))


def test_spread_over_refits() -> None:
    assert spread("score", [0.1, 0.3]) == {"score": 0.2, "scoreStd": pytest.approx(0.02**0.5)}
    assert spread("score", [0.25]) == {"score": 0.25}
    found = interval("x", [1.0, 2.0, 3.0])  # t(2 degrees) = 4.302653, deviation 1
    assert found["x"] == 2.0 and found["xHigh"] - 2 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert found["xLow"] == pytest.approx(4 - found["xHigh"])


def test_a_constant_feature_keeps_its_place_in_the_scale() -> None:
    windows = torch.stack([torch.tensor([[2.0, 4.0]]), torch.tensor([[7.0, 7.0]])], dim=2)
    scaled = unit_scale(windows, "m")(windows)
    assert scaled[0].tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_published_scores_leave_alone_what_is_within_0_and_1() -> None:
    """TimeGAN's sines lie in 0.5..1, and its table's errors are in that scale."""
    windows = torch.tensor([[[0.5, 0.6], [1.0, 0.9]]])
    assert published_scale(windows, "m")(windows).tolist() == windows.tolist()
    for wider in (windows * 2, windows - 0.6):
        assert published_scale(wider, "m")(wider).flatten().tolist() == pytest.approx([0, 0, 1, 1])


def test_judges_begin_with_torchs_usual_values() -> None:
    judge = Recurrent(3, 16, 2, seeded(1))
    assert all(float(each.detach().abs().max()) <= 0.25 for each in judge.parameters())
    assert float(judge.cell.weight_hh_l0.detach().std()) == pytest.approx(0.25 / 3**0.5, rel=0.1)
    assert torch.equal(judge.head.weight, Recurrent(3, 16, 2, seeded(1)).head.weight)


# --- TimeGAN's scores ---------------------------------------------------------------------------------------------


def test_the_published_protocol_is_the_default() -> None:
    settings = TimeganDiscriminative.Settings()
    assert (settings.repeats, settings.judge_iterations, settings.judge_batch, settings.count) == (10, 2000, 128, None)
    settings = TimeganPredictive.Settings()
    assert (settings.repeats, settings.judge_iterations, settings.judge_batch, settings.count) == (10, 5000, 128, None)


class Recorder(Recurrent):
    """Keeps what judges are made of."""

    made: list[tuple[int, int, int]] = []

    def __init__(self, inputs: int, units: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__(inputs, units, outputs, generator)
        self.made.append((inputs, units, outputs))


@pytest.mark.parametrize(("features", "units"), [(1, 1), (2, 1), (5, 2), (6, 3), (28, 14)])
def test_the_published_judges_are_small(features: int, units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (timegandiscriminative, timeganpredictive):
        monkeypatch.setattr(module, "Recurrent", Recorder)
    Recorder.made.clear()
    windows = noise(20, 4, features)
    published_score(windows, windows, 0, 1)
    published_error(windows, windows, 0, 1)
    assert Recorder.made == [(features, units, 1), (max(1, features - 1), units, 1)]


def test_one_feature_is_judged_with_a_notice() -> None:
    one = context(lambda count: sines(count, 3)[:, :, :1], parts(sines(60, 1)[:, :, :1], sines(40, 2)[:, :, :1]))
    for name in ("timegan-discriminative-v1", "timegan-predictive-v1"):
        assert "one feature: the published" in METRICS[name].evaluate(one).details["notice"]
        assert METRICS[name].evaluate(usual()).details == {}


def test_a_score_of_a_half_means_that_the_judge_is_always_right() -> None:
    low, high = 0.3 * noise(200, 6, 4, seed=1), 0.7 + 0.3 * noise(200, 6, 4, seed=2)
    assert published_score(low, high, 0, 300) == 0.5
    assert published_score(high, low, 0, 300) == 0.5
    assert published_score(noise(200, 6, 4, seed=3), noise(200, 6, 4, seed=4), 0, 100) < 0.15


def test_only_the_last_feature_is_predicted_from_the_others_one_step_before() -> None:
    windows = noise(400, 8, 3)
    later = windows.clone()
    later[:, 1:, 2] = windows[:, :-1, 0]  # the last feature is the first one, a step later
    assert published_error(later, later, 0, 1500) < 0.08
    assert published_error(windows, windows, 0, 300) == pytest.approx(0.25, abs=0.02)  # nothing better than a constant
    itself = windows.clone()
    itself[:, 1:, 2] = itself[:, :1, 2]  # the last feature never changes: it is not an input, so that is no help
    assert published_error(itself, itself, 0, 300) > 0.2


# --- discriminative-v1 --------------------------------------------------------------------------------------------


def test_a_judge_reads_standardised_values_and_changes() -> None:
    windows = torch.tensor([[[0.0], [2.0]], [[4.0], [10.0]]])  # mean 4, changes 2 and 6
    read = steps_of(windows)(windows)
    assert read.shape == (2, 2, 2)
    assert read[:, 0, 1].tolist() == [0.0, 0.0]
    assert read[:, 1, 1].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])  # (2 - 4) / 8^(1/2)
    assert read[0, :, 0].tolist() == pytest.approx([-4 / (56 / 3) ** 0.5, -2 / (56 / 3) ** 0.5])


def test_what_differs_in_time_alone_is_told_apart() -> None:
    train, test = sines(200, 1), sines(100, 2)
    frozen = control("frozen", train, sines(300, 3), 300, 0)
    found = held_out_accuracy(train, test, frozen, 0, 16, 150)
    assert found.real > 0.9 and found.made > 0.9


def test_the_last_samples_are_tested_and_not_learnt_from() -> None:
    train, test = sines(200, 1), sines(200, 2)
    made = torch.cat([noise(200, 12, 2), sines(200, 3, frequency=1.2)])  # learnt from noise; tested on faster waves
    found = held_out_accuracy(train, test, made, 0, 16, 100)
    assert found.real > 0.95 and found.made < 0.5


def test_a_perfect_generator_scores_about_nothing_and_noise_a_half() -> None:
    metric = Discriminative(Discriminative.Settings(repeats=2, judge_iterations=120, units=8))
    splits = parts(sines(200, 1), sines(200, 2))
    good = metric.evaluate(context(lambda count: sines(count, 3), splits)).values
    assert good["score"] < 0.1 and good["accuracyLow"] < good["accuracy"] < good["accuracyHigh"]
    assert good["samples"] == 400 and good["sharedRows"] == 0.0
    bad = metric.evaluate(context(lambda count: noise(count, 12, 2), splits)).values
    assert bad["score"] > 0.4 and bad["score"] == pytest.approx(bad["accuracy"] - 0.5)
    assert bad["accuracy"] == pytest.approx((bad["realRight"] + bad["samplesRight"]) / 2)


def test_rows_that_both_parts_have_are_counted() -> None:
    ramp = torch.arange(10.0)[:, None].repeat(1, 2)
    windows = ramp.unfold(0, 4, 1).transpose(1, 2)  # 0-3, 1-4, ... 6-9
    assert shared_rows(windows[:2], windows[3:5]) == 3 / 8  # of 3456 and 4567 the 0-4 has 3, 4 and 4
    assert shared_rows(windows[:1], windows[4:]) == 0.0


def test_a_judge_has_32_units_and_more_updates_than_the_published_one() -> None:
    settings = discriminative.DiscriminativeSettings()
    assert settings.units >= 32 and settings.judge_iterations > 2000 and settings.repeats == 5


# --- tstr ---------------------------------------------------------------------------------------------------------


def test_errors_are_in_units_of_the_usual_change() -> None:
    windows = torch.tensor([[[0.0], [1.0], [4.0]], [[5.0], [4.0], [1.0]]])  # changes 1, 3, -1, -3
    spread_of_values = float(windows.std())
    assert changes(windows).tolist() == pytest.approx([(20 / 3) ** 0.5 / spread_of_values])
    error = next_step_error(torch.zeros(10, 3, 1), windows, torch.tensor([2.0]), 0, 4, 400)
    assert error == pytest.approx(1.0, abs=0.2)  # learnt that nothing changes: mean of 1, 3, 1, 3, over 2


def test_samples_that_move_the_wrong_way_teach_the_wrong_thing() -> None:
    metric = Tstr(Tstr.Settings(repeats=2, judge_iterations=200, units=16))
    splits = parts(sines(200, 1), sines(100, 2))
    good = metric.evaluate(context(lambda count: sines(count, 3), splits)).values
    assert good["ratio"] == pytest.approx(1.0, abs=0.1) and good["trtr"] < 0.5 * good["persistence"]
    backwards = metric.evaluate(context(lambda count: sines(count, 3).flip(1), splits)).values
    assert backwards["ratio"] > 2
    assert backwards["trtr"] == good["trtr"]


def test_nothing_changes_scores_the_mean_change() -> None:
    train, test = sines(50, 1), sines(30, 2)
    values = METRICS["tstr-v1"].evaluate(context(lambda count: sines(count, 3), parts(train, test))).values
    unit = train.double().diff(dim=1).flatten(0, 1).std(0)
    assert values["persistence"] == pytest.approx(float((test.double().diff(dim=1) / unit).abs().mean()), rel=1e-5)


# --- tstr-classes -------------------------------------------------------------------------------------------------


def labelled(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Slow waves and fast ones in turn."""
    windows = sines(count, seed)
    windows[1::2] = sines(count, seed, frequency=1.2)[1::2]
    return windows, torch.arange(count) % 2


def classes(samples: Callable[[int], tuple[Tensor, Tensor]]) -> Any:
    metric = TstrClasses(TstrClasses.Settings(repeats=2, judge_iterations=120, units=16))
    splits = Splits(table(*labelled(120, 1)), None, table(*labelled(80, 2)))
    return metric.evaluate(context(lambda count: samples(count)[0], splits, samples)).values


def test_labels_that_are_swapped_teach_the_opposite() -> None:
    good = classes(lambda count: labelled(count, 3))
    assert min(good["tstr"], good["trtr"], good["trts"]) > 0.9 and good["chance"] == 0.5
    swapped = classes(lambda count: (labelled(count, 3)[0], 1 - labelled(count, 3)[1]))
    assert swapped["tstr"] < 0.1 and swapped["trts"] < 0.1 and swapped["trtr"] == good["trtr"]


def test_every_class_counts_the_same() -> None:
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    assert mean_share(torch.zeros(10, dtype=torch.int64), labels) == 0.5
    assert mean_share(torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 0]), labels) == (0.75 + 0.5) / 2


def test_classes_that_are_missing_are_told() -> None:
    with pytest.raises(DataError, match=r"^metric tstr-classes-v1: none of the 120 samples is of class fast$"):
        classes(lambda count: (sines(count), torch.zeros(count, dtype=torch.int64)))
    with pytest.raises(DataError, match="needs data with classes and a strategy that is asked for them"):
        TstrClasses().evaluate(usual())


# --- mmd ----------------------------------------------------------------------------------------------------------


def slow_mmd(one: Tensor, other: Tensor, bandwidth: float) -> float:
    def kernel(a: Tensor, b: Tensor) -> float:
        return math.exp(-float((a - b).square().sum()) / (2 * bandwidth**2))

    def within(rows: Tensor) -> float:
        count = len(rows)
        return sum(kernel(rows[i], rows[j]) for i in range(count) for j in range(count) if i != j) / count / (count - 1)

    between = sum(kernel(a, b) for a in one for b in other) / len(one) / len(other)
    return within(one) + within(other) - 2 * between


def test_mmd_by_hand() -> None:
    one, other = torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[0.0]], [[2.0]]])
    # distances within 1 and 2; between 0, 2, 1, 1
    expected = math.exp(-0.5) + math.exp(-2) - (1 + math.exp(-2) + 2 * math.exp(-0.5)) / 2
    assert squared_mmd(one, other, 1.0) == pytest.approx(expected)
    first, second = noise(7, 3, 2, seed=1).double(), noise(5, 3, 2, seed=2).double()
    assert squared_mmd(first, second, 0.7) == pytest.approx(slow_mmd(first, second, 0.7), abs=1e-12)


def test_the_bandwidth_is_the_median_distance_of_real_windows() -> None:
    assert median_distance(torch.tensor([[[0.0]], [[1.0]], [[5.0]]])) == 4.0  # of 1, 4 and 5
    assert median_distance(torch.ones(5, 2, 1)) == 1.0


def test_it_is_unbiased_so_that_equal_distributions_score_below_zero_half_the_time() -> None:
    found = [squared_mmd(noise(20, 2, 2, seed=i), noise(20, 2, 2, seed=100 + i), 0.8) for i in range(60)]
    assert abs(sum(found) / 60) < 0.003 and 20 < sum(value < 0 for value in found) < 50


def test_relabellings_are_those_of_the_kernel_matrix() -> None:
    one, other, seed = noise(6, 2, 1, seed=1), noise(6, 2, 1, seed=2) + 0.05, 5
    both, generator = torch.cat([one, other]), torch.Generator().manual_seed(seed)
    first, reached = torch.arange(12) < 6, 0
    squared = slow_mmd(one.double(), other.double(), 0.5)
    for _ in range(40):
        mine = first[torch.randperm(12, generator=generator)]
        reached += slow_mmd(both[mine].double(), both[~mine].double(), 0.5) >= squared - 1e-12
    found = permuted_mmd(one, other, 0.5, 40, seed)
    assert 0 < reached < 40 and found.p_value == (1 + reached) / 41 and found.squared == pytest.approx(squared)


def test_the_p_value_is_even_for_equal_and_least_for_different_windows() -> None:
    same = [permuted_mmd(sines(30, i), sines(30, 100 + i), 2.0, 50, i).p_value for i in range(40)]
    assert 0.35 < sum(same) / 40 < 0.65 and min(same) < 0.25 and max(same) > 0.75
    assert permuted_mmd(sines(30, 1), noise(30, 12, 2), 2.0, 200, 0).p_value == 1 / 201


def test_drift_in_the_data_stands_beside() -> None:
    drifted = context(lambda count: sines(count, 3), parts(sines(60, 1), sines(60, 2) + 3))
    values = Mmd(mmd.MmdSettings(permutations=50)).evaluate(drifted).values
    assert values["floor"] > 0.3 and values["mmd2Test"] > 0.3 and abs(values["mmd2"]) < 0.1 < values["pValue"]


# --- series -------------------------------------------------------------------------------------------------------


def test_autocorrelation_by_hand() -> None:
    window = torch.tensor([0.0, 1.0, 0.0, 1.0])[None, :, None]  # deviations -1/2, 1/2, ...: power 1
    assert autocorrelations(window, 5)[:, 0].tolist() == pytest.approx([-0.75, 0.5])  # lag 2 is half a window
    both = torch.cat([window, window + 100])  # the level of a window is none of it
    assert autocorrelations(both, 5)[:, 0].tolist() == pytest.approx([-0.75, 0.5])
    assert autocorrelations(torch.ones(3, 6, 2) * 0.3, 2).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_cross_correlation_by_hand() -> None:
    first = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    windows = torch.stack([first, 2 * first, 1 - first, torch.zeros(2, 2)], dim=2)
    assert cross_correlations(windows).tolist() == pytest.approx([1.0, -1.0, 0.0, -1.0, 0.0, 0.0])


def test_distances_by_hand() -> None:
    windows = noise(30, 6, 2)
    moved = distances(windows, windows.flip(0) + torch.tensor([0.1, 0.3]))
    assert moved == {"autocorrelation": 0.0, "crossCorrelation": 0.0, "marginal": 0.2} | {
        name: pytest.approx(value, abs=1e-6) for name, value in moved.items() if value < 1e-6
    } | {"marginal": pytest.approx(0.2, abs=1e-6)}
    assert set(distances(windows[:, :, :1], windows[:, :, :1])) == {"autocorrelation", "marginal"}
    steps = torch.tensor([0.0, 1.0])[None, :, None].repeat(10, 1, 1)
    assert distances(steps, steps.flip(1))["marginal"] == 1.0  # each step is compared with the same step


def test_each_flaw_moves_its_distance() -> None:
    real = unit_scale(sines(400, 1), "m")(sines(400, 1))
    floor = distances(real, unit_scale(sines(400, 1), "m")(sines(400, 2)))
    for name, figure in (
        ("permuted", "autocorrelation"),
        ("frozen", "autocorrelation"),
        ("shuffled", "crossCorrelation"),
    ):
        found = distances(real, control(name, real, real, 400, 0))
        assert found[figure] > 5 * floor[figure] + 0.05, name
    assert distances(real, control("constant", real, real, 400, 0))["marginal"] > 3 * floor["marginal"]
    backwards = distances(real, control("reversed", real, real, 400, 0))
    assert backwards["autocorrelation"] < 1e-6  # the one that it cannot see


def test_the_floor_is_that_of_unseen_windows() -> None:
    train, test = sines(60, 1), sines(60, 2)
    values = Series().evaluate(context(lambda count: test[:count], parts(train, test))).values
    for name in ("autocorrelation", "crossCorrelation", "marginal"):
        assert values[name] == pytest.approx(values[f"{name}Floor"], rel=1e-6) and values[name] > 0


# --- returns ------------------------------------------------------------------------------------------------------


def test_hills_estimate_of_an_exact_tail() -> None:
    ranks = (torch.arange(5000.0, dtype=torch.float64) + 0.5) / 5000
    series = torch.stack([ranks.pow(-1 / alpha) for alpha in (3.0, 5.0)])
    series[:, ::2] *= -1  # losses count as gains do
    assert tail_exponents(series).tolist() == pytest.approx([3.0, 5.0], rel=0.02)
    four = torch.cat([torch.ones(98), torch.tensor([4.0, 2.0])]).double()[None]  # the largest two of a hundred
    assert float(tail_exponents(four)) == pytest.approx(2 / (math.log(4) + math.log(2)))


def test_kurtosis_and_autocorrelation_by_hand() -> None:
    turns = torch.tensor([1.0, -1.0]).repeat(6)[None].double()
    found = facts(turns)
    assert found["excessKurtosis"] == -2.0 and found["autocorrelation1"] == pytest.approx(-11 / 12)
    assert found["absolute1"] == 0.0  # |r| never changes
    assert "tailExponent" not in found and "absolute100" not in found and "leverage" in found
    assert float(autocorrelation(torch.tensor([[1.0, 2.0, 3.0]]), 1)) == 0.0


def test_leverage_by_its_formula() -> None:
    series = torch.randn(2, 40, generator=seeded(1), dtype=torch.float64)
    for row in range(2):
        r = series[row].tolist()
        mean, power = sum(r) / 40, sum(x * x for x in r) / 40
        for t in (1, 10):
            together = sum(r[s] * r[s + t] ** 2 for s in range(40 - t)) / (40 - t)
            assert float(leverages(series)[row, t - 1]) == pytest.approx((together - mean * power) / power**2)
    falls = torch.tensor([0.0, -1.0, 3.0, 0.0] + [0.0] * 16).double()[None]  # a loss, then a large move
    assert leverages(falls)[0, 0] < -0.01


def test_series_are_never_laid_end_to_end() -> None:
    series = torch.stack([torch.arange(30.0), 100 - torch.arange(30.0)]).double()
    both, alone = facts(series), [facts(series[row : row + 1]) for row in range(2)]
    for name, value in both.items():
        assert value == pytest.approx((alone[0][name] + alone[1][name]) / 2), name
    windows = torch.arange(24.0).view(2, 4, 3)
    assert series_of(windows)[1].tolist() == [1.0, 4.0, 7.0, 10.0]


def test_returns_are_judged_in_their_own_units_beside_real_ones() -> None:
    real = noise(40, 12, 1, seed=1)  # as the networks see them, 0..1; the file's zero is 0.5
    judged = Returns(Returns.Settings(count=30)).evaluate(
        context(lambda count: noise(count, 12, 1, seed=2), parts(real, real), unscale=lambda rows: rows - 0.5)
    )
    assert judged.details == {"real": "test windows"} and judged.values["realWindows"] == 30
    assert judged.values["leverage"] == pytest.approx(
        facts(series_of(noise(30, 12, 1, seed=2) - 0.5))["leverage"], rel=1e-6
    )
    alone = context(lambda count: noise(count, 12, 1), Splits(table(real)), unscale=lambda rows: rows)
    assert Returns().evaluate(alone).details == {"real": "training windows"}


def test_a_generator_without_movement_is_refused_by_the_stylised_facts() -> None:
    made = noise(20, 12, 2)
    made[4, :, 1] = 0.25
    with pytest.raises(DataError, match=r"^metric returns-v1: 1 of 40 series of the samples are constant"):
        METRICS["returns-v1"].evaluate(usual(lambda count: made[:count]))


# --- memorising ---------------------------------------------------------------------------------------------------


def test_the_nearest_window() -> None:
    windows = torch.tensor([[[0.0], [0.0]], [[3.0], [4.0]]])
    assert nearest(torch.tensor([[[3.0], [0.0]]]), windows).tolist() == [3.0]
    same = 1e3 + noise(50, 4, 2)
    assert float(nearest(same, same).max()) < 1e-3  # no window seems away from itself by rounding


def test_windows_that_share_a_value_are_no_measure() -> None:
    windows = torch.arange(9.0)[:, None].unfold(0, 3, 1).transpose(1, 2)  # 012, 123, ... 678
    assert nearest_apart(windows, torch.tensor([0, 2])).tolist() == pytest.approx([27**0.5, 27**0.5])
    assert len(nearest_apart(windows[:3], torch.arange(3))) == 0
    assert nearest_apart(windows, torch.tensor([3])).tolist() == pytest.approx([27**0.5])  # 345: 012 and 678


def test_copies_are_found_and_new_windows_are_not() -> None:
    train, test = sines(300, 1), sines(300, 2)
    copied = memorising(train, test, train[:200], 0)
    assert copied["ratio"] == 0.0 and copied["copies"] == 1.0 and copied["copiesWithin"] == 1.0
    new = memorising(train, test, sines(200, 3), 0)
    assert new["ratio"] == pytest.approx(1.0, abs=0.15) and new["copies"] < 0.05 and new["copiesWithin"] < 0.05
    near = memorising(train, test, train[:200] + 1e-4 * noise(200, 12, 2), 0)
    assert near["ratio"] < 0.05 and near["copies"] > 0.9


def test_as_many_training_windows_as_unseen_ones_make_the_ratio() -> None:
    train, test = sines(900, 1), sines(90, 2)
    assert memorising(train, test, sines(300, 3), 0)["ratio"] == pytest.approx(1.0, abs=0.2)


def test_copies_among_all_training_windows_count() -> None:
    train, test = sines(900, 1), sines(90, 2)
    made = train[-100:]
    assert memorising(train, test, made, 0)["copies"] == 1.0


# --- music --------------------------------------------------------------------------------------------------------


def events(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows)


def test_scales_are_taken_modulo_12() -> None:
    assert scale_consistency(torch.tensor([60, 62, 64, 65, 67, 69, 71])) == 1.0  # C major
    a_major = torch.tensor([57, 59, 61, 62, 64, 66, 68])  # C sharp, D, E... are below the root's number 9
    assert scale_consistency(a_major) == 1.0
    assert scale_consistency(torch.tensor([57, 59, 60, 62, 64, 65, 68])) == 1.0  # A harmonic minor
    assert scale_consistency(torch.tensor([71])) == 1.0
    assert scale_consistency(torch.arange(12)) == pytest.approx(7 / 12)
    assert scale_consistency(torch.tensor([60, 60, 60, 61, 62, 63])) == pytest.approx(5 / 6)


def test_repetitions_by_hand() -> None:
    assert repetitions(torch.tensor([1, 2, 3, 1, 2, 3])) == {2: 2, 3: 1} | dict.fromkeys(range(4, 10), 0)
    assert repetitions(torch.tensor([5, 5, 5, 5]))[2] == 1  # runs that overlap are no repetition
    assert repetitions(torch.tensor([7, 1, 2, 9, 1, 2]))[2] == 1  # at the very end, too
    assert repetitions(torch.arange(9).repeat(2))[9] == 1
    assert sum(repetitions(torch.tensor([4])).values()) == 0


def test_polyphony_is_a_share_of_onsets() -> None:
    rows = events((0, 4, 60, 80), (0, 4, 64, 90), (5, 4, 62, 80), (5, 4, 65, 100))
    found = statistics(rows[None], hertz=False)
    assert found["polyphony"] == pytest.approx(1 / 3)  # a chord, then two single tones, the last one counted
    assert (found["toneSpan"], found["uniqueTones"], found["intensitySpan"]) == (5.0, 4.0, 20.0)
    two = events((0, 4, 60, 80, 4, 64, 80), (5, 4, 60, 80, 0, 0, 0))  # two tones in one event, then one and silence
    assert statistics(two[None], hertz=False)["polyphony"] == 0.5


def test_pitches_in_hertz_and_silence() -> None:
    rows = events((0, 4, 440.0, 80), (3, 4, 261.63, 80), (3, 0, 0, 0), (3, 4, -20.0, 80))
    assert notes_of(rows.double(), hertz=True).tones.tolist() == [69, 60]
    both = torch.stack([rows, torch.zeros(4, 4)])
    found = statistics(both, hertz=True)
    assert found["silent"] == 0.5 and found["toneSpan"] == 9.0 and found["scaleConsistency"] == 1.0
    with pytest.raises(DataError, match=r"^metric music-v1: none of the 2 windows holds a tone"):
        statistics(torch.zeros(2, 4, 4), hertz=True)
    with pytest.raises(DataError, match=r"4, 7, 10\.\.\. features, and there are 5"):
        statistics(torch.zeros(2, 4, 5), hertz=True)


def test_music_is_judged_beside_the_datas() -> None:
    scale = torch.tensor([60.0, 62, 64, 65, 67, 69, 71, 72])
    melody = torch.stack([torch.full((8,), 10.0), torch.full((8,), 8.0), scale, torch.full((8,), 90.0)], dim=1)
    names = ("ticks", "length", "note", "velocity")
    real = table(melody.repeat(20, 1, 1), features=names)
    chromatic = melody.clone()
    chromatic[:, 2] = torch.arange(60.0, 68.0)
    judged = context(lambda count: chromatic.repeat(count, 1, 1), Splits(real, None, real))
    assert Music().applies(judged)
    values = Music().evaluate(judged).values
    assert values["scaleConsistencyReal"] == 1.0 and values["scaleConsistency"] == pytest.approx(5 / 8)
    assert values["toneSpan"] == 7.0 and values["toneSpanReal"] == 12.0
    hertz = Music(Music.Settings(pitch="frequency")).evaluate(judged).values
    assert hertz["toneSpan"] == 1.0  # 60 to 67 hertz: tones 35 and 36


# --- controls and pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_keep_what_they_promise(name: str) -> None:
    train, other = sines(40, 1), sines(50, 2)
    made = control(name, train, other, 30, 0)
    assert made.shape == (30, 12, 2) and torch.equal(made, control(name, train, other, 30, 0))
    assert control(name, train, other, 120, 0).shape == (120, 12, 2)
    if name in ("real", "copied"):
        assert float(nearest(made, train if name == "copied" else other).max()) < 1e-6
    if name == "permuted":  # a window's rows, whole, in another order
        assert any(torch.equal(made[0].sort(0).values, each.sort(0).values) for each in other)
        assert float(nearest(made, other).min()) > 0
    if name == "frozen":
        assert torch.equal(made, made[:, :1].expand_as(made)) and len(made[:, 0].unique(dim=0)) > 20
    if name == "constant":
        assert len(made.flatten(0, 1).unique(dim=0)) == 1
    if name == "independent":
        assert set(made[:, :, 0].flatten().tolist()) <= set(other[:, :, 0].flatten().tolist())
    if name == "shuffled":
        assert float(nearest(made[:, :, 1:], other[:, :, 1:]).max()) < 1e-6
        assert float((nearest(made, other) > 0.1).float().mean()) > 0.8


def test_an_unknown_control() -> None:
    with pytest.raises(ConfigError, match=r"^there is no control 'frozn'; did you mean 'frozen'\?$"):
        control("frozn", sines(5), sines(5), 5, 0)
