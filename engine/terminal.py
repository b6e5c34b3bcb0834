"""The terminal trace: a live display on a terminal, aligned plain lines anywhere else; both on the standard error."""

from __future__ import annotations

import atexit
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ganglion.engine.contracts import Trace
from ganglion.engine.settings import Settings, setting
from ganglion.engine.tables import (
    BLUE,
    ORANGE,
    clean_text,
    format_duration,
    format_number,
    pair_lines,
    shorten,
    sparkline,
    wrap,
)
from ganglion.engine.trace import (
    CheckpointStored,
    Notice,
    RunFailed,
    RunFinished,
    RunStarted,
    TraceContext,
    TracePoint,
    Validated,
)

RATE_WINDOW = 10.0  # seconds over which the rate between trace points is measured
KEPT_NOTICES = 30
NUMBER_WIDTH = 10


class History:
    """A bounded history of one value: when full, neighbours are averaged, so that it always spans the whole run."""

    def __init__(self, capacity: int = 240) -> None:
        self.capacity = capacity
        self.values: list[float] = []
        self.last, self.low, self.high = math.nan, math.inf, -math.inf
        self._stride = 1
        self._open: list[float] = []

    def append(self, value: float) -> None:
        self.last = value
        if math.isfinite(value):
            self.low, self.high = min(self.low, value), max(self.high, value)
        self._open.append(value)
        if len(self._open) < self._stride:
            return
        self.values.append(sum(self._open) / self._stride)
        self._open.clear()
        if len(self.values) >= self.capacity:
            self.values = [
                (first + second) / 2 for first, second in zip(self.values[::2], self.values[1::2], strict=False)
            ]
            self._stride *= 2

    def curve(self) -> list[float]:
        """What is to be drawn, the values not yet averaged included."""
        return [*self.values, self._open[-1]] if self._open else list(self.values)


@dataclass
class RunState:
    """What the events of one run have said so far."""

    started: RunStarted
    clock: Callable[[], float]
    histories: dict[str, History] = field(default_factory=dict)
    point: TracePoint | None = None
    validated: Validated | None = None
    checkpoint: CheckpointStored | None = None
    notices: dict[str, int] = field(default_factory=dict)  # message -> how often, the latest last
    dropped: int = 0
    moves: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=128))

    def __post_init__(self) -> None:
        self.begun = self.pointed = self.stored = self.clock()

    def note(self, event: Any) -> None:
        """Take in one event."""
        if isinstance(event, TracePoint):
            self.point, self.pointed = event, self.clock()
            self.record(event.values)
        elif isinstance(event, Validated):
            self.validated = event
        elif isinstance(event, CheckpointStored):
            self.checkpoint, self.stored = event, self.clock()
        elif isinstance(event, Notice):
            self.notices[event.message] = self.notices.pop(event.message, 0) + 1
            if len(self.notices) > KEPT_NOTICES:
                self.dropped += self.notices.pop(next(iter(self.notices)))

    def record(self, values: Mapping[str, float]) -> None:
        """Add to the history of each value."""
        for name, value in values.items():
            self.histories.setdefault(name, History()).append(float(value))

    def rate(self, iteration: int) -> float:
        """Iterations per second over the last seconds; between trace points too, so that it is never stale."""
        now = self.clock()
        self.moves.append((now, iteration))
        while len(self.moves) > 2 and now - self.moves[0][0] > RATE_WINDOW:
            self.moves.popleft()
        start, first = self.moves[0]
        moved = iteration - first
        if moved > 0 and now - start >= 0.5:
            return moved / (now - start)
        return self.point.rate if self.point is not None else math.nan

    def elapsed(self) -> float:
        """Seconds of learning over all sessions, as far as they are known."""
        if self.point is not None:
            return self.point.seconds + self.clock() - self.pointed
        return self.clock() - self.begun if self.started.iteration == 0 else math.nan


# --- blocks of lines ----------------------------------------------------------------------------------------------


def start_lines(event: RunStarted, width: int) -> list[Text]:
    """What begins: tag, place, summary, and what the engine decided."""
    verb = "begins" if event.iteration == 0 else f"goes on at iteration {event.iteration:,}"
    title = Text(clean_text(event.tag), style="bold")
    lines = wrap(f"{verb} in {event.directory}", width, title + Text(" "))
    lines += pair_lines(event.summary, width)
    for notice in event.notices:
        lines += wrap(notice, width, Text("  ! ", style=f"bold {ORANGE}"))
    return lines


