"""Processes for `ganglion verify-resume`: a template, which has imported the engine, forks those that learn.

The fork saves the seconds that importing torch takes. Everything else is as in a process of its own: plugins are loaded
after the fork, and nothing but files passes from one that learns to the next.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, NoReturn

from ganglion.engine.errors import EngineError, InputError, RunError

PATIENCE = 120.0  # seconds that a template may take to import torch, to fork, or to see that a process has ended
LONGEST = 500  # characters of an error: in JSON at most 3,000 bytes, which a pipe takes at once


class Template:
    """The parent's end of a template: starts processes that learn, one at a time, and kills them."""

    def __init__(self) -> None:
        self.messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ganglion.engine.verifychild"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C reaches the parent only, which ends the rest
        )
        self.pid = 0  # of the process that learns, or learnt last
        self._code: int | None = None
        self._answer: dict[str, Any] | None = None

    def start(self, task: Mapping[str, Any]) -> int:
        """Let a new process carry out `launch.learn(**task)`; its id. The one before it has ended."""
        self._code = self._answer = None
        self._send(task)
        self.pid = int(self._read("pid"))
        return self.pid

    def ended(self, seconds: float) -> bool:
        """Wait for at most `seconds` until the process that learns is gone."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def kill(self) -> bool:
        """SIGKILL the process that learns; whether that is what ended it."""
        if not self.ended(0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        return self._ended_with() == -signal.SIGKILL

    def result(self) -> dict[str, Any]:
        """What came of the task, once the process has ended by itself. Raises InputError, RunError."""
        code, answer = self._ended_with(), self._answer
        if answer is None:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise RunError(f"the process that learns {how}{self._last_message()}")
        if "error" in answer:
            raise (InputError if code == InputError.exit_code else RunError)(answer["error"])
        return answer

    def close(self) -> None:
        """End the process that learns, and the template, which ends with its standard input."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if self.pid and self._code is None and not self.ended(0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.messages.close()

    def __enter__(self) -> Template:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ended_with(self) -> int:
        if self._code is None:
            self._code = int(self._read("code"))
        return self._code

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            raise RunError(f"the process that starts others has ended{self._last_message()}") from None

    def _read(self, name: str) -> Any:
        """The next line with `name`; an answer on the way is kept."""
        assert self.process.stdout is not None
        while True:
            if not self.ended(PATIENCE):
                raise RunError(f"the process that starts others has not answered for {PATIENCE:g} s")
            line = self.process.stdout.readline()
            if not line:
                raise RunError(f"the process that starts others has ended{self._last_message()}")
            told = json.loads(line)
            if name in told:
                return told[name]
            self._answer = told

    def _last_message(self) -> str:
        self.messages.seek(0)
        lines = [line for line in self.messages.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {lines[-1].strip()}" if lines else ""


# --- the other end ------------------------------------------------------------------------------------------------


def serve() -> int:
    """Fork a process for every line of the standard input; tell its id, then how it ended."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a plugin prints, the answers are lines of JSON
    _import_engine()
    while (line := _read_line()) is not None:
        pid = os.fork()
        if pid == 0:
            _carry_out(json.loads(line), answers)
        _tell(answers, {"pid": pid})
        _tell(answers, {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])})
    return 0


def _tell(answers: int, message: Mapping[str, Any]) -> None:
    """Write a line at once: a pipe takes a short one whole or not at all, whenever this process is killed."""
    os.write(answers, json.dumps(message).encode() + b"\n")


def _import_engine() -> None:
    """What every process that learns imports and asks of the built-ins; nobody else's plugins."""
    from ganglion.engine.loading import built_in_offers, modules_of
    from ganglion.engine.registry import BUILT_IN, BUILTIN_PACKAGES

    importlib.import_module("ganglion.engine.launch")
    for package in BUILTIN_PACKAGES:
        for name in modules_of(package):
            with contextlib.suppress(Exception):  # told by the registry of each process
                built_in_offers(importlib.import_module(name), name, BUILT_IN)


def _read_line() -> bytes | None:
    """The next line of the standard input, without Python's buffer; None at its end."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            return None
        line += part
    return bytes(line)


def _carry_out(task: Mapping[str, Any], answers: int) -> NoReturn:
    """Learn, tell what came of it, and end."""
    code = 0
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        from ganglion.engine.launch import learn

        learnt = learn(**task, notify=lambda sentence: print(sentence, file=sys.stderr), quiet=True)
        result = {"status": learnt.outcome.status, "iteration": learnt.outcome.iteration}
    except EngineError as error:
        result, code = {"error": str(error)[:LONGEST]}, error.exit_code
    except BaseException as error:
        traceback.print_exc()
        result, code = {"error": f"{type(error).__name__}: {error}"[:LONGEST]}, 1
    sys.stdout.flush()
    sys.stderr.flush()
    _tell(answers, result)
    os._exit(code)


def _end_with_parent() -> None:
    """The standard input ends when `verify-resume` does, however it does; the template ends after this process."""
    while os.read(0, 65536):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(serve())
