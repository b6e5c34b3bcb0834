"""The small picture of samples on a terminal, and the picture of the terminal in the documentation."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch
from rich.console import Console
from torch import Tensor

from ganglion.engine.contracts import DataSpec
from ganglion.engine.terminal.picture import Ink, ink_of, picture_lines
from ganglion.engine.terminal.samples import keep
from ganglion.engine.terminal.screen import live_lines
from ganglion.engine.terminal.state import RunState
from ganglion.engine.trace import HealthRead, RunStarted, SamplesMade, TracePoint

ROOT = Path(__file__).resolve().parent.parent
POINTS, IMAGE = DataSpec("vector", (2,)), DataSpec("image", (1, 4, 4), value_range=(0.0, 1.0))
SERIES = DataSpec("sequence", (9, 1))
STARTED = RunStarted("calm-otter", Path("runs"), 0, 1000, {"strategy": "GAN"}, [], lambda: 250, True)


def made(samples: Tensor, spec: DataSpec, real: Tensor | None = None) -> SamplesMade:
    return SamplesMade(1200, samples, real, spec)


def drawn(event: SamplesMade, width: int = 80, height: int = 6, ink: Ink = "shades") -> list[str]:
    return [line.plain.rstrip(" \u2800") for line in picture_lines(keep(event), width, height, ink)]


def columns(*rows: float) -> Tensor:
    """One image (1, 1, 4, 4) whose rows have these values."""
    return torch.tensor(rows)[:, None].expand(4, 4)[None, None]


# --- images -------------------------------------------------------------------------------------------------------


def test_an_image_in_shades_dark_to_light() -> None:
    event = made(columns(0.0, 0.0, 1.0, 1.0), IMAGE)  # twice as large, with soft edges: 0 0 0 .25 .75 1 1 1
    assert drawn(event, height=5) == ["samples at 1,200", "", "", "█" * 8, "█" * 8]
    assert drawn(event, height=5, ink="ascii") == ["samples at 1,200", "", "." * 8, "%" * 8, "@" * 8]


def test_an_image_in_colours_has_two_pixels_in_a_cell() -> None:
    (line,) = picture_lines(keep(made(columns(0.0, 1.0, 1.0, 0.0), IMAGE)), 80, 4, "colours")[1:2]
    style = line.spans[0].style
    assert line.plain[0] == "▀" and not isinstance(style, str)
    assert style.color is not None and style.bgcolor is not None
    assert style.color.name == "#000000" and style.bgcolor.name > "#777777"


def test_images_in_colour_keep_their_colour() -> None:
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1.0
    (line, *_) = picture_lines(keep(made(red, replace(IMAGE, shape=(3, 4, 4)))), 80, 5, "colours")[1:]
    assert [span.style.color.name for span in line.spans if not isinstance(span.style, str)] == ["#ff0000"]


def test_as_many_images_as_fit_and_some_data_beside_them() -> None:
    event = made(torch.ones(64, 1, 8, 8), replace(IMAGE, shape=(1, 8, 8)), torch.ones(64, 1, 8, 8))
    lines = drawn(event, width=58, height=6)
    assert lines[0] == "samples at 1,200" + " " * 32 + "data"  # 10 columns each and 2 between: four and one
    assert lines[1] == "  ".join(["█" * 10] * 5)


# --- points, series, text -----------------------------------------------------------------------------------------


def test_points_lie_where_they_are_with_the_data_beside_them() -> None:
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    lines = drawn(made(torch.tensor([[0.0, 1.0], [9.0, 9.0]]), POINTS, corners), height=5)
    assert lines[0] == "samples at 1,200, 1 of 2 outside  data"
    # A tenth of the range is left on every side: the corners of the data lie in the cells next to the panel's corners.
    left, right = [line[:8] for line in lines[1:]], [line[34:] for line in lines[1:]]
    assert [place for place, line in enumerate(left) if line.strip("\u2800 ")] == [0]
    assert left[0].strip("\u2800 ") == left[0][0]  # above, at the left
    assert [place for place, line in enumerate(right) if line.strip("\u2800 ")] == [0, 3]
    assert (right[0][7], right[3][0]) == ("\u2802", "\u2820")  # second dot from above, left; third, right


def test_points_without_unicode_are_as_dense_as_they_are_many() -> None:
    same = torch.tensor([[0.5, 0.5]] * 3 + [[0.0, 0.0]])
    text = "\n".join(drawn(made(same, POINTS, torch.tensor([[0.0, 0.0], [1.0, 1.0]])), ink="ascii"))
    assert "*" in text and "." in text and text.isascii()


def test_numbers_of_one_feature_are_a_histogram() -> None:
    rows = torch.tensor([[0.0], [0.0], [1.0]])
    lines = drawn(made(rows, DataSpec("vector", (1,))), width=42, height=4)
    assert [line.count("█") for line in lines] == [0, 1, 1, 2]  # the second bar is half as high: one line and a half
    assert [line.count("▄") for line in lines] == [0, 0, 1, 0]


def test_a_rising_series_rises() -> None:
    event = made(torch.linspace(0, 1, 9).reshape(1, 9, 1), SERIES, torch.linspace(0, 1, 9).reshape(1, 9, 1))
    lines = drawn(event, width=80, height=5)
    assert lines[0].split() == ["samples", "at", "1,200", "data"]
    first = [next(place for place, dot in enumerate(line) if dot not in " \u2800") for line in lines[1:]]
    assert first == sorted(first, reverse=True) and first[0] > first[-1]


def test_text_reads_as_text() -> None:
    spec = DataSpec("sequence", (2, 2), features=("h", "i"), text=True)
    assert drawn(made(torch.eye(2)[None], spec)) == ["samples at 1,200", "  hi"]


# --- what may come ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ink", ["colours", "shades", "ascii"])
@pytest.mark.parametrize("width", [20, 33, 80, 200])
@pytest.mark.parametrize("spec", [POINTS, IMAGE, SERIES, DataSpec("image", (3, 5, 40)), DataSpec("vector", (1,))])
def test_no_picture_is_larger_than_its_place_or_fails(spec: DataSpec, width: int, ink: Ink) -> None:
    rows = torch.randn(40, *spec.shape)
    rows[0] = torch.nan
    for samples, real in ((rows, None), (rows, rows), (rows * torch.nan, rows), (rows[:1], rows[:1]), (rows * 0, None)):
        for height in (1, 4, 13):
            lines = picture_lines(keep(made(samples, spec, real)), width, height, ink)
            assert len(lines) <= height
            assert all(line.cell_len <= width for line in lines)
            assert bool(lines) == (width >= 32 and height >= 4)


def test_the_display_has_a_picture_in_a_third_of_it_where_one_is_wanted() -> None:
    for wanted in (True, False):
        run = RunState(STARTED, lambda: 0.0, with_picture=wanted)
        run.note(TracePoint(200, 4.0, 50.0, {"loss": 2.0}))
        run.note(made(torch.randn(64, 2), POINTS))
        lines = [line.plain for line in live_lines(run, 80, 24, "shades")]
        place = next((number for number, line in enumerate(lines) if line.startswith("samples at")), None)
        assert (place is not None) == wanted
        assert place is None or len(lines) - place == 8
        assert not any(line.plain.startswith("samples at") for line in live_lines(run, 80, 10, "shades"))


def test_a_picture_is_drawn_once_for_each_size() -> None:
    run = RunState(STARTED, lambda: 0.0, with_picture=True)
    run.note(made(torch.randn(64, 1, 4, 4), IMAGE))
    first, second, other = (live_lines(run, width, 24, "shades")[-1] for width in (80, 80, 60))
    assert first is second and other is not first


def test_data_that_nobody_can_draw_has_no_picture() -> None:
    run = RunState(STARTED, lambda: 0.0, with_picture=True)
    run.note(made(torch.zeros(4), DataSpec("score", ())))
    assert run.samples is None


def test_what_is_kept_frees_the_rest() -> None:
    event = made(torch.zeros(5000, 2), POINTS, torch.zeros(5000, 2))
    kept = keep(event)
    assert len(kept.samples) == 1000
    assert kept.samples.untyped_storage().nbytes() <= 1000 * 2 * 4


def test_the_ink_is_what_the_terminal_has() -> None:
    def ink(**options: object) -> Ink:
        return ink_of(Console(file=io.StringIO(), force_terminal=True, **options))

    assert ink(color_system="truecolor") == ink(color_system="256") == "colours"
    assert ink(color_system="standard") == ink(color_system="truecolor", no_color=True) == ink(color_system=None)
    assert ink(color_system=None) == "shades"
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert ink_of(Console(file=stream, force_terminal=True, color_system="truecolor")) == "ascii"


# --- the picture in the documentation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("ganglion_pictures", ROOT / "scripts" / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[module.__name__]


def test_the_script_draws_what_a_run_showed(script: ModuleType) -> None:
    script.Recorder.shown = []
    recorder = script.Recorder(None, None)
    for event in (
        STARTED,
        TracePoint(700, 4.0, 50.0, {"generatorLoss": 2.0}),
        HealthRead(700, {"pairwiseDistance": 0.94}),
        replace(made(torch.randn(50, 2), POINTS), iteration=700),
        replace(made(torch.randn(50, 2), POINTS), iteration=800),
        replace(made(torch.randn(50, 2), POINTS), iteration=900),
    ):
        recorder.receive(event)
    root = ElementTree.fromstring(script.svg(script.Recorder.shown))
    text = "".join(root.itertext()).replace("\u00a0", " ")
    for part in ("calm-otter", "generatorLoss", "healthy", "samples at 800"):
        assert part in text
    assert "font-face" not in text and "url(" not in text.replace("url(#", "")


def test_the_checked_in_picture_is_one_of_the_script() -> None:
    text = (ROOT / "docs" / "pictures" / "terminal.svg").read_text(encoding="utf-8")
    plain = "".join(ElementTree.fromstring(text).itertext()).replace("\u00a0", " ")
    assert "samples at" in plain and "health" in plain and "cdnjs" not in text


def test_the_script_answers_a_wrong_word(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["terminl"]) == 2
    assert capsys.readouterr().err == "usage: python scripts/pictures.py terminal [FILE.svg]\n"
