"""Names to things: plugins are found, loaded one by one, and asked through the hooks what they register."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pluggy

from ganglion.engine import hookspecs
from ganglion.engine.errors import ConfigError, PluginError, fold, nearest, suggestion

BUILTIN_PACKAGES = ("ganglion.engine.builtin", "ganglion.strategies", "ganglion.networks", "ganglion.datasets")
ENTRY_POINTS = "ganglion"
SUFFIXES = ("learningstrategy", "samplingstrategy")


class Registered(NamedTuple):
    """One registered thing and where it comes from."""

    kind: str
    name: str
    thing: Any
    aliases: tuple[str, ...]
    origin: str


class Plugin(NamedTuple):
    """A plugin as `ganglion plugins` shows it; `error` is why it is quarantined, None when all is well."""

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
        self._things: dict[str, dict[str, Registered]] = {kind: {} for kind in hookspecs.KINDS}
        self._names: dict[str, dict[str, Registered]] = {kind: {} for kind in hookspecs.KINDS}
        self._clashes: dict[tuple[str, str], str] = {}

    def load(self, files: Sequence[str | Path] = ()) -> Registry:
        """Load the built-ins, every entry point of group `ganglion`, and the named local files or modules."""
        for package in BUILTIN_PACKAGES:
            for name in _modules(package):
                self._add_module(name, "built-in", lambda name=name: importlib.import_module(name))
        for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
            distribution = entry.dist.name if entry.dist else "unknown"
            version = entry.dist.version if entry.dist else None
            self._add_module(entry.name, f"package {distribution}", entry.load, version)
        for file in files:
            self.add_local(file)
        return self

    def add_local(self, path: str | Path) -> ModuleType:
        """Load a local plugin file (`path.py`) or an importable module, and register what it offers. Raises PluginError."""
        text = str(path)
        is_file = text.endswith(".py") or "/" in text
        module, failure = _attempt(lambda: _load_file(Path(text)) if is_file else importlib.import_module(text))
        if failure is not None:
            raise PluginError(f"plugin {text}: {failure.splitlines()[-1]}")
        assert module is not None
        if any(plugin.name == module.__name__ and plugin.error is None for plugin in self.plugins):
            return module
        digest = hashlib.sha256(Path(text).read_bytes()).hexdigest() if is_file else None
        error = self._register(module, module.__name__, f"file {text}" if is_file else f"module {text}")
        self.plugins.append(Plugin(module.__name__, text, error=error, digest=digest))
        if error is not None:
            raise PluginError(f"plugin {text}: {error}")
        return module

    def get(self, kind: str, name: str) -> Registered:
        """The thing of `kind` that `name` means, without regard to case, `-`, `_`. Raises ConfigError."""
        if kind not in self._things:
            raise ConfigError(f"unknown kind '{kind}'{suggestion(kind, self._things)}")
        if ":" in name or (kind == "network" and name.endswith((".yaml", ".yml"))):
            return self._from_path(kind, name)
        folded = _folded(name)
        found = self._names[kind].get(folded)
        if found is None and (folded, kind) in self._clashes:
            raise PluginError(self._clashes[folded, kind])
        if found is None:
            raise ConfigError(self._unknown(kind, name))
        return found

    def all(self, kind: str) -> list[Registered]:
        """Everything of one kind, by name."""
        return sorted(self._things[kind].values(), key=lambda entry: entry.name.lower())

    def quarantined(self) -> list[Plugin]:
        """Plugins that could not be loaded."""
        return [plugin for plugin in self.plugins if plugin.error]

    def _unknown(self, kind: str, name: str) -> str:
        message = f"unknown {kind} '{name}'{suggestion(name, (entry.name for entry in self.all(kind)))}"
        for other in self._things:
            if (
                other != kind
                and nearest(name, [n.name for n in self.all(other)])
                and _folded(name) in self._names[other]
            ):
                message = f"'{name}' is a {other}, not a {kind}{suggestion('', (e.name for e in self.all(kind)))}"
        if self.quarantined():
            names = ", ".join(f"{plugin.name} ({plugin.origin})" for plugin in self.quarantined())
            message += f" (plugins that failed to load: {names}; see 'ganglion plugins')"
        return message

    def _from_path(self, kind: str, name: str) -> Registered:
        if kind == "network" and name.endswith((".yaml", ".yml")):
            for entry in self._things["network"].values():
                loader: Callable[[Path], Any] | None = getattr(type(entry.thing), "load", None)
                if loader is not None:
                    return Registered(kind, Path(name).stem, loader(Path(name)), (), f"file {name}")
            raise ConfigError(f"network {name}: no plugin reads YAML definitions")
        location, _, attribute = name.rpartition(":")
        module = self.add_local(location)
        thing = getattr(module, attribute, None)
        if thing is None:
            public = [key for key in vars(module) if not key.startswith("_")]
            raise ConfigError(f"{location} has no '{attribute}'{suggestion(attribute, public)}")
        return Registered(kind, attribute, thing, (), f"file {location}")

    def _add_module(self, name: str, origin: str, load: Callable[[], ModuleType], version: str | None = None) -> None:
        module, failure = _attempt(load)
        error = failure.splitlines()[-1] if failure else None
        if module is not None:
            error = self._register(module, name, origin)
        if origin != "built-in" or error is not None:
            self.plugins.append(Plugin(name, origin, version, error, failure))

    def _register(self, module: Any, name: str, origin: str) -> str | None:
        """Ask one plugin, in a manager of its own, what it registers; the reason it is refused, or None."""
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        collected: list[Registered] = []
        required = getattr(module, "GANGLION_API", hookspecs.API_VERSION)
        if required != hookspecs.API_VERSION:
            return f"it is written for plugin API {required}, this is {hookspecs.API_VERSION}"
        try:
            manager.register(module, name)
            manager.check_pending()
            for kind, hook in hookspecs.KINDS.items():
                getattr(manager.hook, hook)(register=_collector(kind, origin, collected))
        except (pluggy.PluginValidationError, PluginError) as error:
            hooks = list(hookspecs.KINDS.values())
            misspelt = [
                attribute for attribute in vars(module) if attribute.startswith("register_") and attribute not in hooks
            ]
            hint = f" ({misspelt[0]}{suggestion(misspelt[0], hooks)})" if misspelt else ""
            return " ".join(str(error).split()) + hint
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return self._accept(collected)

    def _accept(self, collected: Iterable[Registered]) -> str | None:
        """Take names over; a clash blocks only its own names and is the plugin's error."""
        error = None
        for entry in collected:
            for name in (entry.name, *entry.aliases):
                key = _folded(name)
                other = self._names[entry.kind].get(key)
                if other is not None and other.thing is not entry.thing:
                    error = f"{entry.kind} '{name}' of {entry.origin} clashes with '{other.name}' of {other.origin}"
                    self._clashes[key, entry.kind] = f"{error}: remove one of the two plugins"
                    del self._names[entry.kind][key]
                    self._things[entry.kind].pop(other.name, None)
                elif (key, entry.kind) in self._clashes:
                    error = self._clashes[key, entry.kind]
                else:
                    self._names[entry.kind][key] = entry
                    self._things[entry.kind][entry.name] = entry
        return error


