"""The command `ganglion sweep`: asks the engine, and prints."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from ganglion.engine.commands import say, split_words
from ganglion.engine.errors import ConfigError, RunError
from ganglion.engine.job import parse_tokens
from ganglion.engine.tables import print_json, print_table


def sweep(
    words: Sequence[str], plugins: Sequence[str], runs: str | None, as_json: bool, engine: str, address: str | None
) -> None:
    """The command `sweep`: exits 1 when no trial finished, 130 or 143 when stopped by a signal."""
    from ganglion.engine.sweep import sweep as carry_out
    from ganglion.engine.sweeprecord import BEST
    from ganglion.engine.sweeptable import tables

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
    document = {"tag": found.tag, "directory": str(found.directory), "signal": found.signal}
    if found.summary is None:
        if as_json:
            print_json(document)
            sys.stdout.flush()
        sys.exit(128 + found.signal)
    if as_json:
        print_json({**document, **found.summary._asdict()})
    else:
        for table in tables(found.summary):
            print_table(table.columns, table.rows, title=table.title)
            print()
        for sentence in found.summary.remarks:
            say(sentence)
        best = f"the best as a job: learn --job {found.directory / BEST}; " if found.summary.best else ""
        say(f"{best}table and picture: {found.directory}")
    if found.summary.best is None:
        raise RunError("no trial has finished")
