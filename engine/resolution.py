"""From what was asked for to the settings of every component the job names; nothing is built or read here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ganglion.engine.adapters import AdapterSettings
from ganglion.engine.contracts import DataSpec, LearningStrategy, Method, NetworkContext, NoSettings, RoleShape
from ganglion.engine.errors import ConfigError, NetworkError, fold, nearest, suggestion
from ganglion.engine.former import former_keys
from ganglion.engine.job import LIFE_CYCLE, JobRequest, JobSettings, RoleSettings
from ganglion.engine.processors import ChainSettings
from ganglion.engine.registry import PYTHON, Registered, Registry
from ganglion.engine.settings import (
    Level,
    Owner,
    Replaced,
    Settings,
    Unknown,
    describe,
    format_value,
    is_role,
    refuse_unknown,
    refuse_without_effect,
    resolve,
    winning,
)

CLASS, DATA, PRESET, JOB_FILE, COMMAND_LINE = "class", "defaults for the data", "preset", "job file", "command line"
# Where a value comes from: each level is stronger than those above it. 'ganglion show precedence' prints this table.
PRECEDENCE = (
    (CLASS, "the default that a component declares ('ganglion show KIND NAME')"),
    (DATA, "what a strategy makes of the kind and the size of the data"),
    (PRESET, "a strategy's published values ('ganglion show strategy NAME')"),
    (JOB_FILE, "--job FILE; where a tag goes on, the job.yaml of its run"),
    (COMMAND_LINE, "key=value behind the names; in Python the keys of learn()"),
)
AS_BUILT = "as the network is built"  # in place of the default of a layer's argument
PRECEDENCE_RULES = """A stronger level wins, whatever a weaker one says.

At one level ROLE.key=value wins over key=value; a stronger key=value is for every role, also over ROLE.key=value of a
weaker level (the start says what of the preset it replaced). Where a stronger level names another method, the weaker
levels' values for the method before are dropped; where it names another network, data set or strategy, the job file's
values for the one before."""


@dataclass(frozen=True)
class RolePlan:
    """The components of one role with their settings."""

    network: Registered
    network_settings: Any
    overrides: Mapping[str, Any]
    options: RoleSettings
    chain: ChainSettings
    method: Registered
    method_settings: Any
    links: Sequence[tuple[Registered, Any]]


@dataclass(frozen=True)
class Plan:
    """Everything a job names, with settings; `values` are all keys in full, ready for job.yaml.

    `changed` has those of them whose value is not the default, with that default.
    """

    request: JobRequest
    job: JobSettings
    strategy: Registered
    strategy_settings: Any
    dataset: Registered
    dataset_settings: Any
    adapters: AdapterSettings
    sampling: Registered
    sampling_settings: Any
    parts: Mapping[str, tuple[Registered, Any]]
    roles: Mapping[str, RolePlan]
    traces: Sequence[tuple[Registered, Any]]
    values: dict[str, Any]
    changed: Mapping[str, Any] = field(default_factory=dict)
    replaced: Sequence[Replaced] = ()
    notices: Sequence[str] = field(default_factory=tuple)

    def names(self) -> dict[str, Any]:
        """Networks, data set and strategy as a job file names them."""
        return names_of(self.request, [plan.network for plan in self.roles.values()], self.dataset, self.strategy)

    def key(self, name: str) -> str:
        """The form in which `values` hold a key of the job: with a prefix where another component has that key too."""
        return f"job.{name}" if f"job.{name}" in self.values else name

    def code_files(self) -> list[str]:
        """The local plugin files that the job needs."""
        names = self.names()
        named = [*names["networks"], names["dataset"], names["strategy"]]
        files = {*self.request.plugins, *(name.rpartition(":")[0] for name in named if ":" in name)}
        return sorted(files - {PYTHON})

    @property
    def strategy_class(self) -> type[LearningStrategy]:
        """The strategy's class."""
        return strategy_class(self.strategy)


