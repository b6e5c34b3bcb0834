"""What shell completion has to know of all that is installed, as plain lists and mappings."""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from ganglion.engine.completionindex import FORMAT, stamp
from ganglion.engine.contracts import Method
from ganglion.engine.errors import EngineError
from ganglion.engine.hookspecs import KINDS
from ganglion.engine.job import job_folders, read_job
from ganglion.engine.registry import BUILT_IN, Registered, Registry, about
from ganglion.engine.resolution import settings_of
from ganglion.engine.settings import SettingInfo, Settings, describe, format_value
from ganglion.engine.suites import shipped_suites

# What a value is, where its type does not say: names of a kind, or one of the words that `completionwords` knows.
MEANT = {
    "method": "method",
    "processors": "processor",
    "sampling": "sampling",
    "criterion": "criterion",
    "traces": "trace",
    "metric": "metric",
    "metrics": "metric",
    "dataset": "dataset",
    "networks": "network",
    "tag": "tags",
    "initTag": "tags",
    "classifier": "tags",
    "path": "files",
    "out": "files",
    "checkpoint": "checkpoints",
    "fixed": "roles",
}
CHOICES = {"device": ["auto", "cpu", "cuda", "mps"]}
MODELS = {  # settings that no registered thing declares, by the command or the part of a job that takes them
    "job": "job.JobSettings",
    "role": "job.RoleSettings",
    "data": "adapters.AdapterSettings",
    "chain": "processors.ChainSettings",
    "compare": "comparing.CompareSettings",
    "sweep": "sweeps.planning.SweepSettings",
    "sample": "commands.SampleSettings",
    "evaluate": "commands.EvaluateSettings",
    "forecast": "forecastcommand.ForecastSettings",
    "report": "reportcommand.ReportSettings",
    "export": "exportcommand.ExportSettings",
}


def facts() -> dict[str, Any]:
    """The whole index."""
    registry = Registry().load()
    plugins = [entry for kind in KINDS for entry in registry.all(kind) if entry.origin != BUILT_IN]
    files = sorted({file for entry in plugins if (file := _file_of(entry.thing))})
    return {
        "format": FORMAT,
        "stamp": stamp(files),
        "files": files,
        "kinds": {kind: [_entry(entry) for entry in registry.all(kind)] for kind in KINDS},
        "models": {name: _settings(model) for name, model in _models()},
        "jobs": _jobs(),
        "suites": sorted(shipped_suites()),
        "tasks": _tasks(),
    }


def _file_of(thing: Any) -> str | None:
    module = sys.modules.get(getattr(thing, "__module__", "") or "")
    return getattr(module, "__file__", None)


def _models() -> Iterator[tuple[str, type[Settings]]]:
    for name, place in MODELS.items():
        module, _, attribute = place.rpartition(".")
        with suppress(ImportError, AttributeError):
            yield name, getattr(import_module(f"ganglion.engine.{module}"), attribute)


def _tasks() -> list[str]:
    """The tasks of `ganglion bench`."""
    with suppress(ImportError, AttributeError):
        return list(import_module("ganglion.engine.benchcommand").NAMES)
    return []


def _jobs() -> dict[str, dict[str, Any]]:
    """What the job files that ship name."""
    found = {}
    for file in sorted(file for folder in job_folders() for file in folder.glob("*.yaml")):
        with suppress(EngineError):
            job = read_job(file)
            named: dict[str, Any] = {key: job[key] for key in ("networks", "dataset", "strategy") if key in job}
            settings: dict[str, Any] = job.get("settings") or {}
            named["settings"] = {key: str(value) for key, value in settings.items()}
            found[file.stem] = named
    return found


def _entry(entry: Registered) -> dict[str, Any]:
    """One registered thing; a plugin's that is wrong declares nothing."""
    thing, parts = entry.thing, {}
    found: dict[str, Any] = {"name": entry.name, "aliases": list(entry.aliases), "about": about(thing)[:100]}
    with suppress(Exception):
        if entry.kind == "strategy":
            parts = dict(thing.parts)
            preset = {key: format_value(value) for key, value in thing.preset.items()}
            found.update(roles=list(thing.roles), parts=parts, preset=preset)
        if entry.kind == "network":
            arguments: Callable[[None], Mapping[str, Any]] | None = getattr(thing, "layer_arguments", None)
            layers = arguments(None) if arguments is not None else {}
            forms = [f"{layer}.{name}" for layer, names in layers.items() for name in names]
            found["layers"] = [form for form in forms if "_" not in form.partition(".")[2]]  # both spellings are there
            found["roles"] = list(getattr(thing, "roles", ()))
        if entry.kind == "processor":
            found["method"] = isinstance(thing, type) and issubclass(thing, Method)
        found["settings"] = _settings(settings_of(thing), parts)
    return {"settings": [], **found}


def _settings(model: type[Settings], parts: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Every key with its meaning and what its values are; `parts` are fields that name things of a kind."""
    return [_setting(model, info, (parts or {}).get(info.name)) for info in describe(model)]


def _setting(model: type[Settings], info: SettingInfo, kind: str | None) -> dict[str, Any]:
    annotation = model.model_fields[info.name].annotation
    setting: dict[str, Any] = {"key": info.key, "help": info.help, "also": list(info.also)}
    choices = CHOICES.get(info.key) or list(dict.fromkeys(_choices(annotation)))
    meant = kind or MEANT.get(info.key)
    if kind is not None and info.default is not None:
        setting["default"] = format_value(info.default)
    return {**setting, "choices": choices, "meant": meant, "list": "list of" in info.type}


def _choices(annotation: Any) -> Iterator[str]:
    """The words that a value of this type can be, as far as they can be listed."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bool:
        yield from ("true", "false")
    elif annotation is type(None):
        yield "none"
    elif origin is typing.Literal:
        yield from map(str, arguments)
    elif origin in (typing.Union, types.UnionType, list, tuple):
        for argument in arguments:
            yield from _choices(argument)
    elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        yield from (str(member.value) for member in annotation)
