"""The terminal trace: plain lines anywhere, a live display on a terminal, and never a word that hurts the run."""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.text import Text

from ganglion.engine.contracts import DataSpec
from ganglion.engine.terminal.display import LONGEST_WAIT, Lines
from ganglion.engine.terminal.health import health_line
from ganglion.engine.terminal.plain import Columns, Pace, end_lines, start_lines
from ganglion.engine.terminal.screen import live_lines, progress_line, value_lines
from ganglion.engine.terminal.state import History, RunState
from ganglion.engine.terminal.trace import TerminalSettings, TerminalTrace
from ganglion.engine.trace import (
    Alarm,
    CheckpointStored,
    HealthRead,
    Notice,
    RunFailed,
    RunFinished,
    RunPrepared,
    RunStarted,
    SamplesMade,
    TraceContext,
    TracePoint,
    Validated,
)

STARTED = RunStarted(
    tag="calm-otter",
    directory=Path("runs/calm-otter"),
    iteration=0,
    iterations=1000,
    summary={"strategy": "GAN", "networks": "Generator, Discriminator"},
    notices=["scaled to -1..1"],
    position=lambda: 250,
    verbose=True,
)
FINISHED = RunFinished(1000, 12.5, "finished", "", {"generator": 0.75}, ["ganglion sample calm-otter"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(console: Console, quiet: bool = False, **settings: object) -> TerminalTrace:
    return TerminalTrace(TerminalSettings(**settings), TraceContext(Path("runs"), quiet), console)


def plain(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width)


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def point(iteration: int, values: Mapping[str, float]) -> TracePoint:
    return TracePoint(iteration, iteration / 80, 81.25, values)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        sum(range(1000))  # the display waits for the process to work
    return condition()


def work_for(seconds: float) -> None:
    while time.thread_time() < seconds:
        pass


@pytest.fixture(autouse=True)
def no_display_is_left_running() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "terminal display"]


# --- plain lines --------------------------------------------------------------------------------------------------


def test_plain_lines_from_start_to_end() -> None:
    console = plain()
    trace = make(console)
    trace.receive(STARTED)
    trace.receive(point(100, {"generator": 0.6931, "discriminator": 1.386}))
    trace.receive(point(200, {"generator": -1e-5, "discriminator": math.nan}))
    trace.receive(Notice("the discriminator wins"))
    trace.receive(Validated(200, {"accuracy": 0.5}, best=True))
    trace.receive(CheckpointStored(200, Path("runs/calm-otter/checkpoints/200")))
    trace.receive("an event from the future")
    trace.receive(replace(FINISHED, values={"generator": 0.75, "discriminator": 1.0}))
    trace.close()
    assert written(console).splitlines() == [
        "calm-otter begins in runs/calm-otter",
        "  strategy  GAN",
        "  networks  Generator, Discriminator",
        "  ! scaled to -1..1",
        "",
        "iteration        it/s    elapsed   generator  discriminator",
        "      100       81.25      1.2 s      0.6931          1.386",
        "      200       81.25      2.5 s  -1.000e-05            nan",
        "! the discriminator wins",
        "validation: accuracy 0.5000  at 200, the best so far",
        "",
        "calm-otter finished at iteration 1,000 of 1,000 after 12.5 s",
        "  generator          0.7500  █▁█                        -1.000e-05 … 0.7500",
        "  discriminator       1.000  █!▁                        1.000 … 1.386",
        "  validation  accuracy 0.5000  at 200, the best so far",
        "  checkpoint  runs/calm-otter/checkpoints/200",
        "",
        "  ganglion sample calm-otter",
    ]


def test_what_is_found_out_first_is_told_before_the_start_but_not_to_programs() -> None:
    prepared = RunPrepared("calm-otter", "prepares to learn Circle by GAN")
    for quiet, wanted in ((False, ["calm-otter prepares to learn Circle by GAN"]), (True, [])):
        console = plain()
        make(console, quiet=quiet).receive(prepared)
        assert written(console).splitlines() == wanted


def test_without_trace_only_start_end_and_problems() -> None:
    console = plain()
    trace = make(console)
    trace.receive(replace(STARTED, verbose=False))
    trace.receive(point(100, {"generator": 0.5}))
    trace.receive(Validated(100, {"accuracy": 0.5}, best=False))
    trace.receive(Notice("a problem"))
    trace.receive(RunFailed(100, "the loss is not finite"))
    lines = written(console).splitlines()
    assert lines[0] == "calm-otter begins in runs/calm-otter"
    assert "iteration        it/s" not in written(console)
    assert "! a problem" in lines
    assert "calm-otter failed at iteration 100 of 1,000: the loss is not finite" in lines


def test_when_results_are_for_programs_only_problems_are_shown() -> None:
    console = terminal()
    trace = make(console, quiet=True)
    trace.receive(STARTED)
    trace.receive(point(100, {"generator": 0.5}))
    trace.receive(Notice("a problem"))
    trace.receive(FINISHED)
    assert "".join(written(console).split("\x1b[0m")).replace("\x1b[1m", "").strip() == "! a problem"


def test_a_failure_before_the_start_is_shown() -> None:
    console = plain()
    make(console).receive(RunFailed(0, "no memory"))
    assert written(console) == "failed: no memory\n"


def test_more_columns_than_fit_go_on_below_and_nothing_is_wider() -> None:
    columns = Columns([f"value{index}" for index in range(9)], 1000, 60)
    lines = columns.head() + columns.line(point(7, {f"value{index}": float(index) for index in range(9)}))
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(columns.head()).split()) == (
        "iteration it/s elapsed value0 value1 value2 value3 value4 value5 value6 value7 value8"
    )
    head, line = columns.head(), columns.line(point(7, {f"value{index}": float(index) for index in range(9)}))
    assert [len(part) for part in head] == [len(part) for part in line]  # right-aligned: they end together


