"""What a job file says of components that other names replaced: it is not meant for what took their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganglion.engine.errors import EngineError, fold
from ganglion.engine.job import JobRequest
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.settings import Settings, describe


def former_keys(
    registry: Registry,
    asked: JobRequest,
    strategy: Registered,
    dataset: Registered,
    networks: Mapping[str, Registered],
) -> set[str]:
    """The keys of the job file that components declare which it names and which are not used now.

    A component that is not found any more declares nothing: of its keys only those go that nothing takes.
    """
    declared: set[str] = set()
    before = strategy
    for kind, now in (("strategy", strategy), ("dataset", dataset)):
        found = _find(registry, kind, asked, asked.former.get(kind, ()))
        if found and found[0].thing is not now.thing:
            declared |= _forms(found[0])
            before = found[0] if kind == "strategy" else before
    named = _find(registry, "network", asked, asked.former.get("networks", ()))
    for role, network in zip(before.thing.roles, named, strict=False):
        if role in networks and networks[role].thing is not network.thing:
            declared |= {f"{fold(role)}.{form}" for form in (*_forms(network), *_layer_forms(network))}
            if all(network.thing is not used.thing for used in networks.values()):
                declared |= _forms(network)
    return {key for key in asked.from_file if fold(key) in declared}


def _find(registry: Registry, kind: str, asked: JobRequest, names: Sequence[str]) -> list[Registered]:
    """What the names mean, in their order; nothing where one is unknown, or is code that the user does not name now."""
    if any(":" in name and name.rpartition(":")[0] not in asked.plugins for name in names):
        return []
    try:
        return [registry.get(kind, name) for name in names]
    except EngineError:
        return []


def _forms(entry: Registered) -> set[str]:
    """Every folded form, without a role, in which a key of a component may be written."""
    model: type[Settings] | None = getattr(entry.thing, "Settings", None)
    names = [name for info in describe(model) for name in (info.key, *info.also)] if model is not None else []
    return {fold(form) for name in names for form in (name, f"{entry.name}.{name}")}


def _layer_forms(entry: Registered) -> set[str]:
    arguments: Any = getattr(entry.thing, "layer_arguments", None)
    found = arguments(None) if arguments is not None else {}
    return {fold(f"{layer}.{name}") for layer, names in found.items() for name in names}
