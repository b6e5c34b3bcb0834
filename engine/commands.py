"""What the commands of the command line do; each asks the engine and prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ganglion.engine.errors import ConfigError, RunError, fold, suggestion
from ganglion.engine.job import JobSettings, RoleSettings, job_folders, named_job, parse_tokens, read_job
from ganglion.engine.registry import Registry, about
from ganglion.engine.settings import SettingInfo, Settings, describe, format_value, parse_value, setting
from ganglion.engine.tables import clean_lines, clean_text, print_json, print_pairs, print_table

if TYPE_CHECKING:
    from ganglion.engine.comparetable import Table
    from ganglion.engine.contracts import Evaluation

SHOWN = 5000  # characters of samples that a terminal is given
LONGEST_DETAIL = 500  # characters of numbers; longer ones in an evaluation are for programs
NOT_REGISTERED = ("job", "role", "data", "chain", "compare", "sweep")


def say(sentence: str) -> None:
    """A message for the person: stderr."""
    print(clean_text(sentence), file=sys.stderr)


# --- learn --------------------------------------------------------------------------------------------------------


def learn(words: Sequence[str], job: str | None, plugins: Sequence[str], runs: str | None, as_json: bool) -> None:
    """The command `learn`: exits 130 or 143 when stopped by a signal, 1 when stopped by an alarm of its health."""
    from ganglion.engine.launcher import launched, quieten

    quieten()
    from ganglion.engine.launch import learn as carry_out

    names, tokens = split_words(words)
    if len(names) > 2:
        raise ConfigError(f"'{names[2]}': expected key=value after the data set, e.g. batchSize=64")
    networks, dataset = (*names, None, None)[:2]
    loaded = read_job(named_job(job, job_folders())) if job is not None else None
    keys = parse_tokens(tokens)
    if loaded is None and dataset is None and "tag" not in {fold(key) for key in keys}:
        what = "data set" if networks else "networks and no data set"
        raise ConfigError(
            f"no {what}: 'learn Generator,Discriminator Digits strategy=NSGAN', for example ('learn --help')"
        )
    learnt = carry_out(networks, dataset, keys, job=loaded, plugins=plugins, runs=runs, notify=say, quiet=as_json)
    outcome = learnt.outcome
    result = {"tag": learnt.tag, "directory": str(learnt.directory), **outcome._asdict()}
    if as_json and launched().rank == 0:
        print_json(result)
    if outcome.signal:
        sys.exit(128 + outcome.signal)
    if outcome.status == "stopped":
        sys.exit(1)


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names come first, then key=value tokens; the first token with `=` ends the names."""
    first = next((index for index, word in enumerate(words) if "=" in word), len(words))
    return list(words[:first]), list(words[first:])


# --- what there is ------------------------------------------------------------------------------------------------


def list_things(kind: str | None, plugins: Sequence[str], as_json: bool) -> None:
    """The command `list`."""
    from ganglion.engine.hookspecs import KINDS

    registry = Registry().load(plugins)
    kinds = [_kind(kind)] if kind else list(KINDS)
    rows = [
        {
            "kind": entry.kind,
            "name": entry.name,
            "aliases": list(entry.aliases),
            "origin": entry.origin,
            "about": about(entry.thing),
        }
        for each in kinds
        for entry in registry.all(each)
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ["kind", "name", "origin", "what it is"],
        [[row["kind"], row["name"], row["origin"], row["about"]] for row in rows],
    )
    if registry.quarantined():
        say(f"{len(registry.quarantined())} plugin(s) have problems; see 'ganglion plugins'")


def _kind(text: str) -> str:
    from ganglion.engine.hookspecs import KINDS

    plural = {"criteria": "criterion", "samplers": "sampling", "penalties": "penalty", "strategies": "strategy"}
    for kind in KINDS:
        if fold(text) in (fold(kind), fold(kind) + "s") or plural.get(fold(text)) == kind:
            return kind
    raise ConfigError(f"unknown kind '{text}'{suggestion(text, KINDS)}")


