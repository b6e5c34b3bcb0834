"""The directory of a sweep: taken by one process, begun, gone on with, or cleaned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganglion.engine import files
from ganglion.engine.comparerecord import DISCARDED, RUNS, refuse_changed
from ganglion.engine.errors import StoreError
from ganglion.engine.locks import FileLock
from ganglion.engine.repository import SWEEP
from ganglion.engine.sweepfile import StudyFile
from ganglion.engine.sweeping import Sweep
from ganglion.engine.taskqueue import QUEUE

STUDY = "study.db"
BEST, PICTURE, TABLE = PRODUCTS = ("best.yaml", "sweep.png", "table.md")
JOURNAL = ("study.db-journal", "study.db-wal", "study.db-shm")  # of SQLite, where a process was killed


@contextmanager
def taken(sweep: Sweep, lag: int) -> Iterator[tuple[StudyFile, int]]:
    """The study, made or found, and its lag, for this process alone.

    Raises StoreError where it is in use or no sweep, ConfigError where other trials were asked for.
    """
    folder, fresh = sweep.directory, not sweep.directory.exists()
    refuse_strangers(folder)
    files.make_folder(folder)
    with FileLock.acquire(folder / "lock", f"sweep '{sweep.tag}'"):
        files.sweep(folder)
        if sweep.settings.clean or not (folder / STUDY).exists():  # runs without one are what a crash left
            _clean(folder)
        try:
            with StudyFile.opened(folder / STUDY, sweep.aim.lower) as file:
                before = file.asked()
                kept = int(before.pop("lag", lag))
                if before:
                    _refuse_others(sweep, before, kept)
                else:
                    file.ask({**sweep.asked, "lag": lag})
                files.make_folder(folder / RUNS)
                yield file, kept
        except BaseException:
            if fresh and not (folder / SWEEP).exists():  # nothing was begun
                files.discard(folder)
            raise


def refuse_strangers(folder: Path) -> None:
    """Nothing is put beside what is no sweep. Raises StoreError."""
    known = {"lock", RUNS, DISCARDED, SWEEP, STUDY, QUEUE, *PRODUCTS, *JOURNAL}
    strange = {name for name in files.names(folder) if not name.startswith(files.TEMPORARY)} - known
    if strange and not (folder / STUDY).exists():
        raise StoreError(f"{folder} is no sweep; give another tag")


def _clean(folder: Path) -> None:
    """In this order, so that a crash leaves no study of runs that are gone. Raises StoreError."""
    for name in (*PRODUCTS, QUEUE, STUDY, *JOURNAL, SWEEP, DISCARDED):
        files.discard(folder / name)
    if (folder / RUNS).exists():
        with files.explained("clean", folder / RUNS):
            files.SYSTEM.rename(folder / RUNS, folder / DISCARDED)
        files.discard(folder / DISCARDED)


def _refuse_others(sweep: Sweep, before: Mapping[str, Any], lag: int) -> None:
    """A sweep goes on with the search it began with; trials may be added. Raises ConfigError."""
    now = dict(sweep.asked)
    pairs = [(name, before.get(name), now.get(name)) for name in dict.fromkeys([*now, *before])]
    if sweep.settings.lag is not None:
        pairs.append(("lag", lag, sweep.settings.lag))
    refuse_changed(f"sweep '{sweep.tag}'", pairs)
