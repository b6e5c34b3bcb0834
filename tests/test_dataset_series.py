"""Made series against what is known of them, and windows, parts and scales by hand-computed numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from ganglion.datasets.scaling import fit_scaler
from ganglion.datasets.series.ar import AR
from ganglion.datasets.series.cutting import Cutting, SeriesSettings, parts_of, starts_of
from ganglion.datasets.series.gaussianprocess import GaussianProcess
from ganglion.datasets.series.mademusic import MadeMusic
from ganglion.datasets.series.music import to_frequency, to_note
from ganglion.datasets.series.preparing import SeriesFactory, Treatment, covered, prepare
from ganglion.datasets.series.record import Record, padded
from ganglion.datasets.series.sine import Sine
from ganglion.datasets.series.sines import Sines
from ganglion.datasets.series.windows import Rows, Windows, normalised
from ganglion.engine.api import Batch, ConfigError, DataContext, DataError, DataSpec, Splits
from ganglion.engine.testing import check_dataset

MADE = (Sine, Sines, GaussianProcess, AR, MadeMusic)
EXACT = torch.float64


def make(kind: Any, seed: int = 0, told: list[str] | None = None, **settings: Any) -> Any:
    notify = told.append if told is not None else lambda text: None
    return kind(kind.Settings(**settings), DataContext([], Path("no cache"), seed, notify))


def everything(part: Any) -> Batch:
    return part.rows(torch.arange(len(part)))


# --- made series --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MADE)
def test_made_series_pass_the_kit(kind: Any) -> None:
    assert {found.result for found in check_dataset(kind.name)} == {"passed"}


@pytest.mark.parametrize("kind", MADE)
def test_made_series_are_the_same_for_the_same_seed(kind: Any) -> None:
    first, again, other = (make(kind, seed, size=50, test_size=50).load() for seed in (3, 3, 4))
    assert torch.equal(first.train.input, again.train.input) and not torch.equal(first.train.input, other.train.input)
    assert not torch.equal(first.train.input, first.test.input)
    assert first.train.spec.kind == "sequence" and first.train.input.dtype == torch.float32


def test_the_published_sizes() -> None:
    shapes = {kind.name: tuple(make(kind).load().train.input.shape) for kind in MADE}
    assert shapes == {
        "Sine": (14000, 30, 1),
        "Sines": (10000, 24, 5),
        "GaussianProcess": (10000, 30, 1),
        "AR": (10000, 24, 5),
        "MadeMusic": (10000, 100, 4),
    }


def test_sine_by_hand() -> None:
    fixed = {"frequency": (2.0,), "amplitude": (1.5,), "phase": (0.0,), "length": 16, "size": 3}
    train = make(Sine, **fixed).load().train
    # two cycles in 16 steps: a quarter of a cycle every second step
    assert train.input[0, ::2, 0].tolist() == pytest.approx([0, 1.5, 0, -1.5, 0, 1.5, 0, -1.5], abs=1e-6)
    assert train.spec.value_range == (-1.5, 1.5)
    noisy = make(Sine, **{**fixed, "size": 2000}, jitter=0.1).load().train
    assert noisy.spec.value_range is None
    assert float((noisy.input - train.input[:1]).std()) == pytest.approx(0.1, rel=0.02)
    default = make(Sine).load().train
    assert default.spec.value_range == (-1.0, 1.0)
    highest = default.input[:, :, 0].abs().amax(dim=1)
    assert float(highest.max()) <= 0.9 and float(highest.mean()) == pytest.approx(0.5, abs=0.02)
    spectrum = torch.fft.rfft(default.input[:, :, 0]).abs()[:, 1:].argmax(dim=1) + 1
    assert int(spectrum.min()) == 1 and int(spectrum.max()) == 5
    assert spectrum.bincount()[2:5].tolist() == pytest.approx([3500] * 3, abs=350)  # a quarter for each whole frequency


def test_sines_by_hand() -> None:
    series = make(Sines).load().train.input.to(EXACT)
    angles = (2 * series - 1).asin()  # always below half of pi: no wave gets over its top before 15 steps
    phase, frequency = angles[:, 0], angles[:, 1] - angles[:, 0]
    for drawn in (phase, frequency):
        assert float(drawn.min()) + 1e-6 >= 0 and float(drawn.max()) <= 0.1 + 1e-6
        assert float(drawn.mean()) == pytest.approx(0.05, abs=0.001)
    rebuilt = ((frequency[:, None] * torch.arange(24)[:, None] + phase[:, None]).sin() + 1) / 2
    assert rebuilt.allclose(series, atol=1e-5)
    assert abs(float(torch.corrcoef(frequency.T)[0, 1])) < 0.05  # nothing in one channel about another


def test_gaussian_process_against_scipy() -> None:
    source = make(GaussianProcess, length=6, jitter=1e-3)
    covariance = source.covariance()
    assert float(covariance[0, 0]) == pytest.approx(0.201) and float(covariance[1, 3]) == pytest.approx(
        0.2 * math.exp(-0.4)
    )
    series = source.load().train.input[:50]
    reference = multivariate_normal(mean=[0.0] * 6, cov=covariance.numpy())
    assert source.log_density(series).tolist() == pytest.approx(reference.logpdf(series[:, :, 0].numpy()).tolist())
    figures = source.assess(source.load().train.input)
    assert figures["processLogDensity"] == pytest.approx(-reference.entropy())
    assert figures["logDensity"] == pytest.approx(figures["processLogDensity"], abs=0.05)


def test_gaussian_process_tells_wrong_samples() -> None:
    source = make(GaussianProcess, size=2000)
    train = source.load().train.input
    own = source.assess(train)
    assert own["logDensity"] == pytest.approx(own["processLogDensity"], abs=0.5)
    assert source.assess(train.flip(0)[:, torch.randperm(30)])["logDensity"] < own["logDensity"] - 1e4  # not smooth
    assert source.assess(2 * train)["logDensity"] < own["logDensity"] - 40  # 30 (4 - 1) / 2 = 45 nats
    assert torch.cov(train[:, :2, 0].T)[0, 1] == pytest.approx(0.2 * math.exp(-0.1), abs=0.02)


def test_ar_by_hand() -> None:
    source = make(AR)
    alternating = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1)
    assert source.assess(alternating)["lag1"] == pytest.approx(-1.0)
    assert source.assess(torch.zeros(3, 4, 1))["lag1"] == 0.0
    train = source.load().train.input
    figures = source.assess(train)
    assert figures["lag1"] == pytest.approx(0.8, abs=0.01) and figures["lag1Exact"] == 0.8
    assert figures["correlation"] == pytest.approx(0.8, abs=0.01) and figures["correlationExact"] == 0.8
    assert train.std(dim=(0, 2)).tolist() == pytest.approx([1.0] * 24, abs=0.03)  # stationary from the first step
    assert source.assess(train[:, torch.randperm(24)])["lag1"] < 0.7
    backwards = make(AR, phi=-0.5, channels=1).load().train.input
    assert make(AR, phi=-0.5, channels=1).assess(backwards) == {
        "lag1": pytest.approx(-0.5, abs=0.01),
        "lag1Exact": -0.5,
    }


@pytest.mark.parametrize("pitch", ["note", "frequency"])
@pytest.mark.parametrize("scale", ["minmax", "symmetric", "none"])
def test_made_music_is_on_its_scale(pitch: str, scale: str) -> None:
    source = make(MadeMusic, pitch=pitch, scale=scale, size=400)
    train = source.load().train
    figures = source.assess(train.input)
    assert (figures["inScale"], figures["inRange"], figures["chordShareExact"]) == (1.0, 1.0, 0.2)
    assert figures["chordShare"] == pytest.approx(0.2, abs=0.01)
    events = source.unscale(train.input.to(EXACT))
    notes = events[..., 2] if pitch == "note" else to_note(events[..., 2])
    assert set(notes.round().flatten().tolist()) == {
        60.0 + 12 * octave + tone for octave in (0, 1) for tone in (0, 2, 4, 5, 7, 9, 11)
    } | {84.0}
    assert set(events[..., 0].round().flatten().tolist()) == {0.0, 120.0, 240.0, 480.0}
    assert train.spec.features[2] == pitch
    if pitch == "note":
        higher = source.scaler().forward(events + torch.tensor([0.0, 0.0, 1.0, 0.0]))
        assert source.assess(higher)["inScale"] == pytest.approx(2 / 7, abs=0.06)  # only E and B have one above


def test_pitches() -> None:
    notes = torch.tensor([69.0, 81.0, 60.0], dtype=EXACT)
    assert to_frequency(notes).tolist() == pytest.approx([440.0, 880.0, 261.6255653])
    assert to_note(to_frequency(notes)).tolist() == pytest.approx([69, 81, 60])
    assert to_note(torch.tensor([0.0, -5.0])).tolist() == pytest.approx([0, 0], abs=1e-4)


def test_wrong_intervals_of_a_sine() -> None:
    for wrong in ((5.0, 1.0), (), (1.0, 2.0, 3.0)):
        with pytest.raises(ConfigError, match="expected one number or MIN,MAX"):
            make(Sine, frequency=wrong)


# --- windows ------------------------------------------------------------------------------------------------------


def simple(rows: int = 20, features: int = 1, **more: Any) -> Record:
    values = torch.arange(rows * features, dtype=EXACT).view(rows, features)
    return Record("here", values, tuple("abcd"[:features]), [range(rows)], **more)


def cut(record: Record, cutting: Cutting, scale: str = "none", **treatment: Any) -> tuple[Splits, Any, list[str]]:
    told: list[str] = []
    splits, scaler = prepare(record, cutting, Treatment(scale, **treatment), "Mine", told.append)
    return splits, scaler, told


def first_values(part: Any) -> list[float]:
    return everything(part).input[:, 0, 0].tolist()


def test_window_starts_and_the_gap_by_hand() -> None:
    cutting = Cutting(length=4, test_share=0.25, gap=4)
    splits, _, _ = cut(simple(), cutting)
    assert first_values(splits.test) == [15, 16]  # the last 5 of 20 rows
    assert first_values(splits.train) == [0, 1, 2, 3, 4, 5, 6, 7]  # rows 0 to 10; rows 11 to 14 are the gap
    assert everything(splits.test).input[1, :, 0].tolist() == [16, 17, 18, 19]
    strided, _, _ = cut(simple(), cutting._replace(stride=3))
    assert first_values(strided.train) == [0, 3, 6] and first_values(strided.test) == [15]
    none, _, _ = cut(simple(), cutting._replace(gap=0, validation_share=0.2))
    assert [first_values(part) for part in none] == [[0, 1, 2, 3, 4, 5, 6, 7], [11], [15, 16]]


def test_held_out_rows_in_every_stretch_by_hand() -> None:
    splits, _, _ = cut(simple(30), Cutting(length=3, test_share=0.2, gap=2, stretches=2))
    # Stretch 0 to 14: rows 0 to 9 are learnt from, 12 to 14 held out. Stretch 15 to 29 begins a gap later, at 17:
    # rows 17 to 24 are learnt from, 27 to 29 held out.
    assert first_values(splits.test) == [12, 27]
    assert first_values(splits.train) == [*range(8), *range(17, 23)]
    whole, _, _ = cut(simple(30), Cutting(length=3, gap=2, stretches=2))
    assert first_values(whole.train) == [*range(13), *range(15, 28)]  # nothing is held out, so no gap is needed
    with pytest.raises(DataError, match="30 rows in stretches=9 leaves no window"):
        cut(simple(30), Cutting(length=3, test_share=0.2, gap=2, stretches=9))


@pytest.mark.parametrize("gap", [0, 1, 7])
def test_no_value_is_in_windows_of_two_parts(gap: int) -> None:
    series = [range(40), range(40, 100), range(100, 130)]
    record = replace(simple(130), series=series)
    splits, _, _ = cut(record, Cutting(length=5, test_share=0.3, validation_share=0.2, gap=gap))
    seen = [set(everything(part).input.flatten().tolist()) for part in splits]
    assert all(seen) and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    for part in splits:
        for window in everything(part).input[:, :, 0].tolist():
            assert any(window[0] in rows and window[-1] in rows for rows in series)


def test_timegan_leaves_the_last_window_out_and_shuffles() -> None:
    splits, scaler, _ = cut(simple(), Cutting(length=4, published=True, seed=1), "minmax")
    starts = [round(value * 19) for value in first_values(splits.train)]
    assert sorted(starts) == list(range(16)) and starts != sorted(starts)  # i < 20 - 4
    assert splits.test is None and splits.validation is None
    assert (float(scaler.shift), float(scaler.factor)) == (0.0, 19.0)
    assert splits.train.spec.value_range == (0.0, 1.0)
    again, _, _ = cut(simple(), Cutting(length=4, published=True, seed=1), "minmax")
    other, _, _ = cut(simple(), Cutting(length=4, published=True, seed=2), "minmax")
    assert first_values(again.train) == first_values(splits.train) != first_values(other.train)


class Ramp(SeriesFactory):
    """The numbers 0 to 19."""

    Settings = SeriesSettings
    name = "Ramp"

    def read(self) -> Record:
        return simple()


def test_settings_become_parts() -> None:
    told: list[str] = []
    ramp = make(Ramp, told=told, length=4, scale="none", test_share=0.25)
    assert first_values(ramp.load().train)[-1] == 7.0 and told == []
    reversed_ = make(Ramp, told=told, length=4, protocol="timegan", reverse=True, test_share=0.5, scale="none")
    splits = reversed_.load()
    assert len(told) == 1 and "protocol=timegan is the published preparation" in told[0]
    assert splits.test is None and len(splits.train) == 16
    window = reversed_.unscale(everything(splits.train).input.to(EXACT))[0, :, 0]
    assert window.diff().tolist() == pytest.approx([-1.0] * 3, abs=1e-5)  # time runs backwards
    assert 3.0 not in {round(float(value)) for value in reversed_.unscale(everything(splits.train).input)[:, 0, 0]}
    assert set(SeriesSettings(protocol="timegan").without_effect()) == {
        "scale",
        "test_share",
        "validation_share",
        "stride",
        "gap",
        "stretches",
    }
    assert set(SeriesSettings().without_effect()) == {"reverse"}
    assert len(make(Ramp, length=20, test_share=0.0).load().train) == 1


def test_the_scale_is_fitted_on_the_training_rows_only() -> None:
    cutting = Cutting(length=4, test_share=0.25, gap=4)  # training rows 0 to 10
    splits, scaler, told = cut(simple(), cutting, "minmax")
    assert (float(scaler.shift), float(scaler.factor)) == (0.0, 10.0)
    assert float(everything(splits.test).input.max()) == pytest.approx(1.9)
    assert splits.train.spec.value_range == (0.0, 1.0)
    assert "5 values of rows that are not learnt from lie outside of 0..1" in told[0]
    _, scaler, _ = cut(simple(), cutting, "standard")
    assert (float(scaler.shift), float(scaler.factor)) == (5.0, pytest.approx(math.sqrt(10)))
    _, scaler, _ = cut(simple(), cutting, "symmetric")
    assert (float(scaler.shift), float(scaler.factor)) == (5.0, 5.0)
    falling = replace(simple(), values=simple().values.remainder(7))
    splits, _, told = cut(falling, cutting, "symmetric")
    assert splits.train.spec.value_range == (-1.0, 1.0) and told == []


def test_symmetric_keeps_within_its_limits_whatever_rounding_does() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        values = torch.randn(7, 3, generator=generator, dtype=EXACT) * 1e3
        scaled = fit_scaler("symmetric", values).forward(values)
        assert float(scaled.abs().max()) <= 1.0
    constant = fit_scaler("symmetric", torch.full((4, 1), 3.0, dtype=EXACT))
    assert constant.forward(torch.tensor([[3.0]], dtype=EXACT)).tolist() == [[0.0]]


@pytest.mark.parametrize("scale", ["minmax", "standard", "symmetric", "none"])
def test_unscale_gives_back_the_values(scale: str) -> None:
    splits, scaler, _ = cut(simple(30, 3), Cutting(length=4, test_share=0.3), scale)
    windows = everything(splits.test)
    assert scaler.inverse(windows.input)[0, 0].tolist() == pytest.approx([63.0, 64.0, 65.0], abs=1e-4)


def test_windows_are_gathered_not_stored() -> None:
    record = simple(100_000, 4)
    splits, _, _ = cut(record, Cutting(length=50, test_share=0.2, gap=50))
    train, test = splits.train, splits.test
    assert isinstance(train, Windows) and isinstance(test, Windows)
    assert len(train) == 100_000 - 20_000 - 50 - 49
    held = [value for part in (train, test) for value in vars(part).values() if isinstance(value, Tensor)]
    assert sum(value.numel() for value in held) < 110_000  # the beginnings and the steps
    assert train.source.values.data_ptr() == test.source.values.data_ptr()
    assert train.source.values.shape == (100_000, 4)
    batch = train.rows(torch.tensor([7, 3, 7]))
    assert batch.input[:, 0, 0].tolist() == [28.0, 12.0, 28.0] and batch.input.shape == (3, 50, 4)
    batch.input.zero_()
    assert train.rows(torch.tensor([7])).input[0, 0, 0] == 28.0
    moved = train.to(torch.device("cpu"))
    assert torch.equal(moved.rows(torch.tensor([5])).input, train.rows(torch.tensor([5])).input)
    for beyond in (len(train), -1):
        with pytest.raises((IndexError, RuntimeError)):
            train.rows(torch.tensor([beyond]))


def test_fields_and_targets_follow_the_windows() -> None:
    kinds = torch.tensor([0] * 10 + [1] * 10)
    record = simple(
        20,
        along={"covariates": torch.arange(40, dtype=EXACT).view(20, 2)},
        first={"month": torch.arange(20) % 12, "quality": torch.arange(20, dtype=EXACT) / 2},
        labels=kinds,
        classes=("low", "high"),
    )
    splits, _, _ = cut(record, Cutting(length=4, stride=5))
    batch = splits.train.rows(torch.tensor([3, 0]))
    assert batch.target is not None and batch.target.tolist() == [1, 0]
    assert batch.fields["month"].tolist() == [3, 0] and batch.fields["month"].dtype == torch.int64
    assert batch.fields["quality"].tolist() == [7.5, 0.0] and batch.fields["quality"].dtype == torch.float32
    assert batch.fields["covariates"].shape == (2, 4, 2) and batch.fields["covariates"][0, 0].tolist() == [30.0, 31.0]
    targets = splits.train.targets()
    assert targets is not None and targets.tolist() == [0, 0, 1, 1]
    assert splits.train.spec.classes == ("low", "high")


def test_series_held_out_as_a_whole() -> None:
    series = [range(10 * place, 10 * place + 10) for place in range(10)]
    kinds = torch.tensor([0, 1] * 5)
    parts = parts_of(series, Cutting(length=5, test_share=0.2, validation_share=0.2, by="drawn", seed=3), kinds)
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [6, 2, 2]
    for name, wanted in (("train", 3), ("validation", 1), ("test", 1)):
        places = [rows.start // 10 for rows in parts[name]]
        assert sum(place % 2 for place in places) == wanted  # of each class alike
    drawn = [rows for name in parts for rows in parts[name]]
    assert sorted(rows.start for rows in drawn) == [rows.start for rows in series]
    last = parts_of(series, Cutting(length=10, test_share=0.2, gap=1, by="last"))
    assert last["test"] == series[8:] and last["train"] == series[:7]


def test_the_range_is_that_of_the_training_rows_whatever_is_drawn_for_the_other_parts() -> None:
    record = replace(simple(40), series=[range(start, start + 4) for start in range(0, 40, 4)])
    for seed in range(3):
        splits, _, _ = cut(record, Cutting(length=4, test_share=0.2, by="drawn", seed=seed), "minmax")
        assert splits.train.spec.value_range == (0.0, 1.0)
        rows = everything(splits.train).input
        assert (float(rows.min()), float(rows.max())) == (0.0, 1.0)


def test_which_rows_lie_in_a_window() -> None:
    assert covered(torch.tensor([1, 2, 6, 2]), 2, 9).tolist() == [0, 1, 1, 1, 0, 0, 1, 1, 0]
    assert starts_of([range(3, 5)], Cutting(length=4)).tolist() == []


# --- missing values, short series, normalised windows -------------------------------------------------------------


def holed() -> Record:
    nan = math.nan
    values = torch.tensor([[nan, 1], [2, nan], [nan, nan], [4, 7], [nan, 3], [6, 1], [100, 5], [nan, 5]], dtype=EXACT)
    return Record("here", values, ("a", "b"), [range(8)])


def test_a_mask_says_what_was_seen() -> None:
    splits, _, _ = cut(holed(), Cutting(length=2, stride=2), missing="mask")
    batch = splits.train.rows(torch.tensor([0, 1]))
    assert batch.input.tolist() == [[[0, 1], [2, 0]], [[0, 0], [4, 7]]]
    assert batch.fields["mask"].tolist() == [[[0, 1], [1, 0]], [[0, 0], [1, 1]]]
    _, scaler, _ = cut(holed(), Cutting(length=2, test_share=0.25), "standard", missing="mask")
    assert scaler.shift.tolist() == [4.0, 3.0]  # of 2, 4, 6 and of 1, 7, 3, 1: neither holes nor test rows count


def test_filling_looks_back_only() -> None:
    splits, _, _ = cut(holed(), Cutting(length=8), missing="fill")
    column = everything(splits.train).input[0, :, 0].tolist()
    assert column == [28.0, 2, 2, 4, 4, 6, 100, 100]  # before the first value: the mean of 2, 4, 6, 100
    assert everything(splits.train).fields == {}
    with_test, _, _ = cut(holed(), Cutting(length=2, test_share=0.25), missing="fill")
    assert everything(with_test.train).input[0, 0, 0] == 4.0  # nothing of the test rows is known
    two = replace(holed(), series=[range(4), range(4, 8)])
    splits, _, _ = cut(two, Cutting(length=4, stride=4), missing="fill")
    assert everything(splits.train).input[1, :, 0].tolist() == [28.0, 6, 100, 100]  # not the 4 of the other series


def test_a_column_without_values_is_refused() -> None:
    record = simple(20, 2)
    record.values[:16, 1] = math.nan
    with pytest.raises(DataError, match="column 'b' holds no value in the rows that are learnt from"):
        cut(record, Cutting(length=4, test_share=0.2), missing="mask")


def test_short_series_are_filled_up_with_a_mask() -> None:
    record = padded(replace(simple(7), series=[range(5), range(5, 7)]), 4)
    assert record.series == [range(5), range(5, 9)]
    splits, _, _ = cut(record, Cutting(length=4, by="drawn"))
    batch = everything(splits.train)
    assert batch.input[:, :, 0].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [5, 6, 0, 0]]
    assert batch.fields["mask"][:, :, 0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]]
    filled, scaler, _ = cut(record, Cutting(length=4, by="drawn"), "minmax", missing="fill")
    assert everything(filled.train).input[2, :, 0].tolist() == pytest.approx([5 / 6, 1.0, 0, 0])
    assert float(scaler.factor) == 6.0
    _, scaler, _ = cut(record, Cutting(length=4, by="drawn"), "standard")
    assert float(scaler.shift) == pytest.approx(3.0)  # of 0 to 6: padding does not count


def test_normalised_windows_give_what_was_taken_away_as_fields() -> None:
    batch = normalised(Batch(torch.tensor([[[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]]])))
    deviation = math.sqrt(8 / 3)
    assert batch.fields["mean"].tolist() == [[3.0, 7.0]]
    assert batch.fields["deviation"].tolist() == [[pytest.approx(deviation), 0.0]]
    assert batch.input[0, :, 0].tolist() == pytest.approx([-2 / deviation, 0, 2 / deviation])
    assert batch.input[0, :, 1].tolist() == [0.0, 0.0, 0.0]  # a day without sun is no division by 0
    tenth = normalised(Batch(torch.full((1, 7, 1), 0.1)))
    assert tenth.input.abs().max() == 0.0 and tenth.fields["deviation"].tolist() == [[0.0]]
    mask = {"mask": torch.tensor([[[1.0], [1.0], [0.0]]])}
    seen = normalised(Batch(torch.tensor([[[1.0], [3.0], [0.0]]]), fields=mask))
    assert seen.input.flatten().tolist() == [-1.0, 1.0, 0.0] and seen.fields["mean"].tolist() == [[2.0]]


def test_normalised_windows_of_a_data_set() -> None:
    splits, scaler, _ = cut(simple(), Cutting(length=4, test_share=0.25, gap=4), "minmax", normalise="window")
    batch = everything(splits.test)
    assert batch.input.mean(dim=1).abs().max() < 1e-5 and splits.train.spec.value_range is None
    rebuilt = scaler.inverse(batch.input * batch.fields["deviation"][:, None] + batch.fields["mean"][:, None])
    assert rebuilt[1, :, 0].tolist() == pytest.approx([16, 17, 18, 19], abs=1e-4)


# --- what leaves no window ----------------------------------------------------------------------------------------

NONE_LEFT: Mapping[str, tuple[Cutting, tuple[str, ...]]] = {
    "short": (Cutting(length=21), ("the series has 20 rows", "length=21 need 21", "smaller length")),
    "short for timegan": (Cutting(length=20, published=True), ("20 rows", "length=20 need 21")),
    "gap": (Cutting(length=4, test_share=0.2, gap=13), ("gap=13", "no window of 4 steps to learn from", "20 rows")),
    "test": (Cutting(length=4, test_share=0.1), ("testShare=0.1 of 20 rows", "no window of 4 steps in the test part")),
    "no row to test on": (Cutting(length=4, test_share=0.01), ("testShare=0.01", "testShare=0 or")),
    "validation": (Cutting(length=4, validation_share=0.1), ("validationShare=0.1", "validation part")),
    "all held out": (Cutting(length=4, test_share=0.5, validation_share=0.5), ("leave no window",)),
    "drawn": (Cutting(length=4, test_share=0.2, by="drawn"), ("testShare=0.2 of 1 series",)),
}


@pytest.mark.parametrize("case", NONE_LEFT)
def test_parts_without_a_window_are_refused_in_one_sentence(case: str) -> None:
    cutting, parts = NONE_LEFT[case]
    with pytest.raises(DataError) as caught:
        cut(simple(), cutting)
    assert all(part in str(caught.value) for part in ("here", *parts)), caught.value
    assert "\n" not in str(caught.value)


def test_numbers_too_large_are_refused() -> None:
    with pytest.raises(DataError, match=r"column 'a' holds numbers too large for torch\.float32"):
        cut(replace(simple(), values=simple().values * 1e300), Cutting(length=4))


def test_windows_are_read_on_their_own() -> None:
    spec = DataSpec("sequence", (2, 1))
    windows = Windows(spec, Rows(torch.arange(4.0)[:, None]), torch.tensor([2, 0]))
    assert everything(windows).input[:, :, 0].tolist() == [[2, 3], [0, 1]] and windows.targets() is None


def test_sine_waves_by_period_and_in_classes() -> None:
    fixed = {"period": (8.0,), "amplitude": (1.0,), "phase": (0.0,), "length": 9, "size": 2}
    rows = make(Sine, **fixed).load().train.rows(torch.tensor([0])).input.flatten()
    root = math.sqrt(0.5)
    assert rows.tolist() == pytest.approx([0, root, 1, root, 0, -root, -1, -root, 0], abs=1e-6)
    splits = make(Sine, frequency=(1.0, 3.0), classes=2, size=200, length=64, phase=(0.0,)).load()
    assert splits.train.spec.classes == ("1-2", "2-3")
    batch = splits.train.rows(torch.arange(200))
    turns = (batch.input.squeeze(2).diff(dim=1).sign().diff(dim=1) != 0).sum(1)  # a wave has two peaks in a cycle
    assert batch.target is not None and set(batch.target.tolist()) == {0, 1}
    assert bool((turns[batch.target == 0] <= 4).all()) and bool((turns[batch.target == 1] >= 4).all())
    for wrong, reason in (({"classes": 2, "period": (5.0,)}, "needs an interval"), ({"period": (0.0, 4.0)}, "above 0")):
        with pytest.raises(ConfigError, match=reason):
            make(Sine, **wrong)
