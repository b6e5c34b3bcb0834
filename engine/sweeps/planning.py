"""What a sweep searches: its keys, ranges, figure and budget, resolved and checked before anything is started."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ganglion.engine.assembly import resolve_job
from ganglion.engine.comparejudging import EVALUATE, Judging, resolve_judging
from ganglion.engine.comparing import BASE, OWN, PICTURE_KEYS, Budget, parse_budget
from ganglion.engine.device import usable_cores
from ganglion.engine.engines import EngineSettings
from ganglion.engine.errors import ConfigError, fold
from ganglion.engine.job import JobRequest, request
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository, check_tag
from ganglion.engine.resolution import Plan
from ganglion.engine.settings import (
    Level,
    Owner,
    describe,
    format_value,
    refuse_unknown,
    resolve,
    setting,
)
from ganglion.engine.suites import merged
from ganglion.engine.sweeps.ranges import Range, is_range, ordered, parse_range
from ganglion.engine.sweeps.space import Space
from ganglion.engine.tags import base_tag

PREFIX = "sweep-"
VALIDATION = "validation"
SHOWING = {  # keys of trials that change nothing in what they come to
    "trace", "traces", "sampleinterval", "samples", "storeinterval", "storeseconds", "keep", "fetchthreads", "download",
}  # fmt: skip
OWN_KEYS = {key: told for key, told in OWN.items() if key not in ("seed", "strategy")}


class SweepSettings(EngineSettings):
    """Keys of `ganglion sweep`; further keys are every trial's, some with a range, evaluate.key the metric's."""

    metric: str | None = setting(
        None, "what is searched for: METRIC.FIGURE:higher or :lower, or validation.loss; none: validation.loss"
    )
    trials: int = setting(20, "how many trials there are to be in all; more go on with what there is", ge=1, le=100_000)
    budget: str = setting("iterations:10000", "how long each trial learns: iterations:N or seconds:T")
    sampler: Literal["tpe", "random", "grid"] = setting(
        "tpe", "how values are drawn: by what earlier trials found, at random, or every combination once"
    )
    seed: int = setting(0, "where the search starts, and the seed of every trial's run", ge=0)
    workers: int | None = setting(None, "trials at the same time; none: one per core", ge=1)
    lag: int | None = setting(
        None,
        "a trial depends on those so many before it and earlier; none: 1 with one worker, else twice the workers",
        ge=1,
    )
    pruner: Literal["none", "median", "halving"] = setting(
        "none", "which trials stop early: worse than the median at the same iteration, or not among the best quarter"
    )
    prune_by: str | None = setting(
        None, "the figure of trace.jsonl that decides, with :higher or :lower; none: validation.loss"
    )
    prune_after: int = setting(0, "iterations before which no trial is stopped", unit="iterations", ge=0)
    device: str = setting("auto", "where the networks learn and are judged")
    tag: str | None = setting(None, "name of the sweep; none: one made of what is searched")
    clean: bool = setting(False, "start the sweep anew, its old runs are removed")

    def without_effect(self) -> Mapping[str, str]:
        idle = "it has no effect without pruner"
        return {} if self.pruner != "none" else {"prune_by": idle, "prune_after": idle}


class Aim(NamedTuple):
    """A figure, and whether a lower one is better."""

    name: str
    lower: bool

    def __str__(self) -> str:
        return f"{self.name}:{'lower' if self.lower else 'higher'}"

    @property
    def validated(self) -> bool:
        """Whether it is a figure of the runs' own validations."""
        return self.name.partition(".")[0] == VALIDATION


