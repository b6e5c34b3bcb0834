"""Judging a run: the metrics that fit it, with the data set that its job names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from ganglion.engine.adapters import scale_splits
from ganglion.engine.assembly import load_data
from ganglion.engine.contracts import DatasetFactory, Evaluation, EvaluationContext, Metric, Splits
from ganglion.engine.documents import write_json
from ganglion.engine.errors import ConfigError, fold
from ganglion.engine.folders import data_context
from ganglion.engine.job import naming_plugins, request
from ganglion.engine.opening import Opened, draw_samples, open_run
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.repository import Repository, Run
from ganglion.engine.resolution import Resolver, settings_of
from ganglion.engine.settings import Level, Owner, refuse_unknown, resolve
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
) -> list[Evaluation]:
    """Judge a run by one metric, or every one that fits, and keep the result in its directory. Raises EngineError."""
    opened = open_run(registry, run, checkpoint, device)
    for notice in opened.notices:
        notify(notice)
    chosen = [registry.get("metric", metric)] if metric else registry.all("metric")
    own = {fold(info) for entry in chosen for info in settings_of(entry.thing).model_fields}
    mine = {key: value for key, value in keys.items() if fold(key.rpartition(".")[2]) in own}
    context = evaluation_context(registry, opened, seed, {k: v for k, v in keys.items() if k not in mine}, notify)
    metrics = _made(chosen, mine)
    fitting = [each for each in metrics if metric is not None or each.applies(context)]
    if not fitting:
        raise ConfigError(
            f"run '{run.tag}': no metric fits it; 'ganglion list metric' shows what there is, metric=NAME tries one"
        )
    evaluations = []
    for each in fitting:
        evaluation = each.evaluate(context)
        document = {**evaluation._asdict(), "iteration": opened.iteration, "seed": seed, "keys": dict(keys)}
        write_json(run.evaluation() / f"{evaluation.metric}.json", document)
        evaluations.append(evaluation)
    return evaluations


def _made(chosen: Sequence[Registered], keys: Mapping[str, str]) -> list[Metric]:
    owners = [Owner(f"metric {entry.name}", settings_of(entry.thing), prefix=entry.name) for entry in chosen]
    levels = [Level("command line", keys)]
    result = resolve(owners, levels, ())
    refuse_unknown(result.unknown, owners, levels, ())
    return [entry.thing(settings) for entry, settings in zip(chosen, result.settings, strict=True)]


def evaluation_context(
    registry: Registry, opened: Opened, seed: int, keys: Mapping[str, Any], notify: Callable[[str], None]
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
        run = Repository(opened.run.directory.parent).find(tag)
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
        run=other,
    )
