"""Runs in processes of their own: so many at once, one that fails stops no other, all stop together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, Protocol

PAUSE = 0.05  # seconds between looks at the processes
WATCHED = 1.0  # seconds between looks at what the running tasks have come to
PATIENCE = 60.0  # seconds that a process may take to store a checkpoint before it is ended at once
END = ("", dict[str, Any]())  # what stands behind the last task
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Worker(Protocol):
    """What carries out one task, here or elsewhere."""

    @property
    def seconds(self) -> float:
        """How long it has run."""
        ...

    def ended(self) -> bool:
        """Whether it is over; asked often, so it must not wait."""
        ...

    def stop(self, at_once: bool = False) -> None:
        """Ask it to store and stop, or end it at once; nothing where it is over."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until it is over, no longer than so many seconds."""
        ...

    def result(self) -> dict[str, Any]:
        """What came of the task, once it is over: `status` at least, and `error` where that is failed."""
        ...

    @property
    def killed(self) -> bool:
        """Whether it was ended from outside before it could say what came of the task."""
        ...


Start = Callable[[str, Mapping[str, Any]], Worker]


class Child:
    """One process that carries out a task; it ends when its standard input does, so never later than this process."""

    def __init__(
        self,
        name: str,
        task: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> None:
        """`environment` are variables that this process has not set itself, `folder` is where it works."""
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
            env={**(environment or {}), **os.environ, **threads},
            cwd=folder,
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

    def stop(self, at_once: bool = False) -> None:
        """Ask it to store and stop, or end it at once."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait until the process is gone, no longer than so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    @property
    def killed(self) -> bool:
        """Whether a signal ended the process."""
        return (self.process.returncode or 0) < 0

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
    tasks: Iterable[tuple[str, Mapping[str, Any]] | None],
    workers: int,
    started: Callable[[str], None],
    ended: Callable[[str, dict[str, Any], float], None],
    start: Start = Child,
    watch: Callable[[], Iterable[str]] = tuple,
) -> int:
    """Carry out tasks, `workers` at a time; the signal that stopped it, or 0.

    A task is asked for when there is a worker for it, so that what comes next may depend on what has ended; None says
    that it depends on what still runs.
    `started(name)` and `ended(name, result, seconds)` are called in this process, and about once a second `watch()`,
    which names tasks that are to store and stop. SIGINT and SIGTERM let all of them do so; a second SIGINT ends them
    at once.
    """
    waiting, running = iter(tasks), dict[str, Worker]()
    more, watched = True, time.monotonic()
    with _signals() as received:
        try:
            told_at, told, named = 0.0, 0, set[str]()
            while running or (more and not received):
                while more and len(running) < workers and not received:
                    following = next(waiting, END)
                    more = following is not END
                    if following is None or following is END:
                        break
                    running[following[0]] = start(*following)
                    started(following[0])
                if len(received) > told:
                    urgent = bool(received[told:].count(signal.SIGINT) and told)
                    told, told_at = len(received), told_at or time.monotonic()
                    _stop(running.values(), urgent)
                if told and time.monotonic() - told_at > PATIENCE:
                    _stop(running.values(), at_once=True)
                if not told and time.monotonic() - watched > WATCHED:
                    fresh = [name for name in watch() if name in running and name not in named]
                    named.update(fresh)  # told once: a second signal would end one that is being judged
                    _stop([running[name] for name in fresh])
                    watched = time.monotonic()
                for name in [name for name, worker in running.items() if worker.ended()]:
                    worker = running.pop(name)
                    result = worker.result()
                    if (told or name in named) and result["status"] == "failed" and worker.killed:
                        result = {"status": "stopped"}  # it had not begun to learn, or was being judged
                    named.discard(name)
                    ended(name, result, worker.seconds)
                time.sleep(PAUSE)
        finally:
            _stop(running.values())
            for worker in running.values():
                worker.wait(PATIENCE)
            _stop(running.values(), at_once=True)
    return received[0] if received else 0


def _stop(workers: Iterable[Worker], at_once: bool = False) -> None:
    for worker in workers:
        worker.stop(at_once)


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
