"""The record of a comparison, `comparison.json`: what was asked for, and what has become of each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ganglion.engine.comparing import Comparison, Entry
from ganglion.engine.documents import read_json, write_json
from ganglion.engine.errors import StoreError
from ganglion.engine.manyruns import ManyRuns
from ganglion.engine.repository import COMPARISON

FORMAT = 1
TABLE, PICTURE, SAMPLES = PRODUCTS = ("table.md", "comparison.png", "samples.png")


def folder_of(comparison: Comparison) -> ManyRuns:
    """The comparison's directory."""
    where = (comparison.tag, comparison.directory)
    return ManyRuns("comparison", *where, PRODUCTS, (COMPARISON,), comparison.clean)


def task_name(entry: Entry, seed: int) -> str:
    """The name of one run: also its tag."""
    return f"{entry.label}-{seed}"


class Record:
    """The record of one comparison; whoever has it holds the comparison's lock."""

    def __init__(self, comparison: Comparison, document: dict[str, Any]) -> None:
        self.comparison = comparison
        self.document = document
        self.tasks: dict[str, dict[str, Any]] = document.setdefault("tasks", {})

    @classmethod
    def peek(cls, comparison: Comparison) -> Record:
        """The record as it is, without the lock: to look at only. Raises StoreError and ConfigError."""
        folder = folder_of(comparison)
        folder.refuse_strangers()
        return cls(comparison, _found(comparison) if folder.is_begun() else {})

    @classmethod
    @contextmanager
    def locked(cls, comparison: Comparison) -> Iterator[Record]:
        """The record, made or found. Raises StoreError where it is in use, ConfigError where it is of other runs."""
        folder = folder_of(comparison)
        if folder.is_begun():
            _found(comparison)
        with folder.taken():
            yield cls(comparison, _begin(comparison, _found(comparison) if folder.is_begun() else {}))

    def save(self) -> None:
        """Write the record. Raises StoreError."""
        write_json(self.comparison.directory / COMPARISON, self.document)

    def of(self, entry: Entry, seed: int) -> dict[str, Any]:
        """What is known of one run."""
        return self.tasks.setdefault(task_name(entry, seed), {"entry": entry.label, "seed": seed, "status": "pending"})

    def missing(self, entry: Entry, seed: int) -> list[Any]:
        """The evaluations that a run has not had yet."""
        done = {*self.of(entry, seed).get("evaluations", {})} - {*self.problems(entry, seed)}
        return [judging for judging in self.comparison.judging if judging.name() not in done]

    def problems(self, entry: Entry, seed: int) -> dict[str, str]:
        """Why evaluations that are asked for now failed, by their names."""
        names = {judging.name() for judging in self.comparison.judging}
        problems = self.of(entry, seed).get("problems", {})
        return {name: reason for name, reason in problems.items() if name in names}

    def notices(self) -> dict[str, list[str]]:
        """What was said of entries and their runs: each sentence once, with the labels."""
        said: dict[str, list[str]] = {}
        for entry in self.comparison.entries:
            of_runs = [self.of(entry, seed).get("notices", []) for seed in self.comparison.seeds]
            own = self.document.get("notices", {}).get(entry.label, [])
            for sentence in dict.fromkeys(one for each in (own, *of_runs) for one in each):
                said.setdefault(sentence, []).append(entry.label)
        return said

    def is_done(self, entry: Entry, seed: int) -> bool:
        """Whether nothing is left to do for a run."""
        return self.of(entry, seed)["status"] == "finished" and not self.missing(entry, seed)

    def figures(self, entry: Entry, seed: int) -> dict[str, float | None]:
        """The figures of a run, by `metric.figure`, for the evaluations that are asked for now."""
        done = self.of(entry, seed).get("evaluations", {})
        return {
            f"{metric}.{figure}": value
            for judging in self.comparison.judging
            for metric, values in done.get(judging.name(), {}).items()
            for figure, value in values.items()
        }


def _begin(comparison: Comparison, document: Mapping[str, Any]) -> dict[str, Any]:
    """The record of what is asked for now, with the runs that there are in the one that was found."""
    asked = document.get("asked", {})
    now = _asked(comparison)
    entries = {**asked.get("entries", {}), **now["entries"]}
    return {
        "format": FORMAT,
        "tag": comparison.tag,
        "asked": {**now, "entries": entries},
        "notices": document.get("notices", {}),
        "tasks": document.get("tasks", {}),
    }


def _asked(comparison: Comparison) -> dict[str, Any]:
    return {
        "dataset": comparison.dataset,
        "budget": str(comparison.budget),
        "entries": {entry.label: entry.identity() for entry in comparison.entries},
        "seeds": list(comparison.seeds),
        "against": comparison.against,
        "metrics": [judging.metric for judging in comparison.judging if judging.metric],
        "evaluate": dict(comparison.evaluate),
        "figures": [":".join(part for part in choice if part) for choice in comparison.figures],
    }


def refuse_others(comparison: Comparison, document: Mapping[str, Any]) -> None:
    """A comparison goes on with the runs it began with; entries, seeds and metrics may be added. Raises ConfigError."""
    asked, now = document.get("asked", {}), _asked(comparison)
    pairs = [(name, asked.get(name), now[name]) for name in ("dataset", "budget")]
    for label, new in now["entries"].items():
        old = asked.get("entries", {}).get(label)
        if old is not None:
            pairs += [(f"entry {label}: {key}", old.get(key), new.get(key)) for key in {**new, **old}]
    folder_of(comparison).refuse_changed(pairs)


def _found(comparison: Comparison) -> dict[str, Any]:
    """The record that there is. Raises StoreError where it is none, ConfigError where it is of other runs."""
    document = _read(comparison.directory / COMPARISON)
    refuse_others(comparison, document)
    return document


def _read(path: Path) -> dict[str, Any]:
    document = read_json(path)
    version = document.get("format")
    if version != FORMAT or not isinstance(document.get("tasks"), dict) or not isinstance(document.get("asked"), dict):
        raise StoreError(f"{path}: expected the record of a comparison in format {FORMAT}, got format {version!r}")
    try:
        _Shape.model_validate(document)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise StoreError(f"{path}: {where} is not as this version writes it; clean=true starts anew") from None
    return document


class _Task(BaseModel):
    """What is kept of one run."""

    model_config = ConfigDict(strict=True)
    status: Literal["pending", "finished", "stopped", "failed"]
    iteration: int | None = None
    seconds: float | None = None
    error: str = ""
    evaluations: dict[str, dict[str, dict[str, float | None]]] = {}
    problems: dict[str, str] = {}
    notices: list[str] = []


class _Finished(_Task):
    """A run that learnt to its end."""

    status: Literal["finished"]
    iteration: int
    seconds: float


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True)
    entries: dict[str, dict[str, str]] = {}


class _Shape(BaseModel):
    """What a record must look like to be gone on with."""

    model_config = ConfigDict(strict=True)
    asked: _Asked
    notices: dict[str, list[str]] = {}
    tasks: dict[str, _Finished | _Task]

    @field_validator("tasks")
    @classmethod
    def _whole(cls, tasks: dict[str, _Finished | _Task]) -> dict[str, _Finished | _Task]:
        for name, task in tasks.items():
            if task.status == "finished" and not isinstance(task, _Finished):
                raise ValueError(name)
        return tasks
