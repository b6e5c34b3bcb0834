"""`compare`: runs all entries over all seeds, keeps what they came to, and sums it up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ganglion.engine.assembly import assemble
from ganglion.engine.comparejudging import refuse_judges
from ganglion.engine.comparepictures import draw_entries, draw_figures
from ganglion.engine.comparerecord import PICTURE, SAMPLES, TABLE, Record, task_name
from ganglion.engine.comparetable import Summary, markdown, summarise
from ganglion.engine.comparing import Comparison, Entry, plan_comparison
from ganglion.engine.data import check_finite
from ganglion.engine.device import find_device
from ganglion.engine.engines import Pool, task_pool
from ganglion.engine.errors import ConfigError, EngineError
from ganglion.engine.files import make_folder, write_atomic
from ganglion.engine.folders import data_context
from ganglion.engine.keywords import python_keys
from ganglion.engine.manyruns import RUNS
from ganglion.engine.places import Place, place_of
from ganglion.engine.recording import now, versions
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.settings import format_value
from ganglion.engine.streams import undisturbed
from ganglion.engine.tables import clean_text, format_duration, format_number
from ganglion.engine.validation import can_validate


class Compared(NamedTuple):
    """What a call of `compare` gives; `signal` is what stopped it, 0 otherwise, and there is no summary then."""

    tag: str
    directory: Path
    summary: Summary | None
    tasks: Mapping[str, Mapping[str, Any]]
    signal: int = 0


def compare(
    entries: str | Sequence[str],
    dataset: str | None = None,
    keys: Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[str] | str = (),
    runs: Path | str | None = None,
    notify: Callable[[str], None] | None = None,
    command: str = "",
    engine: str = "local",
    address: str | None = None,
    **settings: Any,
) -> Compared:
    """Carry out a comparison, or go on with it where it stopped.

        found = compare(["GAN", "NSGAN"], "Ring", networks="Generator,Discriminator", seeds=5, NSGAN={"penalty": "R1"})

    `engine` is "local" (processes of this machine) or "ray" (the cluster at `address`: HOST:PORT, or "auto"). Raises
    InputError before anything is written when something asked for is wrong. Runs that fail are in the summary.
    """
    notify = notify or (lambda sentence: print(clean_text(sentence), file=sys.stderr))
    registry = Registry().load([plugins] if isinstance(plugins, str) else plugins)
    texts = {key: format_value(value) for key, value in python_keys(keys, settings).items()}
    place = place_of(runs)
    comparison = plan_comparison(registry, entries, dataset, texts, place.folder, command)
    place.begin(comparison.directory, comparison.clean, RUNS)
    notices = _rehearse(registry, comparison, notify)
    of_runs = (comparison.engine, comparison.threads(), comparison.device, notify)
    with task_pool(engine, address, *of_runs) as pool:
        comparison = replace(comparison, workers=comparison.at_a_time(pool.fitting))
        with place.kept(comparison.directory, comparison.clean, RUNS):
            return _compare(registry, comparison, place, pool, notices, notify)


def _compare(
    registry: Registry,
    comparison: Comparison,
    place: Place,
    pool: Pool,
    notices: Mapping[str, list[str]],
    notify: Callable[[str], None],
) -> Compared:
    """Carry out what is left to do, and sum it up."""
    with Record.locked(comparison) as record:
        record.document["notices"] = {**record.document.get("notices", {}), **notices}
        record.save()
        make_folder(comparison.directory / RUNS)
        number = _carry_out(comparison, record, place, pool, notify)
        if number:
            return Compared(comparison.tag, comparison.directory, None, record.tasks, number)
        summary = summarise(record)
        for entry in comparison.entries:
            place.fetch(comparison.directory, f"{RUNS}/{task_name(entry, comparison.seeds[0])}")  # samples are drawn
        _write(registry, record, summary, notify)
        return Compared(comparison.tag, comparison.directory, summary, record.tasks)


def _rehearse(registry: Registry, comparison: Comparison, notify: Callable[[str], None]) -> dict[str, list[str]]:
    """Assemble every entry that has runs to do once, so that what cannot begin is refused before anything is written.

    What was said of each entry. Raises InputError.
    """
    record = Record.peek(comparison)
    left = [entry for entry in comparison.entries if not all(record.is_done(entry, seed) for seed in comparison.seeds)]
    if left:
        refuse_judges(registry, comparison.judging, Repository(comparison.directory.parent))
    said, threads = {}, torch.get_num_threads()
    try:
        for entry in left:
            with undisturbed():
                said[entry.label] = _assembled(registry, comparison, entry, notify)
    except EngineError as error:
        raise type(error)(f"entry {entry.label}: {error}") from None
    finally:
        torch.set_num_threads(threads)
    return said


def _assembled(registry: Registry, comparison: Comparison, entry: Entry, notify: Callable[[str], None]) -> list[str]:
    """What is said when an entry begins, with the first seed. Raises InputError where it cannot."""
    if comparison.budget.kind == "seconds" and entry.plan.job.decay_iterations is None:
        for role in entry.plan.roles.values():
            kind = role.chain.decay_type
            if kind == "cosine" or (kind == "linear" and role.chain.decay_rate is None):
                raise ConfigError(f"decayType={kind} needs decayIterations=N with budget=seconds")
    asked = entry.plan.request
    asked = replace(asked, given={**asked.given, "seed": str(comparison.seeds[0])})
    session = assemble(registry, asked, data_context(notify))
    try:
        for part in (session.data.train, session.data.validation, session.data.test):
            if part is not None:
                check_finite(part, comparison.dataset)
        can_validate(session)
        return list(session.notices)
    finally:
        session.sampler.close()


def _carry_out(comparison: Comparison, record: Record, place: Place, pool: Pool, notify: Callable[[str], None]) -> int:
    """Start what is left to do; the signal that stopped it, or 0."""
    left = {task_name(entry, seed): (entry, seed) for entry, seed in comparison.tasks()}
    whole = len(left)
    left = {name: pair for name, pair in left.items() if not record.is_done(*pair)}
    tasks = [(name, _task(comparison, record, place, *pair)) for name, pair in left.items()]
    workers = comparison.workers or 1
    notify(f"comparison '{comparison.tag}': {whole} runs, {len(left)} to do, {workers} at a time")
    done, began = 0, time.monotonic()

    def ended(name: str, result: dict[str, Any], seconds: float) -> None:
        nonlocal done
        done += result["status"] != "stopped"
        _keep(record.of(*left[name]), result)
        record.save()
        rest = (time.monotonic() - began) / max(1, done) * (len(left) - done)
        ahead = f", about {format_duration(rest, precise=False)} left" if rest and done else ""
        notify(f"{name}: {_outcome(result, seconds)} ({whole - len(left) + done} of {whole}{ahead})")

    def started(name: str) -> None:
        notify(f"{name}: started")

    number = pool.run(comparison.directory, tasks, workers, started, ended) if tasks else 0
    if number:
        notify(f"stopped with {whole - len(left) + done} of {whole} runs done; the same command goes on")
    return number


def _task(comparison: Comparison, record: Record, place: Place, entry: Entry, seed: int) -> dict[str, Any]:
    """All that the process of one run needs."""
    return {
        "tag": task_name(entry, seed),
        "runs": str((comparison.directory / RUNS).resolve()),
        "mirror": place.url_of(comparison.directory, RUNS),
        "others": str(Repository(comparison.directory.parent).root.resolve()),
        "networks": list(entry.networks),
        "dataset": entry.plan.request.dataset,
        "strategy": entry.strategy,
        "settings": dict(entry.settings),
        "given": dict(entry.given),
        "seed": seed,
        "budget": comparison.budget._asdict(),
        "threads": entry.plan.job.threads,
        "device": comparison.device,
        "plugins": entry.plan.code_files(),
        "judging": [{**each._asdict(), "name": each.name()} for each in record.missing(entry, seed)],
    }


def _keep(task: dict[str, Any], result: Mapping[str, Any]) -> None:
    """Take over what came of a run, beside evaluations that it had before."""
    evaluations = {**task.get("evaluations", {}), **result.get("evaluations", {})}
    problems = {
        name: said for name, said in task.get("problems", {}).items() if name not in result.get("evaluations", {})
    }
    problems |= result.get("problems", {})
    notices = list(dict.fromkeys([*task.get("notices", []), *result.get("notices", [])]))
    for name in ("error", "traceback"):
        task.pop(name, None)
    task.update({**result, "evaluations": evaluations, "problems": problems, "notices": notices})


def _outcome(result: Mapping[str, Any], seconds: float) -> str:
    if result["status"] == "failed":
        return f"failed: {result['error']}"
    if "seconds" not in result:
        return str(result["status"])
    rate = result["iteration"] / result["seconds"] if result["seconds"] else 0.0
    return f"{result['status']} in {format_duration(seconds)}, {format_number(rate)} it/s"


def _write(registry: Registry, record: Record, summary: Summary, notify: Callable[[str], None]) -> None:
    """The table and the pictures. Raises StoreError."""
    comparison, folder = record.comparison, record.comparison.directory
    labels = ", ".join(entry.label for entry in comparison.entries)
    facts = {
        "command": f"`{comparison.command}`" if comparison.command else "",
        "date": now(),
        "data set": comparison.dataset,
        "entries": f"{labels}; tests against {comparison.against}",
        "budget": f"{comparison.budget}, seeds {', '.join(str(seed) for seed in comparison.seeds)}",
        "made with": _made_with(comparison),
    }
    text = markdown(f"Comparison {comparison.tag}", {key: fact for key, fact in facts.items() if fact}, summary)
    write_atomic(folder / TABLE, text.encode("utf-8"))
    draw_figures(summary.figures, folder / PICTURE)
    for sentence in draw_entries(registry, record, folder / SAMPLES):
        notify(sentence)


def _made_with(comparison: Comparison) -> str:
    """What seconds, and the last digits of the figures, depend on."""
    have = versions()
    programs = ", ".join(f"{name} {have[name]}" for name in ("ganglion", "torch", "python"))
    return (
        f"{programs}; {have['system']} ({have['processor']}); on {find_device(comparison.device)}, "
        f"at most {comparison.workers} at a time"
    )
