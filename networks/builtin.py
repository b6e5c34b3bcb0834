"""Registers every YAML definition that lies in the folder `definitions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ganglion.engine.api import hookimpl
from ganglion.networks.definition import NetworkDefinition


def definitions() -> list[NetworkDefinition]:
    """The built-in definitions, by file name."""
    # Not by importlib.resources: it fails on the namespace of an editable installation.
    files = sorted((Path(__file__).parent / "definitions").glob("*.yaml"))
    return [NetworkDefinition.parse(file.read_text(encoding="utf-8"), file.name) for file in files]


@hookimpl
def register_networks(register: Any) -> None:
    """Every definition of the folder, by the name that it declares."""
    for definition in definitions():
        register(definition.name, definition, aliases=definition.aliases)
