"""What a comparison compares: entries, seeds, budget and figures, resolved and checked before anything is started."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ganglion.engine.assembly import resolve_job
from ganglion.engine.comparejudging import EVALUATE, FigureChoice, Judging, resolve_figure, resolve_judging
from ganglion.engine.device import usable_cores
from ganglion.engine.engines import EngineSettings
from ganglion.engine.errors import ConfigError, EngineError, fold, suggestion
from ganglion.engine.job import refuse_code, request
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository, check_tag
from ganglion.engine.resolution import Plan
from ganglion.engine.resuming import FREE_KEYS
from ganglion.engine.settings import (
    Level,
    Owner,
    describe,
    format_value,
    parse_value,
    resolve,
    setting,
)
from ganglion.engine.suites import Suite, SuiteEntry, merged, read_suite, shipped_suites
from ganglion.engine.tags import base_tag, is_tag

PREFIX = "compare-"
OWN = {  # keys of a job that a comparison sets itself, and what to write for them
    "seed": "seeds=5 or seeds=0,3,7 says which",
    "iterations": "budget=iterations:N says how long all of them learn",
    "maxiterations": "budget=iterations:N says how long all of them learn",
    "epochs": "budget=iterations:N says how long all of them learn",
    "seconds": "budget=seconds:T says how long all of them learn",
    "inittag": "every run of a comparison starts afresh",
    "strategy": "the entries name the strategies",
}
BASE = {  # unless something else is asked for
    "traces": "lines",
    "sampleInterval": "0",
    "threads": "1",
    "execution": "eager",  # `auto` measures, and runs beside each other disturb that
    "keep": "1",
}
HEADS = ("data", "job", "role", "chain")  # what keys begin with, and labels cannot be
PICTURE_KEYS = {"traces", "sampleinterval"}


class CompareSettings(EngineSettings):
    """Keys of `ganglion compare`; further keys are every job's, LABEL.key one entry's, evaluate.key the metrics'."""

    dataset: str | None = setting(None, "the data set, where it is not named after the entries")
    networks: str | None = setting(None, "networks of every entry that names none, one per role")
    entries: tuple[str, ...] = setting((), "labels of the suite's entries that take part; none: all")
    seeds: str = setting("10", "how many seeds, from 0 on, or a list of them")
    budget: str = setting("iterations:10000", "how long each run learns: iterations:N or seconds:T")
    workers: int | None = setting(None, "runs at the same time; none: one per core", ge=1)
    against: str | None = setting(None, "the entry that every other is tested against; none: the first")
    metrics: tuple[str, ...] = setting((), "which metrics judge; none: every one that fits")
    figures: tuple[str, ...] = setting((), "metric.figure, with :higher or :lower where one is better; none: all")
    device: str = setting("auto", "where the networks learn and are judged")
    tag: str | None = setting(None, "name of the comparison; none: one made of what is compared")
    clean: bool = setting(False, "start the comparison anew, its old runs are removed")


class Budget(NamedTuple):
    """How long every run learns."""

    kind: Literal["iterations", "seconds"]
    amount: float

    def keys(self) -> dict[str, str]:
        """The keys of a job that say so."""
        if self.kind == "iterations":
            return {"iterations": str(int(self.amount))}
        return {"seconds": format_value(self.amount), "iterations": "-1"}

    def __str__(self) -> str:
        return f"{self.kind}:{format_value(self.amount)}"


@dataclass(frozen=True)
class Entry:
    """One strategy with its settings, as it takes part."""

    label: str
    strategy: str
    networks: tuple[str, ...]
    settings: Mapping[str, str]  # from the suite
    given: Mapping[str, str]  # from the command line
    plan: Plan

    def identity(self) -> dict[str, Any]:
        """What makes its runs the runs they are, as plain text."""
        values = {key: format_value(value) for key, value in self.plan.values.items()}
        names = {key: ",".join(name) if isinstance(name, list) else name for key, name in self.plan.names().items()}
        kept = {key: value for key, value in values.items() if fold(key.removeprefix("job.")) not in FREE_KEYS}
        return {**names, **dict(sorted(kept.items()))}


