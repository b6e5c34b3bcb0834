"""What a report shows of one run, read from its directory; whatever is missing or damaged is a sentence on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganglion.engine.documents import read_json
from ganglion.engine.errors import StoreError
from ganglion.engine.pages.lines import TraceReader
from ganglion.engine.pages.series import History
from ganglion.engine.runs import Run, RunInfo
from ganglion.engine.tables import format_duration

PICTURES = 2000  # of a run that are looked at
EVALUATIONS = 50


@dataclass(frozen=True)
class Reading:
    """One run: `job` and `record` are empty, and `problems` say why, where they cannot be read."""

    run: Run
    info: RunInfo
    job: Mapping[str, Any]
    record: Mapping[str, Any]
    history: History
    pictures: list[tuple[int, Path]]  # by iteration
    evaluations: list[Mapping[str, Any]]
    problems: list[str] = field(default_factory=list)

    @property
    def tag(self) -> str:
        """The run's name."""
        return self.run.tag

    @property
    def iteration(self) -> int:
        """How far it is, as far as the files say."""
        return max(self.info.iteration or 0, self.history.last)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting with its value."""
        found = self.job.get("settings")
        return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}

    @property
    def defaults(self) -> dict[str, Any] | None:
        """The defaults of the settings that differ from them; None where the record does not say."""
        found = self.record.get("defaults")
        return {str(key): value for key, value in found.items()} if isinstance(found, dict) else None

    def named(self, name: str) -> str:
        """The strategy, the dataset, or the networks separated by commas, as the job names them."""
        value = self.job.get(name) or self.record.get(name) or ""
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def read_run(run: Run) -> Reading:
    """Everything that a report shows of a run. Never raises for what is missing or damaged."""
    problems: list[str] = []
    job = _read(run.read_job, problems)
    record = _read(run.read_record, problems)
    reader, history = TraceReader(run.trace_path), History()
    history.add(reader.read().lines)
    if reader.damaged:
        problems.append(f"{run.trace_path.name}: {reader.damaged:,} damaged lines are left out")
    if history.left_out:
        problems.append(f"{run.trace_path.name}: {len(history.left_out):,} of its figures are too many for a page")
    return Reading(run, run.info(), job, record, history, _pictures(run), _evaluations(run, problems), problems)


def _read(read: Any, problems: list[str]) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = read()
    except StoreError as error:
        problems.append(str(error))
        return {}
    return found


def _pictures(run: Run) -> list[tuple[int, Path]]:
    found = []
    for path in run.directory.glob("samples/*.png"):
        if path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 16:
            found.append((int(path.stem), path))
    return sorted(found)[-PICTURES:]


def _evaluations(run: Run, problems: list[str]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for path in sorted(run.directory.glob("evaluation/*.json"))[:EVALUATIONS]:
        document = _read(lambda path=path: read_json(path), problems)
        if isinstance(document.get("values"), dict):
            found.append({"metric": path.stem, **document})
    return found


def ending(reading: Reading) -> str:
    """How the run ended, or how far it is, in one sentence."""
    count, record = f"{reading.iteration:,}", reading.record
    seconds = record.get("seconds")
    reason = str(record.get("reason") or "no reason is recorded").rstrip(".")
    took = f" in {format_duration(seconds)}" if isinstance(seconds, (int, float)) else ""
    limit = record.get("iterations")
    whole = f" of {limit:,}" if isinstance(limit, int) and limit > 0 else ""
    sentences = {
        "finished": f"Finished after {count} iterations{took}: {reason}.",
        "stopped": f"Stopped after {count}{whole} iterations{took}: {reason}.",
        "failed": f"Failed after {count}{whole} iterations: {reason}.",
        "running": f"Still learning when this page was written: {count}{whole} iterations.",
        "starting": "Just starting when this page was written.",
        "interrupted": f"Interrupted after {count}{whole} iterations: its process ended without a word.",
        "damaged": "Its record cannot be read.",
    }
    return sentences.get(reading.info.status, f"{reading.info.status} after {count} iterations.")
