"""What a strategy is made of where a job names nothing else: its preset's parts, with their keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from ganglion.engine.errors import EngineError, fold
from ganglion.engine.registry import Registry
from ganglion.engine.resolution import part_names, settings_of
from ganglion.engine.settings import describe, parse_value


def preset_parts(registry: Registry, strategy: Any) -> dict[str, dict[str, Any]]:
    """`objective labelled`, say, and the values that its keys have; a part that is not there is left out."""
    preset = {fold(key): value for key, value in strategy.preset.items()}
    found = {}
    for kind, name in part_names(strategy, SimpleNamespace(**_named(strategy, preset))).values():
        with suppress(EngineError):  # `learn` says what is wrong with it
            part = registry.get(kind, name)
            given = {key.removeprefix(f"{fold(part.name)}."): value for key, value in preset.items()}
            infos = describe(settings_of(part.thing))
            found[f"{kind} {part.name}"] = {info.key: given.get(fold(info.key), info.default) for info in infos}
    return found


def _named(strategy: Any, preset: Mapping[str, Any]) -> dict[str, Any]:
    """The names of parts by the strategy's field; None where there is none, or nothing that is a name."""
    names: dict[str, Any] = dict.fromkeys(strategy.parts)
    for info in describe(settings_of(strategy)):
        if info.name in names:
            with suppress(ValueError):
                annotation = strategy.Settings.model_fields[info.name].annotation
                names[info.name] = parse_value(annotation, preset.get(fold(info.key), info.default))
    return names