def live_lines(state: RunState, width: int, height: int, ascii_only: bool = False) -> list[Text]:
    """The live display, never wider or higher than the terminal."""
    started, iteration = state.started, state.started.position()
    title = Text(clean_text(started.tag), style="bold")
    about = (", " if ascii_only else " · ").join(list(started.summary.values())[:3])
    title = shorten(title.plain, width, ascii_only) if title.cell_len + 4 > width else title
    title.append_text(Text("  ") + shorten(about, max(0, width - title.cell_len - 2), ascii_only))
    title.stylize("bold", 0, len(clean_text(started.tag)))
    head = [
        title,
        progress_line(iteration, started.iterations, width, ascii_only),
        _figures_line(state, iteration, width),
    ]
    foot = _foot_lines(state, width)[-max(0, height - 6) :]
    room = height - len(head) - len(foot) - 3
    rows = value_lines(dict(state.histories), width, ascii_only)
    if len(rows) > room:
        hidden = len(rows) - max(0, room - 1)
        rows = [*rows[: max(0, room - 1)], Text(f"and {hidden} more values in trace.jsonl", style="dim")]
    lines = [*head, Text(), *rows, *([Text(), *foot] if foot else [])]
    lines = lines[: max(1, height - 1)]
    for line in lines:  # a terminal of a few columns: what is left over is cut, never wrapped
        line.truncate(width)
    return lines


def progress_line(iteration: int, total: int | None, width: int, ascii_only: bool = False) -> Text:
    """A bar with the iteration and the total, or the iteration alone in an endless run."""
    if total is None:
        return Text(f"iteration {iteration:,}, endless"[:width])
    share = min(1.0, iteration / total) if total > 0 else 1.0
    counter = f"{iteration:,} / {total:,}  {math.floor(share * 100)} %"
    room = min(60, width - len(counter) - 2)
    if room < 4:
        return Text(counter[:width])
    filled = int(share * room)  # full at the end only
    full, rest = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble((full * filled, BLUE), (rest * (room - filled), "dim"), "  ", counter)


def _figures_line(state: RunState, iteration: int, width: int) -> Text:
    rate, total = state.rate(iteration), state.started.iterations
    parts = [f"{format_number(rate)} it/s" if math.isfinite(rate) else "- it/s"]
    if total is not None:
        left = (total - iteration) / rate if rate > 0 else math.nan
        parts.append(f"ETA {format_duration(left, precise=False)}")
    parts.append(f"elapsed {format_duration(state.elapsed(), precise=False)}")
    return Text("   ".join(parts)[:width])


