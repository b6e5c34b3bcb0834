"""The checkpoints of a run: stored whole or not at all, found again past damaged ones, the oldest removed."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ganglion.engine import files
from ganglion.engine.checkpoint_files import Checkpoint, Damaged, Vanished, Weights, read_checkpoint, serialise
from ganglion.engine.errors import StoreError

__all__ = ["Checkpoint", "Checkpoints"]

ITERATION = re.compile(r"0|[1-9][0-9]{0,17}")
# A checkpoint about to be replaced is set aside under the first name, one about to be removed under the second.
ASIDE = re.compile(r"\.old-(?P<iteration>0|[1-9][0-9]{0,17})-[0-9]+")
REMOVED = ".gone-"
ATTEMPTS = 20
SETTLED = 3  # attempts after which a checkpoint that is not there counts as missing
PAUSE = 0.05  # seconds


class Checkpoints:
    """The folder `checkpoints` of a run: one process stores (the one that holds the run's lock), any may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- what there is ---

    def iterations(self) -> list[int]:
        """Iterations of all checkpoints, in order, whether they are intact or not."""
        return sorted(self._directories())

    def latest(self) -> int | None:
        """The iteration that was stored last."""
        return self._pointer("latest")[0]

    def best(self) -> int | None:
        """The iteration that was marked as best, None where none was."""
        return self._pointer("best")[0]

    def _directories(self) -> dict[int, Path]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(f"cannot read {self.folder}: {files.cause(error)}") from error
        # A crash between the two renames of a replacement leaves the old checkpoint under its other name only.
        found = {int(match["iteration"]): self.folder / name for name in names if (match := ASIDE.fullmatch(name))}
        found |= {int(name): self.folder / name for name in names if ITERATION.fullmatch(name)}
        return found

    def _pointer(self, name: str) -> tuple[int | None, str]:
        """The iteration that the file `name` holds, or None and, where there is a file, what is wrong with it."""
        path = self.folder / name
        try:
            text = files.read_bytes(path, 64).decode("ascii", "replace").strip()
        except StoreError as error:
            return None, "" if isinstance(error.__cause__, FileNotFoundError) else str(error)
        return (int(text), "") if ITERATION.fullmatch(text) else (None, f"{path} does not hold an iteration")

    # --- storing ---

    def store(
        self,
        iteration: int,
        networks: Mapping[str, Weights],
        averaged: Mapping[str, Weights],
        state: Any,
        keep: int = 3,
        pinned: Collection[int] = (),
        unchecked: tuple[str, ...] = (),
    ) -> Path:
        """Store a checkpoint, make it the latest, and remove all but `keep` (0: none), the best one, and `pinned`.

        Raises DivergedError where a tensor is not finite and StoreError where the disk does not take it; the last
        checkpoint is untouched then.
        """
        contents = serialise(iteration, networks, averaged, state, unchecked)
        files.make_folder(self.folder)
        self._recover()
        temporary = self.folder / f"{files.TEMPORARY}{iteration}-{os.getpid()}"
        target = self.folder / str(iteration)
        with files.explained("store the checkpoint", target):
            try:
                self._write(temporary, contents)
                self._place(temporary, target)
            except BaseException:
                files.discard(temporary)
                raise
            files.sync_folder(self.folder)
        files.write_atomic(self.folder / "latest", f"{iteration}\n".encode())
        files.sweep(self.folder, lambda name: ASIDE.fullmatch(name) is not None)
        self._retain(iteration, keep, pinned)
        return target

    def mark_best(self, iteration: int) -> None:
        """Make a checkpoint the best one. Raises StoreError where there is none of that iteration."""
        if iteration not in self._directories():
            raise StoreError(f"checkpoint {iteration} cannot be the best one: it is not in {self.folder}")
        files.write_atomic(self.folder / "best", f"{iteration}\n".encode())

    def _write(self, temporary: Path, contents: Mapping[str, bytes]) -> None:
        files.SYSTEM.mkdir(temporary)
        for name, data in contents.items():
            files.write_new(temporary / name, data)
        files.sync_folder(temporary)

    def _place(self, temporary: Path, target: Path) -> None:
        aside = self.folder / f".old-{target.name}-{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            files.SYSTEM.rename(target, aside)
        try:
            files.SYSTEM.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                files.SYSTEM.rename(aside, target)
            raise

    def _recover(self) -> None:
        """Undo what a crash left: put back what was set aside and not replaced, remove the rest."""
        for iteration, directory in self._directories().items():
            if directory.name != str(iteration):
                with contextlib.suppress(OSError):
                    files.SYSTEM.rename(directory, self.folder / str(iteration))
        files.sweep(
            self.folder, lambda name: name.startswith((files.TEMPORARY, REMOVED)) or bool(ASIDE.fullmatch(name))
        )

    def _retain(self, current: int, keep: int, pinned: Collection[int]) -> None:
        if keep <= 0:
            return
        there = self.iterations()
        # Later ones belong to a course that was given up: the run went back to an earlier checkpoint.
        newest = [iteration for iteration in there if iteration <= current][-keep:]
        kept = {*newest, current, self.best()}
        for iteration in there:
            if iteration not in kept and iteration not in pinned:
                removed = self.folder / f"{REMOVED}{iteration}-{os.getpid()}"
                with contextlib.suppress(OSError):
                    files.SYSTEM.rename(self.folder / str(iteration), removed)
                files.discard(removed)

    # --- reading ---

    def load(self, which: str | int = "latest") -> Checkpoint:
        """The checkpoint "latest", "best" or of an iteration, verified.

        Instead of a damaged latest or best one, the one before it is given, with a notice. Raises StoreError where no
        intact one is left, or the iteration asked for is missing or damaged.
        """
        return self._load(which, with_state=True)

    def weights_only(self, which: str | int = "latest") -> Checkpoint:
        """The same without the state (None), which is neither read nor verified: enough for samples and export."""
        return self._load(which, with_state=False)

    def _load(self, which: str | int, with_state: bool) -> Checkpoint:
        for attempt in range(ATTEMPTS):
            try:
                return self._load_once(which, with_state, settled=attempt >= SETTLED)
            except Vanished:
                time.sleep(PAUSE)
        raise StoreError(f"cannot read a checkpoint in {self.folder}: they are being replaced too fast")

    def _load_once(self, which: str | int, with_state: bool, settled: bool) -> Checkpoint:
        exact = isinstance(which, int) or ITERATION.fullmatch(which) is not None
        # The name is read before the folder: what a name stands for was there when it was written.
        named, problem = (int(which), "") if exact else self._named(str(which))
        directories = self._directories()
        if named is not None and named not in directories:
            if not settled:  # it may be in the middle of being replaced
                raise Vanished(str(named))
            problem = f"checkpoint {named}, the {which} one, is missing"
        if not directories:
            raise StoreError(f"there is no checkpoint in {self.folder}")
        if exact and problem:
            there = ", ".join(str(known) for known in sorted(directories))
            raise StoreError(f"there is no checkpoint {named} in {self.folder}; there are: {there}")
        order = [int(which)] if exact else self._order(named, directories)
        return self._first_intact(order, directories, [problem] if problem else [], with_state)

    def _first_intact(
        self, order: Sequence[int], directories: Mapping[int, Path], problems: list[str], with_state: bool
    ) -> Checkpoint:
        for iteration in order:
            try:
                checkpoint = read_checkpoint(directories[iteration], iteration, with_state)
            except Damaged as damage:
                if self._directories().get(iteration) != directories[iteration]:  # replaced in the meantime
                    raise Vanished(str(iteration)) from damage
                problems.append(f"checkpoint {iteration} is damaged ({damage})")
                continue
            notices = tuple(f"{problem}; checkpoint {iteration} is used instead" for problem in problems)
            return replace(checkpoint, notices=notices)
        raise StoreError(f"{'no checkpoint is intact: ' if len(order) > 1 else ''}{'; '.join(problems)}")

    def _named(self, which: str) -> tuple[int | None, str]:
        """The iteration that is called so, or None, with what is wrong."""
        if which not in ("latest", "best"):
            raise StoreError(f"checkpoint '{which}' should be latest, best, or an iteration")
        named, problem = self._pointer(which)
        if which == "best" and named is None and not problem:
            problem = "no checkpoint was marked as the best one"
        return named, problem

    def _order(self, named: int | None, directories: Mapping[int, Path]) -> list[int]:
        """Which iterations to try: the one named (else the latest), earlier ones, and only then later ones."""
        first = named if named is not None else self.latest()
        start = first if first is not None else max(directories)
        return sorted(directories, key=lambda iteration: (iteration > start, -iteration))
