"""Writes the tables of README.md between its markers: python scripts/generate_docs.py [--check].

A section stands between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is one of SECTIONS.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
import yaml

from ganglion.engine import hookspecs
from ganglion.engine.adapters import AdapterSettings
from ganglion.engine.cli import cli
from ganglion.engine.commands import about
from ganglion.engine.job import JobSettings, RoleSettings
from ganglion.engine.processors import ChainSettings
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.settings import SettingInfo, describe, format_value
from ganglion.strategies.api import AdversarialSettings

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EXAMPLE = ROOT / "tests" / "examples" / "local_plugin.py"
MARKED = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def things(kind: str) -> list[Registered]:
    """The built-in things of one kind."""
    return [entry for entry in Registry().load().all(kind) if entry.origin == "built-in"]


def strategies() -> str:
    """Every strategy with its roles and preset."""
    rows = [
        [
            f"`{entry.name}`",
            about(entry.thing),
            " ".join(f"`{key}={format_value(value)}`" for key, value in entry.thing.preset.items()),
        ]
        for entry in things("strategy")
    ]
    return table(["strategy", "what it is", "preset"], rows)


def listed(*kinds: str) -> Callable[[], str]:
    """Every thing of some kinds."""

    def section() -> str:
        rows = [[f"`{entry.name}`", about(entry.thing)] for kind in kinds for entry in things(kind)]
        return table(["name", "what it is"], rows)

    return section


def options(*models: type) -> Callable[[], str]:
    """Every setting of some models."""

    def section() -> str:
        return table(
            ["key", "value", "default", "meaning"], [row(info) for model in models for info in describe(model)]
        )

    return section


def links() -> str:
    """The settings of every method and link of a chain."""
    rows = [
        [f"`{entry.name}`", *row(info)]
        for entry in things("processor")
        if hasattr(entry.thing, "Settings")
        for info in describe(entry.thing.Settings)
    ]
    return table(["processor", "key", "value", "default", "meaning"], rows)


def row(info: SettingInfo) -> list[str]:
    """One setting."""
    unit = f" [{info.unit}]" if info.unit else ""
    also = f" (also {', '.join(f'`{name}`' for name in info.also)})" if info.also else ""
    return [
        f"`{info.key}`",
        f"{info.type} {info.bounds}".strip(),
        f"`{format_value(info.default)}`",
        info.help + unit + also,
    ]


def shipped(folder: str) -> Callable[[], str]:
    """Every file of a kind that ships, with its doc."""

    def section() -> str:
        files = sorted((ROOT / "strategies" / folder).glob("*.yaml"))
        docs = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))["doc"] for file in files}
        return table(["name", "what it is"], [[f"`{name}`", " ".join(doc.split())] for name, doc in docs.items()])

    return section


def commands() -> str:
    """Every command with the first sentence of its help."""
    rows = []
    for name, command in cli.commands.items():
        words = "".join(
            f" {parameter.metavar or str(parameter.name).upper()}"
            for parameter in command.params
            if isinstance(parameter, click.Argument)
        )
        rows.append([f"`ganglion {name}{words}`", " ".join((command.help or "").split("\n\n")[0].split())])
    return table(["command", "what it does"], rows)


def hooks() -> str:
    """Every hook of the plugin interface."""
    rows = [[f"`{hook}`", kind, getattr(hookspecs, hook).__doc__ or ""] for kind, hook in hookspecs.KINDS.items()]
    return table(["hook", "kind", "what to register"], rows)


def plugin() -> str:
    """The example of a local plugin file."""
    return f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```\n"


SECTIONS: dict[str, Callable[[], str]] = {
    "strategies": strategies,
    "networks": listed("network"),
    "datasets": listed("dataset"),
    "parts": listed("objective", "penalty"),
    "metrics": listed("metric"),
    "jobs": shipped("jobs"),
    "suites": shipped("suites"),
    "commands": commands,
    "hooks": hooks,
    "plugin": plugin,
    "job": options(JobSettings),
    "two-player": options(AdversarialSettings),
    "data": options(AdapterSettings),
    "role": options(RoleSettings, ChainSettings),
    "processors": links,
}


def generated(text: str) -> str:
    """`text` with every marked section written anew."""
    return MARKED.sub(lambda match: f"{match[1]}{SECTIONS[match['name']]()}{match[3]}", text)


def main(arguments: Sequence[str]) -> int:
    """Write README.md, or with --check say whether it is stale."""
    text = README.read_text(encoding="utf-8")
    wanted = generated(text)
    if text == wanted:
        return 0
    if "--check" in arguments:
        print("README.md is stale: run 'python scripts/generate_docs.py'", file=sys.stderr)
        return 1
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
