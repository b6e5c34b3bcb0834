"""Measures what reading health costs: neighbouring blocks of iterations with and without a reading, in processor time.

    python tests/benchmarks/health_cost.py [--pairs 25]

A block with a reading watches its last iteration and reads behind it. The cost is the difference of neighbouring
blocks, as a share of what the iterations between two readings take, of which there are 500 where the job says nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ganglion.engine.assembly import assemble
from ganglion.engine.commands import job_folders
from ganglion.engine.folders import data_context
from ganglion.engine.health.reader import USUAL, HealthReader
from ganglion.engine.job import named_job, read_job, request
from ganglion.engine.registry import Registry
from ganglion.engine.session import Session

BLOCK = 10  # iterations: so few that what a busy machine adds to them hides no reading


class Measured(NamedTuple):
    """Milliseconds of an iteration and of a reading (the median of the pairs), and the cost as a share."""

    iteration: float
    reading: float

    @property
    def share(self) -> float:
        return self.reading / (USUAL * self.iteration)


def session(networks: str | None, dataset: str | None, keys: Mapping[str, Any], job: str | None) -> Session:
    loaded = None if job is None else read_job(named_job(job, job_folders()))
    return assemble(Registry().load(), request(networks, dataset, keys, loaded), data_context(lambda sentence: None))


def measure(live: Session, pairs: int) -> Measured:
    """Blocks of iterations, in turn without and with a reading."""
    reader, number = HealthReader(live, print), 0

    def block(reads: bool) -> float:
        nonlocal number
        began = time.process_time()
        for place in range(BLOCK):
            if reads and place == BLOCK - 1:
                reader.watch()
            for chain in live.chains.values():
                chain.begin(number)
            progress = live.strategy.process_iteration(number)
            number += 1
        if reads:
            reader.read(number, {name: float(value) for name, value in progress.values.items()})
        return time.process_time() - began

    block(True)  # the first reading fetches the rows that all are compared with
    found = [(block(False), block(True)) for _ in range(pairs)]
    plain = statistics.median(without for without, _ in found)
    extra = statistics.median(reads - without for without, reads in found)
    return Measured(1e3 * plain / BLOCK, 1e3 * extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first = {"strategy": "GAN", "generatorDim": 10, "batchSize": 16, "method": "SGD", "learningRate": 1e-3,
             "momentum": 0.9}  # fmt: skip
    cases = {
        "GAN on MNIST, batches of 16": session("Generator,Discriminator", "MNIST", first, None),
        "job mnist-perceptron, batches of 64": session(None, None, {}, "mnist-perceptron"),
        "job points, batches of 512": session(None, None, {}, "points"),
    }
    print("| job | ms per iteration | ms per reading | cost at 500 iterations between readings |")
    print("| --- | --- | --- | --- |")
    for label, live in cases.items():
        found = measure(live, arguments.pairs)
        print(f"| {label} | {found.iteration:.2f} | {found.reading:.1f} | {found.share:.2%} |", flush=True)


if __name__ == "__main__":
    main()