def show(kind: str, name: str | None, plugins: Sequence[str], as_json: bool) -> None:
    """The command `show`."""
    if fold(kind) == "precedence":
        _show_precedence(as_json)
        return
    registry = Registry().load(plugins)
    if fold(kind) in NOT_REGISTERED:
        title, text, models = fold(kind), *_unregistered(fold(kind))
        extra: dict[str, Any] = {}
    else:
        kind = _kind(kind)
        if name is None:
            raise ConfigError(f"show {kind}: name one{suggestion('', (entry.name for entry in registry.all(kind)))}")
        entry = registry.get(kind, name)
        title, text = (
            f"{entry.kind} {entry.name}",
            (getattr(entry.thing, "doc", None) or entry.thing.__doc__ or "").strip(),
        )
        declared = getattr(entry.thing, "Settings", None)
        models = [] if declared is None else [declared]
        extra = _facts(registry, entry)
    settings = [info for model in models for info in describe(model)]
    preset = {fold(key): value for key, value in extra.get("preset", {}).items()}
    if as_json:
        print_json({"name": title, "about": text, **extra, "settings": [info._asdict() for info in settings]})
        return
    print(f"{clean_text(title)}\n")
    print(clean_lines(_dedented(text)) + "\n")
    parts = {name: f"{_fact(keys)}  ('ganglion show {name}')" for name, keys in extra.pop("parts", {}).items() if keys}
    facts = {key: _fact(value) for key, value in (extra | parts).items() if value}
    if facts:
        print_pairs(facts)
        print()
    if settings:
        print_table(["setting", "type", "default", "meaning"], [_setting_row(info, preset) for info in settings])
    else:
        print("no settings of its own")


def _show_precedence(as_json: bool) -> None:
    """Which of several values of one key counts."""
    from ganglion.engine.resolution import PRECEDENCE, PRECEDENCE_RULES

    if as_json:
        print_json({"name": "precedence", "about": PRECEDENCE_RULES, "levels": [list(level) for level in PRECEDENCE]})
        return
    print(f"precedence\n\n{PRECEDENCE_RULES}\n")
    print_table(["level, weakest first", "where its values come from"], [list(level) for level in PRECEDENCE])


def _unregistered(kind: str) -> tuple[str, list[type[Settings]]]:
    from ganglion.engine.adapters import AdapterSettings
    from ganglion.engine.comparing import CompareSettings
    from ganglion.engine.processors import ChainSettings
    from ganglion.engine.sweeps.planning import SweepSettings

    known: dict[str, tuple[str, list[type[Settings]]]] = {
        "job": ("The keys that every job has.", [JobSettings]),
        "role": ("The keys that every role has; ROLE.key=value is for one role.", [RoleSettings]),
        "data": ("Which rows, and what is done to them, in the published order.", [AdapterSettings]),
        "chain": ("How a role's gradients become updates; see also 'ganglion list processor'.", [ChainSettings]),
        "compare": ("The keys of 'ganglion compare', on the command line and in a suite.", [CompareSettings]),
        "sweep": ("The keys of 'ganglion sweep'; a key of a trial may be given a range.", [SweepSettings]),
    }
    return known[kind]


def _facts(registry: Registry, entry: Any) -> dict[str, Any]:
    from ganglion.engine.presetparts import preset_parts

    thing = entry.thing
    facts: dict[str, Any] = {"origin": entry.origin, "also called": list(entry.aliases)}
    if entry.kind == "strategy":
        facts["roles"] = list(thing.roles)
        facts["preset"] = dict(thing.preset)
        facts["parts"] = preset_parts(registry, thing)
    arguments = getattr(thing, "layer_arguments", None)
    if entry.kind == "network" and arguments is not None:
        facts["layer arguments"] = [f"{layer}.{name}" for layer, names in arguments(None).items() for name in names]
    return facts


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={format_value(item)}" for key, item in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _setting_row(info: SettingInfo, preset: Mapping[str, Any]) -> list[str]:
    default = preset.get(fold(info.key), info.default)
    kind = f"{info.type} {info.bounds}".strip()
    unit = f" [{info.unit}]" if info.unit else ""
    also = f" (also {', '.join(info.also)})" if info.also else ""
    return [info.key, kind, format_value(default), f"{info.help}{unit}{also}"]


def _dedented(text: str) -> str:
    import inspect

    return inspect.cleandoc(text)


# --- runs ---------------------------------------------------------------------------------------------------------


def list_runs(runs: str | None, as_json: bool) -> None:
    """The command `runs`."""
    from ganglion.engine.repository import Repository

    repository = Repository(runs)
    found = repository.list_runs()
    if as_json:
        print_json([{name: getattr(info, name) for name in info.__dataclass_fields__} for info in found])
        return
    if not found:
        say(f"no runs in {repository.root}")
        return
    rows = [
        [
            info.tag,
            info.status,
            info.iteration,
            info.strategy,
            ",".join(info.networks),
            info.dataset,
            info.started or info.problem,
        ]
        for info in found
    ]
    print_table(["tag", "status", "iteration", "strategy", "networks", "data", "started"], rows)


class SampleSettings(Settings):
    """Keys of `ganglion sample`."""

    count: int = setting(64, "how many samples", ge=1, le=1_000_000)
    out: str | None = setting(
        None, "file: .png, .npz, .csv, or .txt for text; none: samples.png (.txt) in the run's directory"
    )
    seed: int = setting(0, "seed of the noise", ge=0)
    classes: str | None = setting(
        None,
        "classes to make, by name or number from 0, in turn: 7, or 1,4,7; none: all of them in turn",
        also=("class", "label", "labels"),
    )
    checkpoint: str = setting("latest", "latest, best, or an iteration")
    device: str = setting("cpu", "where the samples are made")


