"""The runs that the checks of one strategy share, each made when first asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy
import torch
from torch import Tensor

from ganglion.engine.conformance.attributes import unsaved_prints
from ganglion.engine.conformance.courses import ITERATIONS, STOP, Job, Kept, go_on, iterate, keep
from ganglion.engine.conformance.referee import Referee
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.conformance.watching import SharedGenerators, Watch, watching
from ganglion.engine.contracts import DataSpec, LearnProgress, RoleShape
from ganglion.engine.session import Session
from ganglion.engine.streams import stream_seed


@dataclass
class Straight:
    """The straight run: its end, its middle, what it reported, and what the referee saw."""

    progress: list[LearnProgress]
    referee: Referee
    began: dict[str, dict[str, Tensor]]
    middle: Kept
    end: Kept
    changed_unsaved: list[str]
    session: Session
    shapes: dict[str, RoleShape]
    spec: DataSpec


@dataclass
class Repeated:
    """The same run again, watched: what the host read, who drew from where, and its end."""

    end: Kept
    watch: Watch
    shared: list[str]
    seeded: bool
    progress: list[LearnProgress]


@dataclass
class StrategyTrial:
    """One strategy and its job."""

    subject: Subject
    job: Job
    _straight: dict[str, Any] = field(default_factory=dict)

    @property
    def strategy(self) -> Any:
        return self.subject.thing

    @cached_property
    def straight(self) -> Straight:
        """From iteration 0 to the end, with the referee."""
        with self.job.session() as session:
            referee, middle, prints = Referee(session), list[Kept](), dict[str, str]()

            def after(done: int) -> None:
                referee.end_of_iteration()
                if done == STOP:
                    middle.append(keep(session, done))
                    prints.update(unsaved_prints(session.strategy))

            began = {role: dict(network.state_dict()) for role, network in session.networks.items()}
            began = {role: {name: value.clone() for name, value in own.items()} for role, own in began.items()}
            with referee.watching():
                progress = iterate(session, 0, ITERATIONS, after)
            now = unsaved_prints(session.strategy)
            changed = [path for path, value in prints.items() if now.get(path, value) != value]
            settings, spec = session.plan.strategy_settings, session.spec
            shapes = dict(type(session.strategy).shapes(settings, spec))
            end = keep(session, ITERATIONS)
            return Straight(progress, referee, began, middle[0], end, changed, session, shapes, spec)

    @cached_property
    def repeated(self) -> Repeated:
        """The same again, with Python's and NumPy's generators elsewhere, from the first iteration on watched."""
        random.seed(12345)
        numpy.random.seed(12345)
        shared = SharedGenerators()
        with self.job.session() as session:
            with watching() as first:  # what it reads is its own business: lazy set-up may
                progress = iterate(session, 0, 1)
            with watching() as watch:
                progress += iterate(session, 1, ITERATIONS)
            watch.draws[:0] = first.draws
            seeded = torch.initial_seed() != stream_seed(session.streams.seed, "network")
            return Repeated(keep(session, ITERATIONS), watch, shared.changed(), seeded, progress)

    @cached_property
    def resumed(self) -> Kept:
        """From the middle of the straight run to the end, in a session that was assembled anew."""
        with self.job.session() as session:
            go_on(session, self.straight.middle)
            iterate(session, STOP, ITERATIONS)
            return keep(session, ITERATIONS)
