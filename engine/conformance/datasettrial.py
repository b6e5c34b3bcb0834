"""One data set, loaded with an empty cache, away from the network, and watched while it loads."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ganglion.engine.conformance.results import Failed, Skipped, Unusable, current_place
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.conformance.watching import SharedGenerators
from ganglion.engine.contracts import Batch, DataContext, Dataset, DatasetFactory, Splits
from ganglion.engine.errors import ConfigError, DataError, fold
from ganglion.engine.folders import data_folders
from ganglion.engine.resolution import settings_of
from ganglion.engine.settings import Level, Owner, describe, refuse_unknown, resolve

MOST_ROWS = 5000  # that are looked at, from the first on
CHOSEN = {"size": 256, "testSize": 64, "download": False}


@dataclass
class DatasetTrial:
    """One data set factory and its keys."""

    subject: Subject
    keys: Mapping[str, Any] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    drew: bool = False

    @cached_property
    def settings(self) -> Any:
        """The settings that the keys make; made data are small, and nothing is downloaded, unless they say so."""
        model, entry = settings_of(self.subject.thing), self.subject.entry
        owners = [Owner(f"dataset {entry.name}", model, prefix=entry.name)]
        names, given = {fold(info.key) for info in describe(model)}, {fold(key) for key in self.keys}
        chosen = {key: value for key, value in CHOSEN.items() if fold(key) in names - given}
        levels = [Level("keys", {**chosen, **self.keys})]
        result = resolve(owners, levels, ())
        refuse_unknown(result.unknown, owners, levels, ())
        return result.settings[0]

    @property
    def downloads(self) -> bool:
        """Whether the job asks for a download."""
        return bool(getattr(self.settings, "download", False))

    def factory(self, cache: Path, seed: int = 1) -> DatasetFactory:
        """The factory as a job makes it."""
        made: DatasetFactory = self.subject.thing(
            self.settings, DataContext(data_folders(), cache, seed, lambda sentence: None)
        )
        return made

    @cached_property
    def loaded(self) -> tuple[DatasetFactory, Splits]:
        """The parts. Raises Skipped where the data are not on this machine."""
        try:
            _ = self.settings
        except ConfigError as error:
            raise Unusable from error
        with tempfile.TemporaryDirectory() as folder, self._watched(Path(folder)):
            try:
                factory = self.factory(Path(folder))
                splits = factory.load()
            except Exception as error:
                self._explain(error)
                raise
        if not isinstance(splits, Splits) or not isinstance(splits.train, Dataset):
            raise Failed(f"load() gives {type(splits).__name__}: it must give Splits(train=a Dataset, ...)")
        return factory, splits

    def _explain(self, error: Exception) -> None:
        """Raise Skipped or Unusable where it is not the data set that is wrong."""
        if self.called:
            raise Skipped("it asks for the network while it loads; see the check 'offline'") from error
        if isinstance(error, DataError) and "download" in settings_of(self.subject.thing).model_fields:
            raise Skipped(f"the data are not here: {error}") from error
        if isinstance(error, (ConfigError, DataError)):
            raise Unusable from error

    def again(self) -> Splits:
        """The parts, loaded anew."""
        with tempfile.TemporaryDirectory() as folder, self._offline():
            return self.factory(Path(folder)).load()

    @property
    def parts(self) -> dict[str, Dataset]:
        """The parts that there are, by name."""
        return {name: part for name, part in self.loaded[1]._asdict().items() if part is not None}

    @cached_property
    def first_rows(self) -> dict[str, Batch]:
        """The first rows of every part, up to MOST_ROWS of them."""
        return {name: part.rows(torch.arange(min(len(part), MOST_ROWS))) for name, part in self.parts.items()}

    @contextmanager
    def _watched(self, cache: Path) -> Iterator[None]:
        """Note files written to the cache or the current folder, and draws from shared generators."""
        here, shared, state = set(os.listdir()), SharedGenerators(), torch.get_rng_state()
        with self._offline():
            yield
        self.written += [str(path.relative_to(cache)) for path in sorted(cache.rglob("*")) if path.is_file()]
        self.written += sorted(set(os.listdir()) - here)
        self.shared += shared.changed()
        self.drew = not torch.equal(state, torch.get_rng_state())

    @contextmanager
    def _offline(self) -> Iterator[None]:
        """Refuse and note connections, unless a download is asked for."""

        def refuse(*arguments: Any, **_: Any) -> Any:
            self.called.append(f"it connects to the network{current_place()}")
            raise OSError("the conformance kit lets no data set connect to the network")

        before = socket.getaddrinfo, socket.create_connection
        if not self.downloads:
            vars(socket).update(getaddrinfo=refuse, create_connection=refuse)
        try:
            yield
        finally:
            vars(socket).update(getaddrinfo=before[0], create_connection=before[1])
