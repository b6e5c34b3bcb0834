"""Pictures: exact pixels for images, limits and notes for points, panels for series, and samples as files."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ganglion.engine.contracts import DataSpec
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.pictures import (
    SEPARATOR,
    PicturesSettings,
    PicturesTrace,
    _limits,
    _scatter,
    _series,
    draw,
    picture,
    save_samples,
)
from ganglion.engine.trace import SamplesMade, TraceContext

GREY = DataSpec("image", (1, 2, 2), (-1.0, 1.0))
POINTS = DataSpec("vector", (2,), features=("x", "y"))
SERIES = DataSpec("sequence", (5, 1), (-1.0, 1.0))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_an_image_grid_is_exact(tmp_path: Path) -> None:
    samples = torch.tensor([[-1.0, 1.0], [0.0, 5.0]]).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    samples[1] = -1.0
    grid = pixels(draw(samples, GREY, tmp_path / "a.png"))
    scale = 700 // 4  # two columns of two pixels
    side = 2 * scale + 1
    assert grid.shape == (2 * side + 1, 2 * side + 1)
    assert (grid[0] == SEPARATOR).all()
    assert (grid[:, side] == SEPARATOR).all()
    first = grid[1:side, 1:side]
    assert (first[:scale, :scale] == 0).all()
    assert (first[:scale, scale:] == 255).all()
    assert (first[scale:, :scale] == 128).all()  # 0 lies half way between -1 and 1: 127.5, to even
    assert (first[scale:, scale:] == 255).all()  # 5 is cut to the range
    assert (grid[1:side, side + 1 : -1] == 0).all()
    assert (grid[side + 1 :, side + 1 :] == SEPARATOR).all()  # no fourth sample


def test_little_pictures_get_a_margin(tmp_path: Path) -> None:
    grid = pixels(draw(torch.ones(1, 1, 8, 8), DataSpec("image", (1, 8, 8), (0, 1)), tmp_path / "a.png"))
    scale = 700 // 10
    assert grid.shape == (10 * scale + 2, 10 * scale + 2)
    assert (grid[1 : 1 + scale] == 0).sum() == 10 * scale * scale
    assert (grid == 255).sum() == (8 * scale) ** 2


def test_colour_images_and_a_size_that_suits_a_screen(tmp_path: Path) -> None:
    spec = DataSpec("image", (3, 2, 2), (0.0, 1.0))
    samples = torch.zeros(1, 3, 2, 2)
    samples[0, 2] = 1.0
    grid = pixels(draw(samples, spec, tmp_path / "a.png"))
    assert tuple(grid[10, 10]) == (0, 0, 255)
    digits = pixels(draw(torch.zeros(64, 1, 28, 28), DataSpec("image", (1, 28, 28), (0, 1)), tmp_path / "b.png"))
    assert digits.shape == (8 * 85 + 1, 8 * 85 + 1)  # 28 pixels, three times as large, and a line


def test_without_a_range_the_samples_give_it() -> None:
    samples = torch.tensor([10.0, 30.0, 20.0, float("nan")]).view(1, 1, 2, 2)
    levels = np.asarray(picture(samples, replace(GREY, value_range=None)))
    assert {int(level) for level in np.unique(levels)} == {0, 128, 255, SEPARATOR}


def test_images_do_not_grow_without_limit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="10001 images do not fit into one picture: at most 10000"):
        draw(torch.zeros(10_001, 1, 2, 2), GREY, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("spec", "samples", "real"),
    [
        (POINTS, numbers(50, 2), numbers(50, 2)),
        (DataSpec("vector", (1,)), numbers(50, 1), numbers(50, 1)),
        (DataSpec("vector", (6,)), numbers(50, 6), None),
        (SERIES, numbers(20, 5, 1), numbers(20, 5, 1)),
        (DataSpec("sequence", (5, 3), sampling_rate=10.0), numbers(20, 5, 3), numbers(20, 5, 3)),
        (GREY, numbers(4, 1, 2, 2), None),
    ],
)
def test_equal_samples_give_equal_bytes_and_no_metadata(
    tmp_path: Path, spec: DataSpec, samples: Tensor, real: Tensor | None
) -> None:
    first = draw(samples, spec, tmp_path / "a.png", real, "iteration 100").read_bytes()
    second = draw(samples, spec, tmp_path / "b.png", real, "iteration 100").read_bytes()
    assert first == second
    chunks = set()
    position = 8
    while position < len(first):
        length = int.from_bytes(first[position : position + 4])
        chunks.add(first[position + 4 : position + 8])
        position += 12 + length
    assert chunks == {b"IHDR", b"IDAT", b"IEND"}
    assert draw(samples + 1.0, spec, tmp_path / "c.png", real, "iteration 100").read_bytes() != first


def test_the_users_matplotlib_settings_do_not_matter(tmp_path: Path) -> None:
    import matplotlib

    before = draw(numbers(9, 2), POINTS, tmp_path / "a.png").read_bytes()
    with matplotlib.rc_context({"axes.facecolor": "black", "text.usetex": True}):
        assert draw(numbers(9, 2), POINTS, tmp_path / "b.png").read_bytes() == before
        assert matplotlib.rcParams["axes.facecolor"] == "black"


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    state, other = torch.get_rng_state(), np.random.get_state()[1].copy()
    draw(numbers(9, 2), POINTS, tmp_path / "a.png", numbers(9, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == other).all()


def figure() -> object:
    from matplotlib.figure import Figure

    return Figure()


def test_points_share_the_limits_of_the_real_data_and_name_what_lies_outside() -> None:
    real = np.array([[0.0, 0.0], [1.0, 2.0]])
    rows = np.array([[0.5, 0.5], [9.0, 0.0], [-1.2499, 0.0]])
    drawn = figure()
    _scatter(drawn, rows, real, POINTS)
    (axes,) = drawn.axes
    assert axes.get_xlim() == (-0.25, 1.25)
    assert axes.get_ylim() == (-0.5, 2.5)
    assert [text.get_text() for text in axes.texts] == ["2 of 3 outside"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert [len(group.get_offsets()) for group in axes.collections] == [2, 3]  # the real ones first: below


def test_limits() -> None:
    rows = np.array([[2.0], [4.0]])
    assert _limits(rows, None, POINTS) == pytest.approx((1.9, 4.1))
    assert _limits(rows, None, replace(POINTS, value_range=(0.0, 10.0))) == (-0.5, 10.5)
    assert _limits(np.array([[3.0]]), None, POINTS) == (2.0, 4.0)
    assert _limits(np.empty((0, 1)), None, POINTS) == (-1.0, 1.0)


@pytest.mark.parametrize(("features", "panels"), [(3, 3), (4, 6), (9, 6)])
def test_more_features_than_two_are_drawn_in_pairs(features: int, panels: int) -> None:
    drawn = figure()
    _scatter(drawn, numbers(5, features).numpy(), None, DataSpec("vector", (features,)))
    assert len(drawn.axes) == panels
    assert (drawn.axes[1].get_xlabel(), drawn.axes[1].get_ylabel()) == ("feature 0", "feature 2")


def test_series_of_one_feature_have_a_panel_each_and_the_real_ones_come_last() -> None:
    drawn = figure()
    rows, real = numbers(20, 5, 1).numpy(), numbers(20, 5, 1).numpy() * 10
    _series(drawn, rows, real, SERIES)
    lines = [axes.lines[0] for axes in drawn.axes]
    assert len(lines) == 12
    assert np.array_equal(lines[8].get_ydata(), rows[8, :, 0])
    assert np.array_equal(lines[9].get_ydata(), real[0, :, 0])
    assert len({axes.get_ylim() for axes in drawn.axes}) == 1


def test_series_of_several_features_stand_beside_the_real_ones() -> None:
    drawn = figure()
    spec = DataSpec("sequence", (5, 2), features=("open", "close"), sampling_rate=2.0)
    _series(drawn, numbers(20, 5, 2).numpy(), numbers(20, 5, 2).numpy(), spec)
    assert [axes.get_title() for axes in drawn.axes] == ["open", "open, real", "close", "close, real"]
    assert [len(axes.lines) for axes in drawn.axes] == [10, 10, 10, 10]
    assert drawn.axes[3].get_xlabel() == "seconds"
    assert list(drawn.axes[0].lines[0].get_xdata()) == [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("spec", "shape"), [(POINTS, (4, 2)), (SERIES, (4, 5, 1)), (GREY, (4, 1, 2, 2)), (DataSpec("vector", (1,)), (4, 1))]
)
@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_a_diverged_generator_is_drawn_too(
    tmp_path: Path, spec: DataSpec, shape: tuple[int, ...], value: float
) -> None:
    samples = torch.full(shape, value)
    samples[1] = -value
    assert draw(samples, replace(spec, value_range=None), tmp_path / "a.png").stat().st_size > 0


def test_names_that_matplotlib_would_read_as_formulas(tmp_path: Path) -> None:
    spec = DataSpec("vector", (2,), features=("$x_{$", "数据\x1b[31m"))
    assert draw(numbers(5, 2), spec, tmp_path / "a.png", title="$\\frac{$").stat().st_size > 0


def test_samples_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"samples of shape \(3, 4\) cannot be drawn as vector data of shape \(2,\)"):
        draw(torch.zeros(3, 4), POINTS, tmp_path / "a.png")


def test_a_picture_is_replaced_whole(tmp_path: Path) -> None:
    path = draw(numbers(5, 2), POINTS, tmp_path / "a.png")
    before = path.read_bytes()
    with pytest.raises(ConfigError):
        draw(torch.zeros(3, 4), POINTS, path)
    assert path.read_bytes() == before
    (tmp_path / "b.png").mkdir()
    with pytest.raises(StoreError, match=r"b\.png: cannot be written"):
        draw(numbers(5, 2), POINTS, tmp_path / "b.png")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_the_trace_writes_a_picture_per_event(tmp_path: Path) -> None:
    trace = PicturesTrace(PicturesSettings(), TraceContext(tmp_path))
    trace.receive(SamplesMade(0, numbers(4, 1, 2, 2), None, GREY))
    trace.receive(SamplesMade(1000, numbers(9, 2), numbers(9, 2), POINTS))
    trace.receive("something else")
    trace.close()
    assert sorted(item.name for item in (tmp_path / "samples").iterdir()) == ["0.png", "1000.png"]


def test_save_samples_as_an_array(tmp_path: Path) -> None:
    samples = numbers(3, 5, 1)
    with np.load(save_samples(samples, SERIES, tmp_path / "new" / "a.npz"), allow_pickle=False) as archive:
        assert archive.files == ["input"]
        assert np.array_equal(archive["input"], samples.numpy())
    save_samples(samples.bfloat16(), SERIES, tmp_path / "b.npz")


def test_save_samples_as_a_table(tmp_path: Path) -> None:
    points = numbers(3, 2)
    rows = list(csv.reader(save_samples(points, POINTS, tmp_path / "a.csv").read_text().splitlines()))
    assert rows[0] == ["x", "y"]
    assert torch.equal(torch.tensor([[float(cell) for cell in row] for row in rows[1:]]), points)
    series = list(csv.reader(save_samples(numbers(2, 5, 1), SERIES, tmp_path / "b.CSV").read_text().splitlines()))
    assert series[0] == ["sample", "step", "feature0"]
    assert [row[:2] for row in series[1:]] == [[str(sample), str(step)] for sample in range(2) for step in range(5)]
    images = list(csv.reader(save_samples(torch.zeros(1, 1, 2, 2), GREY, tmp_path / "c.csv").read_text().splitlines()))
    assert images == [["pixel0", "pixel1", "pixel2", "pixel3"], ["0", "0", "0", "0"]]


def test_save_samples_as_a_picture_or_not_at_all(tmp_path: Path) -> None:
    assert save_samples(numbers(4, 2), POINTS, tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ConfigError, match=r"out=.*a\.gif: the extension .* must be one of \.png, \.npz, \.csv"):
        save_samples(numbers(4, 2), POINTS, tmp_path / "a.gif")


def test_the_libraries_for_drawing_are_loaded_when_they_are_needed() -> None:
    code = "import ganglion.engine.pictures, sys; sys.exit('matplotlib' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
