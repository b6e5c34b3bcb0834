"""A real run on a real terminal, which tmux plays: what is on the screen, after resizing and Ctrl-C too, and nohup."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LONGEST = 120.0  # seconds that a busy machine may take for anything here
JOB = (
    "Generator,Discriminator Circle strategy=Minimax size=64 testSize=8 batchSize=8 threads=1 execution=eager "
    "storeSeconds=0 tag=screen"
)


class Screen:
    """A terminal of its own, in which one command runs."""

    def __init__(self, folder: Path, width: int = 80, height: int = 24) -> None:
        self.folder = folder
        self.command = ["tmux", "-u", "-S", str(folder / "socket"), "-f", "/dev/null"]
        self.environment = {**os.environ, "GANGLION_RUNS": str(folder / "runs"), "LC_ALL": "C.UTF-8"}
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TMUX"):
            self.environment.pop(name, None)
        self.size = ("-x", str(width), "-y", str(height))

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            [*self.command, *words], env=self.environment, capture_output=True, text=True, check=True, timeout=LONGEST
        )
        return done.stdout

    def start(self, command: str) -> None:
        self.tmux("new-session", "-d", *self.size, f'{command}; echo "it ended with $?"; sleep 600')

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.tmux("capture-pane", "-p").splitlines()]

    def wait(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """The lines of the screen once they are as wanted."""
        until = time.monotonic() + LONGEST
        while not condition(lines := self.lines()):
            assert time.monotonic() < until, "\n".join(lines)
            time.sleep(0.1)
        return lines

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))


@pytest.fixture
def screen() -> Iterator[Screen]:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux, which plays the terminal")
    folder = Path(tempfile.mkdtemp(prefix="screen"))  # a socket's path must be short
    made = Screen(folder)
    yield made
    subprocess.run([*made.command, "kill-server"], env=made.environment, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def learn(extra: str) -> str:
    return f"{shlex.quote(sys.executable)} -m ganglion.engine learn {JOB} {extra}"


def shows(*parts: str) -> Callable[[list[str]], bool]:
    return lambda lines: all(any(part in line for line in lines) for part in parts)


def test_one_screen_from_the_first_figures_to_ctrl_c(screen: Screen) -> None:
    screen.start(learn("iterations=-1 traceInterval=10 healthInterval=2 sampleInterval=40 terminal.picture=true"))
    lines = screen.wait(shows("generatorLoss", "health  ", "samples at", "it/s"))
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert any(line.startswith("screen  Minimax · Circle") for line in lines)
    assert sum("it/s" in line for line in lines) == 1  # one display, not two below each other

    for width, height in ((40, 12), (100, 30)):
        screen.resize(width, height)
        wide = "lowest" if width == 100 else "discri…orLoss"
        lines = screen.wait(lambda lines, wide=wide: shows(wide, "it/s")(lines) and one_display(lines))
        assert max(map(len, lines)) <= width

    screen.tmux("send-keys", "C-c")
    lines = screen.wait(shows("it ended with 130"))
    assert shows("screen stopped at iteration", "(stopped by SIGINT)", "go on: learn tag=screen")(lines)
    assert not any("it/s" in line for line in lines)  # the display is gone, its end stays
    assert screen.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"


def one_display(lines: list[str]) -> bool:
    """Whether nothing is left of what stood there before the terminal was resized."""
    return sum("it/s" in line for line in lines) == 1 and sum(line.startswith("generatorLoss") for line in lines) == 1


def test_a_run_outlives_its_terminal_under_nohup_and_writes_a_plain_log(screen: Screen) -> None:
    log = screen.folder / "log.txt"
    screen.start(f"nohup {learn('iterations=400 traceInterval=100 sampleInterval=0')} >{log} 2>&1")
    until = time.monotonic() + LONGEST
    while not (log.exists() and "begins in" in log.read_text(encoding="utf-8")):
        assert time.monotonic() < until
        time.sleep(0.1)
    screen.tmux("kill-server")
    while "finished at iteration 400 of 400" not in (text := log.read_text(encoding="utf-8")):
        assert time.monotonic() < until, text
        time.sleep(0.1)
    assert "\x1b" not in text and "\r" not in text
    assert "iteration        it/s    elapsed" in text
    assert [line.split()[0] for line in text.splitlines() if line[:9].strip().isdecimal()] == [
        "100",
        "200",
        "300",
        "400",
    ]
