"""All runs below one folder: made under fresh names, found, listed and cleaned."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from ganglion.engine import files
from ganglion.engine.errors import StoreError, suggestion
from ganglion.engine.locks import FileLock, is_held
from ganglion.engine.runs import Run, RunInfo
from ganglion.engine.tags import base_tag, check_tag, is_tag, next_number

__all__ = ["Repository", "Run", "RunInfo", "check_tag"]

VARIABLE = "GANGLION_RUNS"
COMPARISON = "comparison.json"  # what makes a directory one of `ganglion compare`
SWEEP = "sweep.json"  # and one of `ganglion sweep`


class Repository:
    """All runs below one root: `root` where given, else GANGLION_RUNS, else ./runs."""

    def __init__(self, root: Path | str | None = None) -> None:
        where = root or os.environ.get(VARIABLE) or "runs"
        if "://" in str(where):
            raise StoreError(f"{where}: expected a folder; only 'ganglion compare' keeps runs at a URL")
        self.root = Path(where).expanduser()

    def run(self, tag: str) -> Run:
        """The run `tag`, whether it exists or not. Raises ConfigError for a tag that cannot name a run."""
        return Run(self.root / check_tag(tag))

    def tags(self) -> list[str]:
        """Names of all directories that can be runs, in alphabetical order."""
        with files.explained("list the runs in", self.root), contextlib.suppress(FileNotFoundError):
            return sorted(entry.name for entry in self.root.iterdir() if is_tag(entry.name) and os.path.isdir(entry))
        return []

    def fresh_tag(self, networks: Sequence[str], dataset: str, strategy: str) -> str:
        """A new readable tag, its directory made, so that no other process gets the same. Raises StoreError."""
        files.make_folder(self.root)
        base = base_tag(networks, dataset, strategy)
        taken = self.tags()
        number = next_number(base, taken)
        while True:
            tag = f"{base}-{number}"
            try:
                with files.explained("make the folder", self.root / tag):
                    files.SYSTEM.mkdir(self.root / tag)
                return tag
            except StoreError as error:
                if not isinstance(error.__cause__, FileExistsError):
                    raise
            number += 1

    def list_runs(self) -> list[RunInfo]:
        """All runs, the one that was used last first; damaged ones with the reason. Raises StoreError."""
        runs = [self.run(tag) for tag in self.tags()]
        found = [run.info() for run in runs if run.exists or not _is_no_run(run.directory)]
        return sorted(found, key=lambda info: (info.changed, info.started, info.tag), reverse=True)

    def find(self, tag: str | None = None) -> Run:
        """The run `tag`; without one, the run that was used last. Raises StoreError where there is none."""
        if tag is None:
            found = [info for info in self.list_runs() if info.status not in ("damaged", "starting")]
            if not found:
                raise StoreError(f"there is no run in {self.root}: 'learn NETWORKS DATASET' makes one")
            return self.run(found[0].tag)
        run = self.run(tag)
        if not run.exists:
            known = [name for name in self.tags() if self.run(name).exists]
            raise StoreError(f"there is no run '{tag}' in {self.root}{suggestion(tag, known)}")
        return run

    def clean(self, run: Run) -> None:
        """Put an empty directory, locked, in the place of a run that this process has locked. Raises StoreError.

        A crash leaves the old run, or the new directory; the next `lock` removes the rest.
        """
        old = run.held
        if old is None or not old.held:
            raise StoreError(f"run '{run.tag}' must be locked before it is cleaned")
        number = next(n for n in range(1, 1_000_000) if not os.path.lexists(self._aside(run, "old", n)))
        aside, fresh = self._aside(run, "old", number), self._aside(run, "new", os.getpid())
        files.discard(fresh)
        with files.explained("clean", run.directory):
            files.SYSTEM.mkdir(fresh)
            lock = FileLock.acquire(fresh / "lock", f"run '{run.tag}'")
            try:
                files.SYSTEM.rename(run.directory, aside)
                self._place(fresh, aside, run.directory)
            except BaseException:
                lock.release()
                files.discard(fresh)
                raise
            files.sync_folder(self.root)
        lock.path = run.directory / "lock"
        run.held = lock
        files.discard(aside)
        old.release()

    def _place(self, fresh: Path, aside: Path, directory: Path) -> None:
        try:
            files.SYSTEM.rename(fresh, directory)
        except OSError:
            files.SYSTEM.rename(aside, directory)
            raise

    def _aside(self, run: Run, word: str, number: int) -> Path:
        return self.root / f".{run.tag}.{word}-{number}"


def _is_no_run(directory: Path) -> bool:
    """Whether a directory holds nothing yet but a lock, holds many runs, or cannot be looked into."""
    try:
        names = {entry.name for entry in directory.iterdir()}
        return bool({COMPARISON, SWEEP} & names) or (names <= {"lock"} and not is_held(directory / "lock"))
    except FileNotFoundError:
        return True
    except OSError:
        return False
