"""`ganglion runs --all`: every run, those of comparisons and searches too: what waits, runs (and where) and is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine import files
from ganglion.engine.documents import read_json
from ganglion.engine.errors import StoreError
from ganglion.engine.locks import is_held
from ganglion.engine.manyruns import RUNS
from ganglion.engine.repository import COMPARISON, SWEEP, Repository, RunInfo
from ganglion.engine.tables import format_duration, print_json, print_table
from ganglion.engine.tags import is_tag
from ganglion.engine.taskqueue import QUEUE, RUNNING, WAITING, read_queue

RECORDS = (COMPARISON, SWEEP)  # what says of a folder that it holds the runs of one command
ORDER = (RUNNING, WAITING)  # what is under way stands first


class Queued(NamedTuple):
    """One run, as the queue shows it; `job` is the comparison or search that it belongs to."""

    job: str
    tag: str
    state: str
    node: str = ""
    seconds: float | None = None
    iteration: int | None = None
    reason: str = ""


def queued(root: Path | str | None = None) -> list[Queued]:
    """Every run below the folder of runs: what runs, what waits, the rest by name. Raises StoreError."""
    repository = Repository(root)
    found = [_alone(info) for info in repository.list_runs()]
    for tag in repository.tags():
        folder = repository.root / tag
        record = next((folder / name for name in RECORDS if (folder / name).exists()), None)
        if record is not None:
            found += _of_job(folder, record)
    return sorted(found, key=lambda each: ORDER.index(each.state) if each.state in ORDER else len(ORDER))


def _alone(info: RunInfo) -> Queued:
    return Queued("", info.tag, info.status, "", info.seconds, info.iteration, info.problem)


def _of_job(folder: Path, record: Path) -> Iterator[Queued]:
    """The runs of one comparison or search, those that have not begun too."""
    alive = is_held(folder / "lock")
    queue = read_queue(folder / QUEUE)
    recorded = _recorded(record) or _recorded(folder / SWEEP)
    there = Repository(folder / RUNS)
    names = dict.fromkeys([*recorded, *queue, *(there.tags() if files.names(folder / RUNS) else [])])
    for name in filter(is_tag, names):  # a file that was written by hand may have others
        task, kept = queue.get(name, {}), recorded.get(name, {})
        run = there.run(name)
        info = run.info() if run.exists else None
        state = _state(alive, task, kept, info)
        yield Queued(
            folder.name,
            name,
            state,
            str(task.get("node", "")) if state != WAITING else "",
            _seconds(state, task, kept, info),
            kept["iteration"] if isinstance(kept.get("iteration"), int) else info.iteration if info else None,
            str(kept.get("error", "")) or (info.problem if info else ""),
        )


def _recorded(path: Path) -> dict[str, dict[str, Any]]:
    """What a comparison or sweep keeps of each run, those asked for and not begun too; nothing without a record."""
    try:
        document = read_json(path)
    except StoreError:
        return {}
    tasks, asked = document.get("tasks"), document.get("asked")
    known = {name: task for name, task in tasks.items() if isinstance(task, dict)} if isinstance(tasks, dict) else {}
    if isinstance(asked, dict) and isinstance(asked.get("entries"), dict) and isinstance(asked.get("seeds"), list):
        for seed in asked["seeds"]:
            for label in asked["entries"]:
                known.setdefault(f"{label}-{seed}", {"status": "pending"})
    return known


def _state(alive: bool, task: Mapping[str, Any], kept: Mapping[str, Any], info: RunInfo | None) -> str:
    """What is under way is so only while the command that carries it out lives; then what is recorded of the run."""
    if alive and task.get("state") in ORDER:
        return str(task["state"])
    if kept.get("status", "pending") != "pending":
        return str(kept["status"])
    if info is not None:
        return info.status
    if task.get("state") not in (None, *ORDER):
        return str(task["state"])
    return WAITING if alive else "not begun"


def _seconds(state: str, task: Mapping[str, Any], kept: Mapping[str, Any], info: RunInfo | None) -> float | None:
    """Of one that runs, since it was handed over; of others, what it learnt for."""
    began = task.get("began")
    if state == RUNNING and isinstance(began, (int, float)):
        return round(max(0.0, time.time() - began), 1)
    for value in (kept.get("seconds"), info.seconds if info else None, task.get("seconds")):
        if isinstance(value, (int, float)) and state != WAITING:
            return float(value)
    return None


def show_queue(runs: str | None, as_json: bool) -> None:
    """The command `runs --all`."""
    found = queued(runs)
    if as_json:
        print_json([each._asdict() for each in found])
        return
    rows = [
        [
            each.job,
            each.tag,
            each.state,
            each.node,
            "" if each.seconds is None else format_duration(each.seconds, precise=False),
            each.iteration,
            each.reason,
        ]
        for each in found
    ]
    columns = ["job", "tag", "state", "node", "seconds", "iteration", "reason"]
    if not any(each.reason for each in found):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_table(columns, rows)
