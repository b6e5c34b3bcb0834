"""Writes the pages of docs/reference, and the marked pieces of other pages: python scripts/generate_docs.py [--check].

A piece stands between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is one of SECTIONS, or `example FILE`
for a file of docs/examples. Pages of docs/reference are written whole.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import click
import yaml

from ganglion.engine import api, hookspecs
from ganglion.engine.adapters import AdapterSettings
from ganglion.engine.cli import CONTEXT, cli
from ganglion.engine.commands import EvaluateSettings, SampleSettings, about
from ganglion.engine.comparing import CompareSettings
from ganglion.engine.job import JobSettings, RoleSettings
from ganglion.engine.processors import ChainSettings
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.resolution import PRECEDENCE, PRECEDENCE_RULES
from ganglion.engine.settings import SettingInfo, describe, format_value
from ganglion.engine.sweeps.planning import SweepSettings
from ganglion.strategies import api as strategies_api
from ganglion.strategies.api import AdversarialSettings, AdversarialStrategy

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
EXAMPLES = DOCS / "examples"
MARKED = re.compile(r"(<!-- generated: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
MARKUP = re.compile(r"[*<\[\]]|(?<!\w)_|_(?!\w)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}
COLUMNS = ("key", "value", "default", "meaning")

TITLES = {  # kind: file, title, what stands above the things of that kind
    "strategy": ("strategies", "Strategies", "How networks learn. [Which one when](../guide/strategies.md)."),
    "network": ("networks", "Networks", "What plays a role. [How they are named and made](../guide/networks.md)."),
    "dataset": ("datasets", "Data sets", "What is learnt from. [How data are named and prepared](../guide/data.md)."),
    "sampling": ("samplings", "Samplings", "Which rows come next: `sampling=NAME`."),
    "criterion": ("criteria", "Criteria", "Losses of strategies that learn from targets: `criterion=NAME`."),
    "processor": (
        "processors",
        "Methods and gradient processors",
        "What turns gradients into updates. Methods are named (`method=ADAM`); the other links are part of a role's "
        "chain where their key is given (`clipNorm=1`).",
    ),
    "objective": ("objectives", "Objectives", "What both players minimise: `objective=NAME`."),
    "penalty": ("penalties", "Penalties", "Terms that are added to the discriminator's loss: `penalty=NAME,NAME`."),
    "metric": ("metrics", "Metrics", "How runs are judged: `ganglion evaluate TAG metric=NAME`."),
    "trace": ("traces", "Traces", "Who is told of a run's events: `traces=NAME,NAME`."),
}


# --- pieces of Markdown -------------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def prose(text: str) -> str:
    """A docstring as Markdown: what would be markup is escaped outside backticks, addresses are links."""
    parts = re.split(r"(`[^`]*`)", inspect.cleandoc(text))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    words = re.split(r"(https?://[^\s,;()]+[^\s,;().])", text)
    return "".join(f"<{word}>" if word.startswith("http") else MARKUP.sub(r"\\\g<0>", word) for word in words)


def setting_row(info: SettingInfo) -> list[str]:
    """One setting."""
    unit = f" [{info.unit}]" if info.unit else ""
    also = f" (also {', '.join(f'`{name}`' for name in info.also)})" if info.also else ""
    default = f"`{format_value(info.default)}`" if format_value(info.default) else ""
    return [f"`{info.key}`", f"{info.type} {info.bounds}".strip(), default, _escaped(info.help) + unit + also]


def options(*models: type) -> str:
    """Every setting of some models."""
    return table(COLUMNS, [setting_row(info) for model in models for info in describe(model)])


def keys(mapping: Any) -> str:
    """Settings in the form of the command line."""
    return " ".join(f"`{key}={format_value(value)}`" for key, value in mapping.items())


# --- everything that can be named ---------------------------------------------------------------------------------


@cache
def registry() -> Registry:
    """Everything that is registered."""
    return Registry().load()


def things(kind: str) -> list[Registered]:
    """The built-in things of one kind."""
    return [entry for entry in registry().all(kind) if entry.origin == "built-in"]


def listed(*kinds: str) -> str:
    """Every thing of some kinds with its first sentence."""
    rows = [[f"`{entry.name}`", _escaped(about(entry.thing))] for kind in kinds for entry in things(kind)]
    return table(["name", "what it is"], rows)


def page_of_kind(kind: str) -> str:
    """The page of one kind: a table, then every thing with all that it declares."""
    _, title, above = TITLES[kind]
    entries = "\n".join(chunk for entry in things(kind) for chunk in section(entry))
    common = f"\n## Keys of every two-player strategy\n\n{options(AdversarialSettings)}" if kind == "strategy" else ""
    return f"# {title}\n\n{above}\n\n{listed(kind)}{common}\n{entries}"


def section(entry: Registered) -> Iterator[str]:
    """One thing: what it is, its other names, its preset, its settings."""
    yield f"## {entry.name}\n"
    yield prose(getattr(entry.thing, "doc", None) or entry.thing.__doc__ or "") + "\n"
    facts = [f"Also called {', '.join(f'`{name}`' for name in entry.aliases)}."] if entry.aliases else []
    if entry.kind == "strategy":
        facts.append(f"Roles, in this order: {', '.join(f'`{role}`' for role in entry.thing.roles)}.")
        facts.append(f"Preset: {keys(entry.thing.preset)}." if entry.thing.preset else "No preset.")
    arguments = getattr(entry.thing, "layer_arguments", None)
    if entry.kind == "network" and arguments is not None:
        names = [f"`{layer}.{name}`" for layer, given in arguments(None).items() for name in given if "_" not in name]
        facts.append(f"Arguments of its layers: {', '.join(names)}.")
    yield from (f"{fact}\n" for fact in facts)
    yield from own_settings(entry)


def own_settings(entry: Registered) -> Iterator[str]:
    """The settings that this thing has and others of its kind have not."""
    model = getattr(entry.thing, "Settings", None)
    infos = describe(model) if model is not None else []
    if isinstance(entry.thing, type) and issubclass(entry.thing, AdversarialStrategy):
        common = describe(AdversarialSettings)
        infos = [info for info in infos if info not in common]
        yield "The keys of every two-player strategy" + (", and:\n" if infos else ".\n")
    if infos:
        yield table(COLUMNS, [setting_row(info) for info in infos])
    for kind in ("image", "vector", "sequence"):
        special = getattr(entry.thing, "settings_for", None)
        if special is not None and special(kind) is not model and describe(special(kind)):
            yield f"For data of the kind `{kind}`:\n"
            yield options(special(kind))


# --- commands, jobs, hooks, the interface -------------------------------------------------------------------------


def commands() -> str:
    """Every command with the first sentence of its help."""
    rows = [
        [f"`ganglion {name}{words(command)}`", _escaped(" ".join((command.help or "").split("\n\n")[0].split()))]
        for name, command in sorted(cli.commands.items())
    ]
    return table(["command", "what it does"], rows)


def words(command: click.Command) -> str:
    """The arguments of a command as its usage shows them."""
    return "".join(
        f" {parameter.metavar or str(parameter.name).upper()}"
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    )


def page_of_commands() -> str:
    """All commands with their help, word by word."""
    told = [f"## ganglion {name}\n\n```text\n{_help(name, cli.commands[name])}\n```\n" for name in sorted(cli.commands)]
    return (
        "# Commands\n\n`learn` is short for `ganglion learn`. How a command line is read: [the command]"
        f"(../guide/command.md).\n\n{commands()}\n" + "\n".join(told)
    )


def _help(name: str, command: click.Command) -> str:
    with (
        click.Context(cli, info_name="ganglion", help_option_names=CONTEXT["help_option_names"]) as parent,
        click.Context(command, info_name=name, parent=parent) as own,
    ):
        own.terminal_width = own.max_content_width = 100
        return "\n".join(line.rstrip() for line in command.get_help(own).splitlines())


def page_of_keys() -> str:
    """The keys that do not belong to one component."""
    parts = (
        ("Every job", options(JobSettings)),
        ("Every role", "`ROLE.key=value` is for one role.\n\n" + options(RoleSettings, ChainSettings)),
        ("Data", "The steps follow in the order in which they stand.\n\n" + options(AdapterSettings)),
        ("ganglion sample", options(SampleSettings)),
        ("ganglion evaluate", options(EvaluateSettings)),
        ("ganglion compare", options(CompareSettings)),
        ("ganglion sweep", options(SweepSettings)),
        ("Which value counts", _precedence()),
    )
    return "# Keys\n\nThe keys of a component stand on the page of its kind.\n" + "".join(
        f"\n## {title}\n\n{text}" for title, text in parts
    )


def _precedence() -> str:
    rows = [[name, _escaped(meaning)] for name, meaning in PRECEDENCE]
    return prose(PRECEDENCE_RULES) + "\n\n" + table(["level, weakest first", "where its values come from"], rows)


def shipped(folder: str) -> str:
    """Every file of a kind that ships, with its doc."""
    files = sorted((ROOT / "strategies" / folder).glob("*.yaml"))
    docs = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))["doc"] for file in files}
    return table(["name", "what it is"], [[f"`{name}`", _escaped(" ".join(doc.split()))] for name, doc in docs.items()])


def page_of_files(folder: str, title: str, above: str) -> str:
    """The files of a kind that ships, each in full."""
    files = sorted((ROOT / "strategies" / folder).glob("*.yaml"))
    told = [f"## {file.stem}\n\n```yaml\n{file.read_text(encoding='utf-8').strip()}\n```\n" for file in files]
    return f"# {title}\n\n{above}\n\n{shipped(folder)}\n" + "\n".join(told)


def hooks() -> str:
    """Every hook of the plugin interface."""
    rows = [[f"`{hook}`", kind, getattr(hookspecs, hook).__doc__ or ""] for kind, hook in hookspecs.KINDS.items()]
    return table(["hook", "kind", "what to register"], rows)


def page_of_api() -> str:
    """The public names, from their signatures and docstrings."""
    parts = [
        "# Python interface\n\nWhat plugins and Python programs import. Whatever is not here may change.\n",
        f"## Hooks\n\nA module registers by hooks marked with `hookimpl`, each of which is given a function "
        f"`register(name, thing, aliases=())`. This is version {hookspecs.API_VERSION} of the interface.\n\n{hooks()}",
    ]
    for module in (api, strategies_api):
        parts.append(f"## {module.__name__}\n\n{prose(module.__doc__ or '')}\n")
        parts += [explained(name, getattr(module, name)) for name in module.__all__]
    return "\n".join(parts)


def explained(name: str, thing: Any) -> str:
    """One public name: how it is called, what it says of itself, its fields and methods."""
    lines = [f"### {name}\n"]
    if inspect.isfunction(thing):
        lines.append(f"```text\n{name}{signature(thing)}\n```\n")
    lines.append(prose(inspect.getdoc(thing) or "") + "\n")
    if inspect.isclass(thing):
        fields = [f"- `{field}: {kind}`" for field, kind in _fields(thing).items()]
        methods = [
            f"- `{method}{signature(value)}`: {prose(_told(value))}".replace("\n", "\n  ")
            for method, value in vars(thing).items()
            if not method.startswith("_") and (inspect.isroutine(_plain(value)) or _is_value(value)) and _told(value)
        ]
        lines += ["\n".join([*fields, *methods]) + "\n"] if fields or methods else []
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    return getattr(value, "__func__", value)


def _is_value(value: Any) -> bool:
    """Whether it is read like an attribute, although it is a function."""
    return isinstance(value, (property, cached_property))


def _told(value: Any) -> str:
    return inspect.cleandoc(getattr(value, "__doc__", None) or "")


def _fields(thing: type) -> dict[str, str]:
    """What a class declares, as it is written; pydantic's own and private names are left out."""
    own = inspect.get_annotations(thing)
    return {
        name: getattr(kind, "__forward_arg__", str(kind))
        for name, kind in own.items()
        if not name.startswith("_") and name != "model_config"
    }


