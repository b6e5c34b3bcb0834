"""What an engine iteration costs against the hand-written loop: alternating pairs in one process, the same maths.

python tests/benchmarks/engine_cost.py [--pairs 9] [--iterations 400] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from handwritten import gan_loop

from ganglion.engine.assembly import assemble
from ganglion.engine.folders import data_context
from ganglion.engine.job import JobRequest
from ganglion.engine.learner import Learner
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.store import Store
from ganglion.engine.trace import Traces

KEYS = {
    "generatorDim": 10, "batchSize": 16, "method": "SGD", "learningRate": 0.001, "momentum": 0.9,
    "sampleInterval": 0, "storeSeconds": 0, "traceInterval": 100, "traces": "lines",
}  # fmt: skip


def engine_loop(folder: Path) -> tuple[Callable[[int], None], torch.Tensor]:
    """The learner itself on DIANNE's pair and MNIST, or Digits enlarged where MNIST is not at hand; and its images."""
    registry = Registry().load()
    request = JobRequest(("DianneGenerator", "DianneDiscriminator"), "MNIST", "GAN", {**KEYS, "iterations": -1})
    session = assemble(registry, request, data_context(print))
    run = Repository(folder).run("cost")
    run.lock()
    learner = Learner(session, Store(run, 1, lambda: 0), Traces([]))

    def go(iterations: int) -> None:
        learner.limit = learner.iteration + iterations
        learner._iterate()

    images = session.data.train.rows(torch.arange(len(session.data.train))).input.flatten(1)
    return go, images


def seconds(loop: Callable[[int], None], iterations: int) -> float:
    began = time.perf_counter()
    loop(iterations)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        engine, images = engine_loop(Path(folder))
        for name, loader in (("gather", False), ("DataLoader", True)):
            loop = gan_loop(images, 16, loader)
            for warm in (engine, loop):
                warm(50)
            pairs = [
                tuple(seconds(each, arguments.iterations) for each in (engine, loop)) for _ in range(arguments.pairs)
            ]
            ratios = sorted(ours / theirs for ours, theirs in pairs)
            per = [1e6 * statistics.median(column) / arguments.iterations for column in zip(*pairs, strict=True)]
            print(
                f"against the loop with {name}: ratio median {statistics.median(ratios):.3f} "
                f"({ratios[0]:.3f} to {ratios[-1]:.3f}, {len(ratios)} pairs); "
                f"engine {per[0]:.0f} us, loop {per[1]:.0f} us per iteration"
            )


if __name__ == "__main__":
    main()
