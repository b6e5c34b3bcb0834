"""The runs of `ganglion verify-resume`: one learns straight, one is killed at chosen moments and gone on with."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ganglion.engine.errors import EngineError, RunError
from ganglion.engine.files import TEMPORARY, discard, names
from ganglion.engine.locks import holder
from ganglion.engine.runs import Run
from ganglion.engine.verifychild import Template

PAUSE = 0.001  # seconds between looks at a run that is to be killed
CALM = 0.25  # between looks at whether anything happens at all
LAST = 0.8  # share of the iterations within which kills are planned: the rest is for those that come late
MOMENT = 0.05  # seconds after taking the lock within which a process that goes on is killed
TAIL = 65536  # bytes of the trace that hold its last line
LEARNING, STORING, GOING_ON = "learning", "storing", "going on"
PARTIAL = re.compile(rf"{re.escape(TEMPORARY)}(?P<iteration>[0-9]+)-(?P<pid>[0-9]+)")


class Kill(NamedTuple):
    """A process that was killed: the last iteration that its run shows, and what the process was doing.

    `during`: "learning", "storing" (a checkpoint was half written), "going on" (it had just taken the run up again).
    """

    iteration: int
    during: str


class Moment(NamedTuple):
    """When to kill: while it does something, once an iteration is shown."""

    during: str
    iteration: int


def learn_straight(template: Template, run: Run, task: Mapping[str, Any], patience: float) -> int:
    """Carry out a job; how many iterations it had. Raises InputError, RunError."""
    template.start(task)
    _wait(template, run, lambda: False, CALM, patience)
    return int(template.result()["iteration"])


class Course:
    """The run that is killed: started by `task`, gone on with by its bare tag (and `plugins`, as a person must)."""

    def __init__(
        self, template: Template, run: Run, task: Mapping[str, Any], first: int, iterations: int, patience: float
    ) -> None:
        self.template = template
        self.run = run
        self.task = task
        self.first = first
        self.iterations = iterations
        self.patience = patience
        self.plugins: Sequence[str] = ()

    def learn(self, kills: int, dice: random.Random, notify: Callable[[str], None]) -> tuple[Kill, ...]:
        """Learn to the end; the kills that landed while it learnt, which may be fewer than asked for."""
        if not self.run.locked:  # what the course before left shows iterations that this one has not come to
            discard(self.run.directory)
        done: list[Kill] = []
        moments = planned(kills, self.first, self.iterations, dice)
        task = self.task
        while True:
            shown, pid = shown_iteration(self.run), self.template.start(task)
            moment = _due(moments, done, shown)
            killed = moment is not None and self._reaches(moment, pid, dice) and self.template.kill()
            if moment is None or not killed:
                self._finish(moment, done)
                return tuple(done)
            if self._is_over():  # its last checkpoint is stored: that was no kill of a process that learnt
                return tuple(done)
            during = moment.during if moment.during == GOING_ON else LEARNING
            done.append(Kill(shown_iteration(self.run), STORING if _partial(self.run, pid) else during))
            notify(f"killed at iteration {done[-1].iteration}, while {done[-1].during}")
            bare = {"networks": None, "dataset": None, "keys": {"tag": self.run.tag}, "plugins": list(self.plugins)}
            task = {**bare, "runs": self.task["runs"]}

    def _reaches(self, moment: Moment, pid: int, dice: random.Random) -> bool:
        """Wait for the moment; False where the process ended by itself."""
        if moment.during == GOING_ON:
            lock, mine = self.run.directory / "lock", f"pid {pid}"
            taken = _wait(self.template, self.run, lambda: holder(lock) == mine, PAUSE, self.patience)
            return taken and not self.template.ended(dice.uniform(0, MOMENT))

        def reached() -> bool:
            if moment.during == STORING:
                return _partial(self.run, pid) >= moment.iteration
            return shown_iteration(self.run) >= moment.iteration

        return _wait(self.template, self.run, reached, PAUSE, self.patience)

    def _finish(self, moment: Moment | None, done: Sequence[Kill]) -> None:
        """Wait for the end of a process that is not killed. Raises InputError, RunError."""
        try:
            if moment is None:
                _wait(self.template, self.run, lambda: False, CALM, self.patience)
            self.template.result()
        except EngineError as error:
            if not done:
                raise
            raise RunError(f"the run did not go on after the kill at iteration {done[-1].iteration}: {error}") from None

    def _is_over(self) -> bool:
        return (self.run.checkpoints().latest() or 0) >= self.iterations


def planned(kills: int, first: int, iterations: int, dice: random.Random) -> list[Moment]:
    """Moments in order, from iteration `first`: one in each part of the run.

    One of them is while it stores, and of three or more one while it goes on.
    """
    kinds = [LEARNING] * kills
    if kills:
        kinds[dice.randrange(kills)] = STORING
    later = [number for number in range(1, kills) if kinds[number] == LEARNING]
    if kills > 2:
        kinds[dice.choice(later)] = GOING_ON
    part = max(0.0, LAST * iterations - first) / max(1, kills)
    return [Moment(kind, int(first + part * (number + dice.random()))) for number, kind in enumerate(kinds)]


def _due(moments: Sequence[Moment], done: Sequence[Kill], shown: int) -> Moment | None:
    """The next moment, past what the run showed before; storing is tried again until it was hit."""
    if len(done) == len(moments):
        return None
    during, iteration = moments[len(done)]
    tried = any(moment.during == STORING for moment in moments[: len(done)])
    if during == LEARNING and tried and not any(kill.during == STORING for kill in done):
        during = STORING
    return Moment(during, max(iteration, shown + 1))


# --- what the files of a run show ---------------------------------------------------------------------------------


def shown_iteration(run: Run) -> int:
    """The last iteration that the trace or a checkpoint shows."""
    last = run.checkpoints().iterations()[-1:]
    with suppress(OSError, ValueError, IndexError, TypeError, KeyError), open(run.trace_path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        last.append(int(json.loads(file.read().splitlines(keepends=True)[-1])["iteration"]))
    return max(last, default=0)


def _partial(run: Run, pid: int) -> int:
    """The iteration of the checkpoint that process `pid` has half written, 0 for none (or for the first one)."""
    found = [PARTIAL.fullmatch(name) for name in names(run.directory / "checkpoints")]
    return max((int(match["iteration"]) for match in found if match and int(match["pid"]) == pid), default=0)


def _wait(template: Template, run: Run, reached: Callable[[], bool], pause: float, patience: float) -> bool:
    """Wait for something; False where the process ended first. Raises RunError where its files stand still."""
    seen, since, looked = _files(run), time.monotonic(), time.monotonic()
    while not template.ended(pause):
        if reached():
            return True
        now = time.monotonic()
        if now - looked < CALM:
            continue
        looked = now
        if (there := _files(run)) != seen:
            seen, since = there, now
        elif now - since > patience:
            template.kill()
            raise RunError(f"run '{run.tag}' changed no file for {patience:g} seconds, so its process was ended")
    return False


def _files(run: Run) -> list[int]:
    """Times of change of the files that a run which gets on changes."""
    times = []
    for path in (run.trace_path, run.directory / "checkpoints", run.directory / "record.json", run.directory / "lock"):
        with suppress(OSError):
            times.append(path.stat().st_mtime_ns)
    return times