class Resolver:
    """Resolves one request against a registry; with `spec`, defaults that depend on the data take part."""

    def __init__(self, registry: Registry, request: JobRequest, spec: DataSpec | None = None) -> None:
        self.registry = registry
        self.request = request
        self.strategy = registry.get("strategy", request.strategy)
        self.strategy_class = strategy_class(self.strategy)
        self.roles = self.strategy_class.roles
        self.networks = self._networks()
        self.dataset = registry.get("dataset", request.dataset)
        preset = _without_gain(self.strategy_class.preset, (request.from_file, request.given))
        data_defaults = dict(getattr(self.dataset.thing, "preset", {}))
        data_defaults |= self.strategy_class.defaults(spec) if spec is not None else {}
        self.spec = spec
        self.former = former_keys(registry, request, self.strategy, self.dataset, self.networks)
        from_file = {key: value for key, value in request.from_file.items() if key not in self.former}
        keys = {DATA: data_defaults, PRESET: preset, JOB_FILE: from_file, COMMAND_LINE: request.given}
        labels = {PRESET: f"preset of {self.strategy.name}"}
        self.levels = [Level(labels.get(name, name), keys[name]) for name, _ in PRECEDENCE if name != CLASS]
        self.presets = [level for level in self.levels if level.name not in (JOB_FILE, COMMAND_LINE)]

    def names(self) -> dict[str, Any]:
        """Networks, data set and strategy as a job file names them."""
        return names_of(self.request, list(self.networks.values()), self.dataset, self.strategy)

    def plan(self) -> Plan:
        """Settings of every component. Raises ConfigError for anything that nothing takes or that is wrong."""
        fixed = self._fixed_owners()
        first = resolve(fixed, self.levels, self.roles)
        job, strategy_settings = first.settings[0], first.settings[1]
        sampling = self.registry.get("sampling", job.sampling)
        parts = self._parts(strategy_settings)
        traces = [self.registry.get("trace", name) for name in job.traces]
        owners = [
            *fixed,
            Owner(f"sampling {sampling.name}", settings_of(sampling.thing), prefix=sampling.name),
            *(
                Owner(f"{entry.kind} {entry.name}", settings_of(entry.thing), prefix=entry.name)
                for entry in parts.values()
            ),
            *(Owner(f"trace {entry.name}", settings_of(entry.thing), prefix=entry.name) for entry in traces),
        ]
        self._refuse_reserved(owners)
        shapes = self.strategy_class.shapes(strategy_settings, self.spec) if self.spec is not None else {}
        per_role = {role: self._role_owners(role, shapes.get(role)) for role in self.roles}
        starts = {}
        for role, (role_owners, _, _) in per_role.items():
            starts[role] = len(owners)
            owners.extend(role_owners)
        result = resolve(owners, self.levels, self.roles)
        unknown = self._without_dropped(result.unknown, {role: entry[0] for role, entry in per_role.items()})
        notices = self._leftovers(unknown, owners, parts)
        presets = resolve(owners, self.presets, self.roles)
        refuse_without_effect(owners, result.settings, presets.settings, self.roles)
        values = _values(owners, result.settings, result.layer_arguments)
        defaults = _values(owners, presets.settings, presets.layer_arguments)
        after = len(fixed)
        part_settings = result.settings[after + 1 : after + 1 + len(parts)]
        trace_settings = result.settings[after + 1 + len(parts) : after + 1 + len(parts) + len(traces)]
        return Plan(
            request=self.request,
            job=result.settings[0],
            strategy=self.strategy,
            strategy_settings=result.settings[1],
            dataset=self.dataset,
            dataset_settings=result.settings[2],
            adapters=result.settings[3],
            sampling=sampling,
            sampling_settings=result.settings[after],
            parts={
                name: pair for name, pair in zip(parts, zip(parts.values(), part_settings, strict=True), strict=True)
            },
            roles={
                role: self._role_plan(role, starts[role], links, method, result.settings, result.layer_arguments)
                for role, (_, method, links) in per_role.items()
            },
            traces=list(zip(traces, trace_settings, strict=True)),
            values=values,
            changed={key: defaults.get(key, AS_BUILT) for key in values if values[key] != defaults.get(key, AS_BUILT)},
            replaced=tuple(dict.fromkeys(entry for entry in result.replaced if entry.preset != entry.value)),
            notices=(*notices, *self._dropped_methods(per_role)),
        )

    def _networks(self) -> dict[str, Registered]:
        names = self.request.networks
        if len(names) != len(self.roles):
            hint = "" if self.request.chosen else f"; {_no_strategy(self.request.given)}"
            raise ConfigError(
                f"strategy {self.strategy.name} takes {len(self.roles)} network{'s' if len(self.roles) > 1 else ''} "
                f"({', '.join(self.roles)}), and {len(names)} {'are' if len(names) > 1 else 'is'} named: "
                f"{', '.join(names)}{hint}"
            )
        networks = {role: self.registry.get("network", name) for role, name in zip(self.roles, names, strict=True)}
        for role, network in networks.items():
            made_for = tuple(getattr(network.thing, "roles", ()))
            if role not in made_for and set(made_for) & set(self.roles):
                raise ConfigError(
                    f"network {network.name} is made for the {' and the '.join(made_for)}, not for the {role}: "
                    f"strategy {self.strategy.name} takes its networks in the order {','.join(self.roles)}"
                )
        return networks

    def _fixed_owners(self) -> list[Owner]:
        return [
            Owner("the job", JobSettings, prefix="job"),
            Owner(f"strategy {self.strategy.name}", settings_of(self.strategy.thing), prefix=self.strategy.name),
            Owner(f"dataset {self.dataset.name}", settings_of(self.dataset.thing), prefix=self.dataset.name),
            Owner("the data adapters", AdapterSettings, prefix="data"),
        ]

    def _refuse_reserved(self, owners: Sequence[Owner]) -> None:
        """A key `generator.x` is the role's, so nothing without a role may have a role's name. Raises ConfigError.

        Networks may: `generator.Generator.x` is theirs. So may layers: `generator.Generator.p`.
        """
        for owner in owners:
            if is_role(owner.prefix, self.roles):
                raise ConfigError(
                    f"{owner.label} has the name of a role of strategy {self.strategy.name} "
                    f"({', '.join(self.roles)}): '{owner.prefix}.key=value' would mean both; give it another name"
                )

    def _parts(self, settings: Any) -> dict[str, Registered]:
        named = part_names(self.strategy_class, settings)
        parts = {place: self.registry.get(kind, name) for place, (kind, name) in named.items()}
        for place, entry in parts.items():
            field = place.partition(".")[0]
            if sum(other.thing is entry.thing and each.partition(".")[0] == field for each, other in parts.items()) > 1:
                raise ConfigError(f"{field}={','.join(getattr(settings, field))}: {entry.name} is named twice")
        return parts

    def _role_owners(self, role: str, shape: RoleShape | None) -> tuple[list[Owner], Registered, list[Registered]]:
        network = self.networks[role]
        method, since = self._method(role)
        links = [entry for entry in self.registry.all("processor") if not _is_method(entry)]
        context = NetworkContext(role, *shape, self.spec) if shape is not None and self.spec is not None else None
        try:
            arguments = layer_arguments(network, context)
        except NetworkError as error:
            raise NetworkError(f"network {network.name} as {role}: {error}") from error
        narrowed = frozenset(
            name
            for entry in (*links, None)
            for info in describe(settings_of(entry.thing) if entry else ChainSettings)
            for name in (info.name,)
            if self._narrowed_away(role, info.key)
        )
        owners = [
            Owner(f"the {role}", RoleSettings, role=role, prefix="role"),
            Owner(
                f"{role}'s network {network.name}",
                network_settings(network.thing, self.spec),
                role=role,
                prefix=network.name,
                layer_arguments=arguments,
            ),
            Owner(f"{role}'s processor chain", ChainSettings, role=role, prefix="chain", narrowed=narrowed),
            Owner(
                f"{role}'s method {method.name}", settings_of(method.thing), role=role, prefix=method.name, since=since
            ),
            *(
                Owner(f"{role}'s {link.name}", settings_of(link.thing), role=role, prefix=link.name, narrowed=narrowed)
                for link in links
            ),
        ]
        return owners, method, links

    def _narrowed_away(self, role: str, key: str) -> bool:
        wanted = {fold(name): only for name, only in self.strategy_class.narrowed.items()}.get(fold(key))
        return wanted is not None and wanted != role

    def _method(self, role: str) -> tuple[Registered, int]:
        """The role's method, and the first level whose keys are meant for it."""
        named = dict(winning(self.levels, self.roles, ("method", "chain.method"), role))  # by level
        if not named:
            return self._get_method(ChainSettings().method), 0
        methods = {level: self._get_method(str(value)) for level, value in sorted(named.items())}
        method = methods[max(methods)]
        others = [level for level, other in methods.items() if other.thing is not method.thing]
        return method, max(others, default=-1) + 1

    def _get_method(self, name: str) -> Registered:
        entry = self.registry.get("processor", name)
        if not _is_method(entry):
            methods = [each.name for each in self.registry.all("processor") if _is_method(each)]
            raise ConfigError(
                f"method={name}: {entry.name} is a link of the chain, not a method{suggestion('', methods)}"
            )
        return entry

    def _role_plan(
        self,
        role: str,
        start: int,
        links: Sequence[Registered],
        method: Registered,
        settings: Sequence[Any],
        arguments: Sequence[Mapping[str, Any]],
    ) -> RolePlan:
        return RolePlan(
            network=self.networks[role],
            network_settings=settings[start + 1],
            overrides=arguments[start + 1],
            options=settings[start],
            chain=settings[start + 2],
            method=method,
            method_settings=settings[start + 3],
            links=list(zip(links, settings[start + 4 : start + 4 + len(links)], strict=True)),
        )

    def _leftovers(
        self, unknown: Sequence[Unknown], owners: Sequence[Owner], parts: Mapping[str, Registered]
    ) -> list[str]:
        """Refuse unknown keys, except a job file's keys for components that the command line replaced."""
        given = {fold(key.rpartition(".")[2]) for key in self.request.given}
        selectors = {fold(key) for key in (*self.strategy_class.parts, "method", "sampling")}
        replaced = bool(self.request.former) or bool(given & selectors)
        if "traces" in given:
            unknown = self._without_traces(unknown)
        if self.spec is None:
            decided = {place.partition(".")[0] for place in parts}
            undecided = [kind for field, kind in self.strategy_class.parts.items() if field not in decided]
            entries = [entry for kind in undecided for entry in self.registry.all(kind)]
            forms = _own_forms(entries)
            unknown = [entry for entry in unknown if fold(entry.key) not in forms]
        dropped = [entry for entry in unknown if self.levels[entry.level].name == JOB_FILE and replaced]
        refuse_unknown([entry for entry in unknown if entry not in dropped], owners, self.levels, self.roles)
        gone = {*self.former, *(entry.key for entry in dropped)}
        names = [key for key in self.request.from_file if key in gone]
        return [f"not used with these choices, from the job file: {', '.join(names)}"] if names else []

    def _without_traces(self, unknown: Sequence[Unknown]) -> list[Unknown]:
        """Leave out the job file's keys of traces that are not asked for now: they only showed something."""
        forms = _own_forms(self.registry.all("trace"))
        return [each for each in unknown if self.levels[each.level].name != JOB_FILE or fold(each.key) not in forms]

    def _without_dropped(self, unknown: Sequence[Unknown], owners: Mapping[str, Sequence[Owner]]) -> list[Unknown]:
        """Leave out a preset's keys for a method, or for a penalty or the like, that another one replaced."""
        since = max(owner.since for role_owners in owners.values() for owner in role_owners)
        methods = [entry for entry in self.registry.all("processor") if _is_method(entry)]
        keys = {fold(info.key) for entry in methods for info in describe(settings_of(entry.thing))}
        parts = [entry for kind in set(self.strategy_class.parts.values()) for entry in self.registry.all(kind)]
        forms = _own_forms(parts)
        return [
            entry
            for entry in unknown
            if not (entry.level < since and fold(entry.key.rpartition(".")[2]) in keys)
            and not (entry.level < len(self.presets) and fold(entry.key) in forms)
        ]

    def _dropped_methods(self, per_role: Mapping[str, tuple[list[Owner], Registered, list[Registered]]]) -> list[str]:
        changed = {role: entry[1].name for role, entry in per_role.items() if entry[0][3].since > 0}
        by_name: dict[str, list[str]] = {}
        for role, name in changed.items():
            by_name.setdefault(name, []).append(role)
        return [
            f"method={name} for the {' and the '.join(roles)}: "
            f"the {self.strategy.name} preset's values for another method are dropped"
            for name, roles in by_name.items()
        ]


