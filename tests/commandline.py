"""The two commands as a person types them, called in this process, and what a wrong one must answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from ganglion.engine.cli import learn_main, main

PAIR = "Generator,Discriminator"
TINY = {
    "strategy": "GAN", "size": 64, "testSize": 8, "batchSize": 8, "iterations": 2, "threads": 1, "sampleInterval": 0,
    "traces": "lines",
}  # fmt: skip
TINY_DIGITS = {"iterations": 2, "batchSize": 8, "threads": 1, "sampleInterval": 0, "traces": "lines"}


class Said(NamedTuple):
    """The exit code, and what was written to the two outputs."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *words: str) -> Said:
    """Carry out a command line: its first word is `learn` or `ganglion`."""
    capsys.readouterr()
    command = {"learn": learn_main, "ganglion": main}[words[0]]
    with pytest.raises(SystemExit) as ended:
        command(list(words[1:]))
    captured = capsys.readouterr()
    return Said(int(ended.value.code or 0), captured.out, captured.err)


def tiny(*tokens: str, names: tuple[str, str] = (PAIR, "Circle"), keys: Mapping[str, object] = TINY) -> list[str]:
    """The words of a tiny job; a key among `tokens` takes the place of the job's own."""
    given = {token.partition("=")[0] for token in tokens}
    return ["learn", *names, *(f"{key}={value}" for key, value in keys.items() if key not in given), *tokens]


def refused(capsys: pytest.CaptureFixture[str], words: list[str], *parts: str, code: int = 2) -> str:
    """The one sentence with which a command line is refused: it holds `parts`, and the runs are as they were before."""
    before = contents()
    said = call(capsys, *words)
    assert said.code == code, said
    assert said.out == ""
    assert said.err.endswith("\n") and said.err.count("\n") == 1, said.err
    sentence = said.err[:-1]
    assert sentence.startswith(f"{words[0]}: ") and "Traceback" not in sentence
    assert sentence.isprintable(), repr(sentence)
    for part in parts:
        assert part in sentence, f"{part!r} is not in {sentence!r}"
    assert contents() == before
    return sentence


def runs_folder() -> Path:
    """Where this test's runs are."""
    return Path(os.environ["GANGLION_RUNS"])


def contents() -> dict[str, bytes | None]:
    """Everything below the folder of runs, but the locks, with the files' bytes."""
    if not runs_folder().is_dir():
        return {}
    return {
        str(path.relative_to(runs_folder())): path.read_bytes() if path.is_file() else None
        for path in sorted(runs_folder().rglob("*"))
        if path.name != "lock"
    }