def sample(words: Sequence[str], plugins: Sequence[str], runs: str | None, as_json: bool) -> None:
    """The command `sample`."""
    from dataclasses import replace

    from ganglion.engine.opening import draw_samples, named_classes
    from ganglion.engine.pictures import joined, save_samples

    tag, keys = tag_and_keys(words)
    settings = own_settings(SampleSettings, keys, "ganglion sample")
    opened = _open(tag, settings.checkpoint, settings.device, plugins, runs)
    classes = named_classes(opened, settings.classes) if settings.classes is not None else ()
    samples = draw_samples(opened, settings.count, settings.seed, classes)
    spec = replace(opened.spec, value_range=opened.data_range)
    path = Path(settings.out) if settings.out else opened.run.directory / f"samples.{'txt' if spec.text else 'png'}"
    save_samples(samples, spec, path)
    texts = {"texts": spec.texts(samples)} if spec.text else {}
    if as_json:
        told = {"tag": opened.run.tag, "iteration": opened.iteration, "count": settings.count, "file": str(path)}
        print_json({**told, **texts})
        return
    say(f"{settings.count} samples of run '{opened.run.tag}' after {opened.iteration:,} iterations:")
    if texts and settings.count * spec.shape[0] <= SHOWN:
        print(clean_lines(joined(texts["texts"])))
    print(clean_text(path))


class EvaluateSettings(Settings):
    """Keys of `ganglion evaluate`; further keys are the metric's or the data set's."""

    metric: str | None = setting(None, "which metric; none: every one that fits")
    checkpoint: str = setting("latest", "latest, best, or an iteration")
    device: str = setting("cpu", "where networks are evaluated")
    seed: int = setting(0, "seed of what is drawn", ge=0)


def evaluate(words: Sequence[str], plugins: Sequence[str], runs: str | None, as_json: bool) -> None:
    """The command `evaluate`."""
    from ganglion.engine.evaluation import described, evaluate_run

    tag, keys = tag_and_keys(words)
    own = {fold(info.key) for info in describe(EvaluateSettings)}
    settings = own_settings(EvaluateSettings, {k: v for k, v in keys.items() if fold(k) in own}, "ganglion evaluate")
    others = {key: value for key, value in keys.items() if fold(key) not in own}
    registry, run = find_run(tag, plugins, runs)
    evaluations = evaluate_run(
        registry, run, settings.metric, settings.checkpoint, settings.device, settings.seed, others, say
    )
    if as_json:
        print_json({"tag": run.tag, "evaluations": [described(evaluation) for evaluation in evaluations]})
        return
    for evaluation in evaluations:
        print_evaluation(evaluation)
    if any("pictures" in evaluation.details for evaluation in evaluations):
        say(f"pictures are in {run.evaluation()}")


def print_evaluation(evaluation: Evaluation) -> None:
    """A metric's name, figures and details."""
    print(f"{clean_text(evaluation.metric)}\n")
    print_pairs({name: f"{value:.6g}" for name, value in evaluation.values.items()})
    for name, table in evaluation.details.items():
        _print_detail(name, table)
    print()


def _print_detail(name: str, table: Any) -> None:
    print()
    if isinstance(table, Mapping) and "columns" in table:
        print_table(table["columns"], table["rows"], title=name)
    elif isinstance(table, str):
        print_pairs({name: table})
    else:
        text = format_value(table)
        print_pairs({name: text if len(text) <= LONGEST_DETAIL else "numbers for programs, with --json"})


