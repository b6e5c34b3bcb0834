"""Shards against data in memory: what streaming costs, how much memory it takes, and what is read. Prints Markdown.

    GANGLION_DATA=FOLDER python tests/benchmarks/shards.py speed
    GANGLION_DATA=FOLDER python tests/benchmarks/shards.py memory
    python tests/benchmarks/shards.py large

speed: iterations per second of the job mnist-perceptron (eager, one thread), MNIST in memory and as 24 shards of each
format in alternating stretches, by the clock and by the processor time of all threads.
memory: one epoch of batches of 64 alone, each in a process of its own: the growth of its resident memory over what it
had before the data were loaded, the bytes that it asked the system for, and the processor time.
large: the same for 1 GB of NPY files.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ganglion.datasets.shards import Shards
from ganglion.engine.api import DataContext
from ganglion.engine.assembly import assemble
from ganglion.engine.conformance.courses import iterate
from ganglion.engine.folders import data_context
from ganglion.engine.job import read_job, request
from ganglion.engine.registry import Registry
from ganglion.engine.samplers import BatchSampler, Stream
from ganglion.engine.session import Session

SHARDS = 24
ROUNDS = 7
STRETCH = 60  # iterations
JOB = Path(__file__).resolve().parents[2] / "strategies/jobs/mnist-perceptron.yaml"
FORMATS: dict[str, dict[str, Any]] = {
    "IDX": {"path": "images-*.idx", "labels": "labels-*.idx"},
    "Parquet": {"path": "part-*.parquet", "columns": "x", "shape": "1,28,28", "scale": "bytes"},
    "NPZ": {"path": "part-*.npz", "columns": "x"},
}
WINDOWS = ("4MB", "16MB", "256MB")


def write_mnist(folder: Path) -> None:
    """The 60,000 training digits in 24 shards of each format."""
    import pyarrow
    import pyarrow.parquet

    source = Path(os.environ["GANGLION_DATA"]) / "mnist"
    read = {
        name: gzip.decompress((source / f"train-{name}-ubyte.gz").read_bytes())
        for name in ("images-idx3", "labels-idx1")
    }
    images = np.frombuffer(read["images-idx3"], np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(read["labels-idx1"], np.uint8, offset=8)
    for number in range(SHARDS):
        rows = slice(number * len(images) // SHARDS, (number + 1) * len(images) // SHARDS)
        some, own = images[rows], labels[rows]
        head = b"".join(size.to_bytes(4, "big") for size in some.shape)
        (folder / f"images-{number:02d}.idx").write_bytes(bytes((0, 0, 8, 3)) + head + some.tobytes())
        (folder / f"labels-{number:02d}.idx").write_bytes(bytes((0, 0, 8, 1)) + head[:4] + own.tobytes())
        np.savez_compressed(folder / f"part-{number:02d}.npz", x=some[:, None], y=own)
        pixels = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(some.reshape(-1)), 784)
        table = pyarrow.table({"x": pixels, "y": own})
        pyarrow.parquet.write_table(table, folder / f"part-{number:02d}.parquet", row_group_size=500)


def placed(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the folder in front of the names of files."""
    return {key: f"{folder}/{value}" if key in ("path", "labels") else value for key, value in settings.items()}


def session_of(dataset: str, keys: dict[str, Any]) -> Session:
    """The job mnist-perceptron on these data."""
    job = read_job(JOB)
    given = {**keys, "threads": 1, "execution": "eager"}
    return assemble(Registry().load(), request(None, dataset, given, job), data_context(print))


