"""The table of tiny jobs: a new strategy adds one row and is covered by every test that runs over all strategies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine.launch import Learnt, learn


class Tiny(NamedTuple):
    """A job of a second or so."""

    networks: str
    dataset: str
    keys: Mapping[str, Any]


POINTS = {"size": 256, "testSize": 32, "batchSize": 8}
TINY: dict[str, Tiny] = {
    "GAN": Tiny(
        "Generator,Discriminator", "Circle", {**POINTS, "method": "SGD", "momentum": 0.9, "learningRate": 0.01}
    ),
    "Minimax": Tiny("Generator,Discriminator", "Circle", POINTS),
    "NSGAN": Tiny("Generator,Discriminator", "Ring", {**POINTS, "generator.ema": 0.9}),
    "WGAN": Tiny(
        "Generator,Discriminator", "Circle", {**POINTS, "initDiscriminatorIterations": 3, "initIterations": 2}
    ),
    "FeedForward": Tiny("MLP", "Digits", {"batchSize": 8, "validationSet": "0,100", "validationInterval": 2}),
}
QUIET = {"traces": "lines", "threads": 1, "traceInterval": 2, "storeSeconds": 0, "sampleInterval": 0}


def learn_tiny(row_of: str, runs: Path, tag: str | None = "tiny", **keys: Any) -> Learnt:
    """Carry out the tiny job of a strategy; keys win over the table's."""
    row = TINY[row_of]
    return learn(row.networks, row.dataset, {**QUIET, **row.keys, "strategy": row_of, "tag": tag, **keys}, runs=runs)


def weights_of(learnt: Learnt) -> dict[str, bytes]:
    """The bytes of every file of the last checkpoint that holds weights or state tensors."""
    folder = learnt.directory / "checkpoints" / str(learnt.outcome.iteration)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}