def test_a_new_set_of_values_gets_a_new_header() -> None:
    console = plain()
    trace = make(console)
    trace.receive(STARTED)
    for values in ({"a": 1.0}, {"a": 2.0}, {"a": 3.0, "b": 4.0}):
        trace.receive(point(1, values))
    assert written(console).count("iteration ") == 2


@pytest.mark.parametrize("names", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_terminals_that_cannot_and_people_who_do_not_want(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, str]
) -> None:
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    trace = make(console)
    trace.receive(STARTED)
    assert (trace._display is None) == ("TERM" in names)
    trace.receive(point(100, {"a": 1.0}))
    trace.receive(FINISHED)
    assert "\x1b[3" not in written(console)  # no colours
    if "TERM" in names:
        assert "\x1b[" not in written(console).replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
        assert "      100" in written(console)


def test_forced_colour_into_a_file_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    trace = TerminalTrace(TerminalSettings(), TraceContext(Path("runs")))
    trace.receive(STARTED)
    trace.receive(point(100, {"a": 1.0}))
    trace.receive(FINISHED)
    assert trace._display is None
    assert "      100" in stream.getvalue()
    assert "\x1b[2K" not in stream.getvalue()


def test_messages_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    trace = TerminalTrace(TerminalSettings(), TraceContext(Path("runs")))
    trace.receive(STARTED)
    trace.receive(FINISHED)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "calm-otter finished" in captured.err


# --- the live display ---------------------------------------------------------------------------------------------


def state(started: RunStarted = STARTED, clock: Clock | None = None) -> RunState:
    return RunState(started, clock or Clock(), with_picture=True)


def test_the_live_display_line_by_line() -> None:
    clock = Clock()
    run = state(clock=clock)
    run.note(TracePoint(100, 2.0, 50.0, {"generator": 1.0, "discriminator": 0.25}))
    run.note(TracePoint(200, 4.0, 50.0, {"generator": 2.0, "discriminator": 0.25}))
    run.note(CheckpointStored(200, Path("x")))
    run.note(Validated(200, {"accuracy": 0.5}, best=True))
    run.note(Notice("look"))
    run.note(Notice("look"))
    clock.now = 3.0
    assert [line.plain.rstrip() for line in live_lines(run, 72, 24)] == [
        "calm-otter  GAN · Generator, Discriminator",
        "━" * 13 + "─" * 40 + "  250 / 1,000  25 %",
        "50.00 it/s   ETA 15 s   elapsed 7 s",
        "",
        "                      now  so far               lowest … highest",
        "generator           2.000  ▁█                   1.000 … 2.000",
        "discriminator      0.2500  ▄▄",
        "",
        "validation  accuracy 0.5000  at 200, the best so far",
        "checkpoint  200, 3 s ago",
        "! look (2 times)",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 140])
