"""What can be known of a sweep once its data are read: which keys a trial has, and that a first one can begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ganglion.engine.assembly import assemble, load_data, resolve_job
from ganglion.engine.comparejudging import refuse_judges
from ganglion.engine.contracts import DataSpec
from ganglion.engine.data import check_finite
from ganglion.engine.errors import ConfigError, suggestion
from ganglion.engine.folders import data_context
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.resolution import Plan, Resolver
from ganglion.engine.session import Session
from ganglion.engine.streams import undisturbed
from ganglion.engine.sweeps.planning import VALIDATION, Aim, Sweep
from ganglion.engine.sweeps.space import Space
from ganglion.engine.validation import can_validate


def space_with_data(registry: Registry, sweep: Sweep, notify: Callable[[str], None]) -> Space:
    """The sweep's space, checked with the data: only they tell which penalty, say, a strategy has by itself.

    Raises InputError.
    """
    context, specs = data_context(notify), dict[str, DataSpec]()

    def job(keys: Mapping[str, str]) -> Plan:
        asked = sweep.job(keys)
        plan = resolve_job(registry, asked)
        what = repr((plan.dataset_settings, plan.adapters))  # these may have ranges, too
        if what not in specs:
            with undisturbed():
                specs[what] = load_data(plan, context(plan.job.seed))[1].spec
        return Resolver(registry, asked, specs[what]).plan()

    space = Space(sweep.space.fixed, sweep.space.ranges, job)
    space.check()
    return space


def rehearse(registry: Registry, sweep: Sweep, keys: Mapping[str, str], notify: Callable[[str], None]) -> list[str]:
    """Assemble a trial, so that what cannot begin is refused before anything is written; what is said of it.

    Raises InputError.
    """
    if sweep.judging:
        refuse_judges(registry, sweep.judging, Repository(sweep.directory.parent))
    threads = torch.get_num_threads()
    try:
        with undisturbed():
            session = assemble(registry, sweep.job(keys), data_context(notify))
            try:
                _check(sweep, session)
                return list(session.notices)
            finally:
                session.sampler.close()
    finally:
        torch.set_num_threads(threads)


def _check(sweep: Sweep, session: Session) -> None:
    for part in (session.data.train, session.data.validation, session.data.test):
        if part is not None:
            check_finite(part, sweep.dataset)
    for key, aim in (("metric", sweep.aim), ("pruneBy", sweep.prune_by)):
        if aim is not None and aim.validated:
            _check_validated(key, aim, session)


def _check_validated(key: str, aim: Aim, session: Session) -> None:
    """Raise ConfigError where the runs' validations do not say the figure."""
    strategy, figure = session.plan.strategy.name, aim.name.partition(".")[2]
    other = "METRIC.FIGURE:higher" if key == "metric" else "health.FIGURE:higher, or another of trace.jsonl"
    if session.data.validation is None:
        raise ConfigError(
            f"{key}={aim.name}: the data have no validation rows; name some with validationSet=START,END, "
            f"or give {key}={other}"
        )
    if not can_validate(session):
        raise ConfigError(f"{key}={aim.name}: strategy {strategy} has no loss on unseen rows; give {key}={other}")
    rows = torch.arange(min(2, len(session.data.validation)))
    with session.judging():
        batch = session.data.validation.rows(rows).map(lambda tensor: tensor.to(session.sampler.device))
        names = list(session.strategy.validate(batch))
    if figure not in names:
        known = [f"{VALIDATION}.{name}" for name in names]
        raise ConfigError(f"{key}={aim.name}: strategy {strategy} has no such figure{suggestion(aim.name, known)}")
