"""The course of a sweep: which trial comes next, which of those that run is to stop, what each has come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ganglion.engine.documents import plain, write_json
from ganglion.engine.errors import fold
from ganglion.engine.manyruns import RUNS
from ganglion.engine.repository import SWEEP, Repository
from ganglion.engine.sweeps.planning import Sweep
from ganglion.engine.sweeps.space import Space
from ganglion.engine.sweeps.study import Drawing, Review, Trial
from ganglion.engine.sweeps.studyfile import StudyFile
from ganglion.engine.sweeps.told import Follower, verdict
from ganglion.engine.tables import format_duration, format_number

FORMAT = 1
FACTS = ("iteration", "seconds", "error", "evaluations", "notices")


class Search:
    """The trials of one sweep; whoever has it holds the sweep's lock.

    A trial depends on the seed, its number, and on what all those came to that are `lag` or more before it. It waits
    for them: so the search is the same in whatever order the others end, and however often it is stopped.
    """

    def __init__(self, sweep: Sweep, space: Space, file: StudyFile, lag: int, notify: Callable[[str], None]) -> None:
        self.sweep, self.file, self.lag, self.notify = sweep, file, lag, notify
        settings, by = sweep.settings, sweep.prune_by
        pruning = (settings.pruner, by is None or by.lower, settings.prune_after)
        self.drawing = Drawing(space, settings.seed, settings.sampler, sweep.aim.lower, *pruning)
        self.trials = file.trials()
        self.wrong = ""  # why no trial can be judged
        self._whole = False  # whether every combination of a grid has been there
        self._left = [each.number for each in self.trials if each.state == "running"]
        self._running: set[int] = set()
        self._reviews: dict[int, Review] = {}
        self._followers: dict[int, Follower] = {}

    # --- what comes next

    def tasks(self) -> Iterator[tuple[str, Mapping[str, Any]] | None]:
        """What the pool is to carry out, trials that were left first; None: it depends on what still runs."""
        while True:
            trial = self._next()
            if trial is not None:
                self._running.add(trial.number)
                yield trial.tag, self._task(trial)
            elif self._running:
                yield None
            else:
                return

    def _next(self) -> Trial | None:
        """A trial that was left, or a new one; None where there is none now."""
        while self._left and not self.wrong:
            trial = self.trials[self._left.pop(0)]
            if not self._over(trial):
                return trial
        number = len(self.trials)
        if self.wrong or self._whole or number >= self.sweep.settings.trials or not self._settled(number):
            return None
        seen = self.trials if self.sweep.settings.sampler == "grid" else self._before(number)
        drawn = self.drawing.draw(number, seen)
        if drawn is None:
            self._whole = True
            self.notify(f"all {number} combinations have been there")
            return None
        self.trials.append(Trial(number, drawn))
        self.file.add(self.drawing, self.trials[number])
        self.save()
        return self.trials[number]

    def _before(self, number: int) -> list[Trial]:
        """What a trial is drawn from, and measured against."""
        return self.trials[: max(0, number - self.lag + 1)]

    def _settled(self, number: int) -> bool:
        """Whether all that a trial depends on have ended."""
        return all(each.state != "running" for each in self._before(number))

    def _over(self, trial: Trial) -> bool:
        """Whether what a trial told before it was left says already that it stops."""
        if self._look(trial).stop_at is not None:
            self._keep(trial, {"status": "stopped"})
        return trial.state != "running"

    def _task(self, trial: Trial) -> dict[str, Any]:
        """All that the process of one trial needs."""
        sweep, keys = self.sweep, self.drawing.space.keys(trial.drawn)
        own = {fold(key): key for key in keys if fold(key) in ("strategy", "seed")}
        return {
            "tag": trial.tag,
            "runs": str((sweep.directory / RUNS).resolve()),
            "others": str(Repository(sweep.directory.parent).root.resolve()),
            "networks": list(sweep.networks),
            "dataset": sweep.dataset,
            "strategy": keys[own["strategy"]] if "strategy" in own else sweep.plan.strategy.name,
            "settings": dict(sweep.from_file),
            "given": {key: value for key, value in keys.items() if key not in own.values()},
            "seed": sweep.settings.seed,
            "budget": sweep.budget._asdict(),
            "threads": sweep.plan.job.threads,
            "device": sweep.settings.device,
            "plugins": sweep.plan.code_files(),
            "judging": [{**each._asdict(), "name": each.name()} for each in sweep.judging],
        }

    # --- those that run

    def watch(self) -> list[str]:
        """The tags of running trials that are to store and stop."""
        running = [self.trials[number] for number in sorted(self._running)]
        return [each.tag for each in running if self.wrong or self._look(each).stop_at is not None]

    def started(self, tag: str) -> None:
        """Say what a trial begins with."""
        self.notify(f"{tag}: {' '.join(f'{key}={shown(value)}' for key, value in self._tagged(tag).drawn.items())}")

    def ended(self, tag: str, result: Mapping[str, Any], seconds: float) -> None:
        """Keep what became of a trial, and say it."""
        trial = self._tagged(tag)
        self._look(trial)
        self._keep(trial, result)
        self._running.discard(trial.number)
        done = sum(each.state != "running" for each in self.trials)
        whole = max(self.sweep.settings.trials, len(self.trials))
        self.notify(f"{tag}: {self._outcome(trial)}, {format_duration(seconds)} ({done} of {whole})")

    def _look(self, trial: Trial) -> Review:
        """What a trial has told so far, with where it is to stop."""
        by, number = self.sweep.prune_by, trial.number
        review = self._reviews.get(number)
        if review is None:
            review = self._reviews[number] = Review(self.drawing, self._before(number))
            if by is not None:
                self._followers[number] = Follower(self._trace(trial), by)
        if number in self._followers:
            review.look(self._followers[number].read())
        return review

    def _keep(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Decide what a trial has come to. One that was stopped, but not by its pruner, is left to go on."""
        facts: dict[str, Any] = {key: result[key] for key in FACTS if key in result}
        stop_at = self._reviews[trial.number].stop_at
        if stop_at is not None:  # also where it came to its end, or failed, before it was told to stop
            trial.state, facts["prunedAt"] = "pruned", stop_at
        elif result["status"] == "failed":
            trial.state = "failed"
        elif result["status"] == "stopped":
            self._left.append(trial.number)
        else:
            found = verdict(self.sweep.aim, result, self._trace(trial))
            if found.always:
                self.wrong = found.problem
                return
            trial.state, trial.value = ("finished" if found.value is not None else "failed"), found.value
            facts.update({"error": found.problem} if found.problem else {})
        if trial.state != "running":
            self._end(trial, facts)

    def _end(self, trial: Trial, facts: Mapping[str, Any]) -> None:
        review = self._reviews.pop(trial.number)
        self._followers.pop(trial.number, None)
        trial.steps, trial.marks, trial.facts = review.steps, review.marks, plain(facts)
        self.file.end(trial)
        self.save()

    def _outcome(self, trial: Trial) -> str:
        if trial.state == "pruned":
            return f"pruned at iteration {trial.facts['prunedAt']}"
        if trial.state == "failed":
            return f"failed: {trial.facts.get('error', '')}"
        return f"{self.sweep.aim.name} = {format_number(trial.value)}" if trial.value is not None else "stopped"

    def _trace(self, trial: Trial) -> Any:
        return Repository(self.sweep.directory / RUNS).run(trial.tag).trace_path

    def _tagged(self, tag: str) -> Trial:
        return self.trials[int(tag.rpartition("-")[2])]

    # --- what others read

    def save(self) -> None:
        """Write `sweep.json`: what the study has, for whoever reads no SQLite. Raises StoreError."""
        document = {
            "format": FORMAT,
            "tag": self.sweep.tag,
            "asked": {**self.sweep.asked, "lag": self.lag},
            "tasks": {each.tag: described(each) for each in self.trials},
        }
        write_json(self.sweep.directory / SWEEP, document)


def described(trial: Trial) -> dict[str, Any]:
    """A trial as plain values; one that has not ended may run, wait, or be left."""
    status = "pending" if trial.state == "running" else trial.state
    return {"status": status, "value": trial.value, "drawn": trial.drawn, **trial.facts}


def shown(value: Any) -> str:
    """A drawn value, short enough for a line."""
    return format_number(value) if isinstance(value, float) else str(value)