def signature(function: Any) -> str:
    """The arguments as they are written, annotations without quotes."""
    if _is_value(function):
        return ""
    written = re.sub(r"<function .*? at 0x[0-9a-f]+>", "...", str(inspect.signature(_plain(function))))
    return re.sub(r"""(: |-> )(['"])(.*?)\2(?=[,) ]|$)""", r"\1\3", written)


# --- files --------------------------------------------------------------------------------------------------------


def example(file: str) -> str:
    """A file of docs/examples, fenced."""
    path = EXAMPLES / file
    return f"```{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8')}```\n"


SECTIONS: dict[str, Callable[[], str]] = {
    "strategies": lambda: listed("strategy"),
    "parts": lambda: listed("objective", "penalty"),
    "datasets": lambda: listed("dataset"),
    "metrics": lambda: listed("metric"),
    "jobs": lambda: shipped("jobs"),
    "suites": lambda: shipped("suites"),
    "commands": commands,
    "hooks": hooks,
}


def generated(text: str) -> str:
    """`text` with every marked piece written anew."""

    def piece(match: re.Match[str]) -> str:
        kind, _, file = match["name"].partition(" ")
        return f"{match[1]}{example(file) if kind == 'example' else SECTIONS[match['name']]()}{match[3]}"

    return MARKED.sub(piece, text)


