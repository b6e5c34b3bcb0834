"""Short runs in this process, and what they show: the sessions that the checks of strategies look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from ganglion.engine.assembly import assemble, load_data, resolve_job
from ganglion.engine.checkpoint_files import STATE_PLAIN, STATE_TENSORS, serialise
from ganglion.engine.conformance.results import Failed
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.contracts import DataSpec, LearnProgress
from ganglion.engine.errors import ConfigError, EngineError, StoreError, fold
from ganglion.engine.folders import data_context
from ganglion.engine.job import JobRequest, request
from ganglion.engine.processes import ALONE, Part
from ganglion.engine.resolution import Resolver
from ganglion.engine.session import Session
from ganglion.engine.store import MAY_BE_INFINITE, Store, Weights
from ganglion.engine.trees import same_bytes, unflatten

ITERATIONS = 5  # of the straight run: a term that is due in every third one is due twice
STOP = 2  # where the run that is gone on with stops
OWN_KEYS = ("iterations", "maxIterations", "epochs", "seconds", "tag", "initTag", "clean", "seed", "strategy")


@dataclass(frozen=True)
class Job:
    """What is run: a strategy with networks, data and keys."""

    subject: Subject
    networks: Sequence[str]
    dataset: str
    keys: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in self.keys:
            if fold(key) in {fold(own) for own in OWN_KEYS}:
                raise ConfigError(f"{key}={self.keys[key]}: the conformance kit chooses this itself; leave it out")

    def declared(self) -> tuple[Mapping[str, Any], DataSpec]:
        """What the strategy says of the shapes of its roles for these data, and the data's spec."""
        registry, context = self.subject.registry, data_context(lambda sentence: None)
        asked = self._asked(self.networks, {})
        _, adapted = load_data(resolve_job(registry, asked), context(1))
        plan = Resolver(registry, asked, adapted.spec).plan()
        return dict(plan.strategy_class.shapes(plan.strategy_settings, adapted.spec)), adapted.spec

    @contextmanager
    def session(self, networks: Sequence[str] | None = None, part: Part = ALONE, **changes: Any) -> Iterator[Session]:
        """The job assembled, with other keys where some are given, as a `part` of several processes."""
        asked = self._asked(networks or self.networks, changes)
        session = assemble(self.subject.registry, asked, data_context(lambda sentence: None), part=part)
        try:
            yield session
        finally:
            session.sampler.close()

    def _asked(self, networks: Sequence[str], changes: Mapping[str, Any]) -> JobRequest:
        keys = {"threads": 1, **self.keys, "iterations": ITERATIONS, "seed": 1, "strategy": self.subject.name}
        replaced = {fold(key) for key in changes}
        keys = {key: value for key, value in keys.items() if fold(key) not in replaced}
        return request(list(networks), self.dataset, {**keys, **changes})


def iterate(session: Session, start: int, stop: int, after: Callable[[int], None] | None = None) -> list[LearnProgress]:
    """Carry out the iterations start..stop (half-open) as the learner does; `after` is told how many are done."""
    progress = []
    for number in range(start, stop):
        for chain in session.chains.values():
            chain.begin(number)
        progress.append(session.strategy.process_iteration(number))
        if after is not None:
            after(number + 1)
    return progress


# --- what is kept of a state --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """The bytes of a checkpoint, or why there are none."""

    files: Mapping[str, bytes]
    problem: EngineError | None = None

    def state(self) -> Any:
        """The state, as it comes back from a file. Raises what prevented it from being stored."""
        if self.problem is not None:
            raise Failed(f"its state cannot be stored: {self.problem}")
        return unflatten(json.loads(self.files[STATE_PLAIN]), safetensors.torch.load(self.files[STATE_TENSORS]))

    def _refuse_nothing(self) -> None:
        if not self.files:
            raise Failed(f"its weights cannot be stored: {self.problem}")

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """The networks' weights by role, as they come back from files."""
        self._refuse_nothing()
        roles = [name for name in self.files if name.endswith(".safetensors") and ".ema." not in name]
        return {
            name.removesuffix(".safetensors"): safetensors.torch.load(self.files[name])
            for name in roles
            if name != STATE_TENSORS
        }

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, those of the state included, by file and name."""
        self._refuse_nothing()
        return {
            f"{name.removesuffix('.safetensors')}: {key}": tensor
            for name, content in self.files.items()
            if name.endswith(".safetensors")
            for key, tensor in safetensors.torch.load(content).items()
        }


def keep(session: Session, iteration: int) -> Kept:
    """A checkpoint of the session, in memory; of the weights alone where the state cannot be stored."""
    weights, averaged = session.weights(), session.averaged()
    try:
        state = {"session": session.state_dict()}
        return Kept(serialise(iteration, weights, averaged, state, MAY_BE_INFINITE))
    except EngineError as error:
        problem = error
    try:
        return Kept(serialise(iteration, weights, averaged, {}), problem)
    except EngineError:
        return Kept({}, problem)


def go_on(session: Session, kept: Kept) -> None:
    """Take up a checkpoint, as the learner does."""
    session.load_weights(kept.weights())
    session.load_state_dict(kept.state()["session"])


def difference(one: Kept, other: Kept) -> str | None:
    """The first tensor or plain value in which two checkpoints differ; None where they are the same to the last bit."""
    first, second = one.tensors(), other.tensors()
    for name in [*first, *(name for name in second if name not in first)]:
        if name not in first or name not in second:
            return f"'{name}' is in one of them only"
        if not same_bytes(first[name], second[name]):
            return f"the tensor '{name}'"
    return _plain_difference(json.loads(one.files[STATE_PLAIN]), json.loads(other.files[STATE_PLAIN]), "")


def _plain_difference(one: Any, other: Any, path: str) -> str | None:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(one[key], other[key], f"{path}.{key}") for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(mine, others, f"{path}.{place}") for place, (mine, others) in enumerate(zip(one, other, strict=True))]
    else:
        words = [word for word in path.split(".") if word not in ("", "dict", "object", "session")]
        return None if one == other else f"'{'.'.join(words)}' ({str(one)[:40]} and {str(other)[:40]})"
    return next((found for pair in pairs if (found := _plain_difference(*pair)) is not None), None)


class MemoryStore(Store):
    """A store without a disk: it keeps the last checkpoint."""

    def __init__(self) -> None:
        self.kept: Kept | None = None

    def has_checkpoint(self) -> bool:
        return self.kept is not None

    def save(
        self, iteration: int, weights: Weights, averaged: Weights, state: Mapping[str, Any], pinned: bool, best: bool
    ) -> Path:
        self.kept = Kept(serialise(iteration, weights, averaged, state, MAY_BE_INFINITE))
        return Path()

    def load(self) -> Any:
        raise StoreError("the conformance kit goes back to no checkpoint")
