"""What a page is told of runs: the list of all, and everything about one, read from the run directories alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganglion.engine.dashboard.processes import Jobs
from ganglion.engine.errors import StoreError
from ganglion.engine.files import names
from ganglion.engine.locks import is_held
from ganglion.engine.repository import Repository
from ganglion.engine.runs import Run, RunInfo
from ganglion.engine.tables import one_line

PICTURE = re.compile(r"(0|[1-9][0-9]{0,17})\.png")
PICTURES = 400  # that a page lists
PICTURE_LIMIT = 32 * 2**20  # bytes
PNG = b"\x89PNG\r\n\x1a\n"
GOES_ON = ("stopped", "interrupted", "failed", "finished")
LEARNS = ("running", "starting")

Stamp = tuple[int, ...]


class Listing:
    """The rows of all runs; only those whose record changed are read again."""

    def __init__(self, repository: Repository, jobs: Jobs) -> None:
        self.repository = repository
        self.jobs = jobs
        self._known: dict[str, tuple[Stamp, RunInfo]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """All runs, the one that was used last first."""
        self.jobs.look()
        found = {tag: info for tag in self._tags() if (info := self._info(tag)) is not None}
        self._known = {tag: known for tag, known in self._known.items() if tag in found}
        order = sorted(found.values(), key=lambda info: (info.changed, info.started, info.tag), reverse=True)
        return [row_of(info) for info in sorted(order, key=lambda info: info.status not in LEARNS)]

    def _tags(self) -> list[str]:
        try:
            return self.repository.tags()
        except StoreError:
            return []

    def _info(self, tag: str) -> RunInfo | None:
        run = self.repository.run(tag)
        stamp = _stamp(run.directory)
        if not stamp:
            begun = run.exists or is_held(run.directory / "lock") or tag in self.jobs.learning()
            return (run.info() if run.exists else RunInfo(tag, "starting")) if begun else None
        known = self._known.get(tag)
        if known is None or known[0] != stamp or known[1].status in LEARNS:
            self._known[tag] = known = (stamp, run.info())
        return known[1]


def _stamp(directory: Path) -> Stamp:
    """What changes whenever the row of a run does; nothing where there is no record."""
    try:
        record = os.stat(directory / "record.json")
    except OSError:
        return ()
    try:
        latest = os.stat(directory / "checkpoints" / "latest").st_mtime_ns
    except OSError:
        latest = 0
    return (record.st_ino, record.st_mtime_ns, record.st_size, latest)


def row_of(info: RunInfo) -> dict[str, Any]:
    """One row of the list. Everything in it may come from elsewhere, so it is cut to what a person reads."""
    return {
        "tag": info.tag,
        "status": one_line(info.status, 40),
        "iteration": info.iteration,
        "strategy": one_line(info.strategy, 80),
        "dataset": one_line(info.dataset, 80),
        "networks": [one_line(name, 80) for name in info.networks[:20]],
        "started": one_line(info.started, 40),
        "seconds": info.seconds,
        "problem": one_line(info.problem, 400),
    }


def details(run: Run, jobs: Jobs) -> dict[str, Any] | None:
    """Everything but the curves that a page shows of one run; None where there is neither a run nor a job."""
    there = run.exists or is_held(run.directory / "lock")
    if not there and not jobs.knows(run.tag):
        return None
    refusal = jobs.refusal(run.tag, _changed(run))
    info = run.info() if there else RunInfo(run.tag, "failed" if refusal else "starting")
    record = _record(run)
    return {
        **row_of(info),
        "iterations": _whole(record.get("iterations")),
        "reason": one_line(record.get("reason") or "", 400) if info.status not in LEARNS else "",
        "sessions": _whole(record.get("sessions")),
        "result": _numbers(record.get("result")),
        "samples": pictures(run),
        "output": jobs.output(run.tag),
        "refused": refusal,
        "canStop": info.status in LEARNS and there,
        "canGoOn": info.status in GOES_ON and there,
        "canDraw": (run.directory / "checkpoints").is_dir(),
    }


def pictures(run: Run) -> list[int]:
    """The iterations of which there are pictures of samples: the newest ones, in order."""
    found = (match for name in names(run.directory / "samples") if (match := PICTURE.fullmatch(name)))
    return sorted(int(match[1]) for match in found)[-PICTURES:]


def read_picture(run: Run, iteration: int) -> bytes:
    """A picture of samples: a file of the run itself, never what a link leads to. Raises StoreError."""
    path = run.directory / "samples" / f"{iteration}.png"
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            content = file.read(PICTURE_LIMIT + 1)
    except OSError:
        content = b""
    if not content.startswith(PNG) or len(content) > PICTURE_LIMIT:
        raise StoreError(f"run '{run.tag}' has no picture of iteration {iteration}")
    return content


def settings_text(run: Run) -> dict[str, Any]:
    """What the run was asked to do, and what it ran on, as text. Raises StoreError."""
    from ganglion.engine.settings import format_value

    job, record = run.read_whole_job(), _record(run)
    versions = record.get("versions")
    return {
        "networks": [one_line(name, 200) for name in job["networks"]],
        "dataset": one_line(job["dataset"], 200),
        "strategy": one_line(job["strategy"], 200),
        "settings": {one_line(key, 80): one_line(format_value(value), 200) for key, value in job["settings"].items()},
        "versions": _texts(versions) if isinstance(versions, dict) else {},
    }


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {one_line(key, 80): one_line(value, 200) for key, value in values.items()}


def _record(run: Run) -> dict[str, Any]:
    try:
        return run.read_record()
    except StoreError:
        return {}


def _changed(run: Run) -> int:
    try:
        return (run.directory / "record.json").stat().st_mtime_ns
    except OSError:
        return 0


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _numbers(values: Any) -> dict[str, float]:
    pairs = values.items() if isinstance(values, dict) else ()
    return {one_line(name, 80): value for name, value in pairs if type(value) in (int, float)}
