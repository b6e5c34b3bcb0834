"""Run directories as a run leaves them, written by hand: what a page makes of them needs no learning."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

SETTINGS = {"seed": 0, "iterations": 2000, "batchSize": 16, "penalty": ["R1", "R2"], "generator.learningRate": 0.001}
JOB = {
    "format": 1,
    "networks": ["Generator", "Discriminator"],
    "dataset": "Circle",
    "strategy": "GAN",
    "plugins": [],
    "settings": SETTINGS,
}
RECORD = {
    "format": 1,
    "status": "finished",
    "iteration": 2000,
    "iterations": 2000,
    "strategy": "GAN",
    "dataset": "Circle",
    "networks": ["Generator", "Discriminator"],
    "seed": 0,
    "defaults": {"batchSize": 64, "penalty": []},
    "devices": {"generator": "cpu"},
    "execution": {"name": "eager", "reason": ""},
    "threads": 1,
    "versions": {"torch": "2.13.0"},
    "data": {"digest": "abc", "rows": 2500},
    "started": "2026-01-01T00:00:00+00:00",
    "reason": "all iterations done",
    "seconds": 20.0,
    "result": {"generatorLoss": 0.7},
}


def points(count: int = 20, every: int = 100) -> list[dict[str, Any]]:
    """Trace points of two losses: the generator's falls, the discriminator's rises."""
    return [
        {
            "iteration": every * number,
            "seconds": number / 10,
            "iterationsPerSecond": 1000.0,
            "discriminatorLoss": 0.5 + number / count / 10,
            "generatorLoss": 1.0 - number / count / 2,
        }
        for number in range(1, count + 1)
    ]


def make_run(
    runs: Path,
    tag: str,
    trace: Iterable[Mapping[str, Any]] | None = None,
    job: Mapping[str, Any] = JOB,
    record: Mapping[str, Any] = RECORD,
    samples: Iterable[int] = (),
) -> Path:
    """A run's directory with these documents, trace lines and pictures."""
    directory = runs / tag
    (directory / "samples").mkdir(parents=True)
    (directory / "job.yaml").write_text(yaml.safe_dump(dict(job)), encoding="utf-8")
    (directory / "record.json").write_text(json.dumps({**record, "tag": tag}), encoding="utf-8")
    lines = points() if trace is None else trace
    (directory / "trace.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    for iteration in samples:
        (directory / "samples" / f"{iteration}.png").write_bytes(png(16, iteration % 251))
    return directory


def png(size: int, grey: int, noise: bytes = b"") -> bytes:
    """A grey square; `noise` makes the file larger without a change of the picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress((b"\0" + bytes([grey]) * size) * size)
    head = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    text = chunk(b"tEXt", b"noise\0" + noise) if noise else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + text + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
