"""The keys that a job takes, as far as its words so far say what it is, from the index alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ganglion.engine.errors import fold

NO_STRATEGY = "FeedForward"  # where none is named and there is one network


class Setting(NamedTuple):
    """One key: its meaning, the words that it may be, names of what else, and whether it takes several."""

    key: str
    help: str
    choices: tuple[str, ...] = ()
    meant: str | None = None
    several: bool = False
    also: tuple[str, ...] = ()
    default: str = ""


class Known:
    """The index, asked by names in any spelling; empty where there is none yet."""

    def __init__(self, index: Mapping[str, Any]) -> None:
        self.kinds: Mapping[str, list[dict[str, Any]]] = index.get("kinds", {})
        self.jobs: Mapping[str, Mapping[str, Any]] = index.get("jobs", {})
        self.suites: Sequence[str] = index.get("suites", ())
        self.tasks: Sequence[str] = index.get("tasks", ())
        self.about = {entry["name"]: entry["about"] for entries in self.kinds.values() for entry in entries}
        self._models: Mapping[str, list[dict[str, Any]]] = index.get("models", {})

    def names(self, kind: str) -> list[str]:
        """The names of one kind; `method` are the processors that are optimisers."""
        if kind == "method":
            return [entry["name"] for entry in self.kinds.get("processor", ()) if entry.get("method")]
        return [entry["name"] for entry in self.kinds.get(kind, ())]

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """What is known of one thing; nothing where there is none of that name."""
        wanted = fold(name).removesuffix("learningstrategy")
        for entry in self.kinds.get(kind, ()):
            if wanted in map(fold, (entry["name"], *entry["aliases"])):
                return entry
        return {}

    def settings(self, kind: str, name: str) -> list[Setting]:
        """The keys of one thing."""
        return [_setting(found) for found in self.find(kind, name).get("settings", ())]

    def model(self, name: str) -> list[Setting]:
        """The keys of a command, or of a part of every job."""
        return [_setting(found) for found in self._models.get(name, ())]


def _setting(found: Mapping[str, Any]) -> Setting:
    return Setting(
        found["key"],
        found["help"],
        tuple(found["choices"]),
        found["meant"],
        found["list"],
        tuple(found["also"]),
        found.get("default", ""),
    )


class Job:
    """What is known of a job; `before` is what its job file, or the run that goes on, names."""

    def __init__(
        self, known: Known, networks: Sequence[str], dataset: str, keys: Mapping[str, str], before: Mapping[str, Any]
    ) -> None:
        self.known = known
        self.before = before
        self.given = {**{fold(key): str(value) for key, value in before.get("settings", {}).items()}}
        self.given |= {fold(key): value for key, value in keys.items()}
        self.networks = list(networks) or _listed(self.given.get("networks") or before.get("networks"))
        self.dataset = dataset or self.given.get("dataset") or str(before.get("dataset", ""))
        alone = NO_STRATEGY if len(self.networks) < 2 else ""
        self.strategy = known.find("strategy", self.given.get("strategy") or str(before.get("strategy") or alone))
        self.roles: list[str] = self.strategy.get("roles", [])

    def keys(self, typed: str = "") -> tuple[dict[str, Setting], list[str]]:
        """Every key in full, and the heads behind which there are more: roles and components with a dot.

        Those behind a head are there when it has been typed: all of them would be too many to show.
        """
        found = {"strategy": Setting("strategy", "how the networks learn", meant="strategy")}
        for setting in (*self.known.model("job"), *self._own()):
            found.setdefault(setting.key, setting)
        components = dict(self._components())
        heads = [f"{name}." for name in (*self.roles, *(name for name, settings in components.items() if settings))]
        for role in ("", *self.roles):
            if role and not fold(typed).startswith(f"{fold(role)}."):
                continue
            for setting in self._of_role(role):
                found.setdefault(f"{role}.{setting.key}" if role else setting.key, setting)
        for name, settings in components.items():
            for setting in settings:
                found.setdefault(setting.key, setting)
                if fold(typed).startswith(f"{fold(name)}."):
                    found.setdefault(f"{name}.{setting.key}", setting)
        return found, heads

    def _own(self) -> Iterator[Setting]:
        """Keys of the strategy, the data set, its adapters."""
        yield from (_setting(found) for found in self.strategy.get("settings", ()))
        yield from self.known.settings("dataset", self.dataset)
        yield from self.known.model("data")

    def _components(self) -> Iterator[tuple[str, list[Setting]]]:
        """What the strategy's settings and the job's name: objective, penalties, sampling, traces."""
        declared = {fold(found["key"]): found.get("default", "") for found in self.strategy.get("settings", ())}
        fields = {**self.strategy.get("parts", {}), "sampling": "sampling", "traces": "trace"}
        preset = {fold(key): value for key, value in self.strategy.get("preset", {}).items()}
        for field, kind in fields.items():
            key = fold(field)
            for name in _listed(self.given.get(key) or preset.get(key) or declared.get(key)):
                found = self.known.find(kind, name)
                if found:
                    yield found["name"], self.known.settings(kind, name)

    def _of_role(self, role: str) -> Iterator[Setting]:
        """Keys that one role takes, or, without one, any role."""
        yield from self.known.model("role")
        yield from self.known.model("chain")
        yield from self.known.settings("processor", self._method(role))
        for name in self.known.names("processor"):
            if not self.known.find("processor", name).get("method"):
                yield from self.known.settings("processor", name)
        for own, network in zip(self.roles or [""] * len(self.networks), self.networks, strict=False):
            if role in ("", own):
                yield from self.known.settings("network", network)
                for layer in self.known.find("network", network).get("layers", ()):
                    yield Setting(layer, "an argument of all layers of this type")

    def _method(self, role: str) -> str:
        """The optimiser of a role; of the first one that names one, where no role is asked for."""
        preset = {fold(key): value for key, value in self.strategy.get("preset", {}).items()}
        chosen = [role] if role else self.roles
        for values in (self.given, preset):
            for key in (*(f"{fold(each)}.method" for each in chosen), "method"):
                if key in values:
                    return str(values[key])
        return "SGD"


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        return [name.strip() for name in value.strip("[]").split(",") if name.strip()]
    return [str(name) for name in value or ()]
