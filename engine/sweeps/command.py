"""The command `ganglion sweep`: asks the engine, and prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from ganglion.engine.commands import print_found, say, split_words
from ganglion.engine.errors import ConfigError, RunError
from ganglion.engine.job import parse_tokens


def sweep(
    words: Sequence[str], plugins: Sequence[str], runs: str | None, as_json: bool, engine: str, address: str | None
) -> None:
    """The command `sweep`: exits 1 when no trial finished, 130 or 143 when stopped by a signal."""
    from ganglion.engine.sweeps.record import BEST
    from ganglion.engine.sweeps.sweep import sweep as carry_out
    from ganglion.engine.sweeps.table import Summary, tables

    names, tokens = split_words(words)
    if len(names) > 2:
        raise ConfigError(f"'{names[2]}': expected key=value after the data set, e.g. learningRate='log(1e-5,1e-2)'")
    if len(names) < 2 and not any(word.partition("=")[0].lower() == "dataset" for word in tokens):
        raise ConfigError(
            "no networks and no data set: 'ganglion sweep Generator,Discriminator Ring strategy=NSGAN "
            "learningRate=\"log(1e-5,1e-2)\"', for example ('ganglion sweep --help')"
        )
    typed = shlex.join(["ganglion", "sweep", *(f"--plugin={file}" for file in plugins), *words])
    networks, dataset = (*names, None, None)[:2]
    how: dict[str, Any] = {"plugins": plugins, "runs": runs, "engine": engine, "address": address}
    found = carry_out(networks, dataset, parse_tokens(tokens), notify=say, command=typed, **how)

    def sentences(summary: Summary) -> list[str]:
        best = f"the best as a job: learn --job {found.directory / BEST}; " if summary.best else ""
        return [*summary.remarks, f"{best}table and picture: {found.directory}"]

    summary = print_found(found, found.summary, {}, as_json, tables, sentences)
    if summary.best is None:
        raise RunError("no trial has finished")
