"""The bench on which faults are injected: forked processes, a system that fails, and what became of the runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from commandline import tiny

from ganglion.engine import files
from ganglion.engine.cli import learn_main, main
from ganglion.engine.errors import StoreError
from ganglion.engine.repository import Repository
from ganglion.engine.tables import BIDIRECTIONAL

SECONDS = 120  # after which a process counts as hung
CALLS = ("open", "write", "fsync", "close", "replace", "rename", "mkdir", "unlink", "ftruncate")
JOB = ("storeInterval=2", "traceInterval=2", "keep=2", "generatorDim=2")


class Ended(NamedTuple):
    """How a process ended; code -9 is SIGKILL."""

    code: int
    out: str
    err: str
    hung: bool

    @property
    def sentence(self) -> str:
        """The last line for the person."""
        return next((line for line in reversed(self.err.splitlines()) if line.strip()), "")


def in_child(*words: str, before: Callable[[], object] = lambda: None, seconds: float = SECONDS) -> Ended:
    """Carry out a command line in a forked process, after `before`; it shares what is imported already."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            become(words, before, out.fileno(), err.fileno())
        code, hung = _waited(child, seconds)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "surrogateescape"))
    return Ended(code, *texts, hung)


def become(words: Sequence[str], before: Callable[[], object], out: int, err: int) -> None:
    code: Any = 1
    try:
        os.dup2(out, 1), os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        before()
        {"learn": learn_main, "ganglion": main}[words[0]](list(words[1:]))
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:
        with suppress(Exception):
            sys.excepthook(type(error), error, error.__traceback__)
    with suppress(Exception):
        sys.stdout.flush(), sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def _waited(child: int, seconds: float) -> tuple[int, bool]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), False
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL, True


def warm() -> None:
    """Import what the forked processes share."""
    import torch.optim  # noqa: F401

    from ganglion.engine import launch, opening, pictures  # noqa: F401
    from ganglion.engine.registry import Registry

    Registry().load()


class System:
    """`os`, whose calls are counted; call number `at` does `fault` instead."""

    def __init__(self, at: int | None = None, fault: Callable[[], object] = lambda: None) -> None:
        self.at, self.fault, self.count = at, fault, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*arguments: Any) -> Any:
            self.count += 1
            if self.count - 1 == self.at:
                if name == "close":
                    real(*arguments)
                self.fault()
            return real(*arguments)

        return call

    def install(self) -> None:
        """Let the engine write through this."""
        files.SYSTEM = self


def refuse(number: int) -> Callable[[], object]:
    """A fault: the system refuses a call."""

    def fault() -> None:
        raise OSError(number, os.strerror(number))

    return fault


def kill() -> None:
    """A fault: the process is gone at once."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Bench:
    """Where faults are injected, and what became of the runs."""

    folder: Path
    every: int = 1  # 1: each possible injection, 7: each seventh
    injected: int = 0
    hangs: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    sentences: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: int = 0

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self.folder / "runs"

    def learn(self, *tokens: str, before: Callable[[], object] = lambda: None) -> Ended:
        """Learn the tiny job of two networks."""
        words = tiny(*JOB, *tokens)
        return in_child(words[0], "--runs", str(self.runs), *words[1:], before=before)

    def note(self, what: str, ended: Ended, codes: Sequence[int], words: str = "") -> None:
        """Count one injection: the code must be one of `codes`, and a sentence with `words` must stand at the end."""
        self.injected += 1
        self.hangs += ended.hung
        self.codes[ended.code] += 1
        if ended.code not in codes or ended.hung:
            self.wrong.append(f"{what}: code {ended.code}: {ended.err[-500:]}")
        if ended.code > 0:
            self.sentences.append(ended.sentence)
            self.check(bool(re.match(r"(learn|ganglion): \S", ended.sentence)), f"{what}: no sentence: {ended.err}")
            self.check(words in ended.sentence, f"{what}: {words!r} is not in {ended.sentence!r}")
        self.check(not any(map(obeyed, ended.out + ended.err)), f"{what}: a terminal would obey {ended.err!r}")

    def check(self, good: bool, what: str) -> None:
        """Remember what is not as it must be."""
        if not good:
            self.wrong.append(what)

    def intact(self, tag: str, what: str, at_least: int = 0) -> int | None:
        """The iteration of the latest checkpoint, which must load without a word, or None where there may be none."""
        checkpoints = Repository(self.runs).run(tag).checkpoints()
        try:
            found = checkpoints.load()
        except StoreError as error:
            if at_least or checkpoints.iterations():
                self.lost += 1
                self.wrong.append(f"{what}: {error}")
            return None
        self.check(not found.notices and found.iteration >= at_least, f"{what}: {found.iteration} {found.notices}")
        self.lost += found.iteration < at_least
        return found.iteration

    def same(self, tag: str, other: str, iteration: int, what: str) -> None:
        """Two runs must have ended with the same weights and the same state."""
        one, two = ({p.name: p.read_bytes() for p in self._files(name, iteration)} for name in (tag, other))
        self.check(bool(one) and one == two, f"{what}: {sorted(one)} is another state than the straight run's")

    def _files(self, tag: str, iteration: int) -> list[Path]:
        return sorted((self.runs / tag / "checkpoints" / str(iteration)).glob("*.safetensors"))

    def forget(self, tag: str) -> None:
        """Remove a run."""
        shutil.rmtree(self.runs / tag, ignore_errors=True)


def obeyed(character: str) -> bool:
    """Whether a terminal does something else than to draw this character or to begin a line."""
    return (ord(character) < 32 and character != "\n") or 127 <= ord(character) < 160 or character in BIDIRECTIONAL
