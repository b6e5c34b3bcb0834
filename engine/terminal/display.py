"""The live display's timer: it draws beside the run, and mends what a resized terminal has jumbled."""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

SHARE = 200  # a frame waits until the process has worked so many times as long as the last one took to draw,
LONGEST_WAIT = 5.0  # or for so many seconds, where it hardly works


class Lines:
    """Lines that are short enough already: rich need not wrap them, and draws those it knows from the last frame."""

    def __init__(self, lines: Iterable[Text], known: dict[int, tuple[Text, list[Segment]]]) -> None:
        self.lines, self.known = list(lines), known

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        before = dict(self.known)
        self.known.clear()
        for line in self.lines:
            text, segments = before.get(id(line), (None, []))
            if text is not line:
                segments = list(line.render(console))
            self.known[id(line)] = (line, segments)
            yield from segments
            yield Segment.line()


class Display:
    """A live display with its own timer; the run never waits for it, and never makes it draw."""

    def __init__(
        self,
        console: Console,
        render: Callable[[], Iterable[Text]],
        rate: float,
        above: Callable[[], Sequence[Text]] = lambda: (),
    ) -> None:
        self.known: dict[int, tuple[Text, list[Segment]]] = {}
        self.live = Live(
            console=console,
            get_renderable=lambda: Lines(render(), self.known),
            auto_refresh=False,
            vertical_overflow="crop",
            # What others print appears above the display; but standard output that goes to a file stays there.
            redirect_stdout=console.stderr and sys.stdout.isatty(),
            redirect_stderr=console.stderr,
        )
        self.console, self.above = console, above
        self.size = console.size
        self.done = threading.Event()
        self.period = 1 / rate
        self.timer = threading.Thread(target=self._redraw, name="terminal display", daemon=True)
        self.live.start()
        console.show_cursor(True)  # whatever ends the process, even SIGKILL, the cursor is there
        atexit.register(self.stop)
        self.timer.start()

    def _redraw(self) -> None:
        while not self.done.is_set():
            began = time.thread_time()
            try:
                self._follow_size()
                self.live.refresh()
            except Exception:  # a terminal that went away: the display stops, the run goes on
                return
            self._wait(SHARE * (time.thread_time() - began))

    def _wait(self, work: float) -> None:
        """Wait for the next frame; on a busy machine until the process itself has got `work` seconds of a processor."""
        begun, latest = time.process_time(), time.monotonic() + max(LONGEST_WAIT, self.period)
        while not self.done.wait(self.period):
            if time.process_time() - begun >= work or time.monotonic() >= latest or self.console.size != self.size:
                return

    def _follow_size(self) -> None:
        """Begin on an empty screen after a resize: how a terminal has wrapped the old lines anew, nobody knows."""
        size = self.console.size
        if size != self.size:
            self.size = size
            self.console.control(Control.home(), Control.clear())
            self.console.print(Group(*self.above()), soft_wrap=True)

    def stop(self, keep: bool = True) -> None:
        """Stop the timer, then draw a last time and let that stand (`keep`), or take the display away."""
        self.live.transient = not keep
        atexit.unregister(self.stop)
        self.done.set()
        with suppress(RuntimeError):  # called by the timer itself
            self.timer.join(timeout=2.0)
        self.live.stop()