def reference() -> dict[Path, str]:
    """The pages of docs/reference that are written whole."""
    jobs = "What ships with Ganglion, with any key behind it: `learn --job NAME`."
    suites = "What ships with Ganglion, with any key behind it: `ganglion compare NAME`."
    pages = {
        "commands": page_of_commands(),
        "keys": page_of_keys(),
        "api": page_of_api(),
        "jobs": page_of_files("jobs", "Job files", jobs),
        "suites": page_of_files("suites", "Suites", suites),
        **{file: page_of_kind(kind) for kind, (file, _, _) in TITLES.items()},
    }
    note = "<!-- written by scripts/generate_docs.py from the declarations: change those -->\n\n"
    clean = {name: "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines()) for name, text in pages.items()}
    return {REFERENCE / f"{name}.md": note + text for name, text in clean.items()}


def wanted() -> dict[Path, str]:
    """Every page as it should be."""
    pages = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path.parent != REFERENCE)]
    marked = {page: generated(page.read_text(encoding="utf-8")) for page in pages}
    return {**marked, **reference()}


def stale() -> list[Path]:
    """The pages that are not as they should be, those too that nothing writes any more."""
    made = wanted()
    wrong = [page for page, text in made.items() if not page.is_file() or page.read_text(encoding="utf-8") != text]
    return wrong + [page for page in REFERENCE.glob("*.md") if page not in made and page.name != "index.md"]


def main(arguments: Sequence[str]) -> int:
    """Write what is stale, or with --check say what is."""
    pages = stale()
    if "--check" in arguments:
        for page in pages:
            print(f"{page.relative_to(ROOT)} is stale: run 'python scripts/generate_docs.py'", file=sys.stderr)
        return 1 if pages else 0
    made = wanted() if pages else {}
    for page in pages:
        if page in made:
            page.write_text(made[page], encoding="utf-8")
        else:
            page.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
