"""The directory of many runs, a comparison's or a sweep's: taken by one process, cleaned, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine import files
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.locks import FileLock
from ganglion.engine.taskqueue import QUEUE

RUNS = "runs"
DISCARDED = ".discarded"
LOCK = "lock"


class ManyRuns(NamedTuple):
    """A directory, and what its kind keeps there beside the runs.

    The first of `documents` makes it one of its kind, and the last is there once something has begun.
    """

    kind: str
    tag: str
    directory: Path
    products: tuple[str, ...]
    documents: tuple[str, ...]
    clean: bool  # whether it is begun anew
    leftovers: frozenset[str] = frozenset()  # what a crash may leave without the first document

    def __str__(self) -> str:
        return f"{self.kind} '{self.tag}'"

    def is_begun(self) -> bool:
        """Whether there is something to go on with."""
        return not self.clean and (self.directory / self.documents[0]).exists()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the directory for this process alone, empty where there is nothing to go on with.

        Nothing stays of a new one in which nothing was begun. Raises StoreError where it is in use or something else.
        """
        folder, fresh = self.directory, not self.directory.exists()
        self.refuse_strangers()
        files.make_folder(folder)
        with FileLock.acquire(folder / LOCK, str(self)):
            files.sweep(folder)
            try:
                if not self.is_begun():
                    self._empty()
                yield
            except BaseException:
                if fresh and not (folder / self.documents[-1]).exists():
                    files.discard(folder)
                raise

    def refuse_strangers(self) -> None:
        """Nothing is put beside what is not of this kind. Raises StoreError."""
        known = {LOCK, RUNS, DISCARDED, *self.leftovers}
        strange = {name for name in files.names(self.directory) if not name.startswith(files.TEMPORARY)} - known
        if strange and not (self.directory / self.documents[0]).exists():
            raise StoreError(f"{self.directory} is no {self.kind}; give another tag")

    def refuse_changed(self, pairs: Iterable[tuple[str, Any, Any]]) -> None:
        """Raises ConfigError for the first key, of those with what was asked before and now, that is another now."""
        for name, before, now in pairs:
            if before != now:
                raise ConfigError(
                    f"{self} was started with {name}={_shown(before)}, not {_shown(now)}; "
                    "clean=true starts it anew, another tag leaves it alone"
                )

    def _empty(self) -> None:
        """In this order, so that a crash leaves no document of runs that are gone. Raises StoreError."""
        folder = self.directory
        for name in (*self.products, QUEUE, *self.documents, DISCARDED):
            files.discard(folder / name)
        if (folder / RUNS).exists():
            with files.explained("clean", folder / RUNS):
                files.SYSTEM.rename(folder / RUNS, folder / DISCARDED)
            files.discard(folder / DISCARDED)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
