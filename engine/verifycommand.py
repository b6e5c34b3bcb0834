"""What the command `verify-resume` does: reads words as `learn` does, asks the engine, prints the verdict."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ganglion.engine.commands import job_folders, say, split_words
from ganglion.engine.errors import ConfigError
from ganglion.engine.job import named_job, parse_tokens, read_job
from ganglion.engine.tables import print_json
from ganglion.engine.verifying import Verified, verify_resume


def verify_resume_command(
    words: Sequence[str],
    job: str | None,
    kills: int,
    patience: float,
    plugins: Sequence[str],
    runs: str | None,
    as_json: bool,
) -> None:
    """The command `verify-resume`: exits 1 when the two runs differ."""
    names, tokens = split_words(words)
    if len(names) > 2:
        raise ConfigError(f"'{names[2]}': expected key=value after the data set, e.g. iterations=500")
    networks, dataset = (*names, None, None)[:2]
    keys = parse_tokens(tokens)
    loaded = read_job(named_job(job, job_folders())) if job is not None else None
    with _terminable():
        found = verify_resume(
            networks, dataset, keys, job=loaded, kills=kills, plugins=plugins, runs=runs, patience=patience, notify=say
        )
    if as_json:
        print_json(document(found))
    else:
        print(verdict(found))
    if not found.identical:
        sys.exit(1)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the processes and removes the temporary folder, as Ctrl-C does."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def verdict(found: Verified) -> str:
    """What came of it in one sentence."""
    where = f"; the runs are in {found.folder}" if found.folder is not None else ""
    if found.compared.difference is not None:
        return f"different: {found.compared.difference}{where}"
    kills = ", ".join(f"{kill.iteration} ({kill.during})" for kill in found.kills)
    compared, count = found.compared, f"{len(found.kills)} kill{'s' if len(found.kills) > 1 else ''}"
    return (
        f"identical: {found.iterations:,} iterations, {count} (at iteration {kills}), "
        f"{len(compared.checkpoints):,} checkpoints, {compared.tensors:,} tensors, {compared.points:,} trace points"
        f"{where}"
    )


def document(found: Verified) -> dict[str, Any]:
    """The same for programs."""
    compared, difference = found.compared, found.compared.difference
    return {
        "identical": found.identical,
        "iterations": found.iterations,
        "kills": [kill._asdict() for kill in found.kills],
        "checkpoints": list(compared.checkpoints),
        "tensors": compared.tensors,
        "tracePoints": compared.points,
        "difference": None if difference is None else {**difference._asdict(), "sentence": str(difference)},
        "folder": None if found.folder is None else str(found.folder),
    }
