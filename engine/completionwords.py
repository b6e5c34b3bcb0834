"""What may stand in the place of a word that is being typed: names, keys, values, tags, files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ganglion.engine.completionindex import read_index
from ganglion.engine.completionkeys import Job, Known, Setting
from ganglion.engine.completionruns import checkpoints, names_of, tags
from ganglion.engine.errors import fold

NOT_ONE_ENTRY = ("strategy", "tag", "initTag", "clean", "seed", "iterations", "epochs", "seconds")
KINDS_OF_KEYS = ("job", "role", "data", "chain", "compare", "sweep", "precedence")  # that `show` explains, too
Items = list[CompletionItem[str]]


class Asked:
    """One question: the command, the words before, and what has been typed of the word."""

    def __init__(self, ctx: click.Context, incomplete: str) -> None:
        self.command = str(ctx.command.name)
        self.given = ctx.params
        self.runs = ctx.params.get("runs")
        self.incomplete = incomplete
        self.known = Known(read_index())
        words = [str(word) for word in ctx.params.get("words") or ()]
        first = next((place for place, word in enumerate(words) if "=" in word), len(words))
        self.names, tokens = words[:first], words[first:]
        self.keys = {key: value for key, _, value in (token.partition("=") for token in tokens)}

    def job(self) -> Job:
        """What is known of the job so far: from its names, the job file that is named, or the run that goes on."""
        networks, dataset = (*self.names, "", "")[:2]
        before = self.known.jobs.get(str(self.given.get("job") or ""), {})
        tag = next((value for key, value in self.keys.items() if fold(key) == "tag"), "")
        if tag and not networks:
            before = names_of(self.runs, tag)
        return Job(self.known, networks.split(",") if networks else [], dataset, self.keys, before)


def candidates(ctx: click.Context, name: str, incomplete: str) -> Items:
    """What may stand in the place `name` of a command."""
    asked = Asked(ctx, incomplete)
    shown = KINDS_OF_KEYS if asked.command == "show" else ()
    options: dict[str, Callable[[Asked], Items]] = {
        "words": _words,
        "job": lambda asked: _chosen(asked, asked.known.jobs, files=(".yaml", ".yml")),
        "plugins": lambda asked: _files(incomplete, (".py",)),
        "runs": lambda asked: _files(incomplete, ("/",)),
        "folder": lambda asked: _files(incomplete, ("/",)),
        "kind": lambda asked: _chosen(asked, [*asked.known.kinds, *shown]),
        "name": lambda asked: _named(asked, str(ctx.params.get("kind") or "")),
        "tasks": lambda asked: _chosen(asked, asked.known.tasks),
        "device": lambda asked: _chosen(asked, ("cpu", "cuda")),
    }
    return options[name](asked) if name in options else []


def _words(asked: Asked) -> Items:
    """Names come first, then keys with values."""
    if "=" in asked.incomplete:
        return _value(asked)
    place = len(asked.names)
    if asked.keys:
        return _keys(asked)
    if asked.command in ("learn", "sweep", "verify-resume"):
        return _job_words(asked, place)
    if asked.command == "compare":
        return _compare_words(asked, place)
    if asked.command == "check":
        return _check_words(asked, place)
    several = asked.command == "report"
    found = _chosen(asked, tags(asked.runs)) if place == 0 or several else []
    return found + _keys(asked) if asked.incomplete or not found else found


def _job_words(asked: Asked, place: int) -> Items:
    if place == 0:
        names = _list(asked, asked.known.names("network"), files=(".yaml", ".yml"))
        keys = _keys(asked) if asked.given.get("job") else _chosen(asked, ["tag="])
        return names + keys if asked.incomplete or asked.given.get("job") else names
    return _chosen(asked, asked.known.names("dataset")) if place == 1 else _keys(asked)


def _compare_words(asked: Asked, place: int) -> Items:
    if place == 0:
        suites = _chosen(asked, asked.known.suites, files=(".yaml", ".yml")) if "," not in asked.incomplete else []
        return _list(asked, asked.known.names("strategy")) + suites
    datasets = _chosen(asked, asked.known.names("dataset")) if place == 1 else []
    return datasets if datasets and not asked.incomplete else datasets + _keys(asked)


def _check_words(asked: Asked, place: int) -> Items:
    if place == 0:
        names = [name for kind in ("strategy", "network", "dataset", "processor") for name in asked.known.names(kind)]
        return _chosen(asked, names, files=(".py", ".yaml", ".yml"))
    if place == 1:
        return _list(asked, asked.known.names("network")) + (_keys(asked) if asked.incomplete else [])
    return _chosen(asked, asked.known.names("dataset")) if place == 2 else _keys(asked)


# --- keys and values ----------------------------------------------------------------------------------------------


def _settings(asked: Asked) -> tuple[dict[str, Setting], list[str]]:
    """Every key that may be given, in full, and what further keys begin with."""
    known, command = asked.known, asked.command
    if command in ("learn", "verify-resume", "check"):
        keys, heads = asked.job().keys(asked.incomplete)
        more = {"kind": list(known.kinds), "role": asked.job().roles, "skip": []} if command == "check" else {}
        own = {key: Setting(key, "", choices=tuple(values)) for key, values in more.items()}
        return {**own, **keys}, heads
    if command == "compare":
        return _compare_settings(asked)
    if command == "sweep":
        return _sweep_settings(asked)
    own = {setting.key: setting for setting in known.model(command)}
    if command == "evaluate":
        names = names_of(asked.runs, asked.names[0] if asked.names else None)
        own.update({setting.key: setting for setting in known.settings("dataset", str(names.get("dataset", "")))})
        own.update({setting.key: setting for setting in known.settings("metric", asked.keys.get("metric", ""))})
    return own, []


def _compare_settings(asked: Asked) -> tuple[dict[str, Setting], list[str]]:
    """Keys of the comparison, of every job, and behind LABEL. those of one entry."""
    labels = asked.names[0].split(",") if asked.names else []
    label, dot, rest = asked.incomplete.partition(".")
    entry = next((each for each in labels if dot and fold(each) == fold(label)), None)
    strategy = entry or (labels[0] if labels else "")
    job = Job(asked.known, [], (*asked.names, "", "")[1], {**asked.keys, "strategy": strategy}, {})
    keys, heads = job.keys(rest if entry else asked.incomplete)
    keys = {key: setting for key, setting in keys.items() if key not in NOT_ONE_ENTRY}
    if entry is not None:
        return {f"{label}.{key}": setting for key, setting in keys.items()}, []
    own = {setting.key: setting for setting in asked.known.model("compare")}
    return {**own, **{key: keys[key] for key in keys if key not in own}}, [*heads, *(f"{name}." for name in labels)]


def _sweep_settings(asked: Asked) -> tuple[dict[str, Setting], list[str]]:
    """Keys of the sweep, and of every trial."""
    keys, heads = asked.job().keys(asked.incomplete)
    own = {setting.key: setting for setting in asked.known.model("sweep")}
    not_one = {*NOT_ONE_ENTRY} - {"strategy"}
    return {**{key: keys[key] for key in keys if key not in not_one}, **own}, heads


def _keys(asked: Asked) -> Items:
    settings, heads = _settings(asked)
    given = {fold(key) for key in asked.keys}
    items = [
        CompletionItem(f"{key}=", help=setting.help) for key, setting in settings.items() if fold(key) not in given
    ]
    items += [CompletionItem(head, help="for this alone") for head in heads if asked.incomplete.count(".") == 0]
    return _matching(items, asked.incomplete)


def _value(asked: Asked) -> Items:
    """What may follow `key=`."""
    key, _, typed = asked.incomplete.partition("=")
    settings, _ = _settings(asked)
    setting = next((found for name, found in settings.items() if fold(name) == fold(key)), None)
    if setting is None:
        setting = next((found for found in settings.values() if fold(key) in map(fold, found.also)), None)
    if setting is None:
        return []
    if setting.meant == "files":
        return _behind(key, _files(typed))
    words = [*_meant(asked, setting), *setting.choices]
    head, comma, last = typed.rpartition(",") if setting.several else ("", "", typed)
    about = asked.known.about if setting.meant else {}
    items = [
        CompletionItem(f"{head}{comma}{word}", help=about.get(word), nospace=setting.several)
        for word in dict.fromkeys(words)
    ]
    return _behind(key, _matching(items, f"{head}{comma}{last}"))


def _meant(asked: Asked, setting: Setting) -> Iterable[str]:
    """The names that a value may be."""
    if setting.meant == "tags":
        return tags(asked.runs)
    if setting.meant == "checkpoints":
        return ("latest", "best", *checkpoints(asked.runs, asked.names[0] if asked.names else None))
    if setting.meant == "roles":
        return asked.job().roles
    return asked.known.names(setting.meant) if setting.meant else ()


def _behind(key: str, items: Items) -> Items:
    for item in items:
        item.value = f"{key}={item.value}"
    return items


# --- names and files ----------------------------------------------------------------------------------------------


def _named(asked: Asked, kind: str) -> Items:
    found = next((each for each in asked.known.kinds if fold(kind) in (fold(each), f"{fold(each)}s")), None)
    return _chosen(asked, asked.known.names(found)) if found else []


def _chosen(asked: Asked, names: Iterable[str], files: Sequence[str] = ()) -> Items:
    """One of the names, or, where something is typed that none begins with, a file."""
    items = [CompletionItem(name, help=asked.known.about.get(name)) for name in names]
    found = _matching(items, asked.incomplete)
    return found or (_files(asked.incomplete, files) if files and asked.incomplete else [])


def _list(asked: Asked, names: Iterable[str], files: Sequence[str] = ()) -> Items:
    """One more name of a list with commas; no blank follows, as there may be another."""
    head, comma, typed = asked.incomplete.rpartition(",")
    items = [CompletionItem(f"{head}{comma}{name}", help=asked.known.about.get(name), nospace=True) for name in names]
    found = _matching(items, asked.incomplete)
    return found or (_files(asked.incomplete, files) if files and typed and not comma else [])


def _matching(items: Items, typed: str) -> Items:
    """Those that begin with what is typed; without regard to case, '-' and '_' where none begins with just that."""
    forms: tuple[Callable[[str], str], ...] = (str, str.lower, fold)
    for form in forms:
        found = [item for item in items if form(item.value).startswith(form(typed))]
        if found:
            return found
    return []


def _files(typed: str, suffixes: Sequence[str] = ()) -> Items:
    """Files and folders that begin so; with `suffixes` folders and files that end so alone."""
    folder, slash, start = typed.rpartition("/")
    place = Path(f"{folder}{slash}" or ".").expanduser()
    found: Items = []
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return found
    for entry in entries:
        hidden = entry.name.startswith(".") and not start.startswith(".")
        if entry.name.startswith(start) and not hidden and entry.name.isprintable():
            name = f"{folder}{slash}{entry.name}"
            if entry.is_dir():
                found.append(CompletionItem(f"{name}/"))
            elif not suffixes or entry.name.endswith(tuple(suffixes)):
                found.append(CompletionItem(name))
    return found