def speed() -> None:
    """Pairs of stretches, one after the other, so that other work on the machine meets both."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_mnist(folder)
        sessions = {"MNIST": session_of("MNIST", {})}
        for format, settings in FORMATS.items():
            sessions[format] = session_of("Shards", {**placed(folder, settings), "testShare": 0, "window": "16MB"})
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
        for each in sessions.values():
            stack.callback(each.sampler.close)
            iterate(each, 0, 10)
        for round in range(ROUNDS):
            for data, session in sessions.items():
                clock, processor = time.perf_counter(), time.process_time()
                iterate(session, 10 + round * STRETCH, 10 + (round + 1) * STRETCH)
                times[data].append((time.perf_counter() - clock, time.process_time() - processor))
    print(
        "| data | iterations a second | of processor time | share of MNIST in memory, clock | processor |\n"
        + "| --- " * 5
        + "|"
    )
    for name, pairs in times.items():
        rates = [median(STRETCH / pair[place] for pair in pairs) for place in (0, 1)]
        ratios = [
            sorted(mine[place] / own[place] for own, mine in zip(pairs, times["MNIST"], strict=True))
            for place in (0, 1)
        ]
        cells = [f"{median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})" for each in ratios]
        print(f"| {name} | {rates[0]:.1f} | {rates[1]:.1f} | " + " | ".join(cells) + " |")


def epoch(settings: dict[str, Any], batch_size: int) -> None:
    """One epoch of batches, in this process; prints its figures."""
    torch.set_num_threads(1)
    base = resident()
    given = {key: (value,) if key in ("path", "labels", "columns") else value for key, value in settings.items()}
    given["shape"] = tuple(map(int, given["shape"].split(","))) if "shape" in given else None
    rows = (
        Shards(Shards.Settings(test_share=0, **given), DataContext([], Path("none"), 0, lambda text: None)).load().train
    )
    sampler = BatchSampler(rows, Stream(None, rows), batch_size, 1, torch.device("cpu"))
    read, began = asked_for(), time.process_time()
    for _ in range(len(rows) // batch_size):
        sampler.next_batch()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    grown = int(peak.split()[1]) / 1024 - base
    spent = time.process_time() - began
    figures = (f"{grown:.0f} MB", f"{(asked_for() - read) / 1e6:.0f} MB", f"{spent:.1f} s")
    assert rows.held is not None
    print(*figures, f"{1e6 * spent / (len(rows) // batch_size):.0f} us", sep=" | ")


def resident() -> float:
    """MiB in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def asked_for() -> int:
    """Bytes that this process has read, from a disk or from the system's cache of it."""
    return int(Path("/proc/self/io").read_text().split()[1])


def table(title: str, rows: list[tuple[str, dict[str, Any], int]]) -> None:
    """A line per epoch, each in a process of its own."""
    print(f"| {title} | memory grows by | read in an epoch | processor time | of a batch |\n" + "| --- " * 5 + "|")
    for name, settings, batch_size in rows:
        words = [
            sys.executable,
            __file__,
            "epoch",
            str(batch_size),
            *(f"{key}={value}" for key, value in settings.items()),
        ]
        print(
            f"| {name} | {subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()} |",
            flush=True,
        )


def memory() -> None:
    """Windows of several sizes, for each format."""
    with TemporaryDirectory() as name:
        write_mnist(Path(name))
        for format in FORMATS:
            total = sum(path.stat().st_size for path in Path(name).glob(FORMATS[format]["path"]))
            print(f"{format}: {total / 1e6:.0f} MB of files")
        table(
            "data, window",
            [
                (f"{format}, {window}", {**placed(Path(name), settings), "window": window}, 64)
                for format, settings in FORMATS.items()
                for window in WINDOWS
            ],
        )


def large() -> None:
    """1,024,000 rows of 256 numbers in ten files."""
    with TemporaryDirectory() as name:
        for number in range(10):
            rows = np.random.default_rng(number).random((102400, 256), dtype=np.float32)
            np.save(Path(name) / f"part-{number}.npy", rows)
        keys = {"path": f"{name}/part-*.npy"}
        windows = ("16MB", "64MB", "256MB")
        table("window", [(window, {**keys, "window": window}, 256) for window in windows])


if __name__ == "__main__":
    if sys.argv[1:2] == ["epoch"]:
        epoch(dict(word.split("=", 1) for word in sys.argv[3:]), int(sys.argv[2]))  # type: ignore[arg-type]
    elif sys.argv[1:2] in (["speed"], ["memory"], ["large"]):
        {"speed": speed, "memory": memory, "large": large}[sys.argv[1]]()
    else:
        sys.exit("say speed, memory or large")
