"""The form that starts a job: what can be named, the fields that a choice of names has, and what is wrong with them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ganglion.engine.assembly import resolve_job
from ganglion.engine.contracts import Method
from ganglion.engine.errors import ConfigError, EngineError, fold
from ganglion.engine.job import LIFE_CYCLE, request
from ganglion.engine.registry import Registered, Registry, about
from ganglion.engine.resolution import Plan, RolePlan
from ganglion.engine.settings import SettingInfo, Settings, describe, format_value

FIRST = ("iterations", "seconds", "batchSize", "seed", "tag", "method", "learningRate")  # fields that most people want
LEFT_OUT = ("clean",)  # what would remove a run is typed on the command line
LONGEST = 4000  # characters of a value
KINDS = {"sampling": "sampling", "method": "processor", "processors": "processor", "traces": "trace"}


class Asked(NamedTuple):
    """What the page sent: names, and the keys that a person filled in."""

    networks: str
    dataset: str
    keys: dict[str, str]


class ClosedRegistry(Registry):
    """What is registered and nothing else: no file is opened because a browser names it."""

    def get(self, kind: str, name: str) -> Registered:
        if any(sign in name for sign in ":/\\") or name.lower().endswith((".yaml", ".yml", ".py")):
            raise ConfigError(f"{kind} '{name}': files are named on the command line; here only registered names count")
        return super().get(kind, name)


class Forms:
    """Answers the form's questions from the declarations that the command line has as well."""

    def __init__(self, plugins: Sequence[str]) -> None:
        self.plugins = plugins
        self._registry: Registry | None = None

    @property
    def registry(self) -> Registry:
        """Everything that can be named here."""
        if self._registry is None:
            self._registry = ClosedRegistry().load(self.plugins)
        return self._registry

    def catalogue(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """The names of strategies, networks and data sets with what they are."""
        return {
            "strategies": [
                {**_named(entry), "roles": list(entry.thing.roles)} for entry in self.registry.all("strategy")
            ],
            "networks": [
                {**_named(entry), "roles": list(getattr(entry.thing, "roles", ()))}
                for entry in self.registry.all("network")
            ],
            "datasets": [_named(entry) for entry in self.registry.all("dataset") if not _needs_file(entry)],
        }

    def check(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The command line and the fields of what was filled in; with what is wrong in one sentence, if anything is."""
        try:
            asked = read(question)
        except ConfigError as error:
            return {"wrong": str(error), "groups": []}
        words = words_of(asked)
        typed = shlex.join(["learn", *(word for plugin in self.plugins for word in ("--plugin", plugin)), *words])
        try:
            plan = self._plan(asked, asked.keys)
        except EngineError as error:
            return {"wrong": str(error), "command": typed, "groups": self._fields_without(asked)}
        notices = [
            f"{each.key}={format_value(each.preset)} of the preset is replaced by {format_value(each.value)}"
            for each in plan.replaced
        ]
        groups = [group for group in groups_of(plan, self.registry) if group["fields"]]
        return {"command": typed, "words": words, "groups": groups, "notices": [*notices, *plan.notices]}

    def _plan(self, asked: Asked, keys: Mapping[str, str]) -> Plan:
        plan = resolve_job(self.registry, request(asked.networks, asked.dataset, keys, None, self.plugins))
        _refuse_texts(plan)
        return plan

    def _fields_without(self, asked: Asked) -> list[dict[str, Any]]:
        """The fields of a job with a mistake in it: without the keys that a person filled in, if that helps."""
        strategy = {key: value for key, value in asked.keys.items() if fold(key) == "strategy"}
        try:
            return [group for group in groups_of(self._plan(asked, strategy), self.registry) if group["fields"]]
        except EngineError:
            return []


def read(question: Mapping[str, Any]) -> Asked:
    """What the page sent, if it is what a page sends. Raises ConfigError."""
    keys = question.get("keys")
    texts = [question.get("networks", ""), question.get("dataset", "")]
    if not isinstance(keys, dict) or not all(isinstance(text, str) for text in (*texts, *keys, *keys.values())):
        raise ConfigError("the page sent something else than names and keys")
    for key, value in keys.items():
        _refuse(key, value)
    return Asked(texts[0].strip(), texts[1].strip(), {key.strip(): value.strip() for key, value in keys.items()})


def _refuse(key: str, value: str) -> None:
    """Raises ConfigError for a key or a value that no page may send."""
    name = fold(key.rpartition(".")[2])
    if "=" in key or not key.strip() or not key.isprintable():
        raise ConfigError(f"'{key[:60]}': expected a key, such as batchSize")
    if name in map(fold, LEFT_OUT):
        raise ConfigError(f"{key}={value[:60]}: what removes a run is typed on the command line, not on the page")
    if len(value) > LONGEST or not value.isprintable():
        raise ConfigError(f"{key}: expected one line of at most {LONGEST} characters")
    if any(sign in value for sign in "/\\:") and name not in ("schedule", "heads"):
        raise ConfigError(f"{key}={value[:60]}: files are named on the command line, not on the page")


def _refuse_texts(plan: Plan) -> None:
    """Text that a data set takes may name a file, so it stays as declared. Raises ConfigError."""
    for info in describe(type(plan.dataset_settings)):
        value = getattr(plan.dataset_settings, info.name)
        if _is_free(info) and value != info.default:
            raise ConfigError(
                f"{info.key}={format_value(value)[:60]}: text for a data set may name a file; it is typed on the "
                "command line, not on the page"
            )
    if _needs_file(plan.dataset):
        raise ConfigError(f"data set {plan.dataset.name} reads a file, which is named on the command line")


def words_of(asked: Asked) -> list[str]:
    """The words behind `learn`."""
    return [asked.networks, asked.dataset, *(f"{key}={value}" for key, value in asked.keys.items())]


def groups_of(plan: Plan, registry: Registry) -> list[dict[str, Any]]:
    """The fields of every component that the job names, with the values that hold where nothing is filled in."""
    form = _Form(plan, registry)
    dataset, sampling = plan.dataset.name, plan.sampling.name
    return [
        form.group("The job", plan.job, "job"),
        form.group(f"Strategy {plan.strategy.name}", plan.strategy_settings, plan.strategy.name),
        *(form.group(f"{part.kind.capitalize()} {part.name}", its, part.name) for part, its in plan.parts.values()),
        form.group(f"Data set {dataset}", plan.dataset_settings, dataset, free=False),
        form.group("What is done to the data", plan.adapters, "data"),
        form.group(f"Sampling {sampling}", plan.sampling_settings, sampling),
        *(_role_group(form, role, entry) for role, entry in plan.roles.items()),
        *(form.group(f"Trace {trace.name}", its, trace.name) for trace, its in plan.traces),
    ]


def _role_group(form: _Form, role: str, entry: RolePlan) -> dict[str, Any]:
    parts = [
        (entry.network_settings, entry.network.name),
        (entry.options, "role"),
        (entry.chain, "chain"),
        (entry.method_settings, entry.method.name),
        *((settings, link.name) for link, settings in entry.links),
    ]
    fields = [field for settings, prefix in parts for field in form.fields(settings, prefix, role)]
    return {"title": f"The {role}: {entry.network.name}, {entry.method.name}", "fields": fields}


class _Form:
    """Makes fields; those that most people want, and those of the strategy's preset, come first."""

    def __init__(self, plan: Plan, registry: Registry) -> None:
        self.plan = plan
        self.registry = registry
        self.kinds = {**KINDS, **plan.strategy_class.parts}
        self.first = {fold(key.rpartition(".")[2]) for key in (*FIRST, *plan.strategy_class.preset)}

    def group(self, title: str, settings: Settings, prefix: str, free: bool = True) -> dict[str, Any]:
        """The fields of one component; without the free texts where a page may not fill them in."""
        fields = self.fields(settings, prefix)
        return {"title": title, "fields": fields if free else [field for field in fields if not field["free"]]}

    def fields(self, settings: Settings, prefix: str, role: str = "") -> list[dict[str, Any]]:
        """The fields of one component."""
        infos = [info for info in describe(type(settings)) if info.key not in LEFT_OUT]
        return [self._field(info, getattr(settings, info.name), prefix, role) for info in infos]

    def _field(self, info: SettingInfo, value: Any, prefix: str, role: str) -> dict[str, Any]:
        start = f"{role}." if role else ""
        plain = info.key in LIFE_CYCLE or f"{start}{info.key}" in self.plan.values
        return {
            "key": f"{start}{info.key}" if plain else f"{start}{prefix}.{info.key}",
            "type": info.type,
            "value": format_value(value),
            "bounds": info.bounds,
            "unit": info.unit,
            "help": info.help,
            "choices": self._choices(info),
            "several": info.type.startswith("list of"),
            "first": fold(info.key) in self.first or fold(info.name) in map(fold, self.plan.strategy_class.parts),
            "free": _is_free(info),
        }

    def _choices(self, info: SettingInfo) -> list[str]:
        """The values that there are, where they can be listed."""
        kind = self.kinds.get(info.name)
        if kind is not None and "text" in info.type:
            entries = self.registry.all(kind)
            methods = info.name == "method"
            names = [entry.name for entry in entries if not methods or _is_method(entry.thing)]
            return [*names, *(["none"] if "none" in info.type else [])]
        if info.type == "bool":
            return ["true", "false"]
        choices, _, optional = info.type.removeprefix("list of ").partition(" or ")
        return [*choices.split("|"), *([optional] if optional else [])] if "|" in choices else []


def _is_method(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Method)


def _is_free(info: SettingInfo) -> bool:
    return "text" in info.type


def _needs_file(entry: Registered) -> bool:
    """Whether a data set is nothing without a file that is named."""
    model = getattr(entry.thing, "Settings", None)
    return model is not None and any(_is_free(info) and info.default == "" for info in describe(model))


def _named(entry: Registered) -> dict[str, Any]:
    return {"name": entry.name, "about": about(entry.thing)}
