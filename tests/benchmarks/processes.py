"""Several processes against one: do they learn the same, and how much faster? Prints Markdown tables.

    python tests/benchmarks/processes.py equality [STRATEGY...]
    python tests/benchmarks/processes.py speed

Equality: every strategy's tiny job (tests/tiny.py), without dropout, by 1, 2 and 4 processes: 200 iterations in double
precision and 10 in single, the largest difference of a weight as a share of its tensor's largest number.
Speed: MNIST perceptrons with a batch of 256, one process of one thread against two; `weak` gives each process 256 rows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import safetensors.torch
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tiny import TINY

from ganglion.engine.conformance.courses import Job, iterate
from ganglion.engine.conformance.sharing import FLOOR, in_processes, without_dropout
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.processes import ALONE, Part, joined_by_file

COUNTS = (2, 4)
COURSES = ((torch.float64, 200), (torch.float32, 10))
PATIENCE = 600.0
ROUNDS = 5
COUNTED = 150  # iterations that are timed


def learn(job: Job, dtype: torch.dtype, iterations: int, part: Part, folder: Path) -> None:
    """Iterate as the learner does, and write the weights down."""
    torch.set_num_threads(1)
    torch.set_default_dtype(dtype)
    with job.session(part=part) as session:
        for network in session.networks.values():
            without_dropout(network)
        iterate(session, 0, iterations)
        if part.rank == 0:
            tensors = {
                f"{role}.{name}": value for role, own in session.weights().items() for name, value in own.items()
            }
            safetensors.torch.save_file(
                {name: value.contiguous().clone() for name, value in tensors.items()}, folder / "weights"
            )


def weights(job: Job, dtype: torch.dtype, iterations: int, count: int) -> dict[str, Tensor] | str:
    """What `count` processes learn, or what one of them says."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def work(rank: int, of: int) -> None:
            if of == 1:
                learn(job, dtype, iterations, ALONE, folder)
                return
            with joined_by_file(folder / "meeting", Part(rank, of), PATIENCE) as part:
                learn(job, dtype, iterations, part, folder)

        code, told = in_processes(count, work)
        return told if code else dict(safetensors.torch.load((folder / "weights").read_bytes()))


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two sets of weights, as a share of each tensor's largest number."""
    return max(
        float((value.double() - other[name].double()).abs().max()) / max(float(value.abs().max()), FLOOR)
        for name, value in one.items()
        if value.numel()
    )


def equality(names: Sequence[str]) -> None:
    """A row per strategy."""
    heads = [f"{count} processes, {n} iterations, {str(dtype)[6:]}" for dtype, n in COURSES for count in COUNTS]
    print("| strategy | " + " | ".join(heads) + " |\n" + "| --- " * (1 + len(heads)) + "|", flush=True)
    for name in names:
        row = TINY[name]
        job = Job(find_subject("strategy", name), row.networks.split(","), row.dataset, dict(row.keys))
        cells = [cell for dtype, iterations in COURSES for cell in compared(job, dtype, iterations)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def compared(job: Job, dtype: torch.dtype, iterations: int) -> Iterator[str]:
    """How far each number of processes is from one."""
    one = weights(job, dtype, iterations, 1)
    for count in COUNTS:
        other = one if isinstance(one, str) else weights(job, dtype, iterations, count)
        yield other if isinstance(other, str) else "as one" if isinstance(one, str) else f"{farthest(one, other):.0e}"


def rate(rows: int, count: int) -> float:
    """Iterations per second of the MNIST perceptrons, `rows` being those of all processes."""
    keys = {"batchSize": rows, "penalty": "none", "execution": "eager"}
    job = Job(find_subject("strategy", "NSGAN"), ["Generator", "Discriminator"], "MNIST", keys)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def timed(part: Part) -> None:
            torch.set_num_threads(1)
            with job.session(part=part) as session:
                iterate(session, 0, 5)
                began = time.perf_counter()
                iterate(session, 5, 5 + COUNTED)
                if part.rank == 0:
                    (folder / "rate").write_text(str(COUNTED / (time.perf_counter() - began)))

        def work(rank: int, of: int) -> None:
            if of == 1:
                timed(ALONE)
                return
            with joined_by_file(folder / "meeting", Part(rank, of), PATIENCE) as part:
                timed(part)

        code, told = in_processes(count, work)
        assert code == 0, told
        return float((folder / "rate").read_text())


def speed() -> None:
    """Efficiency at two processes, in alternating rounds."""
    strong, weak = [], []
    for _ in range(ROUNDS):
        alone, shared, both = rate(256, 1), rate(256, 2), rate(512, 2)
        strong.append(shared / alone / 2)
        weak.append(both / alone)
        print(f"1 process {alone:.1f} it/s, 2 share 256 rows {shared:.1f}, 2 with 256 each {both:.1f}", flush=True)
    for name, ratios in (("strong", strong), ("weak", weak)):
        print(f"{name} scaling: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["speed"]:
        speed()
    elif sys.argv[1:2] == ["equality"]:
        equality(sys.argv[2:] or list(TINY))
    else:
        sys.exit("say equality or speed")
