"""All checks of a strategy, in their order, and the job on which they look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ganglion.engine.conformance.courses import Job
from ganglion.engine.conformance.declared import DECLARED
from ganglion.engine.conformance.results import Check, Finding, carry_out
from ganglion.engine.conformance.strategykeeping import KEEPING
from ganglion.engine.conformance.strategyrunning import RUNNING
from ganglion.engine.conformance.strategytrial import StrategyTrial
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.conformance.watching import contained
from ganglion.engine.errors import InputError, fold
from ganglion.engine.resolution import settings_of


class Tried(NamedTuple):
    """Data made in no time, or part of what is installed; what plays a role that no network is named after; keys."""

    dataset: str
    others: tuple[str, ...] = ("MLP",)
    keys: tuple[tuple[str, Any], ...] = ()


DATA = (
    Tried("Circle"),
    Tried("Ring"),
    Tried("Sine", ("Recurrent", "MLP"), (("length", 48), ("classes", 2))),
    Tried("Digits"),
)
SIZES = {"size": 256, "testSize": 32}


def examine_strategy(
    subject: Subject,
    networks: Sequence[str] | str | None,
    dataset: str | None,
    keys: Mapping[str, Any],
    skip: Sequence[str] = (),
) -> list[Finding]:
    """The findings of every check. Raises InputError where the job cannot be put together."""
    with contained():
        job = _job(subject, networks, dataset, keys)
        return carry_out(CHECKS, StrategyTrial(subject, job), skip)


CHECKS: tuple[Check, ...] = (*DECLARED, *RUNNING, *KEEPING)


def _job(subject: Subject, networks: Sequence[str] | str | None, dataset: str | None, keys: Mapping[str, Any]) -> Job:
    small = {} if {"batchsize"} & {fold(key) for key in keys} else {"batchSize": 8}
    if dataset is not None:
        return Job(subject, _networks(subject, networks, "MLP")[0], dataset, {**small, **keys})
    jobs = [
        Job(subject, chosen, tried.dataset, {**small, **_small(subject, tried, keys), **keys})
        for tried in DATA
        for other in tried.others
        for chosen in _networks(subject, networks, other)
    ]
    return next((job for job in jobs if _fits(job)), jobs[-1])


def _networks(subject: Subject, networks: Sequence[str] | str | None, other: str) -> list[list[str]]:
    """Those that are given; else those named after the roles, with `other` for the rest, and then `other` for all."""
    if networks is not None:
        return [[name.strip() for name in networks.split(",")] if isinstance(networks, str) else list(networks)]
    roles = getattr(subject.thing, "roles", ())
    named = [role.title() for role in roles] if isinstance(roles, tuple) else []
    known = {fold(entry.name): entry.name for entry in subject.registry.all("network")}
    return [[known.get(fold(name), other) for name in named], [other] * len(named)]


def _small(subject: Subject, tried: Tried, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that make made data small, where none of them is given."""
    names = {fold(name) for name in settings_of(subject.registry.get("dataset", tried.dataset).thing).model_fields}
    given = {fold(key) for key in keys}
    wanted = {**SIZES, **dict(tried.keys)}
    return {key: value for key, value in wanted.items() if fold(key) in names and fold(key) not in given}


def _fits(job: Job) -> bool:
    """Whether a strategy learns from such data: if not, it says so before anything begins."""
    try:
        with job.session():
            return True
    except InputError:
        return False
    except (Exception, SystemExit):  # the checks will say what is wrong
        return True
