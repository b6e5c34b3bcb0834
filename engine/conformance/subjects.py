"""What is to be checked: found by name, by `path.py:Thing`, or given as a class or function."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine.contracts import DatasetFactory, GradientProcessor, LearningStrategy
from ganglion.engine.errors import ConfigError, PluginError, fold, suggestion
from ganglion.engine.hookspecs import KINDS, PROJECT
from ganglion.engine.loading import check_thing
from ganglion.engine.registry import DEFINITIONS, Registered, Registry

CHECKED_KINDS = ("strategy", "network", "dataset", "processor")


class Workbench(Registry):
    """A registry that also finds things which nothing registered: they are lent to it."""

    def __init__(self) -> None:
        super().__init__()
        self._lent: dict[tuple[str, str], Registered] = {}

    def lend(self, kind: str, name: str, thing: Any, called: str | None = None) -> Registered:
        """Make `thing` known under `name`, before anything else of that name; it may be called otherwise itself."""
        entry = Registered(kind, called or name, thing, (), "given")
        self._lent[kind, fold(name)] = entry
        return entry

    def get(self, kind: str, name: str) -> Registered:
        return self._lent.get((kind, fold(name))) or super().get(kind, name)

    def all(self, kind: str) -> list[Registered]:
        lent = {key: entry for key, entry in self._lent.items() if key[0] == kind}
        return [*(entry for entry in super().all(kind) if (kind, fold(entry.name)) not in lent), *lent.values()]


class Subject(NamedTuple):
    """What is checked, and the registry in which it is found."""

    registry: Workbench
    entry: Registered

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def thing(self) -> Any:
        return self.entry.thing


def find_subject(kind: str, thing: Any, plugins: Sequence[str] = ()) -> Subject:
    """A thing of `kind` by name, by `path.py:Thing`, or as it is. Raises ConfigError, PluginError."""
    registry = Workbench()
    registry.load(plugins)
    if isinstance(thing, str):
        return _named(registry, kind, thing)
    known = _registered(registry, kind, thing)
    if known is None:
        module = sys.modules.get(getattr(thing, "__module__", ""))
        if module is not None and _has_hooks(module):  # what it registers besides may be named in its settings
            registry.add_local(module.__name__)
            known = _registered(registry, kind, thing)
    if known is None:
        name = _name(thing)
        check_thing(kind, name, thing)
        known = registry.lend(kind, name, thing)
    return Subject(registry, known)


def find_any(name: str, plugins: Sequence[str], kind: str | None = None) -> tuple[str, Subject]:
    """What a name means, and its kind; `kind` decides where several kinds have that name. Raises ConfigError."""
    if kind is not None and kind not in CHECKED_KINDS:
        raise ConfigError(f"kind={kind}: the kit checks these kinds{suggestion(kind, CHECKED_KINDS)}")
    registry = Workbench()
    registry.load(plugins)
    kinds = [kind] if kind else [kind_of(registry, name)] if ":" in name else _kinds_named(registry, name)
    if len(kinds) > 1:
        raise ConfigError(f"'{name}' is a {' and a '.join(kinds)}; add kind={kinds[0]}, for example")
    return kinds[0], _named(registry, kinds[0], name)


def _named(registry: Workbench, kind: str, name: str) -> Subject:
    """What a name means, to be found again by the name that it has by itself, without a path."""
    entry = registry.get(kind, name)
    return Subject(registry, registry.lend(kind, entry.name, entry.thing) if ":" in name else entry)


def kind_of(registry: Registry, path: str) -> str:
    """The kind of what `path.py:Thing` means, by its class; any other callable is a network."""
    location, _, attribute = path.rpartition(":")
    thing = getattr(registry.add_local(location), attribute, None)
    bases = (("strategy", LearningStrategy), ("dataset", DatasetFactory), ("processor", GradientProcessor))
    for kind, base in bases:
        if isinstance(thing, type) and issubclass(thing, base):
            return kind
    return "network"


def _kinds_named(registry: Registry, name: str) -> list[str]:
    """Kinds that the kit checks and in which there is something of that name. Raises ConfigError for none."""
    if name.endswith(DEFINITIONS):
        return ["network"]
    found = [kind for kind in KINDS if _finds(registry, kind, name)]
    checked = [kind for kind in found if kind in CHECKED_KINDS]
    if found and not checked:
        raise ConfigError(f"'{name}' is a {found[0]}, and the kit checks {', '.join(CHECKED_KINDS)}")
    if not checked:
        known = [entry.name for kind in CHECKED_KINDS for entry in registry.all(kind)]
        hint = suggestion(name, known) if not name.endswith(".py") else f"; add what is meant in it: {name}:MyName"
        raise ConfigError(f"nothing is called '{name}'{hint}")
    return checked


def _finds(registry: Registry, kind: str, name: str) -> bool:
    try:
        registry.get(kind, name)
    except ConfigError:
        return False
    return True


def _registered(registry: Registry, kind: str, thing: Any) -> Registered | None:
    return next((entry for entry in registry.all(kind) if entry.thing is thing), None)


def _has_hooks(module: Any) -> bool:
    return any(hasattr(value, f"{PROJECT}_impl") for value in vars(module).values() if callable(value))


def _name(thing: Any) -> str:
    """What a thing calls itself."""
    name = getattr(thing, "__name__", None) or getattr(thing, "name", None) or type(thing).__name__
    if not isinstance(name, str):
        raise PluginError(f"{thing!r} has no name: give a class, a function or a registered name")
    return Path(name).name
