"""Where runs are kept: a folder, or a URL, of which a local folder holds what is worked on and looked at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ganglion.engine import files
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.folders import cache_folder
from ganglion.engine.locks import is_held
from ganglion.engine.mirror import Mirror, Remote, is_url, mirrored
from ganglion.engine.repository import VARIABLE


class Place(NamedTuple):
    """`folder` is where this process reads and writes (None: where runs are usually kept), `url` where it is kept."""

    folder: Path | str | None
    url: str = ""

    def url_of(self, directory: Path, part: str) -> str:
        """The URL of a part of a comparison's or search's folder; nothing where it is a folder for all nodes."""
        return f"{self.url}/{directory.name}/{part}" if self.url else ""

    def begin(self, directory: Path, clean: bool, without: str) -> None:
        """Have in `directory` what is kept of it, but for its runs. Raises StoreError where it is in use."""
        if self.url:
            if is_held(directory / "lock"):
                raise StoreError(f"{self.url}/{directory.name} is in use by another process of this machine")
            files.discard(directory)
            if not clean:
                Mirror(f"{self.url}/{directory.name}", directory, without).fetch()

    @contextmanager
    def kept(self, directory: Path, clean: bool, without: str) -> Iterator[None]:
        """Keep what is written in `directory`, but for its runs, as it is written. Raises StoreError."""
        if not self.url:
            yield
            return
        if clean:
            Remote(f"{self.url}/{directory.name}").remove("")
        with mirrored(f"{self.url}/{directory.name}", directory, without):
            yield

    def fetch(self, directory: Path, part: str) -> None:
        """Have a part of `directory` here, e.g. a run that was carried out elsewhere. Raises StoreError."""
        if self.url:
            Mirror(self.url_of(directory, part), directory / part).fetch()


def place_of(runs: Path | str | None) -> Place:
    """Where runs are kept. Raises ConfigError for a URL that several processes cannot reach."""
    runs = runs or os.environ.get(VARIABLE)
    if runs is None or not is_url(runs):
        return Place(runs)
    url = str(runs).rstrip("/")
    if url.startswith("memory:"):
        raise ConfigError(
            f"--runs {url}: a process's own memory holds nothing for others; name a folder or another URL"
        )
    Remote(url)
    return Place(cache_folder() / "mirrors" / hashlib.sha256(url.encode()).hexdigest()[:16], url)