@pytest.mark.parametrize("height", [3, 10, 24])
def test_the_live_display_fits_whatever_it_has_to_show(width: int, height: int) -> None:
    run = state(replace(STARTED, tag="a-long-tag-" * 3, summary={"strategy": "x " * 100}))
    for iteration in range(300):
        run.note(point(iteration, {f"a.long.name.of.a.value.{index}": math.sin(iteration) for index in range(20)}))
    run.note(Validated(200, {f"figure{index}": 0.5 for index in range(9)}, best=True))
    run.note(CheckpointStored(200, Path("x")))
    run.note(HealthRead(200, {f"figure{index}": 0.5 for index in range(9)}, [Alarm("collapse", "words " * 99)] * 3))
    run.note(SamplesMade(200, torch.randn(300, 2), torch.randn(300, 2), DataSpec("vector", (2,))))
    for number in range(9):
        run.note(Notice(f"{number} " + "words " * 50))
    lines = live_lines(run, width, height)
    assert len(lines) < height
    assert max(line.cell_len for line in lines) <= width
    assert "\n" not in "".join(line.plain for line in lines)


def test_what_does_not_fit_is_counted() -> None:
    run = state()
    run.note(point(1, {f"value{index}": 1.0 for index in range(30)}))
    text = [line.plain for line in live_lines(run, 80, 24)]
    shown = sum(line.startswith("value") for line in text)
    assert shown > 10
    assert f"and {30 - shown} more values in trace.jsonl" in text


def test_progress() -> None:
    assert progress_line(500, 1000, 40).plain == "━" * 10 + "─" * 11 + "  500 / 1,000  50 %"
    assert progress_line(999, 1000, 40, ascii_only=True).plain == "#" * 20 + "-  999 / 1,000  99 %"
    assert progress_line(12345, None, 40).plain == "iteration 12,345, endless"
    assert progress_line(0, 0, 40).plain.endswith("0 / 0  100 %")
    assert progress_line(5, 10, 12).plain == "5 / 10  50 %"


def test_the_rate_is_measured_between_trace_points() -> None:
    clock = Clock()
    run = state(clock=clock)
    assert math.isnan(run.rate(0))
    clock.now = 2.0
    assert run.rate(100) == 50.0
    clock.now = 20.0
    assert run.rate(280) == pytest.approx(10.0)  # the oldest measurement has left the window
    run = state(clock=clock)
    run.note(TracePoint(10, 1.0, 3.5, {}))
    assert run.rate(10) == 3.5


def test_elapsed_counts_all_sessions_once_they_are_known() -> None:
    clock = Clock()
    run = state(replace(STARTED, iteration=100), clock)
    assert math.isnan(run.elapsed())
    run.note(TracePoint(200, 50.0, 1.0, {}))
    clock.now = 4.0
    assert run.elapsed() == 54.0


def test_history_is_bounded_and_spans_the_whole_run() -> None:
    history = History(capacity=8)
    for number in range(1000):
        history.append(float(number))
    assert len(history.curve()) <= 9
    assert (history.last, history.low, history.high) == (999.0, 0.0, 999.0)
    assert history.curve()[0] < 100
    assert history.curve() == sorted(history.curve())
    assert history.curve()[-1] > 900
    first = History(capacity=4)
    for number in (1.0, 3.0, 5.0, 9.0, 4.0):
        first.append(number)
    assert first.values == [2.0, 7.0]  # pairs averaged
    assert first.curve() == [2.0, 7.0, 4.0]


def test_notices_are_bounded() -> None:
    run = state()
    for number in range(1000):
        run.note(Notice(str(number)))
    assert len(run.notices) == 30
    assert run.dropped == 970


def test_a_value_that_is_not_finite_stands_out_without_colour() -> None:
    history = History()
    for value in (1.0, math.inf, 2.0):
        history.append(value)
    (line,) = value_lines({"a": history}, 80)
    assert "▁!█" in line.plain
    assert line.plain.rstrip().endswith("1.000 … 2.000")


