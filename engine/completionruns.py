"""What shell completion has to know of the runs that are there: tags, checkpoints, what a run was learnt with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganglion.engine.tags import is_tag

MOST = 200  # tags that a shell can show
VARIABLE = "GANGLION_RUNS"


def tags(runs: str | None) -> list[str]:
    """The runs, the one whose record changed last first."""
    changed: dict[str, int] = {}
    with suppress(OSError), os.scandir(_root(runs)) as entries:
        for entry in entries:
            if is_tag(entry.name):
                with suppress(OSError):
                    changed[entry.name] = os.stat(os.path.join(entry.path, "record.json")).st_mtime_ns
    return sorted(changed, key=lambda tag: -changed[tag])[:MOST]


def checkpoints(runs: str | None, tag: str | None) -> list[str]:
    """The iterations of a run's checkpoints, the newest first."""
    folder = _run(runs, tag)
    names = os.listdir(folder / "checkpoints") if folder is not None and (folder / "checkpoints").is_dir() else []
    return [str(number) for number in sorted((int(name) for name in names if name.isdecimal()), reverse=True)]


def names_of(runs: str | None, tag: str | None) -> Mapping[str, Any]:
    """Networks, data set and strategy of a run; nothing where there is none that can be read."""
    from ganglion.engine.documents import read_json
    from ganglion.engine.errors import EngineError

    folder = _run(runs, tag)
    with suppress(EngineError, OSError):
        return read_json(folder / "record.json") if folder is not None else {}
    return {}


def _run(runs: str | None, tag: str | None) -> Path | None:
    found = tag if tag is not None else next(iter(tags(runs)), None)
    return _root(runs) / found if found is not None and is_tag(found) else None


def _root(runs: str | None) -> Path:
    return Path(runs or os.environ.get(VARIABLE) or "runs").expanduser()
