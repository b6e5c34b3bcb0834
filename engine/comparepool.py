"""Runs of a comparison in processes of their own: so many at once, one that fails stops no other, all stop together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

PAUSE = 0.05  # seconds between looks at the processes
PATIENCE = 60.0  # seconds that a process may take to store a checkpoint before it is ended at once
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Child:
    """One process that carries out a task; it ends when its standard input does, so never later than this process."""

    def __init__(self, name: str, task: Mapping[str, Any]) -> None:
        self.name = name
        self.began = time.monotonic()
        # Files, not pipes: nothing has to read them for the process to go on. They live until `result`.
        self.answer: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        threads = {variable: str(task["threads"]) for variable in THREADS if task["threads"]}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ganglion.engine.comparetask"],
            stdin=subprocess.PIPE,
            stdout=self.answer,
            stderr=self.messages,
            env={**os.environ, **threads},
            start_new_session=True,  # a Ctrl-C is passed on once, by this process
        )
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(task).encode() + b"\n")
            self.process.stdin.flush()

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.began

    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to store and stop, or end it at once."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def result(self) -> dict[str, Any]:
        """What came of the task, once the process is gone."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        answer, messages = self._text(self.answer), self._text(self.messages)
        lines = answer.splitlines()
        with suppress(ValueError, IndexError):
            result: dict[str, Any] = json.loads(lines[-1])
            return result
        code = self.process.returncode
        if code < 0:
            cause = " (was memory short?)" if code == -signal.SIGKILL else ""
            return {"status": "failed", "error": f"its process was ended by {signal.Signals(-code).name}{cause}"}
        last = next((line for line in reversed(messages.splitlines()) if line.strip()), "no message")
        return {"status": "failed", "error": f"its process ended with code {code}: {last.strip()}"}

    def _text(self, file: IO[bytes]) -> str:
        file.seek(0)
        text = file.read().decode("utf-8", "replace")
        file.close()
        return text


def run_tasks(
    tasks: Sequence[tuple[str, Mapping[str, Any]]],
    workers: int,
    started: Callable[[str], None],
    ended: Callable[[str, dict[str, Any], float], None],
) -> int:
    """Carry out tasks, `workers` at a time; the signal that stopped it, or 0.

    `started(name)` and `ended(name, result, seconds)` are called in this process. SIGINT and SIGTERM let every process
    store its run and stop; a second SIGINT ends them at once.
    """
    waiting, running = list(tasks), dict[str, Child]()
    with _signals() as received:
        try:
            told_at, told = 0.0, 0
            while running or (waiting and not received):
                while waiting and len(running) < workers and not received:
                    name, task = waiting.pop(0)
                    running[name] = Child(name, task)
                    started(name)
                if len(received) > told:
                    urgent = received[told:].count(signal.SIGINT) and told
                    told, told_at = len(received), told_at or time.monotonic()
                    _tell(running, signal.SIGKILL if urgent else signal.SIGTERM)
                if told and time.monotonic() - told_at > PATIENCE:
                    _tell(running, signal.SIGKILL)
                for name in [name for name, child in running.items() if child.ended()]:
                    child = running.pop(name)
                    result = child.result()
                    if told and result["status"] == "failed" and child.process.returncode < 0:
                        result = {"status": "stopped"}  # it had not begun to learn, or was being judged
                    ended(name, result, child.seconds)
                time.sleep(PAUSE)
        finally:
            _tell(running, signal.SIGTERM)
            for child in running.values():
                with suppress(subprocess.TimeoutExpired):
                    child.process.wait(PATIENCE)
            _tell(running, signal.SIGKILL)
    return received[0] if received else 0


def _tell(running: Mapping[str, Child], number: int) -> None:
    for child in running.values():
        child.stop(number)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that arrived, in order, instead of their usual effect."""
    received: list[int] = []
    try:
        before = {
            number: signal.signal(number, lambda number, frame: received.append(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not in the main thread: the caller's signals are its own
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