def test_the_display_on_a_terminal_is_drawn_by_its_timer_and_taken_away() -> None:
    console = terminal()
    trace = make(console, refreshRate=8)
    trace.receive(STARTED)
    assert trace._display is not None
    drawn = []
    trace._display.live.refresh = lambda: drawn.append(threading.current_thread().name)
    for iteration in range(2000):
        trace.receive(point(iteration, {"generator": 0.5}))
    assert wait_until(lambda: bool(drawn))
    assert set(drawn) == {"terminal display"}
    assert len(drawn) <= 6
    del trace._display.live.refresh
    trace.receive(Notice("a problem"))
    trace.receive(FINISHED)
    assert trace._display is None
    output = written(console)
    assert "━" in output  # it was drawn
    assert output.rindex("━") < output.rindex("\x1b[2K") < output.rindex("! a problem")  # erased before the end block
    assert output.rindex("! a problem") < output.index("calm-otter finished")
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # the cursor is visible
    trace.close()


def test_the_cursor_is_visible_while_the_display_runs() -> None:
    console = terminal()
    trace = make(console)
    trace.receive(STARTED)
    time.sleep(0.05)
    output = written(console)
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    trace.close()


def test_an_interrupted_run_leaves_its_last_display() -> None:
    console = terminal()
    trace = make(console)
    trace.receive(STARTED)
    trace.receive(point(100, {"generator": 0.625}))
    trace.close()
    trace.close()
    assert "generator      0.6250" in written(console)
    assert "\x1b[2K" not in written(console).rsplit("0.6250", 1)[1]  # nothing erased afterwards


def test_plain_lines_on_a_terminal_when_asked_for() -> None:
    console = terminal()
    trace = make(console, display="lines")
    trace.receive(STARTED)
    trace.receive(point(100, {"a": 1.0}))
    trace.receive(FINISHED)
    assert "      100" in written(console)
    assert "\x1b[?25l" not in written(console)


def test_names_that_begin_alike_are_told_apart_on_a_narrow_terminal() -> None:
    run = state()
    run.note(point(1, {"discriminatorReal": 1.0, "discriminatorFake": 2.0}))
    rows = [line.plain.split()[0] for line in live_lines(run, 40, 12) if line.plain.startswith("discr")]
    assert rows == ["discri…orReal", "discri…orFake"]


def test_a_value_that_stays_is_a_level_line() -> None:
    history = History()
    for _ in range(100):
        history.append(0.7)
    (line,) = value_lines({"a": history}, 60)
    assert set(line.plain.split()[2]) == {"▄"}


def test_what_explains_comes_only_where_there_is_room() -> None:
    run = state()
    run.note(point(1, {"generatorLoss": 1.0, "discriminatorLoss": 2.0}))

    def has(part: str, height: int) -> bool:
        return any(part in line.plain for line in live_lines(run, 80, height))

    assert has("need not fall", 24) and has("so far", 24)
    assert not has("need not fall", 10) and not has("so far", 10)
    run = state()
    run.note(point(1, {"loss": 1.0}))
    assert not has("need not fall", 24)  # nobody plays against anybody


def test_a_resized_terminal_begins_on_an_empty_screen() -> None:
    console = terminal(100)
    trace = make(console, refreshRate=8)
    trace.receive(STARTED)
    trace.receive(point(100, {"generator": 0.5}))
    assert trace._display is not None
    console.width = 60
    assert wait_until(lambda: "\x1b[2J" in written(console))
    trace.close()
    before, after = written(console).split("\x1b[2J")
    assert before.endswith("\x1b[H")
    assert "calm-otter begins" in after and "generator" in after
    assert max(len(line) for line in after.splitlines()) < 100


def test_a_frame_waits_for_work_in_proportion_to_what_the_last_one_took() -> None:
    trace = make(terminal(), refreshRate=8)
    trace.receive(STARTED)
    display = trace._display
    assert display is not None
    worker = threading.Thread(target=work_for, args=(0.2,))
    begun, worked = time.monotonic(), time.process_time()
    worker.start()
    display._wait(0.1)
    assert time.process_time() - worked >= 0.1 or time.monotonic() - begun >= LONGEST_WAIT
    worker.join()
    trace.close()


def test_lines_that_stay_are_drawn_once() -> None:
    console, known = terminal(), {}
    kept = Text("kept", style="bold")
    first = list(Lines([kept, Text("one")], known).__rich_console__(console, console.options))
    second = list(Lines([kept, Text("two")], known).__rich_console__(console, console.options))
    assert [segment.text for segment in second] == ["kept", "\n", "two", "\n"]
    assert first[0] is second[0] and len(known) == 2


# --- health -------------------------------------------------------------------------------------------------------

