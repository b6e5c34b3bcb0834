"""Finds the file or folder that a data set's `path` names."""

from __future__ import annotations

from pathlib import Path

from ganglion.engine.api import ConfigError, DataContext, DataError

LONGEST = 100  # characters of a path in a message


def find_path(owner: str, given: str, context: DataContext, *, folder: bool) -> Path:
    """`given` as it stands, or below one of the data folders. Raises ConfigError or DataError for none."""
    what = "a folder" if folder else "a file"
    if not given:
        raise ConfigError(f"{owner} needs path=, the name of {what}")
    try:
        candidates = [Path(given).expanduser(), *(root / given for root in context.folders)]
        for candidate in candidates:
            if candidate.is_dir() if folder else candidate.is_file():
                return candidate
        there = any(candidate.exists() for candidate in candidates)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~name of nobody
        shown = given if len(given) <= LONGEST else f"{given[:LONGEST]}..."
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{owner}: path={shown} cannot be looked up ({reason}): expected {what}") from None
    if there:
        raise DataError(f"{owner}: path={given} is not {what}")
    below = "".join(f", nor in {root}" for root in context.folders)
    raise DataError(f"{owner}: path={given} does not exist here{below}: expected {what}")