@dataclass(frozen=True)
class Comparison:
    """A comparison, resolved."""

    tag: str
    directory: Path
    dataset: str
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    budget: Budget
    against: str
    judging: tuple[Judging, ...]
    figures: tuple[FigureChoice, ...]
    evaluate: Mapping[str, str]
    workers: int | None  # None: as many as fit
    clean: bool
    device: str
    plugins: tuple[str, ...]
    engine: EngineSettings
    command: str = ""
    notices: tuple[str, ...] = ()

    def threads(self) -> int:
        """How many threads a run has at most."""
        return max(entry.plan.job.threads or 1 for entry in self.entries)

    def at_a_time(self, fitting: int | None) -> int:
        """How many runs there are at the same time, where so many fit (None: one per core of this machine)."""
        return self.workers or fitting or max(1, usable_cores() // self.threads())

    def tasks(self) -> list[tuple[Entry, int]]:
        """Every run, all entries of one seed before the next seed: what is done first is a comparison already."""
        return [(entry, seed) for seed in self.seeds for entry in self.entries]


def plan_comparison(
    registry: Registry,
    entries: str | Sequence[str],
    dataset: str | None,
    keys: Mapping[str, str],
    runs: Path | str | None = None,
    command: str = "",
) -> Comparison:
    """Resolve and check all that is asked for; nothing is written. Raises ConfigError."""
    suite = _suite(registry, entries)
    labels = _labels(registry, suite.entries)
    own, shared, evaluate, by_label = _sorted_keys(keys, labels)
    own = own if dataset is None else {**own, "dataset": dataset}
    settings = _own_settings(suite, own)
    if settings.dataset is None:
        raise ConfigError("no data set: name one after the entries, e.g. Ring ('ganglion list dataset')")
    budget, seeds = parse_budget(settings.budget), _seeds(settings.seeds)
    chosen = [_label(name, labels, "entries") for name in settings.entries] or list(suite.entries)
    made = tuple(
        _entry(registry, label, suite, settings, merged(shared, by_label.get(label, {})), budget)
        for label in dict.fromkeys(chosen)
    )
    from_suite, figures = _of_metrics(registry, suite, settings, own)
    evaluate = merged(from_suite, evaluate)
    judging = resolve_judging(registry, settings.metrics, evaluate, made[0].plan.dataset)
    named = [entry.label for entry in made]
    against, notices = _against(settings, own, named, labels)
    tag = settings.tag or _tag(made, budget)
    return Comparison(
        tag=tag,
        directory=Repository(runs).root / check_tag(f"{PREFIX}{tag}"),
        dataset=made[0].plan.dataset.name,
        entries=made,
        seeds=seeds,
        budget=budget,
        against=against,
        judging=judging,
        figures=tuple(resolve_figure(registry, text, judging) for text in figures),
        evaluate=evaluate,
        workers=settings.workers,
        clean=settings.clean,
        device=settings.device,
        plugins=registry.files,
        command=command,
        notices=notices,
        engine=settings,
    )


# --- what is asked for --------------------------------------------------------------------------------------------


def _suite(registry: Registry, wanted: str | Sequence[str]) -> Suite:
    """The suite that is named, or one of the strategies that are. Raises ConfigError."""
    names = [name.strip() for name in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    if not all(names) or not names:
        raise ConfigError(f"entries '{','.join(names)}': a name is missing beside a comma")
    if len(names) == 1 and (names[0].endswith((".yaml", ".yml")) or names[0] in shipped_suites()):
        suite = read_suite(shipped_suites().get(names[0], Path(names[0])))
        entries = suite.entries.values()
        names = [name for entry in entries for name in (entry.strategy, *entry.networks)]
        names += [suite.keys.get("dataset", ""), *suite.keys.get("networks", "").strip("[]").split(",")]
        refuse_code(names, registry.files)
        return suite
    made: dict[str, SuiteEntry] = {}
    for name in names:
        try:
            label = registry.get("strategy", name).name
        except ConfigError as error:
            suites = ", ".join(shipped_suites())
            raise ConfigError(f"{error}{f' (suites: {suites})' if suites and len(names) == 1 else ''}") from None
        if label in made:
            raise ConfigError(f"entry {label} is named twice; a suite file gives two entries of one strategy labels")
        made[label] = SuiteEntry(name)
    return Suite(made)


def _labels(registry: Registry, entries: Mapping[str, SuiteEntry]) -> dict[str, str]:
    """The labels by their folded form. Raises ConfigError for one that cannot name runs, and for two alike."""
    labels: dict[str, str] = {}
    taken = {EVALUATE, *HEADS}
    for entry in entries.values():
        with suppress(EngineError):  # told later, with the entry
            taken |= {fold(role) for role in registry.get("strategy", entry.strategy).thing.roles}
    for label in entries:
        if not is_tag(f"{label}-0"):
            raise ConfigError(f"entry '{label}': a label is made of letters, digits, '_' and '-'")
        if fold(label) in (*labels, *taken) or "." in label:
            other = labels.get(fold(label))
            reason = f"it means the same as '{other}'" if other else "keys could not be told apart from its own"
            raise ConfigError(f"entry '{label}': {reason}; give it another label")
        labels[fold(label)] = label
    return labels


def _label(name: str, labels: Mapping[str, str], key: str) -> str:
    if fold(name) not in labels:
        raise ConfigError(f"{key}={name}: there is no such entry{suggestion(name, labels.values())}")
    return labels[fold(name)]


def _against(
    settings: CompareSettings, own: Mapping[str, str], named: Sequence[str], labels: Mapping[str, str]
) -> tuple[str, tuple[str, ...]]:
    """The entry that every other is tested against; the first where the suite's does not take part, and a sentence."""
    if settings.against is None:
        return named[0], ()
    taking = {fold(label): label for label in named}
    asked = any(fold(key) == "against" for key in own)
    if asked or fold(settings.against) in taking or fold(settings.against) not in labels:
        return _label(settings.against, taking, "against"), ()
    left = labels[fold(settings.against)]
    return named[0], (f"the suite's against={left} does not take part: tests are against {named[0]}",)


def _sorted_keys(
    keys: Mapping[str, str], labels: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, dict[str, str]]]:
    """Keys of the comparison, of every job, of the evaluation, and of single entries. Raises ConfigError."""
    known = {fold(info.key) for info in describe(CompareSettings)}
    own: dict[str, str] = {}
    shared: dict[str, str] = {}
    evaluate: dict[str, str] = {}
    by_label: dict[str, dict[str, str]] = {}
    for key, value in keys.items():
        head, dot, rest = key.partition(".")
        if dot and fold(head) == EVALUATE:
            evaluate[rest] = value
        elif dot and fold(head) in labels:
            by_label.setdefault(labels[fold(head)], {})[rest] = value
        elif fold(key) in known:
            own[key] = value
        else:
            shared[key] = value
    return own, shared, evaluate, by_label


def _own_settings(suite: Suite, own: Mapping[str, str]) -> CompareSettings:
    owners = [Owner("ganglion compare", CompareSettings)]
    levels = [Level("suite", suite.keys), Level("command line", own)]
    settings: CompareSettings = resolve(owners, levels, ()).settings[0]
    return settings


def _of_metrics(
    registry: Registry, suite: Suite, settings: CompareSettings, own: Mapping[str, str]
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """The suite's keys of the evaluation and the figures, less the suite's for metrics that the command line drops."""
    given = {fold(key) for key in own}
    if "metrics" not in given or not settings.metrics:
        return suite.evaluate, settings.figures
    wanted = {registry.get("metric", name).name for name in settings.metrics}
    dropped = {fold(entry.name) for entry in registry.all("metric") if entry.name not in wanted}

    def counts(key: str) -> bool:
        return fold(key.partition(".")[0]) not in dropped

    figures = settings.figures if "figures" in given else tuple(filter(counts, settings.figures))
    return {key: value for key, value in suite.evaluate.items() if counts(key)}, figures


def parse_budget(text: str) -> Budget:
    """What `budget=` says. Raises ConfigError."""
    kind, _, amount = text.partition(":")
    with suppress(ValueError):
        if fold(kind) == "iterations" and parse_value(int, amount) > 0:
            return Budget("iterations", parse_value(int, amount))
        if fold(kind) == "seconds" and 0 < parse_value(float, amount) < float("inf"):
            return Budget("seconds", parse_value(float, amount))
    raise ConfigError(f"budget={text}: expected iterations:N or seconds:T, e.g. iterations:8000")


def _seeds(text: str) -> tuple[int, ...]:
    """A number says how many, a list says which. Raises ConfigError."""
    with suppress(ValueError, OverflowError):
        if "," not in text and "[" not in text:
            count = parse_value(int, text)
            if 0 < count <= 10_000:
                return tuple(range(count))
        else:
            seeds: tuple[int, ...] = parse_value(tuple[int, ...], text)
            if seeds and min(seeds) >= 0 and len(set(seeds)) == len(seeds):
                return seeds
    raise ConfigError(f"seeds={text}: expected how many seeds, e.g. 10, or a list of different ones, e.g. 0,3,7")


# --- the entries --------------------------------------------------------------------------------------------------


def _entry(
    registry: Registry, label: str, suite: Suite, settings: CompareSettings, given: dict[str, str], budget: Budget
) -> Entry:
    """One entry with its job resolved, as `learn` would. Raises ConfigError that names the entry."""
    own = suite.entries[label]
    try:
        own_networks = next((given.pop(key) for key in list(given) if fold(key) == "networks"), None)
        networks = own_networks or own.networks or (settings.networks or "").strip("[]")
        from_suite, given = suite.settings, merged(own.settings, given)  # an entry's method drops the shared one's keys
        for key in (*from_suite, *given):
            _refuse_own(key)
        asked_pictures = PICTURE_KEYS & {fold(key) for key in (*from_suite, *given)}
        base = {key: value for key, value in BASE.items() if not asked_pictures or fold(key) not in PICTURE_KEYS}
        devices = {} if settings.device == "auto" else {"device": settings.device}
        from_file = merged(base, devices, from_suite)
        keys = {**given, **budget.keys(), "strategy": own.strategy}
        asked = request(networks, settings.dataset, keys, {"settings": from_file}, registry.files)
        plan = resolve_job(registry, asked)
    except EngineError as error:
        raise type(error)(f"entry {label}: {error}") from None
    return Entry(label, own.strategy, asked.networks, asked.from_file, asked.given, plan)


def _refuse_own(key: str) -> None:
    name = fold(key).removeprefix("job.")
    if name in OWN:
        raise ConfigError(f"the key '{key}' is not one entry's: {OWN[name]}")
    if name in {fold(info.key) for info in describe(CompareSettings)} - {"device"}:
        raise ConfigError(f"the key '{key}' is the comparison's, not one entry's")


def _tag(entries: Sequence[Entry], budget: Budget) -> str:
    """The same for the same runs: data set, entries, their settings, and budget; seeds and metrics may grow."""
    what = {"budget": str(budget), "entries": {entry.label: entry.identity() for entry in entries}}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]
    return f"{base_tag((), entries[0].plan.dataset.name, 'compare').removeprefix(PREFIX)}-{digest}"
