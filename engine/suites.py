"""Suites: YAML files that say what `ganglion compare` compares, by path or by the name of one that ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ganglion.engine.documents import TextLoader
from ganglion.engine.errors import ConfigError, StoreError, fold, suggestion
from ganglion.engine.files import read_text

SUITE_FORMAT = 1
LIMIT = 1024 * 1024  # bytes that a suite may have
PLAIN = ("dataset", "networks", "budget", "seeds", "metrics", "against", "figures", "device")  # keys of compare
MAPPINGS = ("settings", "entries", "evaluate")
PARTS = ("format", "doc", *PLAIN, *MAPPINGS)
ENTRY_PARTS = ("strategy", "networks", "settings")


@dataclass(frozen=True)
class SuiteEntry:
    """One entry of a suite: what it names, and the settings that are its own."""

    strategy: str
    networks: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """What a suite file says; `keys` are keys of `ganglion compare`, as text."""

    entries: Mapping[str, SuiteEntry]
    keys: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    evaluate: Mapping[str, str] = field(default_factory=dict)


def suite_folders() -> list[Path]:
    """Where suites that ship with Ganglion lie."""
    from importlib.resources import files

    from ganglion.engine.registry import BUILTIN_PACKAGES

    folders = [Path(str(files(package) / "suites")) for package in BUILTIN_PACKAGES[1:]]
    return [folder for folder in folders if folder.is_dir()]


def shipped_suites() -> dict[str, Path]:
    """The suites that ship with Ganglion, by name."""
    return {file.stem: file for folder in reversed(suite_folders()) for file in sorted(folder.glob("*.yaml"))}


def read_suite(path: Path) -> Suite:
    """The suite in a file. Raises ConfigError with what is wrong."""
    try:
        return parse_suite(read_text(path, LIMIT))
    except (StoreError, ValueError) as error:
        raise ConfigError(f"suite {path}: {error}") from None


def parse_suite(text: str) -> Suite:
    """The suite that a text holds. Raises ValueError with what is wrong."""
    try:
        document = yaml.load(text, Loader=TextLoader)  # a SafeLoader without implicit types
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"{f'line {mark.line + 1}: ' if mark else ''}{error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is not YAML ({str(error).splitlines()[0]})") from None
    parts = _mapping(document, "the file", PARTS)
    if str(parts.get("format", SUITE_FORMAT)) != str(SUITE_FORMAT):
        raise ValueError(f"format {parts['format']} is not one that this version reads ({SUITE_FORMAT})")
    entries = _mapping(parts.get("entries"), "entries")
    if not entries:
        raise ValueError("entries: expected at least one 'label: {strategy: NAME}'")
    return Suite(
        {label: _entry(label, value) for label, value in entries.items()},
        {key: _text(key, parts[key]) for key in PLAIN if key in parts},
        _texts(parts.get("settings"), "settings"),
        _texts(parts.get("evaluate"), "evaluate"),
    )


def _entry(label: str, value: Any) -> SuiteEntry:
    where = f"entry {label}"
    parts = _mapping(value, where, ENTRY_PARTS)
    if not isinstance(parts.get("strategy"), str) or not parts["strategy"]:
        raise ValueError(f"{where}: expected 'strategy: NAME'")
    networks = parts.get("networks") or []
    names = networks.split(",") if isinstance(networks, str) else networks
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}: networks: expected a list of names")
    return SuiteEntry(
        parts["strategy"], tuple(name.strip() for name in names), _texts(parts.get("settings"), f"{where}: settings")
    )


def _mapping(value: Any, where: str, known: Sequence[str] = ()) -> dict[str, Any]:
    if value is None and not known:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{where}: expected lines of 'key: value'")
    for key in value:
        if known and key not in known:
            raise ValueError(f"{where}: unknown part '{key}'{suggestion(key, known)}")
    return value


def _texts(value: Any, where: str) -> dict[str, str]:
    return {key: _text(f"{where}: {key}", item) for key, item in _mapping(value, where).items()}


def _text(where: str, value: Any) -> str:
    """A value as the command line has it; lists in brackets, so that one number is still a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return f"[{','.join(value)}]"
    raise ValueError(f"{where}: expected one value or a list of values")


def merged(*levels: Mapping[str, str]) -> dict[str, str]:
    """Keys of several levels, the later ones stronger, whatever way a key is spelt."""
    found: dict[str, tuple[str, str]] = {}
    for level in levels:
        for key, value in level.items():
            found[fold(key)] = (key, value)
    return dict(found.values())