def value_lines(histories: Mapping[str, History], width: int, ascii_only: bool = False) -> list[Text]:
    """One row per progress value: name, latest number, curve over the run, lowest and highest."""
    names = {name: shorten(name, max(8, width // 3), ascii_only) for name in histories}
    column = max((name.cell_len for name in names.values()), default=0)
    rest = width - column - NUMBER_WIDTH - 4
    with_range = rest >= 2 * NUMBER_WIDTH + 14
    room = min(60, rest - (2 * NUMBER_WIDTH + 6 if with_range else 0))
    lines = []
    for key, history in histories.items():
        style = "bold" if math.isfinite(history.last) else f"bold {ORANGE}"
        line = names[key] + Text(" " * (column + 2 - names[key].cell_len))
        line.append(format_number(history.last).rjust(NUMBER_WIDTH), style)
        if room > 3:
            line.append("  " + sparkline(history.curve(), room, ascii_only), BLUE)
        if with_range and history.low < history.high:
            line.append(" " * (column + NUMBER_WIDTH + room + 6 - line.cell_len))
            dots = ".." if ascii_only else "…"
            line.append(f"{format_number(history.low)} {dots} {format_number(history.high)}", "dim")
        lines.append(line)
    return lines


def _foot_lines(state: RunState, width: int) -> list[Text]:
    pairs: dict[str, str] = {}
    if state.validated is not None:
        pairs["validation"] = _validation_text(state.validated)
    if state.checkpoint is not None:
        ago = format_duration(state.clock() - state.stored, precise=False)
        pairs["checkpoint"] = f"{state.checkpoint.iteration:,}, {ago} ago"
    lines = pair_lines(pairs, width, indent=0)
    for message, times in list(state.notices.items())[-3:]:
        lines += _notice_lines(message, times, width)[:2]
    return lines


def _validation_text(event: Validated) -> str:
    figures = "  ".join(f"{name} {format_number(float(value))}" for name, value in event.values.items())
    return f"{figures}  at {event.iteration:,}{', the best so far' if event.best else ''}"


def _notice_lines(message: str, times: int, width: int) -> list[Text]:
    return wrap(f"{message}{f' ({times} times)' if times > 1 else ''}", width, Text("! ", style=f"bold {ORANGE}"))


def end_lines(event: RunFinished | RunFailed, state: RunState, width: int, ascii_only: bool = False) -> list[Text]:
    """How it ended: status, iteration, seconds, the last values, and where the last checkpoint is."""
    total = state.started.iterations
    where = f"at iteration {event.iteration:,}" + (f" of {total:,}" if total is not None else "")
    tag = Text(clean_text(state.started.tag), style="bold")
    if isinstance(event, RunFailed):
        lines = wrap(f"failed {where}: {event.reason}", width, tag + Text(" "), style=f"bold {ORANGE}")
    else:
        reason = f" ({event.reason})" if event.reason else ""
        text = f"{event.status} {where} after {format_duration(event.seconds)}{reason}"
        lines = wrap(text, width, tag + Text(" "))
    lines += [Text("  ") + line for line in value_lines(state.histories, width - 2, ascii_only)]
    pairs = {}
    if state.validated is not None:
        pairs["validation"] = _validation_text(state.validated)
    if state.checkpoint is not None:
        pairs["checkpoint"] = str(state.checkpoint.directory)
    return lines + pair_lines(pairs, width)


class Columns:
    """Aligned columns for plain lines: as wide as their heads or a number, more than fit go on in the line below."""

    def __init__(self, names: Sequence[str], total: int | None, width: int) -> None:
        self.names = tuple(names)
        fixed = [("iteration", max(9, len(str(total or "")))), ("it/s", NUMBER_WIDTH), ("elapsed", 9)]
        self.indent = fixed[0][1]
        self.rows: list[list[tuple[str, int]]] = [fixed]
        used = sum(column + 2 for _, column in fixed) - 2
        for name in names:
            head = shorten(name, max(NUMBER_WIDTH, min(30, width - self.indent - 2)), ascii_only=True)
            column = max(NUMBER_WIDTH, head.cell_len)
            if used + 2 + column > width and self.rows[-1]:
                self.rows.append([])
                used = self.indent
            self.rows[-1].append((head.plain, column))
            used += 2 + column

    def head(self) -> list[str]:
        """The header lines."""
        return self._lines([name for row in self.rows for name, _ in row])

    def line(self, point: TracePoint) -> list[str]:
        """One trace point."""
        values = [format_number(float(point.values[name])) for name in self.names]
        return self._lines([str(point.iteration), format_number(point.rate), format_duration(point.seconds), *values])

    def _lines(self, cells: Iterable[str]) -> list[str]:
        remaining = iter(cells)
        lines = []
        for number, row in enumerate(self.rows):
            parts = [" " * (column - Text(cell).cell_len) + cell for (_, column), cell in zip(row, remaining)]  # noqa: B905
            lines.append(" " * (self.indent + 2 if number else 0) + "  ".join(parts))
        return lines


# --- the trace ----------------------------------------------------------------------------------------------------


class TerminalSettings(Settings):
    """What `traces=terminal` takes."""

    refresh_rate: float = setting(4.0, "how often the live display is redrawn", unit="1/s", gt=0, le=8)
    display: Literal["auto", "lines"] = setting("auto", "live where there is a terminal, or plain lines everywhere")


class QuietPipeConsole(Console):
    """A console that falls silent when nobody reads any more; rich would end the process and cut off its output."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class TerminalTrace(Trace):
    """Shows a run to the person who started it; nothing that goes wrong in here reaches the run."""

    Settings = TerminalSettings
    shows = True

    def __init__(
        self,
        settings: TerminalSettings,
        context: TraceContext,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # FORCE_COLOR makes rich call any stream a terminal: only a real one may get cursor movements.
        interactive = None if sys.stderr.isatty() else False
        self.console = console or QuietPipeConsole(stderr=True, force_interactive=interactive, force_jupyter=False)
        self.settings = settings
        self.quiet = context.quiet
        self.clock = clock
        self.state: RunState | None = None
        self._columns: Columns | None = None
        self._display: _Display | None = None
        self._broken = False

    def receive(self, event: Any) -> None:
        if self._broken:
            return
        try:
            self._show(event)
        except Exception:  # a closed terminal, a full disk behind it, an odd value: the run matters more
            self._broken = True
            self.close()

    def close(self) -> None:
        """Stop the live display and leave the terminal as it was; may be called again."""
        self._stop_display(keep=True)

    def _stop_display(self, keep: bool) -> bool:
        display, self._display = self._display, None
        if display is not None:
            with suppress(Exception):
                display.stop(keep)
        return display is not None

    def _show(self, event: Any) -> None:
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, Notice) and self._display is None:
            self._print(_notice_lines(event.message, 1, self.console.width))
        elif isinstance(event, RunFailed) and self.state is None:
            self._print(wrap(f"failed: {event.reason}", self.console.width, Text(), style=f"bold {ORANGE}"))
        if self.state is None or isinstance(event, RunStarted):
            return
        self.state.note(event)
        if isinstance(event, (RunFinished, RunFailed)):
            self._end(event, self.state)
        elif self._display is None and self._verbose:
            self._plain(event, self.state)

    @property
    def _verbose(self) -> bool:
        return self.state is not None and self.state.started.verbose and not self.quiet

    @property
    def _ascii_only(self) -> bool:
        return self.console.options.ascii_only

    def _start(self, event: RunStarted) -> None:
        self.state = RunState(event, self.clock)
        if not self.quiet:
            self._print([*start_lines(event, self.console.width), Text()])
        if self._verbose and self.settings.display == "auto" and self.console.is_interactive:
            self._display = _Display(self.console, self._render, self.settings.refresh_rate)

    def _render(self) -> Group:
        size, state = self.console.size, self.state
        try:
            return Group(*(live_lines(state, size.width, size.height, self._ascii_only) if state is not None else ()))
        except Exception:  # an odd value must not stop the timer, nor what others print above the display
            return Group()

    def _plain(self, event: Any, state: RunState) -> None:
        if isinstance(event, TracePoint):
            columns = self._columns
            if columns is None or columns.names != tuple(event.values):
                columns = self._columns = Columns(tuple(event.values), state.started.iterations, self.console.width)
                self._print(Text(line) for line in columns.head())
            self._print(Text(line) for line in columns.line(event))
        elif isinstance(event, Validated):
            self._print(wrap(_validation_text(event), self.console.width, Text("validation: ")))

    def _end(self, event: RunFinished | RunFailed, state: RunState) -> None:
        if self._stop_display(keep=False):  # it showed the notices last; here they stay
            for message, times in state.notices.items():
                self._print(_notice_lines(message, times, self.console.width))
        if isinstance(event, RunFailed):
            hints: Sequence[str] = ()
        elif self.quiet:
            return
        else:
            hints = event.hints
            if state.point is None or state.point.iteration != event.iteration:
                state.record(event.values)
        self._print([Text(), *end_lines(event, state, self.console.width, self._ascii_only)])
        if hints:
            self._print([Text(), *(Text("  " + clean_text(hint)) for hint in hints)])

    def _print(self, lines: Iterable[Text]) -> None:
        for line in lines:  # soft wrap: commands in hints stay in one piece when they are copied
            self.console.print(line, soft_wrap=True)


class _Display:
    """A live display with its own timer; the run never waits for it, and never makes it draw."""

    def __init__(self, console: Console, render: Callable[[], Group], rate: float) -> None:
        self.live = Live(
            console=console,
            get_renderable=render,
            auto_refresh=False,
            vertical_overflow="crop",
            # What others print appears above the display; but standard output that goes to a file stays there.
            redirect_stdout=console.stderr and sys.stdout.isatty(),
            redirect_stderr=console.stderr,
        )
        self.done = threading.Event()
        self.period = 1 / rate
        self.timer = threading.Thread(target=self._redraw, name="terminal display", daemon=True)
        self.live.start()
        console.show_cursor(True)  # whatever ends the process, even SIGKILL, the cursor is there
        atexit.register(self.stop)
        self.timer.start()

    def _redraw(self) -> None:
        while not self.done.is_set():
            try:
                self.live.refresh()
            except Exception:  # a terminal that went away: the display stops, the run goes on
                return
            self.done.wait(self.period)

    def stop(self, keep: bool = True) -> None:
        """Stop the timer, then draw a last time and let that stand (`keep`), or take the display away."""
        self.live.transient = not keep
        atexit.unregister(self.stop)
        self.done.set()
        self.timer.join(timeout=2.0)
        self.live.stop()
