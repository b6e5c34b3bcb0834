"""Draws pictures for the documentation: python scripts/pictures.py terminal [FILE.svg].

terminal: the live display of a short run on made points, three quarters through, as an SVG.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.text import Text

from ganglion.engine.api import Trace, hookimpl, learn
from ganglion.engine.files import write_atomic
from ganglion.engine.terminal.screen import live_lines
from ganglion.engine.terminal.state import RunState
from ganglion.engine.trace import RunStarted, SamplesMade

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
WIDTH, HEIGHT = 80, 24
MOMENT = 0.75  # of the run, from where on the next samples are the last that are shown
JOB = {
    "strategy": "Minimax",
    "iterations": 12000,
    "seed": 4,
    "threads": 1,
    "execution": "eager",
    "tag": "circle",
    "traces": "recorder",
}


class Recorder(Trace):
    """Follows a run as the terminal does, and keeps the display as it is at the moment that is wanted."""

    shown: ClassVar[list[Text]] = []

    def __init__(self, settings: Any, context: Any) -> None:
        self.state: RunState | None = None

    def receive(self, event: Any) -> None:
        if isinstance(event, RunStarted):
            self.state = RunState(event, time.monotonic, with_picture=True)
        elif self.state is not None:
            self.state.note(event)
            total = self.state.started.iterations or 1
            if isinstance(event, SamplesMade) and not Recorder.shown and event.iteration >= MOMENT * total:
                Recorder.shown = live_lines(self.state, WIDTH, HEIGHT)


@hookimpl
def register_traces(register: Any) -> None:
    """recorder."""
    register("recorder", Recorder)


def terminal(path: Path) -> None:
    """Carry out the run, and write its display."""
    Recorder.shown = []
    with tempfile.TemporaryDirectory() as folder:
        learn("Generator,Discriminator", "Circle", JOB, plugins=[__name__], runs=folder)
    write_atomic(path, svg(Recorder.shown).encode())


def svg(lines: list[Text]) -> str:
    """Lines of a terminal as an SVG that loads nothing from elsewhere."""
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_terminal=True, color_system="truecolor"
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    drawn = console.export_svg(title="ganglion", unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


DRAWERS = {"terminal": (terminal, "terminal.svg")}


def main(words: list[str]) -> int:
    """Draw what is named."""
    if not 1 <= len(words) <= 2 or words[0] not in DRAWERS:
        print(f"usage: python scripts/pictures.py {'|'.join(DRAWERS)} [FILE.svg]", file=sys.stderr)
        return 2
    drawer, usual = DRAWERS[words[0]]
    path = Path(words[1]) if len(words) == 2 else PICTURES / usual
    drawer(path)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
