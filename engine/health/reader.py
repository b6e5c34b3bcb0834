"""Reads a run's health at trace points, and leaves everything that learns as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.contracts import Batch
from ganglion.engine.dividing import Shards, norm_of
from ganglion.engine.health.alarms import Diagnosis
from ganglion.engine.health.figures import Reference, contest, diversity, ranges, reference_of
from ganglion.engine.health.watching import Watch
from ganglion.engine.links import Clamp
from ganglion.engine.processors import ProcessorChain
from ganglion.engine.session import GENERATE_ROWS, Session
from ganglion.engine.streams import RandomStream, undisturbed
from ganglion.engine.trace import HealthRead

USUAL = 500  # iterations between readings, where the job does not say: rare enough for the shortest iterations
ROWS = 128  # real rows and samples that are compared
FEWEST = 8
VALUES = 2**22  # of those rows together
FEWEST_SCORES = 32  # rows that scores are compared of
AT_BOUND = 0.999  # of the clip bound, from where on a weight is at it

STREAM = "health"


class HealthReader:
    """Reads the health of a session every `interval` iterations; 0: never. It draws from its own stream only."""

    def __init__(self, session: Session, notify: Callable[[str], None]) -> None:
        self.session = session
        self.notify = notify
        self.interval = interval_of(session.plan.job)
        self.diagnosis = Diagnosis()
        self._reference: Reference | None = None
        self._watches: dict[str, Watch] = {}
        self._silent = False  # whether scores were asked for in vain

    def state_dict(self) -> dict[str, Any]:
        """What alarms remember of earlier readings."""
        return self.diagnosis.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; an empty state begins anew."""
        self._unwatch()
        self.diagnosis = Diagnosis()
        if state:
            self.diagnosis.load_state_dict(state)

    # --- when

    def following(self, iteration: int, limit: int | None) -> int | None:
        """After how many iterations the next reading is due: at the interval, and at the end of what is longer."""
        if not self.interval:
            return None
        usual = (iteration // self.interval + 1) * self.interval
        return usual if limit is None or limit < self.interval else min(usual, limit)

    def due(self, iteration: int, last: bool) -> bool:
        """Whether health is read after `iteration` iterations, which may be the last."""
        return bool(self.interval) and (iteration % self.interval == 0 or (last and iteration > self.interval))

    def watch(self) -> None:
        """Let the chains note the updates of the iteration that is about to begin."""
        self._watches = {role: Watch(norm_of(chain.network)) for role, chain in self.session.chains.items()}
        for role, chain in self.session.chains.items():
            chain.watch = self._watches[role]

    def _unwatch(self) -> dict[str, Watch]:
        """Let no chain note anything any more, and return what was noted."""
        noted, self._watches = self._watches, {}
        for chain in self.session.chains.values():
            chain.watch = None
        return noted

    # --- what

    def read(self, iteration: int, progress: Mapping[str, float]) -> HealthRead:
        """The figures after `iteration` iterations, of which the last was watched, and what is wrong."""
        noted = self._unwatch()
        found: dict[str, Tensor] = {**updates(noted), **self._clipped(), **self._scored(), **self._made()}
        values = on_the_host(found)
        values.update(gradient_ratio([values.get(f"{role}.gradient") for role in self.session.chains]))
        values["rateLeft"] = min(chain.rate_left() for chain in self.session.chains.values())
        return self.diagnosis.read(iteration, values, progress)

    def _clipped(self) -> dict[str, Tensor]:
        """The share of weights at the bound, where a chain has one."""
        return {
            f"{role}.clipped": share_at(chain, link.settings.clamp)
            for role, chain in self.session.chains.items()
            for link in chain.links
            if isinstance(link, Clamp) and chain.parameters
        }

    def _scored(self) -> dict[str, Tensor]:
        """The contest of scores, in the mode in which the networks learn; nothing for a strategy without one."""
        if self._silent:
            return {}
        size = self.session.sampler.batch_size
        rows = self._rows(size * max(1, math.ceil(FEWEST_SCORES / size)))
        stream = RandomStream(self.session.plan.job.seed, f"{STREAM}.noise", self.session.streams.device)
        with left_as_it_was(self.session.networks):
            try:
                scores = self.session.strategy.appraise(rows, stream)
            except Exception as error:  # what only watches must not end a run that learns
                self.notify(f"health: the strategy's scores cannot be read ({type(error).__name__}: {error})")
                scores = None
        self._silent = scores is None
        return {} if scores is None else dict(contest(*scores))

    def _made(self) -> dict[str, Tensor]:
        """Samples, always from the same noise, beside real rows, always the same."""
        session = self.session
        count = min(ROWS, VALUES // max(1, math.prod(session.spec.shape)), len(session.data.plain))
        if count < FEWEST or not session.strategy.generates():
            return {}
        with session.judging():
            noise = session.strategy.noise(count, RandomStream(session.plan.job.seed, STREAM, session.streams.device))
            if noise is None:
                return {}
            samples = torch.cat([session.strategy.generate(part).float() for part in noise.split(GENERATE_ROWS)])
            if self._reference is None:
                self._reference = reference_of(self._rows(count).input.float().to(samples.device), session.spec)
            return {**diversity(samples, self._reference), **ranges(samples, self._reference, session.spec)}

    def _rows(self, count: int) -> Batch:
        """The same real rows every time, as they are without anything drawn for them."""
        session, seed = self.session, self.session.plan.job.seed
        chosen = RandomStream(seed, f"{STREAM}.rows", torch.device("cpu")).integers(len(session.data.plain), count)
        return session.data.plain.rows(chosen).map(lambda rows: rows.to(session.sampler.device))


def interval_of(job: Any) -> int:
    """Iterations between readings."""
    points = -(-USUAL // job.trace_interval) if job.health_interval is None else job.health_interval
    return int(points * job.trace_interval)


def gradient_ratio(norms: Sequence[float | None]) -> dict[str, float]:
    """How much longer the first player's gradient is than the second's, where there are two."""
    first, second = norms if len(norms) == 2 else (None, None)
    return {} if first is None or not second else {"gradientRatio": first / second}


def updates(noted: Mapping[str, Watch]) -> dict[str, Tensor]:
    """The norm of each role's gradient, and its step as a share of its weights, where the role learnt at all."""
    found = {}
    for role, watch in noted.items():
        noted_here = {f"{role}.gradient": watch.gradient, f"{role}.update": watch.step}
        found.update({name: value for name, value in noted_here.items() if value is not None})
    return found


def share_at(chain: ProcessorChain, bound: float) -> Tensor:
    """The share of a chain's weights that are at the bound."""
    counts = [(weights.detach().abs() >= AT_BOUND * bound).sum() for weights in chain.parameters]
    at, size = torch.stack(counts).sum(), sum(weights.numel() for weights in chain.parameters)
    return chain.network.share(at, size) if isinstance(chain.network, Shards) else at / size


def on_the_host(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The figures as numbers: one transfer per device."""
    found: dict[str, float] = {}
    for device in {value.device for value in values.values()}:
        names = [name for name, value in values.items() if value.device == device]
        numbers = torch.stack([values[name].detach().float() for name in names]).tolist()
        found.update(zip(names, numbers, strict=True))
    return {name: found[name] for name in values}


@contextmanager
def left_as_it_was(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """No gradients; buffers, which batch statistics and spectral norms move, and all randomness are put back."""
    entries = [
        (module._buffers, name, buffer, buffer.clone())
        for network in networks.values()
        for module in network.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with undisturbed(), torch.no_grad():
        try:
            yield
        finally:
            for owner, name, buffer, before in entries:
                owner[name] = buffer.copy_(before)
