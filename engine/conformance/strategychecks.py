"""All checks of a strategy, in their order, and the job on which they look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

ANY_ROLE = "MLP"  # what plays a role after which no network is named
DATA = ("Circle", "Ring", "Digits")  # made in no time, or part of what is installed
SMALL = {"size": 256, "testSize": 32}


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
    roles = getattr(subject.thing, "roles", ())
    if networks is None:
        named = [role.title() for role in roles] if isinstance(roles, tuple) else []
        known = {fold(entry.name): entry.name for entry in subject.registry.all("network")}
        networks = [known.get(fold(name), ANY_ROLE) for name in named]
    chosen = [name.strip() for name in networks.split(",")] if isinstance(networks, str) else list(networks)
    small = {} if {"batchsize"} & {fold(key) for key in keys} else {"batchSize": 8}
    if dataset is not None:
        return Job(subject, chosen, dataset, {**small, **keys})
    jobs = [Job(subject, chosen, name, {**small, **_small(subject, name, keys), **keys}) for name in DATA]
    return next((job for job in jobs[:-1] if _fits(job)), jobs[-1])


def _small(subject: Subject, dataset: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that make made data small, where none of them is given."""
    names = {fold(name) for name in settings_of(subject.registry.get("dataset", dataset).thing).model_fields}
    given = {fold(key) for key in keys}
    return {key: value for key, value in SMALL.items() if fold(key) in names and fold(key) not in given}


def _fits(job: Job) -> bool:
    """Whether a strategy learns from such data: if not, it says so before anything begins."""
    try:
        with job.session():
            return True
    except InputError:
        return False
    except (Exception, SystemExit):  # the checks will say what is wrong
        return True
