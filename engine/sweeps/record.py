"""The directory of a sweep: its study, made or found, for one process alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ganglion.engine import files
from ganglion.engine.manyruns import RUNS, ManyRuns
from ganglion.engine.repository import SWEEP
from ganglion.engine.sweeps.planning import Sweep
from ganglion.engine.sweeps.studyfile import StudyFile
from ganglion.engine.taskqueue import QUEUE

STUDY = "study.db"
BEST, PICTURE, TABLE = PRODUCTS = ("best.yaml", "sweep.png", "table.md")
JOURNAL = ("study.db-journal", "study.db-wal", "study.db-shm")  # of SQLite, where a process was killed


def folder_of(sweep: Sweep) -> ManyRuns:
    """The sweep's directory; runs without a study are what a crash left."""
    documents = (STUDY, *JOURNAL, SWEEP)
    leftovers = frozenset({*PRODUCTS, QUEUE, *documents})
    return ManyRuns("sweep", sweep.tag, sweep.directory, PRODUCTS, documents, sweep.settings.clean, leftovers)


@contextmanager
def taken(sweep: Sweep, lag: int) -> Iterator[tuple[StudyFile, int]]:
    """The study, made or found, and its lag, for this process alone.

    Raises StoreError where it is in use or no sweep, ConfigError where other trials were asked for.
    """
    folder = folder_of(sweep)
    with folder.taken(), StudyFile.opened(sweep.directory / STUDY, sweep.aim.lower) as file:
        before = file.asked()
        kept = int(before.pop("lag", lag))
        if before:
            _refuse_others(sweep, folder, before, kept)
        else:
            file.ask({**sweep.asked, "lag": lag})
        files.make_folder(sweep.directory / RUNS)
        yield file, kept


def _refuse_others(sweep: Sweep, folder: ManyRuns, before: Mapping[str, Any], lag: int) -> None:
    """A sweep goes on with the search it began with; trials may be added. Raises ConfigError."""
    now = dict(sweep.asked)
    pairs = [(name, before.get(name), now.get(name)) for name in dict.fromkeys([*now, *before])]
    if sweep.settings.lag is not None:
        pairs.append(("lag", lag, sweep.settings.lag))
    folder.refuse_changed(pairs)
