"""What the live display costs: python tests/benchmarks/terminal.py [picture] [ROUNDS] [SECONDS].

One run with the smallest networks, in which blocks with the display and blocks without it take turns. The display
draws into a pseudo-terminal that another process empties.
"""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rich.console import Console

from ganglion.engine.api import Trace, hookimpl, learn
from ganglion.engine.terminal.trace import TerminalSettings, TerminalTrace
from ganglion.engine.trace import RunStarted, SamplesMade, TraceContext, TracePoint

KEPT_POINTS = 240
SIZE = (80, 24)
JOB = {
    "strategy": "Minimax", "threads": 1, "execution": "eager", "healthInterval": 0, "sampleInterval": 2000,
    "storeSeconds": 0, "iterations": -1, "traces": "switching,lines", "tag": "cost",
}  # fmt: skip


class Block(NamedTuple):
    """Some seconds of learning: iterations, seconds of the processor and on the wall, those that showing took."""

    iterations: int
    processor: float
    wall: float
    showing: float


class Switching(Trace):
    """Hands events to a terminal trace in every other block."""

    picture: ClassVar[bool] = False
    seconds: ClassVar[float] = 5.0
    blocks: ClassVar[list[Block]] = []
    console: ClassVar[Console]

    def __init__(self, settings: Any, context: TraceContext) -> None:
        self.context = context
        self.terminal: TerminalTrace | None = None
        self.points: list[TracePoint] = []
        self.samples: SamplesMade | None = None
        self.picture_drawn: Any = None  # one picture for each event, not for each block

    def receive(self, event: Any) -> None:
        if isinstance(event, RunStarted):
            self.started = event
            self._begin(shown=True)
        elif self.terminal is not None:
            began = time.thread_time()
            self.terminal.receive(event)
            self.receiving += time.thread_time() - began
        if isinstance(event, SamplesMade):
            self.samples = event
        if isinstance(event, TracePoint):
            self.points = [*self.points[1 - KEPT_POINTS :], event]
            if time.monotonic() - self.wall >= self.seconds:
                self._switch(event.iteration)

    def _begin(self, shown: bool) -> None:
        if shown:  # with as much to show as a run has that has gone on for a while
            self.terminal = TerminalTrace(TerminalSettings(picture=self.picture), self.context, self.console)
            for event in (self.started, self.samples, *self.points):
                self.terminal.receive(event)
            if self.terminal.state is not None:
                self.terminal.state.drawn = self.picture_drawn
        self.iteration, self.processor = self.started.position(), time.process_time()
        self.wall, self.receiving, self.drawn = time.monotonic(), 0.0, self._drawing()

    def _drawing(self) -> float:
        """Seconds of the processor that the display's own thread has used."""
        display = self.terminal._display if self.terminal is not None else None
        if display is None or display.timer.ident is None:
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(display.timer.ident))

    def _switch(self, iteration: int) -> None:
        spent, wall = time.process_time() - self.processor, time.monotonic() - self.wall
        shown, showing = self.terminal is not None, self.receiving + self._drawing() - self.drawn
        Switching.blocks.append(Block(iteration - self.iteration, spent, wall, showing))
        if self.terminal is not None:
            self.picture_drawn = self.terminal.state.drawn if self.terminal.state is not None else None
            self.terminal.close()
            self.terminal = None
        self._begin(not shown)

    def close(self) -> None:
        if self.terminal is not None:
            self.terminal.close()


@hookimpl
def register_traces(register: Any) -> None:
    """switching."""
    register("switching", Switching)


def report(blocks: list[Block]) -> str:
    """Medians over all pairs of blocks; a share is what showing takes of the run."""
    pairs = list(zip(blocks[0::2], blocks[1::2], strict=False))
    own = [shown.showing / shown.processor for shown, _ in pairs]
    costs = [[block.processor / block.iterations for block in pair] for pair in pairs]
    cost = [shown / hidden - 1 for shown, hidden in costs]
    rate = [1 - (shown.iterations / shown.wall) / (hidden.iterations / hidden.wall) for shown, hidden in pairs]
    each = 1e3 * statistics.median(hidden for _, hidden in costs)
    lines = [f"{len(pairs)} pairs, {each:.2f} ms of the processor per iteration without the display"]
    for name, shares in (("own time", own), ("processor per iteration", cost), ("fewer iterations/s", rate)):
        low, middle, high = statistics.quantiles(shares, n=4)
        lines.append(f"{name}: median {middle:+.2%}, quartiles {low:+.2%} and {high:+.2%}")
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Learn for the rounds, and print what they took."""
    numbers = [float(word) for word in words if word != "picture"]
    rounds, Switching.seconds = (int(numbers[0]) if numbers else 10), (numbers[1] if len(numbers) > 1 else 5.0)
    Switching.picture = "picture" in words
    reader, writer = pty.openpty()
    emptying = subprocess.Popen(["cat"], stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with os.fdopen(writer, "w") as file, tempfile.TemporaryDirectory() as folder:
        Switching.console = Console(
            file=file, width=SIZE[0], height=SIZE[1], force_terminal=True, color_system="truecolor"
        )
        job = {**JOB, "seconds": 2 * rounds * Switching.seconds + 2}
        learn("Generator,Discriminator", "Circle", job, plugins=[__name__], runs=Path(folder))
    emptying.terminate()
    print(report(Switching.blocks))


if __name__ == "__main__":
    main(sys.argv[1:])
