"""The loop: it knows when things happen in a run, and leaves what happens to the strategy, the store and the traces."""

from __future__ import annotations

import json
import math
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.contracts import DataSpec, LearnProgress
from ganglion.engine.dividing import Shards, collected, divided
from ganglion.engine.errors import DivergedError, RunError
from ganglion.engine.health.reader import HealthReader
from ganglion.engine.memory import enough_memory
from ganglion.engine.processes import averaged, this_process, told_by_all, told_by_first
from ganglion.engine.session import REAL_ROWS, Session, make_samples, spread_rows
from ganglion.engine.store import Keeper
from ganglion.engine.streams import RandomStream
from ganglion.engine.team import Pulse
from ganglion.engine.trace import CheckpointStored, Notice, SamplesMade, TracePoint, Traces, Validated
from ganglion.engine.transforms import unscale
from ganglion.engine.validation import can_validate, validate

PICTURE_MOMENTS = 10
ENDLESS_PICTURES = 1000  # iterations between pictures of a run without an end


class Outcome(NamedTuple):
    """How a run ended: `status` is finished or stopped; `signal` is what stopped it, 0 otherwise."""

    iteration: int
    seconds: float
    status: str
    reason: str
    values: Mapping[str, float]
    signal: int = 0


class Learner:
    """Carries out the iterations of one session, from `iteration` on."""

    def __init__(self, session: Session, store: Keeper, traces: Traces) -> None:
        self.session = session
        self.job = session.plan.job
        self.store = store
        self.traces = traces
        self.validates = can_validate(session)
        self.health = HealthReader(session, lambda sentence: traces(Notice(sentence)))
        self.iteration = 0
        self.seconds = 0.0
        self.retries = 0
        self.best: float | None = None
        window = self.job.threshold_window + 1
        self.losses: deque[float] = deque(maxlen=window)
        self.validation_losses: deque[float] = deque(maxlen=window)
        self.values: dict[str, float] = {}
        self.limit = None if self.job.iterations < 0 else self.job.iterations
        self.picture_interval = _picture_interval(self.job.sample_interval, self.limit)
        self._pulse = Pulse(this_process())
        self._shards = {role: held for role, held in session.holders().items() if isinstance(held, Shards)}
        self._signal = 0
        self._began = 0.0
        self._traced = (0, 0.0)
        self._stored_at = 0.0
        self._stopped = False  # whether an alarm of the run's health stops it
        self._over = False  # whether all seconds that the job may learn are used

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """The session's state and the learner's own counters."""
        return {
            "session": self.session.state_dict(),
            "learner": {
                "iteration": self.iteration,
                "seconds": self._seconds(),
                "retries": self.retries,
                "best": self.best,
                "losses": list(self.losses),
                "validation_losses": list(self.validation_losses),
                "health": self.health.state_dict(),
            },
        }

    def load(self, weights: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        if self._shards:
            weights, state = divided(self._shards, weights, state)
        self.session.load_weights(weights)
        self.session.load_state_dict(state["session"])
        own = state["learner"]
        self.iteration, self.seconds = int(own["iteration"]), float(own["seconds"])
        self.retries, self.best = int(own["retries"]), own["best"]
        self.health.load_state_dict(own.get("health", {}))  # runs of an earlier version have none
        for kept, stored in ((self.losses, own["losses"]), (self.validation_losses, own["validation_losses"])):
            kept.clear()
            kept.extend(stored)

    # --- the loop

    @enough_memory(RunError, "a smaller batchSize, generatorDim or network, or fewer samples in a picture,")
    def learn(self) -> Outcome:
        """Iterate to the end, or until stopped. Raises RunError; the last good state is on disk then."""
        self._began = self._stored_at = time.monotonic()
        self._traced = (self.iteration, self._began)
        if self.iteration == 0:
            self.make_pictures()
            self._began = time.monotonic()  # `seconds` are those of learning: the first picture reads a library
        with self._signals():
            reason = self._iterate()
        number = 0 if self._is_last() else self._signal  # a signal during the last iteration stops nothing
        status = "stopped" if number or (self._stopped and not self._is_last()) else "finished"
        return Outcome(self.iteration, self._seconds(), status, reason, self.values, number)

    def _iterate(self) -> str:
        process = self.session.strategy.process_iteration
        falling = [chain for chain in self.session.chains.values() if chain.falls]
        alone = not self._pulse.shared
        event, alarm, reading = self._next_event(), self._alarm(), self.health.following(self.iteration, self.limit)
        while self.limit is None or self.iteration < self.limit:
            for chain in falling:
                chain.begin(self.iteration)
            if self.iteration + 1 == reading:
                self.health.watch()
            progress = process(self.iteration)
            self.iteration += 1
            if self.iteration >= event or (alone and (self._signal or time.monotonic() > alarm)):
                reason = self._attend(progress, self.iteration >= event)
                if reason is not None:
                    return reason
                event, alarm = self._next_event(), self._alarm()
                reading = self.health.following(self.iteration, self.limit)
        return "all iterations done"

    def _attend(self, progress: LearnProgress, due: bool) -> str | None:
        """Whatever is due after this iteration; the reason to stop, if there is one."""
        try:
            store = self._look_up()
            reason = self._due(progress) if due or self._over else None
            if self._over:
                reason = reason or f"its {self.job.seconds:g} seconds are over"
            elif self._signal:
                reason = f"stopped by {signal.Signals(self._signal).name}"
            if reason or self._is_last() or store:
                self.store_now()
            return reason
        except DivergedError as error:
            self._retry(error)
            return None

    def _look_up(self) -> bool:
        """What the clock and signals ask for, of whichever process they ask it; whether a checkpoint is due."""
        over = self.job.seconds is not None and self._seconds() >= self.job.seconds
        store = self._store_due()
        if self._pulse.shared:
            self._signal, over, store = self._pulse.agree(self.iteration, self._signal, over, store)
        self._over = over
        return store

    def _due(self, progress: LearnProgress) -> str | None:
        number, job, reason, last = self.iteration, self.job, None, self._is_last()
        if last or number % job.trace_interval == 0:
            reason = self._trace(progress)
        if self.health.due(number, last):
            reason = self._read_health() or reason
        if self.validates and (last or number % job.validation_interval == 0):
            reason = self._validate() or reason
        if self.picture_interval and (last or number % self.picture_interval == 0):
            self.make_pictures()
        return reason

    def _next_event(self) -> int:
        intervals = [self.job.trace_interval, self.picture_interval, self.job.store_interval]
        if self.validates:
            intervals.append(self.job.validation_interval)
        following = [(self.iteration // interval + 1) * interval for interval in intervals if interval]
        if self._pulse.shared:
            following.append(self._pulse.following(self.iteration))
        return min(following if self.limit is None else [*following, self.limit])

    def _is_last(self) -> bool:
        """Whether nothing comes after this iteration: all are done, or the time is over."""
        return self._over or (self.limit is not None and self.iteration >= self.limit)

    def _alarm(self) -> float:
        """When the clock next asks for something: the next timed checkpoint, or the end of the time to learn."""
        ends = [self._stored_at + (self.job.store_seconds or math.inf)]
        if self.job.seconds is not None:
            ends.append(self._began + self.job.seconds - self.seconds)
        return min(ends)

    def _store_due(self) -> bool:
        interval = self.job.store_interval
        timed = self.job.store_seconds and time.monotonic() - self._stored_at > self.job.store_seconds
        return bool(timed or (interval and self.iteration % interval == 0))

    # --- what happens

    def _trace(self, progress: LearnProgress) -> str | None:
        self.values = read_values(progress.values)
        self._pass_on()
        now = time.monotonic()
        iterations, since = self.iteration - self._traced[0], now - self._traced[1]
        self._traced = (self.iteration, now)
        rate = iterations / since if since > 0 else 0.0
        self.traces(TracePoint(self.iteration, self._seconds(), rate, self.values))
        wrong = [name for name, value in self.values.items() if not math.isfinite(value)]
        if wrong:
            raise DivergedError(f"{wrong[0]} is {self.values[wrong[0]]} at iteration {self.iteration}")
        self.losses.append(next(iter(self.values.values()), 0.0))
        return _stalled(self.losses, self.job.loss_threshold, "loss")

    def _pass_on(self) -> None:
        """What has happened to the data, in whichever process: said, and recorded."""
        sentences = self.session.factory.told()
        if this_process().count > 1 and self.session.data.train.streamed() is not None:
            every = [json.loads(each) for each in told_by_all(json.dumps(sentences).encode())]
            sentences = list(dict.fromkeys(sentence for told in every for sentence in told))
        if sentences:
            for sentence in sentences:
                if sentence in self.session.said:  # as the data were loaded: once is enough
                    self.session.said.remove(sentence)
                else:
                    self.traces(Notice(sentence))
            self.store.note(sentences)

    def _validate(self) -> str | None:
        values = alike(validate(self.session))
        loss = values.get("loss", math.nan)
        if math.isnan(loss):
            raise DivergedError(f"the validation loss is not a number at iteration {self.iteration}")
        best = self.best is None or loss < self.best
        self.validation_losses.append(loss)
        self.traces(Validated(self.iteration, values, best))
        if best:
            self.best = loss
            self.store_now(best=True)
        return _stalled(self.validation_losses, self.job.validation_loss_threshold, "validation loss")

    def _read_health(self) -> str | None:
        reading = self.health.read(self.iteration, self.values)
        self.traces(reading)
        fatal = [alarm.sentence for alarm in reading.alarms if alarm.kind in self.job.stop_on]
        reason = fatal[0] if fatal else ""
        if this_process().count > 1:  # all stop or none: statistics of each process's own rows show different figures
            reason = told_by_first(None if this_process().rank else reason.encode()).decode()
        self._stopped = bool(reason)
        return reason or None

    def make_pictures(self) -> None:
        """Samples from the noise of stream `pictures`, always the same, for the traces to draw."""
        session = self.session
        follows = this_process().rank and not self._shards  # a divided network computes in all processes
        if not self.picture_interval or not session.strategy.generates() or follows:
            return
        count = self.job.samples or (500 if session.spec.kind == "vector" else 64)
        stream = RandomStream(session.plan.job.seed, "pictures", session.streams.device)
        with session.judging():
            noise = session.strategy.noise(count, stream)
            if noise is None:
                return
            samples, real = make_samples(session.strategy, noise), spread_rows(session.data.plain, REAL_ROWS * count)
        samples, real = (unscale(each, session.spec.value_range, session.data_range) for each in (samples, real))
        self.traces(SamplesMade(self.iteration, samples, real, self._data_spec()))

    def _data_spec(self) -> DataSpec:
        return replace(self.session.spec, value_range=self.session.data_range)

    def store_first(self) -> None:
        """The state before iteration 0, so that there is always something to go back to."""
        self._began = time.monotonic()
        if not self.store.has_checkpoint():
            self.store_now()

    def store_now(self, best: bool = False) -> None:
        """Write a checkpoint of the state after `iteration` iterations. Raises DivergedError where it is not finite."""
        interval = self.job.store_interval
        kept = bool(interval and self.iteration and self.iteration % interval == 0)
        held: tuple[Any, Any, Any] = (self.session.weights(), self.session.averaged(), self.state_dict())
        if self._shards:
            held = collected(self._shards, *held)
        directory = self.store.save(self.iteration, *held, kept, best)
        self._stored_at = time.monotonic()
        self.traces(CheckpointStored(self.iteration, directory))

    def _retry(self, error: DivergedError) -> None:
        """Back to the last good checkpoint with smaller learning rates, as often as nanRetry allows."""
        failed = self.iteration
        if self.retries >= self.job.nan_retry:
            hint = "; nanRetry=3 would go back and lower the learning rate" if not self.job.nan_retry else ""
            raise DivergedError(f"{error}; the last good state is kept{hint}") from None
        retries = self.retries + 1
        seconds = self._seconds()
        checkpoint = self.store.load()
        self.store.take_up(checkpoint)
        self.load(checkpoint.networks, checkpoint.state)
        for sentence in checkpoint.notices:
            self.traces(Notice(sentence))
        self.retries, self.seconds = retries, seconds
        self._began = time.monotonic()
        self._traced = (self.iteration, self._began)
        for chain in self.session.chains.values():
            chain.lower_learning_rate(self.job.nan_factor)
        self.store_now()
        self.traces(
            Notice(
                f"{error}: back from iteration {failed} to {self.iteration}, learning rates times "
                f"{self.job.nan_factor:g} (retry {retries} of {self.job.nan_retry})"
            )
        )

    # --- time and signals

    def _seconds(self) -> float:
        return self.seconds + (time.monotonic() - self._began if self._began else 0.0)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM store and stop; a second SIGINT stops at once."""
        try:
            before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: the caller's signals are its own
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number


def read_values(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Progress on the host: one transfer for all values."""
    if not values:
        return {}
    if this_process().count > 1:
        values = {name: averaged(value.detach()) for name, value in values.items()}
    devices = {value.device for value in values.values()}
    if len(devices) > 1:
        return {name: float(value) for name, value in values.items()}
    numbers = torch.stack(
        [value.detach().to(torch.float64 if value.device.type == "cpu" else torch.float32) for value in values.values()]
    )
    return dict(zip(values, numbers.tolist(), strict=True))


def alike(values: dict[str, float]) -> dict[str, float]:
    """The means of figures over the processes: what each decides by them must be the same in all."""
    if this_process().count == 1:
        return values
    every: list[dict[str, float]] = [json.loads(each) for each in told_by_all(json.dumps(values).encode())]
    return {name: sum(each[name] for each in every) / len(every) for name in values}


def _stalled(losses: deque[float], threshold: float | None, name: str) -> str | None:
    """Why to stop, where the losses, of which the last few are kept, are all there and hardly fall any more."""
    if threshold is None or len(losses) != losses.maxlen:
        return None
    window = len(losses) - 1
    fallen = losses[0] - losses[-1]
    if fallen >= threshold:
        return None
    return f"the {name} has fallen by {fallen:.4g}, less than {threshold:g}, over the last {window} readings"


def _picture_interval(wanted: int | None, limit: int | None) -> int:
    if wanted is not None:
        return wanted
    return ENDLESS_PICTURES if limit is None else max(1, limit // PICTURE_MOMENTS)
