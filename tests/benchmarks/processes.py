"""Several processes against one: do they learn the same, and how much faster? Prints Markdown tables.

    python tests/benchmarks/processes.py equality [STRATEGY...]
    python tests/benchmarks/processes.py speed

Equality: every strategy's tiny job (tests/tiny.py), without dropout, by 1, 2 and 4 processes: 200 iterations in double
precision and 10 in single; the largest difference of a weight, and the largest as a share of the largest number of its
tensor (0.001 at least).
Speed: MNIST perceptrons with a batch of 256, one process of one thread against two; `weak` gives each process 256 rows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tiny import TINY

from ganglion.engine.conformance.courses import Job, iterate
from ganglion.engine.conformance.sharing import differences, in_part, in_processes, learnt_by
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.processes import Part

COUNTS = (2, 4)
COURSES = ((torch.float64, 200), (torch.float32, 10))
ROUNDS = 5
COUNTED = 150  # iterations that are timed


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
    failed, told, one = learnt_by(1, job, dtype, iterations)
    for count in COUNTS:
        if not failed:
            failed, told, other = learnt_by(count, job, dtype, iterations)
        if failed:
            yield told
            continue
        found = list(differences(one, other))
        yield f"{max(worst for _, worst, _ in found):.0e} ({max(worst / size for _, worst, size in found):.0e})"


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

        code, told = in_processes(count, partial(in_part, timed, folder))
        assert code == 0, told
        return float((folder / "rate").read_text())


def speed() -> None:
    """Efficiency at two processes, in alternating rounds; `fastest` is that of each one's best round."""
    alone, strong, weak = [], [], []
    for _ in range(ROUNDS):
        alone.append(rate(256, 1))
        strong.append(rate(256, 2) / 2)
        weak.append(rate(512, 2))
        one, shared, both = alone[-1], 2 * strong[-1], weak[-1]
        print(f"1 process {one:.1f} it/s, 2 share 256 rows {shared:.1f}, 2 with 256 each {both:.1f}", flush=True)
    for name, rates in (("strong", strong), ("weak", weak)):
        ratios = [two / one for two, one in zip(rates, alone, strict=True)]
        print(
            f"{name} scaling: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"fastest {max(rates) / max(alone):.2f}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["speed"]:
        speed()
    elif sys.argv[1:2] == ["equality"]:
        equality(sys.argv[2:] or list(TINY))
    else:
        sys.exit("say equality or speed")
