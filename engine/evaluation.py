"""Judging a run: the metrics that fit it, with the data set that its job names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ganglion.engine.adapters import AdapterSettings, scale_splits
from ganglion.engine.assembly import load_data
from ganglion.engine.contracts import DatasetFactory, Evaluation, EvaluationContext, Metric, Splits
from ganglion.engine.documents import write_json
from ganglion.engine.errors import ConfigError, PluginError
from ganglion.engine.files import write_atomic
from ganglion.engine.folders import data_context
from ganglion.engine.job import naming_plugins, refuse_code, request
from ganglion.engine.opening import Opened, draw_labelled, draw_samples, open_run
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.repository import Repository, Run
from ganglion.engine.resolution import Resolver, settings_of
from ganglion.engine.settings import Level, Owner, Resolution, refuse_unknown, resolve
from ganglion.engine.tags import is_tag
from ganglion.engine.transforms import unscale


def evaluate_run(
    registry: Registry,
    run: Run,
    metric: str | None,
    checkpoint: str | int,
    device: str,
    seed: int,
    keys: Mapping[str, str],
    notify: Callable[[str], None],
    others: Path | None = None,
) -> list[Evaluation]:
    """Judge a run by one metric, or every one that fits, and keep the result in its directory. Raises EngineError.

    `others` is the folder of further runs that a metric may name; None: the folder that the run itself is in.
    """
    opened = open_run(registry, run, checkpoint, device)
    for notice in opened.notices:
        notify(notice)
    chosen = [registry.get("metric", metric)] if metric else registry.all("metric")
    data_keys = _check_keys(registry, opened, chosen, keys)
    context = evaluation_context(registry, opened, seed, data_keys, notify, others)
    fitting = [entry for entry in chosen if metric is not None or _fits(entry, keys, context)]
    if not fitting:
        raise ConfigError(
            f"run '{run.tag}': no metric fits it; 'ganglion list metric' shows what there is, metric=NAME tries one"
        )
    _check_keys(registry, opened, fitting, keys)
    metrics: list[Metric] = [entry.thing(_resolved([_owner(entry)], keys).settings[0]) for entry in fitting]
    evaluations = []
    for each in metrics:
        evaluation = each.evaluate(context)
        if not is_tag(evaluation.metric):  # it names a file
            raise PluginError(f"metric {type(each).__name__} calls itself {evaluation.metric!r}: expected a plain name")
        evaluation = _with_pictures_written(evaluation, run.evaluation())
        document = {**described(evaluation), "iteration": opened.iteration, "seed": seed, "keys": dict(keys)}
        write_json(run.evaluation() / f"{evaluation.metric}.json", document)
        evaluations.append(evaluation)
    return evaluations


def described(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as the record has it."""
    return {"metric": evaluation.metric, "values": evaluation.values, "details": evaluation.details}


def _with_pictures_written(evaluation: Evaluation, folder: Path) -> Evaluation:
    """The evaluation with its pictures written into `folder` and, in their place, their names among its details."""
    for name in evaluation.pictures:
        if not name.endswith(".png") or not is_tag(name.removesuffix(".png")):
            raise PluginError(f"metric {evaluation.metric} calls a picture {name!r}: expected a plain name and .png")
    for name, content in evaluation.pictures.items():
        write_atomic(folder / name, content)
    named = {"pictures": list(evaluation.pictures)} if evaluation.pictures else {}
    return evaluation._replace(details={**evaluation.details, **named}, pictures={})


def _check_keys(
    registry: Registry, opened: Opened, chosen: Sequence[Registered], keys: Mapping[str, str]
) -> dict[str, str]:
    """The keys for the data set and its adapters; the others are for metrics, all that have such a key.

    Raises ConfigError for a key that neither has, and for one of the data set's that has no such value.
    """
    data = _data_owners(registry, opened)
    unknown = _resolved(data, keys).unknown
    ours = {key: value for key, value in keys.items() if key not in {entry.key for entry in unknown}}
    for entry in chosen:
        taken = _taken(entry, keys)
        shared = next((key for key in taken if key in ours), None)
        if shared is not None:
            _resolved([*data, _owner(entry)], {shared: keys[shared]})  # tells whose key it is, and how to say which
        unknown = [each for each in unknown if each.key not in taken]
    refuse_unknown(unknown, [*map(_owner, chosen), *data], [Level("command line", keys)], ())
    return ours


def _data_owners(registry: Registry, opened: Opened) -> list[Owner]:
    """What takes keys for the data; the run's data set is left out where it is not there now."""
    owners, name = [Owner("the data adapters", AdapterSettings, prefix="data")], str(opened.job.get("dataset"))
    with suppress(ConfigError, PluginError):
        refuse_code([name], registry.files)
        entry = registry.get("dataset", name)
        owners.insert(0, Owner(f"dataset {entry.name}", settings_of(entry.thing), prefix=entry.name))
    return owners


def _owner(entry: Registered) -> Owner:
    return Owner(f"metric {entry.name}", settings_of(entry.thing), prefix=entry.name)


def _resolved(owners: Sequence[Owner], keys: Mapping[str, str]) -> Resolution:
    return resolve(owners, [Level("command line", keys)], ())


def _taken(entry: Registered, keys: Mapping[str, str]) -> dict[str, str]:
    """The keys that a metric declares, whatever their values are."""
    owner, taken = _owner(entry), {}
    for key, value in keys.items():
        try:
            found = not _resolved([owner], {key: value}).unknown
        except ConfigError:
            found = True
        if found:
            taken[key] = value
    return taken


def _fits(entry: Registered, keys: Mapping[str, str], context: EvaluationContext) -> bool:
    """Whether a metric fits the run, whatever becomes of a key that is too small for it but right for another."""
    good = {}
    for key, value in keys.items():
        with suppress(ConfigError):
            _resolved([_owner(entry)], {key: value})
            good[key] = value
    metric: Metric = entry.thing(_resolved([_owner(entry)], good).settings[0])
    return metric.applies(context)


def evaluation_context(
    registry: Registry,
    opened: Opened,
    seed: int,
    keys: Mapping[str, Any],
    notify: Callable[[str], None],
    others: Path | None = None,
) -> EvaluationContext:
    """What metrics may use of an opened run; the data set is read when first asked for."""

    @cache
    def data() -> tuple[DatasetFactory, Splits]:
        asked = request(None, None, keys, opened.job, registry.files)
        with naming_plugins(opened.job, registry.files):
            plan = Resolver(registry, asked, opened.spec).plan()
        factory, adapted = load_data(plan, data_context(notify)(plan.job.seed))
        wanted = opened.spec.value_range
        if wanted is not None and adapted.spec.value_range not in (None, wanted):
            adapted = scale_splits(adapted, wanted)
        return factory, Splits(adapted.plain, adapted.validation, adapted.test)

    def other(tag: str) -> EvaluationContext:
        run = Repository(others or opened.run.directory.parent).find(tag)
        return evaluation_context(registry, open_run(registry, run, "latest", str(opened.device)), seed, {}, notify)

    return EvaluationContext(
        strategy=opened.strategy,
        spec=opened.spec,
        device=opened.device,
        seed=seed,
        own_scale=lambda rows: unscale(rows, opened.spec.value_range, opened.data_range),
        splits=lambda: data()[1],
        factory=lambda: data()[0],
        samples=lambda count: draw_samples(opened, count, seed),
        labelled=lambda count: draw_labelled(opened, count, seed),
        run=other,
    )
