"""Settings on the page: those that differ from their defaults, those in which runs differ, and the commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ganglion.engine.report.reading import Reading
from ganglion.engine.settings import format_value

NAMES = ("networks", "dataset", "strategy")
ABSENT = "not there"


class Commands(NamedTuple):
    """What to type for the same once more: readable, and with everything the engine settled. Empty where not known."""

    readable: str
    exact: str


def changed(reading: Reading) -> list[tuple[str, str, str]]:
    """Key, value and default of every setting that is not what it would be by itself."""
    settings = reading.settings
    return [
        (key, shown(settings[key]), shown(default))
        for key, default in (reading.defaults or {}).items()
        if key in settings
    ]


def commands(reading: Reading) -> Commands:
    """The command lines that repeat the run."""
    names = [reading.named("networks"), reading.named("dataset")]
    plugins = reading.job.get("plugins")
    options = [word for file in (plugins if isinstance(plugins, list) else []) for word in ("--plugin", str(file))]
    if not all(names) or not reading.settings:
        return Commands("", "")
    exact = ["learn", "--job", str(reading.run.directory / "job.yaml"), *options]
    if reading.defaults is None:
        return Commands("", shlex.join(exact))
    keys = {"strategy": reading.named("strategy")} | {key: value for key, value, _ in changed(reading)}
    started = reading.record.get("initTag")
    if isinstance(started, str):
        keys["initTag"] = started
        exact.append(f"initTag={started}")
    readable = ["learn", *names, *(f"{key}={value}" for key, value in keys.items()), *options]
    return Commands(shlex.join(readable), shlex.join(exact))


def differences(readings: Sequence[Reading]) -> list[list[str]]:
    """Rows of a key and its value in every run, where these are not all the same."""
    tables: list[Mapping[str, Any]] = [
        {**{name: reading.named(name).replace(",", ", ") for name in NAMES}, **reading.settings} for reading in readings
    ]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [[key, *(shown(table[key]) if key in table else ABSENT for table in tables)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def shown(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {shown(item)}" for key, item in value.items())
    return format_value(value)