def names_of(
    asked: JobRequest, networks: Sequence[Registered], dataset: Registered, strategy: Registered
) -> dict[str, Any]:
    """Networks, data set and strategy as a job file names them: registered names, or paths as they were given."""

    def name(entry: Registered, given: str) -> str:
        return given if ":" in given or given.endswith((".yaml", ".yml")) else entry.name

    return {
        "networks": [name(entry, given) for entry, given in zip(networks, asked.networks, strict=True)],
        "dataset": name(dataset, asked.dataset),
        "strategy": name(strategy, asked.strategy),
    }


def _no_strategy(given: Mapping[str, Any]) -> str:
    misspelt = next((key for key in given if nearest(key, ("strategy",)) is not None), None)
    if misspelt is not None:
        return f"the key '{misspelt}' is unknown, did you mean 'strategy'?"
    return "no strategy= is given, so it is FeedForward"


def layer_arguments(network: Registered, context: NetworkContext | None) -> Mapping[str, Sequence[str]]:
    """The `Layer.argument` keys that a network takes; without a context, those of all its variants."""
    arguments = getattr(network.thing, "layer_arguments", None)
    return arguments(context) if arguments is not None else {}


def _without_gain(preset: Mapping[str, Any], stronger: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A preset without its `initGain` where another `init` is asked for: to that the number means something else."""
    named = {fold(key.rpartition(".")[2]) for keys in stronger for key in keys}
    return {key: value for key, value in preset.items() if "init" not in named or fold(key) != "initgain"}


def part_names(strategy: type[LearningStrategy], settings: Any) -> dict[str, tuple[str, str]]:
    """Kind and name of every component that a strategy's settings name, by `field`, or `field.N` where it is a list."""
    named: dict[str, tuple[str, str]] = {}
    for field_name, kind in strategy.parts.items():
        value = getattr(settings, field_name)
        if isinstance(value, tuple):
            named.update({f"{field_name}.{number}": (kind, name) for number, name in enumerate(value)})
        elif value is not None:
            named[field_name] = (kind, value)
    return named


def grouped_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Components by field: those of a list as a tuple."""
    grouped: dict[str, Any] = {}
    for place, part in parts.items():
        field_name, dot, _ = place.partition(".")
        grouped[field_name] = (*grouped.get(field_name, ()), part) if dot else part
    return grouped


def settings_of(thing: Any) -> type[Settings]:
    """The settings model that a registered thing declares; one without settings where it declares none."""
    model = getattr(thing, "Settings", NoSettings)
    if not (isinstance(model, type) and issubclass(model, Settings)):
        raise ConfigError(
            f"{getattr(thing, '__name__', thing)}.Settings must be a subclass of ganglion.engine.api.Settings"
        )
    return model


def network_settings(thing: Any, spec: DataSpec | None) -> type[Settings]:
    """The settings model of a network for data of that kind: what `settings_for` says, where it has that."""
    chosen = getattr(thing, "settings_for", None)
    model: type[Settings] = settings_of(thing) if spec is None or chosen is None else chosen(spec.kind)
    return model


def strategy_class(entry: Registered) -> type[LearningStrategy]:
    """The strategy's class. Raises ConfigError where the registered thing is none."""
    if not (isinstance(entry.thing, type) and issubclass(entry.thing, LearningStrategy)):
        raise ConfigError(f"{entry.name} ({entry.origin}) is not a LearningStrategy class")
    return entry.thing


def _is_method(entry: Registered) -> bool:
    return isinstance(entry.thing, type) and issubclass(entry.thing, Method)


def _values(
    owners: Sequence[Owner], settings: Sequence[Settings], arguments: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Every key with its value, under names that mean the same when read again: prefixed only where two would clash.

    A key without a role also reaches the components of every role, one with a role those of that role alone.
    """
    taken = Counter((owner.role, form) for owner in owners for form in _forms(owner))
    in_roles = {form for owner in owners if owner.role for form in _forms(owner)}
    values: dict[str, Any] = {}
    for owner, model, layers in zip(owners, settings, arguments, strict=True):
        role = f"{owner.role}." if owner.role else ""
        for info in describe(type(model)):
            if info.key in LIFE_CYCLE and owner.prefix == "job":
                continue
            form = fold(info.key)
            clash = taken[owner.role, form] > 1 or (not owner.role and form in in_roles)
            values[f"{role}{owner.prefix}.{info.key}" if clash else f"{role}{info.key}"] = getattr(model, info.name)
        values.update({f"{role}{name}": format_value(value) for name, value in layers.items()})
    return values


def _forms(owner: Owner) -> set[str]:
    """Every folded form of the keys that an owner declares, without prefixes."""
    return {fold(form) for info in describe(owner.model) for form in (info.key, *info.also)}


def _own_forms(entries: Sequence[Registered]) -> set[str]:
    """Every folded form of the keys that components declare, alone and behind the component's name."""
    forms = {(entry.name, form) for entry in entries for form in _forms(Owner(entry.name, settings_of(entry.thing)))}
    return {fold(form) for name, key in forms for form in (key, f"{name}.{key}")}
