"""The index that shell completion answers from: names, keys and choices of what is installed, as a file in the cache.

It is JSON, so that reading it needs neither torch nor a plugin: `read_index` reads it, and has it made anew in the
background (`python -m ganglion.engine.completionindex`) where it is missing, broken, or older than what is installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganglion.engine.folders import cache_folder

FORMAT = 1
NAME = "completion.json"
BEGUN = "completion.begun"  # its time says when an index was last begun: one that cannot be made is not begun at once
PATIENCE = 60.0  # seconds
LIMIT = 32 * 2**20  # bytes
PACKAGES = ("engine", "strategies", "networks", "datasets")
SUFFIXES = (".py", ".yaml")


def read_index() -> dict[str, Any]:
    """The index, or what there is of it: an old one still helps, without one there is nothing to say. Never raises."""
    try:
        with open(cache_folder() / NAME, "rb") as file:
            index = json.loads(file.read(LIMIT))
        if index["format"] != FORMAT or not isinstance(index["kinds"], dict):
            raise ValueError("another format")
        if index["stamp"] != stamp(index["files"]):
            begin()
        return dict(index)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        begin()
        return {}


def begin() -> None:
    """Make the index in another process, unless one began to a moment ago. Never raises."""
    import subprocess  # here, as few questions need it

    marker = cache_folder() / BEGUN
    with suppress(OSError, ValueError):
        if marker.exists() and 0 <= time.time() - marker.stat().st_mtime < PATIENCE:
            return
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_bytes(b"")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("_GANGLION")}
        process = subprocess.Popen(
            [sys.executable, "-m", "ganglion.engine.completionindex"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
        process.returncode = 0  # it is left to itself: Python would warn of one that still runs


def stamp(files: Iterable[str]) -> dict[str, Any]:
    """What an index is made of: this Python, what its folders of packages hold, the files of plugins as they are."""
    folders = {folder: _changed(Path(folder)) for folder in sys.path if folder.endswith("packages")}
    changed = {file: _changed(Path(file)) for file in files}
    return {"python": sys.version, "own": _own_files(), "folders": folders, "files": changed}


def _own_files() -> list[int]:
    """How many files Ganglion has, and when one was last changed: those of a checkout are, without being installed."""
    above = Path(__file__).parent.parent  # the packages lie side by side, in a checkout as where they are installed
    times = [0, *(time for package in PACKAGES for time in _times(str(above / package)))]
    return [len(times), max(times)]


def _times(folder: str) -> Iterator[int]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _times(entry.path) if entry.name != "__pycache__" else ()
            elif entry.name.endswith(SUFFIXES):
                yield entry.stat().st_mtime_ns


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def write_index(index: Mapping[str, Any]) -> Path:
    """Keep an index for the next question. Raises StoreError."""
    from ganglion.engine.files import make_folder, write_atomic

    path = make_folder(cache_folder()) / NAME
    write_atomic(path, json.dumps(index, separators=(",", ":")).encode("ascii"))
    return path


if __name__ == "__main__":
    from ganglion.engine.completionfacts import facts

    write_index(facts())
