"""Where data are looked for and where downloads are kept: two environment variables."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ganglion.engine.errors import ConfigError

if TYPE_CHECKING:
    from ganglion.engine.contracts import DataContext

DATA_VARIABLE = "GANGLION_DATA"
CACHE_VARIABLE = "GANGLION_CACHE"


def data_folders() -> list[Path]:
    """The folders that GANGLION_DATA names, whether they exist or not."""
    return [Path(part).expanduser() for part in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if part]


def cache_folder() -> Path:
    """The folder of downloads: GANGLION_CACHE, or one in the home folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "ganglion").expanduser()


def data_context(notify: Callable[[str], None]) -> Callable[[int], DataContext]:
    """What data sets may use, as a function of the seed. Raises ConfigError for a folder that does not exist."""
    from ganglion.engine.contracts import DataContext  # here, because it imports torch

    folders = data_folders()
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{DATA_VARIABLE}={folder}: there is no such folder")
    return lambda seed: DataContext(folders, cache_folder(), seed, notify)