def tag_and_keys(words: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    names, tokens = split_words(words)
    if len(names) > 1:
        raise ConfigError(f"'{names[1]}': expected key=value after the tag")
    return (names[0] if names else None), parse_tokens(tokens)


def own_settings(model: type[Settings], keys: Mapping[str, str], where: str) -> Any:
    from ganglion.engine.settings import Level, Owner, refuse_unknown, resolve

    owners, levels = [Owner(where, model)], [Level("command line", keys)]
    result = resolve(owners, levels, ())
    refuse_unknown(result.unknown, owners, levels, ())
    return result.settings[0]


def find_run(tag: str | None, plugins: Sequence[str], runs: str | None) -> tuple[Registry, Any]:
    from ganglion.engine.repository import Repository

    return Registry().load(plugins), Repository(runs).find(tag)


def _open(tag: str | None, checkpoint: str, device: str, plugins: Sequence[str], runs: str | None) -> Any:
    from ganglion.engine.opening import open_run

    registry, run = find_run(tag, plugins, runs)
    opened = open_run(registry, run, which_checkpoint(checkpoint), device)
    for notice in opened.notices:
        say(notice)
    return opened


def which_checkpoint(text: str) -> str | int:
    """latest, best, or an iteration. Raises ConfigError."""
    if text in ("latest", "best"):
        return text
    try:
        number: int = parse_value(int, text)
    except ValueError:
        raise ConfigError(f"checkpoint={text}: expected latest, best, or an iteration") from None
    return number


# --- comparisons --------------------------------------------------------------------------------------------------


def compare(
    words: Sequence[str],
    plugins: Sequence[str],
    runs: str | None,
    as_json: bool,
    engine: str = "local",
    address: str | None = None,
) -> None:
    """The command `compare`: exits 1 when a run failed, 130 or 143 when stopped by a signal."""
    import shlex

    from ganglion.engine.comparetable import Summary, remarks, tables
    from ganglion.engine.comparison import compare as carry_out

    names, tokens = split_words(words)
    if not 1 <= len(names) <= 2:
        expected = "entries and a data set" if not names else "key=value after the data set"
        where = f"'{names[2]}': " if names else ""
        raise ConfigError(f"{where}expected {expected}, e.g. 'ganglion compare GAN,NSGAN Ring seeds=10'")
    typed = shlex.join(["ganglion", "compare", *(f"--plugin={file}" for file in plugins), *words])
    entries, dataset = (*names, None)[:2]
    found = carry_out(
        str(entries),
        dataset,
        parse_tokens(tokens),
        plugins=plugins,
        runs=runs,
        notify=say,
        command=typed,
        engine=engine,
        address=address,
    )

    def sentences(summary: Summary) -> list[str]:
        return [*remarks(summary), f"table and pictures: {found.directory}"]

    summary = print_found(found, found.summary, {"runs": found.tasks}, as_json, tables, sentences)
    whole, wrong = len(summary.seeds) * len(summary.speeds), []
    if summary.failed:
        wrong.append(f"{len(summary.failed)} of {whole} runs failed")
    if summary.unjudged:
        count = len({task for tasks in summary.unjudged.values() for task in tasks})
        wrong.append(f"{count} of {whole} runs could not be judged by every metric")
    if wrong or summary.absent:
        raise RunError("; ".join([*wrong, *summary.absent]))


class Found(Protocol):
    """What a call of `compare` or `sweep` gives, beside its summary."""

    @property
    def tag(self) -> str: ...
    @property
    def directory(self) -> Path: ...
    @property
    def signal(self) -> int: ...


class Summarised(Protocol):
    """A summary: a named tuple."""

    def _asdict(self) -> dict[str, Any]: ...


Summed = TypeVar("Summed", bound=Summarised)


def print_found(
    found: Found,
    summary: Summed | None,
    beside: Mapping[str, Any],
    as_json: bool,
    tables: Callable[[Summed], Iterable[Table]],
    sentences: Callable[[Summed], Iterable[str]],
) -> Summed:
    """Print the summary, `beside` what a program is told; exits with 128 and its number where a signal stopped it."""
    document = {"tag": found.tag, "directory": str(found.directory), "signal": found.signal, **beside}
    if summary is None:
        if as_json:
            print_json(document)
            sys.stdout.flush()
        sys.exit(128 + found.signal)
    if as_json:
        print_json({**document, **summary._asdict()})
        return summary
    for table in tables(summary):
        print_table(table.columns, table.rows, title=table.title)
        print()
    for sentence in sentences(summary):
        say(sentence)
    return summary


# --- this installation --------------------------------------------------------------------------------------------


def list_plugins(plugins: Sequence[str], as_json: bool) -> None:
    """The command `plugins`."""
    registry = Registry().load(plugins)
    if as_json:
        print_json([plugin._asdict() for plugin in registry.plugins])
        return
    if not registry.plugins:
        print("no plugins besides the built-in ones; 'ganglion new strategy NAME' writes one")
        return
    rows = [[plugin.name, plugin.origin, plugin.version or "", plugin.error or "loaded"] for plugin in registry.plugins]
    print_table(["plugin", "from", "version", "state"], rows)


def doctor(runs: str | None, as_json: bool) -> None:
    """The command `doctor`: exits 1 when something needs attention."""
    from ganglion.engine.doctor import examine

    findings = examine(runs)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        print_table(
            ["", "what", "found"],
            [["ok" if finding.good else "!", finding.what, finding.found] for finding in findings],
        )
    if not all(finding.good for finding in findings):
        sys.exit(1)


__all__ = [
    "compare",
    "doctor",
    "evaluate",
    "job_folders",
    "learn",
    "list_plugins",
    "list_runs",
    "list_things",
    "sample",
    "say",
    "show",
    "which_checkpoint",
]
