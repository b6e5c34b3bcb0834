"""How a comparison judges its runs: metrics with those of the keys that they take, and the figures that are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ganglion.engine.adapters import AdapterSettings
from ganglion.engine.errors import ConfigError, fold
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.repository import Repository
from ganglion.engine.resolution import settings_of
from ganglion.engine.settings import Level, Owner, Settings, Unknown, refuse_unknown, resolve, setting

EVALUATE = "evaluate"


class FigureChoice(NamedTuple):
    """A figure that goes into the table, and which way is better: higher, lower, or nothing known."""

    name: str
    better: str = ""


class Judging(NamedTuple):
    """One evaluation of every run: a metric (None: every one that fits) with its keys."""

    metric: str | None
    keys: Mapping[str, str]

    def name(self) -> str:
        """What the record keeps its result under."""
        return " ".join([self.metric or "*", *(f"{key}={value}" for key, value in sorted(self.keys.items()))])


def resolve_judging(
    registry: Registry, names: Sequence[str], evaluate: Mapping[str, str], dataset: Registered
) -> tuple[Judging, ...]:
    """Every metric with those of the keys that it or the data set takes. Raises ConfigError."""
    for key in evaluate:
        if fold(key) in ("metric", "device"):
            own = "metrics=" if fold(key) == "metric" else "device="
            raise ConfigError(f"{EVALUATE}.{key}: a comparison takes {own} for that")
    entries = [registry.get("metric", name) for name in names] or registry.all("metric")
    metrics = [Owner(f"metric {entry.name}", settings_of(entry.thing), prefix=entry.name) for entry in entries]
    data = [
        Owner("ganglion evaluate", _Drawing),
        Owner("the data adapters", AdapterSettings, prefix="data"),
        Owner(f"dataset {dataset.name}", settings_of(dataset.thing), prefix=dataset.name),
    ]
    level = [Level(f"{EVALUATE} keys", evaluate)]
    nobodys = {each.key for each in resolve(data, level, ()).unknown}
    common = {key for key in evaluate if key not in nobodys}
    taken: dict[str, set[str]] = {}
    for owner in metrics:
        try:
            left = {each.key for each in resolve([owner], level, ()).unknown}
        except ConfigError:
            if names:
                raise
            left = set()  # a value that is wrong for this metric may be right for another
        taken[owner.label] = {key for key in evaluate if key in common or key not in left}
    unknown = [Unknown(key, 0) for key in evaluate if not any(key in keys for keys in taken.values())]
    refuse_unknown(unknown, [*metrics, *data], level, ())
    if not names:
        return (Judging(None, evaluate),)
    return tuple(
        Judging(entry.name, {key: evaluate[key] for key in evaluate if key in taken[owner.label]})
        for entry, owner in zip(entries, metrics, strict=True)
    )


def refuse_judges(registry: Registry, judging: Sequence[Judging], runs: Repository) -> None:
    """A metric that needs another run as its judge has one. Raises ConfigError, StoreError."""
    for each in judging:
        chosen = [registry.get("metric", each.metric)] if each.metric else registry.all("metric")
        for entry in chosen:
            owner = Owner(f"metric {entry.name}", settings_of(entry.thing), prefix=entry.name)
            level = [Level(f"{EVALUATE} keys", each.keys)]
            try:
                tag = getattr(resolve([owner], level, ()).settings[0], "classifier", "")
            except ConfigError:
                continue  # such a metric judges nothing, or it was refused
            if tag is None and each.metric:
                raise ConfigError(
                    f"metric {entry.name} needs {EVALUATE}.classifier=TAG, the tag of the run that judges"
                )
            if tag:
                runs.find(tag)


class _Drawing(Settings):
    """Keys of `ganglion evaluate` that a comparison hands on."""

    checkpoint: str = setting("latest", "latest, best, or an iteration")
    seed: int = setting(0, "seed of what is drawn", ge=0)


def resolve_figure(registry: Registry, text: str, judging: Sequence[Judging]) -> FigureChoice:
    """The figure that `metric.figure[:higher|:lower]` means. Raises ConfigError."""
    name, _, better = text.partition(":")
    metric, dot, figure = name.rpartition(".")
    if better not in ("", "higher", "lower") or not dot or not figure:
        raise ConfigError(f"figures={text}: expected metric.figure, metric.figure:higher or metric.figure:lower")
    known = registry.get("metric", metric).name
    if all(each.metric not in (None, known) for each in judging):
        raise ConfigError(f"figures={text}: {known} is not among metrics={','.join(str(each[0]) for each in judging)}")
    return FigureChoice(f"{known}.{figure}", better)