COLLAPSE = Alarm("collapse", "samples are 97 % alike: mode collapse likely; try a penalty")
ILL = HealthRead(500, {"pairwiseDistance": 0.03, "coverage": 0.1, "accuracyReal": 1.0, "accuracyFake": 0.9}, [COLLAPSE])
WELL = HealthRead(600, {"pairwiseDistance": 0.94, "accuracyReal": 0.7, "accuracyFake": 0.6})


def test_health_is_a_sign_and_a_word_and_the_telling_figures() -> None:
    assert health_line(WELL, 80).plain == "health  ✓ healthy  spread 94 %  told apart 65 %  at 600"
    assert health_line(WELL, 80, ascii_only=True).plain.startswith("health  ok: healthy")
    line = health_line(ILL, 80)
    assert line.plain == "health  ▲ collapse  spread 3 %  data covered 10 %  told apart 95 %  at 500"
    assert health_line(ILL, 40).plain == "health  ▲ collapse  spread 3 %"
    other = HealthRead(1, {"gradient": 0.5, "b": 1.0, "c": 2.0, "d": 3.0})
    assert health_line(other, 80).plain == "health  ✓ healthy  gradient 0.5000  b 1.000  c 2.000  at 1"


def test_the_display_shows_health_once_it_was_read() -> None:
    run = state()
    run.note(point(1, {"loss": 1.0}))
    assert not any("health" in line.plain for line in live_lines(run, 80, 24))
    run.note(ILL)
    lines = [line.plain for line in live_lines(run, 80, 24)]
    assert lines[3].startswith("health  ▲ collapse")
    assert lines[4] == f"  {COLLAPSE.sentence}"
    run.note(Notice(f"health: {COLLAPSE.sentence}"))
    assert sum("alike" in line.plain for line in live_lines(run, 80, 24)) == 1  # not in the foot again
    run.note(WELL)
    assert live_lines(run, 80, 24)[3].plain.startswith("health  ✓ healthy")


def test_plain_lines_tell_what_is_new_about_health() -> None:
    console = plain()
    trace = make(console)
    trace.receive(STARTED)
    for event in (replace(WELL, iteration=400), ILL, replace(ILL, iteration=550), WELL, replace(WELL, iteration=700)):
        trace.receive(event)
    assert written(console).splitlines()[5:] == [
        "health  ✓ healthy  spread 94 %  told apart 65 %  at 400",
        "health  ▲ collapse  spread 3 %  data covered 10 %  told apart 95 %  at 500",
        f"  {COLLAPSE.sentence}",
        "health  ✓ healthy  spread 94 %  told apart 65 %  at 600",
    ]


@pytest.mark.parametrize("quiet", [True, False])
def test_alarms_are_problems_and_told_without_trace_too(quiet: bool) -> None:
    console = plain()
    trace = make(console, quiet)
    trace.receive(replace(STARTED, verbose=False))
    before = len(written(console).splitlines())
    for event in (replace(WELL, iteration=400), ILL, WELL):
        trace.receive(event)
    lines = written(console).splitlines()[before:]
    assert [line.split("  ")[1] for line in lines] == ["▲ collapse", COLLAPSE.sentence, "✓ healthy"]


def test_the_end_says_how_healthy_the_run_was() -> None:
    run = state()
    run.note(ILL)
    lines = [line.plain for line in end_lines(FINISHED, run, 80)]
    assert lines[1].startswith("  health  ▲ collapse") and lines[2] == f"    {COLLAPSE.sentence}"
    stopped = replace(FINISHED, status="stopped", reason=COLLAPSE.sentence)
    text = " ".join(" ".join(line.plain for line in end_lines(stopped, run, 80)).split())
    assert text.count(COLLAPSE.sentence) == 1


# --- logs ---------------------------------------------------------------------------------------------------------


def test_a_long_log_is_thinned_out() -> None:
    console, clock = plain(), Clock()
    trace = TerminalTrace(TerminalSettings(), TraceContext(Path("runs")), console, clock)
    trace.receive(STARTED)
    for iteration in range(1, 1001):
        clock.now += 1.0
        trace.receive(point(iteration, {"a": 1.0}))
    numbers = [int(line.split()[0]) for line in written(console).splitlines() if line[:9].strip().isdecimal()]
    assert numbers == [*range(1, 101), *range(110, 1001, 10)]
    assert written(console).count("from here on a line every 10 s; trace.jsonl has every trace point") == 1
    pace = Pace(0)
    assert all(pace.allows(0.0) and pace.note is None for _ in range(300))


