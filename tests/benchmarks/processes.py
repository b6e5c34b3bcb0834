"""Several processes against one: do they learn the same, and how much faster? Prints Markdown tables.

    python tests/benchmarks/processes.py equality [STRATEGY...]
    python tests/benchmarks/processes.py speed

Equality: every strategy's tiny job (tests/tiny.py), without dropout, by 1, 2 and 4 processes: 200 iterations in double
precision and 10 in single; the largest difference of a weight, and the largest as a share of the largest number of its
tensor (0.001 at least).
Speed: MNIST perceptrons with a batch of 256, one process of one thread against two, in short blocks in turn; `weak`
gives each process 256 rows. Median and quartiles of the blocks' efficiencies, through shared memory and over sockets.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import torch
from torch import distributed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tiny import TINY

from ganglion.engine import processes
from ganglion.engine.conformance.courses import Job, iterate
from ganglion.engine.conformance.sharing import differences, in_part, in_processes, learnt_by
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.processes import ALONE, Part

COUNTS = (2, 4)
COURSES = ((torch.float64, 200), (torch.float32, 10))
BLOCKS = 40
COUNTED = 6  # iterations of a block


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


def _job(rows: int) -> Job:
    keys = {"batchSize": rows, "penalty": "none", "execution": "eager"}
    return Job(find_subject("strategy", "NSGAN"), ["Generator", "Discriminator"], "MNIST", keys)


@contextmanager
def _alone() -> Iterator[None]:
    """The first of several processes carries out a job of its own."""
    part, processes._part = processes.this_process(), ALONE
    try:
        yield
    finally:
        processes._part = part


def times(rows: int, sockets: bool) -> dict[str, list[float]]:
    """Seconds per iteration of the MNIST perceptrons, block by block: by one process with 256 rows while the other one
    waits, and by both with `rows` rows together; over sockets also without anything that is computed meanwhile.
    """
    ways = ("one", "two", "nothing meanwhile") if sockets else ("one", "two")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def timed(part: Part) -> None:
            torch.set_num_threads(1)
            assert processes._memory is not None
            processes._memory.usable = not sockets
            with ExitStack() as stack:
                shared = stack.enter_context(_job(rows).session(part=part))
                overlaps, sessions = shared.strategy._overlaps, {way: shared for way in ways}
                if part.rank == 0:
                    with _alone():
                        sessions["one"] = stack.enter_context(_job(256).session())
                found: dict[str, list[float]] = {way: [] for way in ways}
                done = dict.fromkeys(("one", "two"), 0)
                for number in range(BLOCKS + 1):
                    for way in ways if number % 2 else reversed(ways):
                        distributed.barrier()
                        began, who = time.perf_counter(), "one" if way == "one" else "two"
                        shared.strategy._overlaps = overlaps and way == "two"
                        if who == "two" or part.rank == 0:
                            with _alone() if who == "one" else nullcontext():
                                iterate(sessions[way], done[who], done[who] + COUNTED)
                        done[who] += COUNTED
                        if number:  # the first warms up
                            found[way].append((time.perf_counter() - began) / COUNTED)
                if part.rank == 0:
                    (folder / "times").write_text(json.dumps(found))

        code, told = in_processes(2, partial(in_part, timed, folder))
        assert code == 0, told
        found: dict[str, list[float]] = json.loads((folder / "times").read_text())
        return found


def speed() -> None:
    """Efficiency at two processes, block by block in turn, so that the machine's mood is in neither."""
    for sockets in (False, True):
        for name, rows in (("strong", 256), ("weak", 512)):
            found = times(rows, sockets)
            for way in [way for way in found if way != "one"]:
                ratios = [one * rows / 512 / both for one, both in zip(found["one"], found[way], strict=True)]
                low, middle, high = quantiles(ratios)
                print(
                    f"{name}, {'sockets' if sockets else 'memory'}, {way}: {middle:.2f} ({low:.2f} to {high:.2f}), "
                    f"{1e3 * median(found['one']):.0f} ms by one, {1e3 * median(found[way]):.0f} ms by two",
                    flush=True,
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["speed"]:
        speed()
    elif sys.argv[1:2] == ["equality"]:
        equality(sys.argv[2:] or list(TINY))
    else:
        sys.exit("say equality or speed")