def _folded(name: str) -> str:
    folded = fold(name)
    for suffix in SUFFIXES:
        if folded.endswith(suffix) and folded != suffix:
            return folded.removesuffix(suffix)
    return folded


def _collector(kind: str, origin: str, collected: list[Registered]) -> Callable[..., None]:
    def register(name: str, thing: Any, aliases: Sequence[str] = ()) -> None:
        if not isinstance(name, str) or not name or any(sign in name for sign in " ,=:/"):
            raise PluginError(f"{kind} name {name!r} must be text without blanks, ',', '=', ':' and '/'")
        if not callable(thing):
            raise PluginError(f"{kind} '{name}' must be a class or a callable, not {type(thing).__name__}")
        collected.append(Registered(kind, name, thing, tuple(aliases), origin))

    return register


def _modules(package: str) -> list[str]:
    """The module itself, or every module below the package: the folders of the built-ins are scanned."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [package]
    found = pkgutil.walk_packages(list(spec.submodule_search_locations), prefix=f"{package}.")
    return sorted(module.name for module in found)


def _attempt(load: Callable[[], ModuleType]) -> tuple[ModuleType | None, str | None]:
    """The loaded module, or the text of what went wrong; Ctrl-C still stops the program."""
    try:
        return load(), None
    except (Exception, SystemExit) as error:
        lines = traceback.format_exception_only(error)
        return None, traceback.format_exc() + "".join(lines).strip().splitlines()[-1]


def _load_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = f"ganglion_local_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
