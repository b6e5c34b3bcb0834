"""One plugin at a time: imported, checked, and asked through the hooks what it offers."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import pluggy

from ganglion.engine import hookspecs
from ganglion.engine.errors import EngineError, PluginError, fold, suggestion

T = TypeVar("T")


class Registered(NamedTuple):
    """One registered thing and where it comes from."""

    kind: str
    name: str
    thing: Any
    aliases: tuple[str, ...]
    origin: str


class Failure(NamedTuple):
    """Why a plugin cannot be used: one sentence, and the whole traceback."""

    reason: str
    details: str


def attempt(action: Callable[[], T]) -> T | Failure:
    """What `action` gives, or why it failed; Ctrl-C still stops the program."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        return Failure(_reason(error), traceback.format_exc())


def _reason(error: BaseException) -> str:
    if isinstance(error, EngineError):
        return str(error)
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    passed_through = tuple(str(Path(module.__file__ or "").parent) for module in (hookspecs, pluggy, importlib))
    outside = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*passed_through, "<frozen"))
    ]
    if isinstance(error, SyntaxError) or not outside:  # the text of a SyntaxError says where it is
        return text
    folder = str(Path(outside[0].filename).parent)  # where the plugin is: its own last line says most
    own = [frame for frame in outside if frame.filename.startswith(folder)]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def modules_of(package: str) -> list[str]:
    """The module itself, or every module below the package: the folders of the built-ins are scanned."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [package]
    found = pkgutil.walk_packages(list(spec.submodule_search_locations), prefix=f"{package}.")
    return sorted(module.name for module in found)


# --- local files --------------------------------------------------------------------------------------------------


class _FreshLoader(SourceFileLoader):
    """Reads the file itself, never a cached translation of it, and leaves no cache beside it."""

    def path_stats(self, path: Any) -> Any:
        raise OSError(f"{path} is always read")


def load_file(path: Path) -> ModuleType:
    """The module in a local file; one that has changed since is loaded anew. Raises PluginError for no file."""
    path = path.expanduser().resolve()
    if not path.is_file():
        what = "is a folder; name a file in it" if path.is_dir() else "does not exist"
        raise PluginError(f"the file {path} {what}")
    name = f"ganglion_local_{path.stem}_{hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_FreshLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


# --- what a plugin offers -----------------------------------------------------------------------------------------


def offers(module: Any, name: str, origin: str) -> list[Registered]:
    """Ask one plugin, in a manager of its own, what it registers. Raises PluginError for hooks that are wrong."""
    required = getattr(module, "GANGLION_API", hookspecs.API_VERSION)
    if required != hookspecs.API_VERSION:
        raise PluginError(
            f"it is written for plugin API {required}, this Ganglion has {hookspecs.API_VERSION}: "
            f"another version of one of the two is needed"
        )
    if not _hooks(module):
        return []
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name)
    manager.check_pending()
    offered: list[Registered] = []
    for kind, hook in hookspecs.KINDS.items():
        getattr(manager.hook, hook)(register=_collector(kind, origin, offered))
    return offered


@cache
def built_in_offers(module: ModuleType, name: str, origin: str) -> list[Registered]:
    """As `offers`, for a module of the project's own: asked once in a process, for its answer is always the same."""
    return offers(module, name, origin)


def _hooks(module: Any) -> list[str]:
    """The hooks of a plugin. Raises PluginError for one that is misspelt, not marked, or takes other arguments."""
    hooks, found = list(hookspecs.KINDS.values()), list[str]()
    for name in dir(module):
        function = getattr(module, name, None)
        if not inspect.isroutine(function) or hasattr(function, f"{hookspecs.PROJECT}_spec"):
            continue
        options = getattr(function, f"{hookspecs.PROJECT}_impl", None)
        if not isinstance(options, dict):
            if name in hooks:
                raise PluginError(f"{name} is not marked as a hook: put @hookimpl of ganglion.engine.api above it")
            continue
        hook = options.get("specname") or name
        if hook not in hooks:
            raise PluginError(f"there is no hook '{hook}'{suggestion(hook, hooks)}")
        arguments = list(inspect.signature(function).parameters)
        if arguments != ["register"]:
            came = ", ".join(arguments) or "nothing"
            raise PluginError(f"the hook {name} takes one argument, 'register', not {came}")
        found.append(hook)
    return found


def _collector(kind: str, origin: str, offered: list[Registered]) -> Callable[..., None]:
    def register(name: str, thing: Any, aliases: Sequence[str] = ()) -> None:
        if isinstance(aliases, str):
            raise PluginError(f"{kind} '{name}': aliases are a list of names, not the text '{aliases}'")
        for each in (name, *aliases):
            check_name(kind, each)
        check_thing(kind, name, thing)
        offered.append(Registered(kind, name, thing, tuple(aliases), origin))

    return register


def check_name(kind: str, name: Any) -> None:
    """Raise PluginError unless `name` can be typed in a job."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w+-]*", name) or not fold(name):
        raise PluginError(
            f"{name!r} cannot name a {kind}: a name has letters, digits, '_', '-' and '+', and no blanks or other signs"
        )


def check_thing(kind: str, name: str, thing: Any) -> None:
    """Raise PluginError unless `thing` is what its kind must be: a complete class of it; any callable for networks."""
    base = _base(kind)
    if base is None:
        if not callable(thing):
            raise PluginError(
                f"{kind} '{name}' must be a class or a function, not an instance of {type(thing).__name__}"
            )
        return
    if not (isinstance(thing, type) and issubclass(thing, base)):
        came = f"the class {thing.__name__}" if isinstance(thing, type) else f"an instance of {type(thing).__name__}"
        raise PluginError(f"{kind} '{name}' must be a subclass of {base.__name__}, not {came}")
    if inspect.isabstract(thing):
        missing = ", ".join(sorted(getattr(thing, "__abstractmethods__", ())))
        raise PluginError(f"{kind} '{name}' lacks {missing}, which every {base.__name__} has")


def _base(kind: str) -> type | None:
    from ganglion.engine import contracts  # here, because it imports torch

    bases: dict[str, type] = {
        "strategy": contracts.LearningStrategy,
        "dataset": contracts.DatasetFactory,
        "sampling": contracts.Sampling,
        "criterion": contracts.Criterion,
        "processor": contracts.GradientProcessor,
        "objective": contracts.Objective,
        "penalty": contracts.Penalty,
        "metric": contracts.Metric,
        "trace": contracts.Trace,
    }
    return bases.get(kind)