def test_heads_are_shortened_where_all_columns_then_fit_into_one_line() -> None:
    names = ["discriminatorLoss", "discriminatorReal", "discriminatorFake", "generatorLoss"]
    columns = Columns(names, 1000, 80)
    assert columns.head() == ["iteration        it/s    elapsed  dis...Loss  dis...Real  dis...Fake  gen...Loss"]
    assert len(Columns(names, 1000, 120).head()) == 1
    assert "discriminatorLoss" in Columns(names, 1000, 120).head()[0]


# --- safety -------------------------------------------------------------------------------------------------------

NASTY = "[bold red]x[/nonsense]\x1b[2J\x1b]0;title\x07\r\n:smile:\u202e"


@pytest.mark.parametrize("make_console", [plain, terminal])
def test_names_with_markup_and_escapes_are_shown_harmlessly(make_console: type) -> None:
    console = make_console(120)
    trace = make(console)
    trace.receive(replace(STARTED, tag=NASTY, summary={NASTY: NASTY}, notices=[NASTY]))
    trace.receive(point(100, {NASTY: 1.0}))
    trace.receive(Notice(NASTY))
    trace.receive(Validated(100, {NASTY: 1.0}, best=False))
    time.sleep(0.05)
    trace.receive(RunFinished(100, 1.0, NASTY, NASTY, {NASTY: 1.0}, [NASTY]))
    output = written(console)
    assert "\x1b[2J" not in output
    assert "\x1b]" not in output
    assert "\r\n" not in output
    assert "\u202e" not in output
    assert output.count("[bold red]x[/nonsense]") > 8
    if console.is_terminal is False:
        assert "\x1b" not in output


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError("the terminal went away")


@pytest.mark.parametrize("force_terminal", [True, False])
def test_a_terminal_that_goes_away_never_reaches_the_run(force_terminal: bool) -> None:
    trace = make(Console(file=Broken(), width=80, force_terminal=force_terminal))
    for event in (STARTED, point(1, {"a": 1.0}), Notice("x"), FINISHED):
        trace.receive(event)
    trace.close()


def test_a_terminal_that_goes_away_later_never_reaches_the_run() -> None:
    console = terminal()
    trace = make(console)
    trace.receive(STARTED)
    console.file = Broken()
    time.sleep(0.3)
    for event in (point(1, {"a": 1.0}), FINISHED):
        trace.receive(event)
    trace.close()


def test_a_position_that_fails_never_reaches_the_run() -> None:
    trace = make(terminal())
    trace.receive(replace(STARTED, position=lambda: 1 // 0))
    trace.receive(point(1, {"a": 1.0}))
    time.sleep(0.05)
    trace.receive(FINISHED)
    assert "calm-otter finished" in written(trace.console)


def test_a_trace_point_costs_little() -> None:
    trace = make(terminal())
    trace.receive(STARTED)
    begun = time.thread_time()
    for iteration in range(1000):
        trace.receive(point(iteration, {f"value{index}": 0.5 for index in range(8)}))
    cost = time.thread_time() - begun
    trace.close()
    assert cost < 0.5  # half a millisecond each would be far too slow already


# --- blocks -------------------------------------------------------------------------------------------------------


def test_the_start_block_of_a_run_that_goes_on() -> None:
    lines = start_lines(replace(STARTED, iteration=12340, notices=["word " * 20]), 40)
    assert lines[0].plain == "calm-otter goes on at iteration 12,340"
    assert max(line.cell_len for line in lines) <= 40
    assert sum(line.plain.count("word") for line in lines) == 20


def test_the_end_block_of_a_stopped_endless_run() -> None:
    run = state(replace(STARTED, iterations=None))
    (line,) = end_lines(RunFinished(12340, 61.0, "stopped", "SIGINT", {}), run, 80)
    assert line.plain == "calm-otter stopped at iteration 12,340 after 1:01 (SIGINT)"


def test_a_stream_without_unicode_gets_plain_characters() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    trace = make(Console(file=stream, width=80, force_terminal=True, color_system=None))
    trace.receive(STARTED)
    trace.receive(point(100, {"a": 1.0}))
    trace.receive(point(200, {"a": 2.0}))
    time.sleep(0.05)
    trace.receive(FINISHED)
    stream.seek(0)
    assert "1.000 .. 2.000" in stream.read()
