"""Jobs as processes of their own: they outlive the server, and are stopped only where it is sure whose they are."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ganglion.engine import files
from ganglion.engine.errors import StoreError
from ganglion.engine.locks import holder, is_held
from ganglion.engine.runs import Run
from ganglion.engine.tables import one_line

FOLDER = ".dashboard"  # below the folder of runs; no tag begins with a dot
MOST = 16  # jobs of this server that learn at one time
TAIL = 8192  # bytes of a job's output that a page shows


class Jobs:
    """The jobs that this server started, by tag, and the output of all that any server started here."""

    def __init__(self, root: Path, plugins: Sequence[str] = ()) -> None:
        self.root = root
        self.plugins = plugins
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._began: dict[str, int] = {}  # in nanoseconds, as files count them
        self._stopping: dict[str, int] = {}  # the process that was asked to stop, by tag

    def start(self, tag: str, words: Sequence[str]) -> None:
        """Start `learn` with these words, in a session of its own. Raises StoreError."""
        self.look()
        if len(self.learning()) >= MOST:
            raise StoreError(f"{MOST} jobs of this page are learning already; stop one, or wait for its end")
        options = [word for plugin in self.plugins for word in ("--plugin", plugin)]
        command = [sys.executable, "-P", "-m", "ganglion.engine", "learn", "--runs", str(self.root), *options]
        self._began[tag] = time.time_ns()
        with files.explained("start the job", self.root), self._output(tag) as output:
            self._processes[tag] = subprocess.Popen(
                [*command, "--", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @contextmanager
    def _output(self, tag: str) -> Iterator[int]:
        folder = files.make_folder(self.root / FOLDER)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(folder / f"{tag}.log", flags, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)

    def learning(self) -> list[str]:
        """The tags of the jobs whose processes are there."""
        return [tag for tag, process in self._processes.items() if process.poll() is None]

    def look(self) -> None:
        """Take notice of processes that ended; a folder that was reserved for a job that never began is removed."""
        for tag, process in self._processes.items():
            if process.poll() is not None:
                self._stopping.pop(tag, None)
                with contextlib.suppress(OSError):
                    os.rmdir(self.root / tag)  # does nothing where anything is in it

    def refusal(self, tag: str, changed: int) -> str:
        """What the job said when it ended before it wrote anything; the run's record was last `changed` then."""
        process = self._processes.get(tag)
        if process is None or process.poll() in (None, 0) or changed > self._began[tag]:
            return ""
        lines = [line for line in self.output(tag).splitlines() if line.strip()]
        return lines[-1] if lines else "the process ended and printed nothing"

    def knows(self, tag: str) -> bool:
        """Whether this server started a job of that tag."""
        return tag in self._processes

    def output(self, tag: str) -> str:
        """The last lines that the job printed."""
        try:
            with open(os.open(self.root / FOLDER / f"{tag}.log", os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL))
                lines = file.read(TAIL).decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(one_line(line, 500) for line in (lines if size <= TAIL else lines[1:]))

    def stop(self, run: Run) -> str:
        """Ask the process that learns to store a checkpoint and stop, as Ctrl-C does. Raises StoreError."""
        with learning_process(run) as (number, handle):
            if self._stopping.get(run.tag) == number:
                return f"run '{run.tag}' is being stopped; it stores a checkpoint first"
            signal.pidfd_send_signal(handle, signal.SIGINT)
            self._stopping[run.tag] = number
        return f"run '{run.tag}' stores a checkpoint and stops"


@contextmanager
def learning_process(run: Run) -> Iterator[tuple[int, int]]:
    """The process that holds the run's lock: its number, and a handle that no other process can take the place of.

    The lock file names a process. That it is the right one, and of this machine, is certain only where that process has
    this very file open; the handle is taken before that is looked at. Raises StoreError otherwise.
    """
    lock = run.directory / "lock"
    if not is_held(lock):
        raise StoreError(f"run '{run.tag}' is not learning")
    number = holder(lock).removeprefix("pid ")
    unsure = StoreError(
        f"run '{run.tag}' learns in a process that this page cannot be sure of (pid {number}); "
        "press Ctrl-C where it was started"
    )
    if not number.isdigit() or int(number) <= 1 or not hasattr(os, "pidfd_open"):
        raise unsure
    try:
        handle = os.pidfd_open(int(number))
    except OSError:
        raise unsure from None
    try:
        if not _has_open(int(number), lock):
            raise unsure
        yield int(number), handle
    finally:
        os.close(handle)


def _has_open(number: int, path: Path) -> bool:
    """Whether a process has the file at `path` open."""
    try:
        wanted = path.stat()
        handles = os.listdir(f"/proc/{number}/fd")
    except OSError:
        return False
    for each in handles:
        with contextlib.suppress(OSError):
            found = os.stat(f"/proc/{number}/fd/{each}")
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False
