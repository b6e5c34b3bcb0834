"""Names to things: plugins are found and loaded one by one, and what they register can be named in jobs."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ganglion.engine.errors import ConfigError, PluginError, fold, suggestion
from ganglion.engine.hookspecs import KINDS
from ganglion.engine.loading import (
    Failure,
    Registered,
    attempt,
    built_in_offers,
    check_name,
    check_thing,
    load_file,
    modules_of,
    offers,
)

BUILTIN_PACKAGES = ("ganglion.engine.builtin", "ganglion.strategies", "ganglion.networks", "ganglion.datasets")
BUILT_IN = "built-in"
ENTRY_POINTS = "ganglion"
SUFFIXES = ("learningstrategy", "samplingstrategy")
DEFINITIONS = (".yaml", ".yml")
PYTHON = "python"  # `python:Thing` is an object of the Python program that called, not one that has a name


class Plugin(NamedTuple):
    """A plugin as `ganglion plugins` shows it; `error` is what is wrong with it, None when all is well."""

    name: str
    origin: str
    version: str | None = None
    error: str | None = None
    details: str | None = None
    digest: str | None = None


class Registry:
    """Everything that can be named in a job."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.files: tuple[str, ...] = ()  # local files that the user named
        self._names: dict[str, dict[str, Registered]] = {kind: {} for kind in KINDS}
        self._clashes: dict[tuple[str, str], list[Registered]] = {}
        self._local: dict[str, ModuleType] = {}
        self._given: dict[tuple[str, str], Registered] = {}

    def load(self, files: Sequence[str | Path] = ()) -> Registry:
        """Load the built-ins, every entry point of group `ganglion`, and the named local files or modules."""
        for package in BUILTIN_PACKAGES:
            for name in modules_of(package):
                self._add(name, BUILT_IN, partial(importlib.import_module, name))
        for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
            distribution = entry.dist.name if entry.dist else "unknown"
            version = entry.dist.version if entry.dist else None
            self._add(entry.name, f"package {distribution}", entry.load, version)
        self.files = tuple(str(file) for file in files)
        for file in files:
            self.add_local(file)
        return self

    def add_local(self, path: str | Path) -> ModuleType:
        """Load a local plugin file (`path.py`) or an importable module; register what it offers. Raises PluginError."""
        text = str(path)
        is_file = text.endswith(".py") or "/" in text
        module = attempt(lambda: load_file(Path(text)) if is_file else importlib.import_module(text))
        if isinstance(module, Failure):
            raise PluginError(f"plugin {text}: {module.reason}")
        if module.__name__ in self._local:
            return module
        origin = f"file {text}" if is_file else f"module {text}"
        offered = attempt(lambda: offers(module, module.__name__, origin))
        if isinstance(offered, Failure):
            raise PluginError(f"plugin {text}: {offered.reason}")
        self._local[module.__name__] = module
        name = Path(text).stem if is_file else text
        digest = hashlib.sha256(Path(text).expanduser().read_bytes()).hexdigest() if is_file else None
        self.plugins.append(Plugin(name, origin, error=self._accept(offered), digest=digest))
        return module

    def give(self, kind: str, name: str, thing: Any) -> str:
        """Take over an object of a Python program; the name that means it here. Raises PluginError."""
        check_name(kind, name)
        check_thing(kind, name, thing)
        own = next(number for number in count(1) if (kind, _given_name(name, number)) not in self._given)
        full = _given_name(name, own)
        self._given[kind, full] = Registered(kind, name, thing, (), "the Python program")
        self.plugins.append(Plugin(name, "the Python program"))
        self.files = (*dict.fromkeys((*self.files, PYTHON)),)
        return full

    def given(self, kind: str, name: str) -> Any:
        """The object that `name` means, where a Python program gave it; otherwise the name itself."""
        return self._given[kind, name].thing if (kind, name) in self._given else name

    def get(self, kind: str, name: str) -> Registered:
        """The thing of `kind` that `name` means, without regard to case, `-`, `_`.

        Raises ConfigError for a name that nothing has, PluginError for one that two plugins claim.
        """
        if kind not in KINDS:
            raise ConfigError(f"unknown kind '{kind}'{suggestion(kind, KINDS)}")
        if (kind, name) in self._given:
            return self._given[kind, name]
        if ":" in name or (kind == "network" and name.endswith(DEFINITIONS)):
            return self._from_path(kind, name)
        folded = _folded(name)
        if (kind, folded) in self._clashes:
            raise PluginError(self._clash(kind, folded))
        found = self._names[kind].get(folded)
        if found is None:
            raise ConfigError(self._unknown(kind, name))
        return found

    def all(self, kind: str) -> list[Registered]:
        """Everything of one kind, by name."""
        found = [entry for key, entry in self._names[kind].items() if key == _folded(entry.name)]
        return sorted(found, key=lambda entry: entry.name.lower())

    def quarantined(self) -> list[Plugin]:
        """Plugins that could not be loaded, or some of whose names are blocked."""
        return [plugin for plugin in self.plugins if plugin.error]

    def _unknown(self, kind: str, name: str) -> str:
        if name.endswith(".py"):
            return f"{kind} '{name}' is a file; add what is meant in it, as in {name}:MyName"
        message = f"unknown {kind} '{name}'{suggestion(name, (entry.name for entry in self.all(kind)))}"
        for other in KINDS:
            if _folded(name) in self._names[other]:
                message = f"'{name}' is a {other}, not a {kind}{suggestion('', (e.name for e in self.all(kind)))}"
        if self.quarantined():
            names = ", ".join(f"{plugin.name} ({plugin.origin})" for plugin in self.quarantined())
            message += f" (plugins with problems: {names}; see 'ganglion plugins')"
        return message

    def _from_path(self, kind: str, name: str) -> Registered:
        if kind == "network" and name.endswith(DEFINITIONS):
            for entry in self._names["network"].values():
                loader: Callable[[Path], Any] | None = getattr(type(entry.thing), "load", None)
                if loader is not None:
                    return Registered(kind, Path(name).stem, loader(Path(name)), (), f"file {name}")
            raise ConfigError(f"network {name}: no plugin reads YAML definitions")
        location, _, attribute = name.rpartition(":")
        module = self.add_local(location)
        thing = getattr(module, attribute, None)
        if thing is None:
            own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
            raise ConfigError(f"{location} has no '{attribute}'{suggestion(attribute, own)}")
        check_thing(kind, name, thing)
        return Registered(kind, attribute, thing, (), f"file {location}")

    def _add(self, name: str, origin: str, load: Callable[[], Any], version: str | None = None) -> None:
        """Load one plugin; one that fails is quarantined, and nothing of it is registered."""
        ask: Callable[[Any, str, str], list[Registered]] = built_in_offers if origin == BUILT_IN else offers
        offered = attempt(lambda: ask(load(), name, origin))
        if isinstance(offered, Failure):
            self.plugins.append(Plugin(name, origin, version, offered.reason, offered.details))
            return
        error = self._accept(offered)
        if origin != BUILT_IN or error is not None:
            self.plugins.append(Plugin(name, origin, version, error))

    def _accept(self, offered: Iterable[Registered]) -> str | None:
        """Take names over; the last clash is returned as a sentence, and blocks no other name."""
        problem = None
        for entry in offered:
            for name in (entry.name, *entry.aliases):
                problem = self._claim(entry, _folded(name)) or problem
        return problem

    def _claim(self, entry: Registered, key: str) -> str | None:
        """Give the name to `entry`; when another thing has it, block it for both."""
        names, clashes = self._names[entry.kind], self._clashes
        other = names.get(key)
        if other is None and (entry.kind, key) not in clashes:
            names[key] = entry
        elif other is None or other.thing is not entry.thing:
            clashes.setdefault((entry.kind, key), [other] if other else []).append(entry)
            names.pop(key, None)
            return self._clash(entry.kind, key)
        return None

    def _clash(self, kind: str, key: str) -> str:
        first, *others = self._clashes[kind, key]
        claims = " and ".join(f"'{entry.name}' of {_source(entry)}" for entry in others)
        return f"{kind} '{first.name}' of {_source(first)} and {claims} claim one name; rename or remove all but one"


def _given_name(name: str, number: int) -> str:
    return f"{PYTHON}:{name}{number if number > 1 else ''}"


def _source(entry: Registered) -> str:
    return "the built-ins" if entry.origin == BUILT_IN else entry.origin


def about(thing: Any) -> str:
    """The first sentence of what a thing says about itself."""
    text = getattr(thing, "doc", None) or thing.__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split())


def _folded(name: str) -> str:
    folded = fold(name)
    for suffix in SUFFIXES:
        if folded.endswith(suffix) and folded != suffix:
            return folded.removesuffix(suffix)
    return folded


__all__ = ["BUILTIN_PACKAGES", "BUILT_IN", "Plugin", "Registered", "Registry"]
