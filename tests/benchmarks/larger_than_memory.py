"""Rows that stay in their file, 20 GB of them, against a few that lie in memory: speed and peak memory of `learn`.

python tests/benchmarks/larger_than_memory.py [--gigabytes 20] [--columns 200] [--iterations 3000] [--rounds 3]
    [--threads 1] [--folder FOLDER]

Two perceptrons play NSGAN on rows of an .npy file in batches of 64, drawn in a random order. The large file is sparse:
every row is zero, and takes as long to be found and copied as any other that the system has at hand; what a disk takes
to bring it is left out. `learn` runs as a whole process, in turn with the same on 50,000 rows in memory; its
speed is that after the first fifth. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ganglion.engine.bench.timing import Spread, ratios, spread

FEW = 50_000
MEMORIES = ("resident", "file")


class Learnt(NamedTuple):
    """Iterations per second, and the most memory that the process had, in MiB."""

    rate: float
    peak: float


def sparse(path: Path, rows: int, columns: int) -> Path:
    """A file of zeros that takes no room on the disk."""
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + 4 * rows * columns)
    return path


def learn(data: Path, memory: str, iterations: int, threads: int) -> Learnt:
    """One process of `learn`. Raises RuntimeError where it fails."""
    with tempfile.TemporaryDirectory(prefix="ganglion-large-") as folder:
        words = [
            "ganglion.engine", "learn", "--runs", folder, "PerceptronGenerator,PerceptronDiscriminator", "Table",
            f"path={data}", f"memory={memory}",
            "strategy=NSGAN", "batchSize=64", f"iterations={iterations}", f"threads={threads}",
            "execution=eager", "tag=large", "sampleInterval=0", "scale=none",
        ]  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(told.decode("utf-8", "replace"))
        lines = (Path(folder) / "large" / "trace.jsonl").read_text(encoding="utf-8").splitlines()
        points = [point for point in map(json.loads, lines) if "seconds" in point]
        first, last = points[len(points) // 5], points[-1]
        rate = (last["iteration"] - first["iteration"]) / (last["seconds"] - first["seconds"])
        return Learnt(rate, usage.ru_maxrss / 1024)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganglion-large-", dir=given.folder) as name:
        folder = Path(name)
        counts = {"resident": FEW, "file": round(given.gigabytes * 1e9 / 4 / given.columns)}
        files = {memory: sparse(folder / f"{memory}.npy", counts[memory], given.columns) for memory in MEMORIES}
        found: dict[str, list[Learnt]] = {memory: [] for memory in MEMORIES}
        for number in range(given.rounds):
            for memory in MEMORIES if number % 2 == 0 else reversed(MEMORIES):
                found[memory].append(learn(files[memory], memory, given.iterations, given.threads))
    print("| rows | where | it/s | peak memory |\n| ---: | --- | ---: | ---: |")
    for memory, runs in found.items():
        rate, peak = spread([run.rate for run in runs]), max(run.peak for run in runs)
        print(f"| {counts[memory]:,} | {memory} | {_shown(rate, 0)} | {peak:,.0f} MiB |")
    rates = {memory: [run.rate for run in runs] for memory, runs in found.items()}
    print(f"\nSpeed from the file over that from memory: {_shown(ratios(rates['file'], rates['resident']), 2)}")


def _shown(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


if __name__ == "__main__":
    main()
