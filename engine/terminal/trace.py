"""The terminal trace: a live display on a terminal, aligned plain lines anywhere else; both on the standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from ganglion.engine.contracts import Trace
from ganglion.engine.settings import Settings, setting
from ganglion.engine.tables import ORANGE, clean_text, wrap
from ganglion.engine.terminal.display import Display
from ganglion.engine.terminal.health import Teller
from ganglion.engine.terminal.picture import Ink, ink_of, picture_lines
from ganglion.engine.terminal.plain import Columns, Pace, end_lines, start_lines
from ganglion.engine.terminal.screen import PICTURE_SHARE, live_lines, notice_lines, validation_text
from ganglion.engine.terminal.state import RunState
from ganglion.engine.trace import (
    HealthRead,
    Notice,
    RunFailed,
    RunFinished,
    RunPrepared,
    RunStarted,
    TraceContext,
    TracePoint,
    Validated,
)


class TerminalSettings(Settings):
    """What `traces=terminal` takes."""

    refresh_rate: float = setting(2.0, "how often the live display is redrawn, at most", unit="1/s", gt=0, le=8)
    display: Literal["auto", "lines"] = setting("auto", "live where there is a terminal, or plain lines everywhere")
    picture: bool = setting(False, "a small picture of the samples in the live display, in at most a third of it")
    line_seconds: float = setting(
        10.0, "the least time between two plain lines after the first hundred; 0: all", unit="s", ge=0
    )


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
        self._pace = Pace(settings.line_seconds)
        self._teller = Teller()
        self._display: Display | None = None
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
        elif isinstance(event, RunPrepared) and not self.quiet:
            self._print(wrap(event.message, self.console.width, Text(f"{clean_text(event.tag)} ", style="bold")))
        elif isinstance(event, Notice) and self._display is None:
            self._print(notice_lines(event.message, 1, self.console.width))
        elif isinstance(event, RunFailed) and self.state is None:
            self._print(wrap(f"failed: {event.reason}", self.console.width, Text(), style=f"bold {ORANGE}"))
        if self.state is None or isinstance(event, RunStarted):
            return
        self.state.note(event)
        if isinstance(event, (RunFinished, RunFailed)):
            self._end(event, self.state)
        elif self._display is None:
            self._plain(event, self.state)

    @property
    def _verbose(self) -> bool:
        return self.state is not None and self.state.started.verbose and not self.quiet

    @property
    def _ink(self) -> Ink:
        return ink_of(self.console)

    def _start(self, event: RunStarted) -> None:
        live = event.verbose and not self.quiet and self.settings.display == "auto" and self.console.is_interactive
        state = self.state = RunState(event, self.clock, with_picture=live and self.settings.picture)
        if not self.quiet:
            self._print(self._opening(event))
        if live:
            self._display = Display(
                self.console, lambda: self._render(state), self.settings.refresh_rate, lambda: self._opening(event)
            )

    def _opening(self, event: RunStarted) -> list[Text]:
        return [*start_lines(event, self.console.width), Text()]

    def _render(self, state: RunState) -> list[Text]:
        size = self.console.size
        try:
            return live_lines(state, size.width, size.height, self._ink)
        except Exception:  # an odd value must not stop the timer, nor what others print above the display
            return []

    def _plain(self, event: Any, state: RunState) -> None:
        width, ascii_only = self.console.width, self._ink == "ascii"
        if isinstance(event, HealthRead):
            self._print(self._teller.lines(event, width, ascii_only, problems_only=not self._verbose))
        elif isinstance(event, TracePoint) and self._verbose:
            self._point(event, state)
        elif isinstance(event, Validated) and self._verbose:
            self._print(wrap(validation_text(event), width, Text("validation: ")))

    def _point(self, event: TracePoint, state: RunState) -> None:
        if not self._pace.allows(self.clock()):
            return
        columns = self._columns
        if columns is None or columns.names != tuple(event.values):
            columns = self._columns = Columns(tuple(event.values), state.started.iterations, self.console.width)
            self._print(Text(line) for line in columns.head())
        self._print(Text(line) for line in columns.line(event))
        if self._pace.note is not None:
            self._print([Text(self._pace.note, style="dim")])

    def _end(self, event: RunFinished | RunFailed, state: RunState) -> None:
        if self._stop_display(keep=False):  # it showed the notices and the picture last; here they stay
            for message, times in state.news():
                self._print(notice_lines(message, times, self.console.width))
            self._picture(state)
        if isinstance(event, RunFailed):
            hints: Sequence[str] = ()
        elif self.quiet:
            return
        else:
            hints = event.hints
            if state.point is None or state.point.iteration != event.iteration:
                state.record(event.values)
        self._print([Text(), *end_lines(event, state, self.console.width, self._ink == "ascii")])
        if hints:
            self._print([Text(), *(Text("  " + clean_text(hint)) for hint in hints)])

    def _picture(self, state: RunState) -> None:
        if state.samples is not None:
            size = self.console.size
            self._print([Text(), *picture_lines(state.samples, size.width, size.height // PICTURE_SHARE, self._ink)])

    def _print(self, lines: Iterable[Text]) -> None:
        for line in lines:  # soft wrap: commands in hints stay in one piece when they are copied
            self.console.print(line, soft_wrap=True)
