"""One way to print: cleaned text, aligned pairs and tables, valid JSON, and no torch for any of it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from rich.console import Console
from rich.text import Text

from ganglion.engine.tables import (
    clean_text,
    format_duration,
    format_number,
    pair_lines,
    print_json,
    print_pairs,
    print_table,
    shorten,
    sparkline,
)


def plain(width: int = 60) -> Console:
    return Console(file=io.StringIO(), width=width)


def terminal(width: int = 60) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07rest", "rest"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x1b]52;never ended", ""),
        ("\x9b2Jcleared\x9d0;t\x9c", "cleared"),
        ("two\nlines\tand\r\x08\x07\x00more", "two lines andmore"),
        ("\u202eevil", "evil"),
        ("Größe 数据 👩\u200d🚀", "Größe 数据 👩\u200d🚀"),
        ("half \udcff", "half \ufffd"),
        ("[bold]kept[/bold]", "[bold]kept[/bold]"),
    ],
)
def test_clean_text(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.69314718, "0.6931"),
        (12.345678, "12.35"),
        (1234.5678, "1235"),
        (0.99999, "1.000"),
        (-123456.7, "-123457"),
        (1e6, "1.000e+06"),
        (0.00012345, "0.000123"),
        (-1.2345e-05, "-1.234e-05"),
        (-1e300, "-1.00e+300"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_format_number(value: float, text: str) -> None:
    assert format_number(value) == text
    assert len(text) <= 10


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (62, "1:02"), (3723, "1:02:03"), (180000, "50:00:00"), (float("nan"), "-")],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"  # averaged in pairs
    assert sparkline([0, 1], 8) == "▁█"  # never longer than the values
    assert sparkline([5, 5, 5], 3) == "▄▄▄"
    assert sparkline([0, float("nan"), 1], 3) == "▁!█"
    assert sparkline([float("nan")], 3) == "!"
    assert sparkline([0, 7], 2, ascii_only=True) == "_#"
    assert sparkline([], 3) == sparkline([1], 0) == ""
    assert len(sparkline([1e308, -1e308, 0], 3)) == 3


def test_shorten() -> None:
    assert shorten("short", 5).plain == "short"
    assert shorten("too long", 5).plain == "too …"
    assert shorten("too long", 6, ascii_only=True).plain == "too..."
    assert shorten("数据数据", 5).cell_len <= 5


def test_pairs_are_aligned_and_long_texts_hang() -> None:
    lines = [line.plain for line in pair_lines({"tag": "x", "directory": "one two three four"}, width=24)]
    assert lines == ["  tag        x", "  directory  one two", "             three four"]


def test_pairs_with_a_label_wider_than_the_column_lose_nothing() -> None:
    lines = [line.plain for line in pair_lines({"a very long label indeed": "text", "b": "c"}, width=20)]
    assert lines[0].strip() == "a very long label"
    assert all(len(line) <= 20 for line in lines)
    assert " ".join(" ".join(lines).split()) == "a very long label indeed text b c"


def test_print_pairs_is_safe() -> None:
    console = plain()
    print_pairs([("[red]tag", "\x1b[31m[/bold]"), (":smile:", None)], console, title="Run [x]")
    assert written(console) == "Run [x]\n  [red]tag  [/bold]\n  :smile:\n"


def test_table_is_plain_when_not_on_a_terminal() -> None:
    console = plain(40)
    print_table(["tag", "iteration", "loss"], [["a", 1000, 0.5], ["[b]", 20, None], ["c", None, 1e-9]], console, "Runs")
    assert written(console).splitlines() == [
        "Runs",
        "tag  iteration   loss",
        "a         1000    0.5",
        "[b]         20",
        "c               1e-09",
    ]


@pytest.mark.parametrize("make", [plain, terminal])
def test_long_cells_wrap_and_nothing_vanishes(make: type) -> None:
    console = make(40)
    print_table(["name", "count", "text"], [["x", 12345, "word " * 20], ["y", 7, "z" * 90]], console)
    output = written(console)
    assert output.count("word") == 20
    assert output.count("z") == 90
    assert "12345" in output
    assert max(map(len, output.splitlines())) <= 40


def test_more_columns_than_fit_become_pairs() -> None:
    console = plain(40)
    print_table([f"column{i}" for i in range(12)], [[f"value number {i}" for i in range(12)]], console)
    lines = written(console).splitlines()
    assert lines[0] == "  column0   value number 0"
    assert lines[11] == "  column11  value number 11"


def test_table_on_a_terminal_has_a_rule_and_no_markup() -> None:
    console = terminal(40)
    print_table(["[bold]head"], [["[red]cell\x1b[2J"]], console)
    output = written(console)
    assert "─" in output
    assert "[bold]head" in output
    assert "[red]cell" in output
    assert "\x1b" not in output.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_an_empty_table_shows_its_heads() -> None:
    console = plain()
    print_table(["tag", "status"], [], console)
    assert written(console) == "tag  status\n"


class Pair(NamedTuple):
    left: int
    right: float


@dataclass
class Record:
    where: Path
    pair: Pair


def test_json_is_valid_whatever_comes(capsys: pytest.CaptureFixture[str]) -> None:
    value = {
        "record": Record(Path("runs/a"), Pair(1, float("inf"))),
        "set": {2, 1},
        "tensor": torch.tensor([1.5, float("nan")]),
        "text": "é\x1b[31m\udcff",
        3: None,
    }
    print_json(value)
    output = capsys.readouterr().out
    assert output.isascii()
    assert "\x1b" not in output
    assert json.loads(output) == {
        "record": {"where": "runs/a", "pair": {"left": 1, "right": None}},
        "set": [1, 2],
        "tensor": [1.5, None],
        "text": "é\x1b[31m\udcff",
        "3": None,
    }


def test_results_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a"], [["b"]])
    print_pairs({"c": "d"})
    captured = capsys.readouterr()
    assert captured.out == "a\nb\nc  d\n"
    assert captured.err == ""


def test_printing_needs_no_torch() -> None:
    code = "import ganglion.engine.tables, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cells_count_wide_characters() -> None:
    lines = pair_lines({"数据": "a", "b": "c"}, 40)
    assert [line.plain for line in lines] == ["  数据  a", "  b     c"]
    assert Text(lines[0].plain).cell_len == len(lines[1].plain)