@dataclass(frozen=True)
class Sweep:
    """A sweep, resolved."""

    tag: str
    directory: Path
    networks: tuple[str, ...]
    dataset: str
    space: Space
    from_file: Mapping[str, str]
    budget: Budget
    aim: Aim
    judging: tuple[Judging, ...]
    settings: SweepSettings
    prune_by: Aim | None
    plan: Plan  # of a first trial
    plugins: tuple[str, ...]
    asked: Mapping[str, Any]
    command: str = ""

    @property
    def threads(self) -> int:
        """How many threads a trial has."""
        return self.plan.job.threads or 1

    def at_a_time(self, fitting: int | None) -> int:
        """How many trials there are at the same time, where so many fit (None: one per core of this machine)."""
        return self.settings.workers or fitting or max(1, usable_cores() // self.threads)

    def job(self, keys: Mapping[str, str]) -> JobRequest:
        """The job of a trial with these keys."""
        return request(self.networks, self.dataset, keys, {"settings": self.from_file}, self.plugins)


def plan_sweep(
    registry: Registry,
    networks: str | Sequence[str] | None,
    dataset: str | None,
    keys: Mapping[str, str],
    runs: Path | str | None = None,
    command: str = "",
) -> Sweep:
    """Resolve and check all that can be before any data are read; nothing is written. Raises ConfigError."""
    networks, dataset, keys = _names(networks, dataset, keys)
    own, evaluate, others = _sorted_keys(keys)
    settings = _own_settings(own)
    budget = parse_budget(settings.budget)
    given = [(key, text) for key, text in others.items() if is_range(text)]
    ranges = ordered([parse_range(key, text) for key, text in given])
    if not ranges:
        raise ConfigError("no key has a range: give one, e.g. learningRate='log(1e-5,1e-2)'")
    _refuse_grid(settings, ranges)
    fixed = {key: text for key, text in others.items() if key not in dict(given)}
    fixed = merged(fixed, budget.keys(), {"seed": str(settings.seed)})
    pictures = PICTURE_KEYS if PICTURE_KEYS & {*map(fold, others)} else set[str]()
    base = {key: text for key, text in BASE.items() if fold(key) not in pictures}
    from_file = merged(base, {} if settings.device == "auto" else {"device": settings.device})

    def job(keys: Mapping[str, str]) -> Plan:
        return resolve_job(registry, request(networks, dataset, keys, {"settings": from_file}, registry.files))

    space = Space(fixed, ranges, job)
    space.check()
    plan = job(space.keys(space.draw(lambda each: each.probes()[0])))
    aim = _aim("metric", settings.metric or f"{VALIDATION}.loss")
    judging = _judging(registry, aim, evaluate, plan)
    prune_by = _aim("pruneBy", settings.prune_by or _followed(aim)) if settings.pruner != "none" else None
    asked = _asked(plan, fixed, ranges, settings, budget, aim, evaluate, prune_by)
    tag = settings.tag or _tag(plan, asked)
    return Sweep(
        tag=tag,
        directory=Repository(runs).root / check_tag(f"{PREFIX}{tag}"),
        networks=tuple(plan.request.networks),
        dataset=plan.request.dataset,
        space=space,
        from_file=from_file,
        budget=budget,
        aim=aim,
        judging=judging,
        settings=settings,
        prune_by=prune_by,
        plan=plan,
        plugins=registry.files,
        asked=asked,
        command=command,
    )


# --- what is asked for --------------------------------------------------------------------------------------------


def _names(
    networks: str | Sequence[str] | None, dataset: str | None, keys: Mapping[str, str]
) -> tuple[tuple[str, ...], str, dict[str, str]]:
    """Networks and data set, which may stand among the keys. Raises ConfigError where one is missing."""
    named = {fold(key): value for key, value in keys.items() if fold(key) in ("networks", "dataset")}
    rest = {key: value for key, value in keys.items() if fold(key) not in named}
    asked = request(networks, dataset, {**named, "strategy": "-"})
    for name in (*asked.networks, asked.dataset):
        if is_range(name) or "(" in name:
            raise ConfigError(f"'{name}': networks and the data set have no range; a strategy, and every key, may")
    return asked.networks, asked.dataset, rest


def _sorted_keys(keys: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Keys of the sweep, of the evaluation, and of the trials. Raises ConfigError for one that the sweep sets."""
    known = {fold(form) for info in describe(SweepSettings) for form in (info.key, *info.also)}
    own: dict[str, str] = {}
    evaluate: dict[str, str] = {}
    others: dict[str, str] = {}
    for key, value in keys.items():
        head, dot, rest = key.partition(".")
        name = fold(key).removeprefix("job.")
        if name in OWN_KEYS:
            raise ConfigError(f"the key '{key}' is not a trial's: {OWN_KEYS[name]}")
        if dot and fold(head) == EVALUATE:
            evaluate[rest] = value
        elif name in known:
            if is_range(value):
                raise ConfigError(f"{key}={value}: this key is the sweep's, not a trial's: it has no range")
            own[key] = value
        else:
            others[key] = value
    return own, evaluate, others


def _own_settings(own: Mapping[str, str]) -> SweepSettings:
    owners, levels = [Owner("ganglion sweep", SweepSettings)], [Level("command line", own)]
    found = resolve(owners, levels, ())
    refuse_unknown(found.unknown, owners, levels, ())
    settings: SweepSettings = found.settings[0]
    for name, reason in settings.without_effect().items():
        if getattr(settings, name) != SweepSettings.model_fields[name].default:
            key = next(info.key for info in describe(SweepSettings) if info.name == name)
            raise ConfigError(f"{key}={format_value(getattr(settings, name))}: {reason}")
    return settings


def _refuse_grid(settings: SweepSettings, ranges: Sequence[Range]) -> None:
    for each in ranges if settings.sampler == "grid" else ():
        if each.kind not in ("choice", "int"):
            raise ConfigError(f"{each.key}={each}: sampler=grid takes every value, so it needs choice(...) or int(...)")


def _aim(key: str, text: str) -> Aim:
    """The figure that is meant, and which way is better. Raises ConfigError."""
    name, _, better = text.partition(":")
    if name == f"{VALIDATION}.loss":
        better = better or "lower"
    if better not in ("higher", "lower") or not all(name.rpartition(".")[::2]):
        example = "METRIC.FIGURE:higher or :lower, or validation.loss"
        raise ConfigError(f"{key}={text}: expected {example}" if key == "metric" else _pruning(key, text))
    return Aim(name, better == "lower")


def _pruning(key: str, text: str) -> str:
    return f"{key}={text}: expected validation.loss, validation.FIGURE:higher, health.FIGURE:lower, or the like"


def _followed(aim: Aim) -> str:
    """What decides on pruning where nothing is said."""
    return str(aim) if aim.validated else f"{VALIDATION}.loss"


def _judging(registry: Registry, aim: Aim, evaluate: Mapping[str, str], plan: Plan) -> tuple[Judging, ...]:
    if aim.validated:
        if evaluate:
            raise ConfigError(f"{EVALUATE}.{next(iter(evaluate))}: it has no effect with metric={aim.name}")
        return ()
    metric = registry.get("metric", aim.name.rpartition(".")[0]).name
    return resolve_judging(registry, [metric], evaluate, plan.dataset)


def _asked(
    plan: Plan,
    fixed: Mapping[str, str],
    ranges: Sequence[Range],
    settings: SweepSettings,
    budget: Budget,
    aim: Aim,
    evaluate: Mapping[str, str],
    prune_by: Aim | None,
) -> dict[str, Any]:
    """What makes its trials the trials they are, as plain text; more of them may be added."""
    names, spelt = plan.names(), {"seed": "seed", "strategy": "strategy"}
    for key in plan.values:  # one spelling for each key, whatever way it is typed
        spelt |= {fold(key): key, fold(key.rpartition(".")[2]): key.rpartition(".")[2]}
    without = {*SHOWING, "iterations", "seconds"}  # the budget says these
    kept = {fold(key): text for key, text in fixed.items() if fold(key.removeprefix("job.")) not in without}
    pruning = f"{settings.pruner} by {prune_by} after {settings.prune_after}" if prune_by else "none"
    return {
        "networks": ",".join(names["networks"]),
        "dataset": names["dataset"],
        **{spelt.get(key, key): kept[key] for key in sorted(kept)},
        **{spelt.get(fold(each.key), each.key): str(each) for each in sorted(ranges)},
        "budget": str(budget),
        "metric": str(aim),
        **{f"{EVALUATE}.{key}": value for key, value in sorted(evaluate.items())},
        "sampler": settings.sampler,
        "pruner": pruning,
    }


def _tag(plan: Plan, asked: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    return f"{base_tag((), plan.dataset.name, 'sweep').removeprefix(PREFIX)}-{digest}"
