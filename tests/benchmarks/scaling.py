"""How the time of an iteration grows: with the batch, the data (in memory, and left in their file) and the width.

python tests/benchmarks/scaling.py [--seconds 1] [--rounds 5] [--threads 1] [--device cpu] [--out scaling.png]
    [--batches 16,...] [--rows 1000,...] [--widths 32,...] [--columns 16] [--folder FOLDER]

A generator and a discriminator, perceptrons of three hidden layers, play NSGAN on rows of normal numbers in an .npy
file; one thing changes at a time, the others stay at the values in BASE. Prints one table in Markdown and draws one
page. The largest file has 640 MB and is written below FOLDER (a temporary one), which also needs room for it.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ganglion.engine.bench.driving import PLAIN, engine, variants
from ganglion.engine.bench.timing import Spread, calibrated, seconds_of, spread
from ganglion.engine.tables import BLUE, ORANGE

LAYERS = 3
AT_ONCE = 1 << 22  # values written at once
MEMORIES = ("resident", "file")
COLOURS = {"resident": BLUE, "file": ORANGE}
LABELS = {"resident": "rows in memory", "file": "rows in the file"}


class Point(NamedTuple):
    """One job: how large everything is, and where its rows are."""

    batch: int = 64
    rows: int = 100_000
    width: int = 128
    memory: str = "resident"


BASE = Point()


class Measured(NamedTuple):
    """What one job costs: seconds per iteration, seconds until it is ready; and MiB that the process then holds."""

    point: Point
    iteration: Spread
    ready: float
    mebibytes: float


class Sweep(NamedTuple):
    """Jobs that differ in one thing, or in where their rows are as well."""

    name: str
    title: str
    points: Sequence[Point]


def sweeps(batches: Sequence[int], rows: Sequence[int], widths: Sequence[int]) -> list[Sweep]:
    """The three pages' worth of jobs; data of fewer rows than a batch are made larger."""
    most = max((*batches, BASE.rows))
    return [
        Sweep("batch", "rows of a batch", [BASE._replace(batch=each, rows=most) for each in batches]),
        Sweep(
            "rows",
            "rows of the data",
            [BASE._replace(rows=max(each, BASE.batch), memory=memory) for memory in MEMORIES for each in rows],
        ),
        Sweep("width", "units of a hidden layer", [BASE._replace(width=each) for each in widths]),
    ]


# --- the jobs -----------------------------------------------------------------------------------------------------


class Workplace(NamedTuple):
    """Where the files of the jobs are, and how jobs are carried out."""

    folder: Path
    columns: int
    threads: int
    device: str

    def data(self, rows: int) -> Path:
        """A file of normal numbers, written block after block."""
        path = self.folder / f"rows-{rows}-{self.columns}.npy"
        if path.exists():
            return path
        generator, step = np.random.default_rng(0), max(1, AT_ONCE // self.columns)
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, self.columns)}
        with path.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for start in range(0, rows, step):
                size = (min(step, rows - start), self.columns)
                stream.write(generator.standard_normal(size, dtype=np.float32).tobytes())
        return path

    def task(self, width: int) -> str:
        """A job file with networks of that width, by the name under which it is driven."""
        networks = [self._network(role, width) for role in ("generator", "discriminator")]
        path = self.folder / f"width-{width}.yaml"
        job = {"format": 1, "networks": ",".join(networks), "dataset": "Table", "strategy": "NSGAN"}
        path.write_text(yaml.safe_dump({**job, "settings": {"generatorDim": 16}}))
        return str(path.with_suffix(""))

    def _network(self, role: str, width: int) -> str:
        layers: list[object] = [layer for _ in range(LAYERS) for layer in ({"Linear": width}, "ReLU")]
        layers += [{"Linear": "${output.size}"}]
        path = self.folder / f"{role}-{width}.yaml"
        doc = f"A perceptron of {LAYERS} hidden layers of {width}."
        path.write_text(yaml.safe_dump({"name": path.stem, "doc": doc, "roles": [role], "layers": layers}))
        return str(path)


def measure(point: Point, place: Workplace, seconds: float, rounds: int) -> Measured:
    """Drive one job for about so many seconds, so many times."""
    path = place.data(point.rows)
    keys = {"path": str(path), "memory": point.memory, "batchSize": point.batch, "testShare": 0}
    gc.collect()
    began = time.perf_counter()
    with engine(place.task(point.width), {**variants()[PLAIN], **keys}, place.threads, place.device) as own:
        own.run(1)
        ready = time.perf_counter() - began
        iterations = calibrated(own.run, seconds, place.device)
        times = [seconds_of(own.run, iterations, place.device) / iterations for _ in range(rounds)]
        return Measured(point, spread(times), ready, resident())


def resident() -> float:
    """MiB that this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- what is shown ------------------------------------------------------------------------------------------------


def table(found: Sequence[tuple[Sweep, Sequence[Measured]]]) -> Iterator[str]:
    """The lines of one Markdown table."""
    heads = ["what grows", "to", "rows are", "ms per iteration (lowest..highest)", "rows per second", "ready in"]
    yield f"| {' | '.join([*heads, 'process holds'])} |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: |"
    for sweep, measured in found:
        for each in measured:
            size = getattr(each.point, sweep.name)
            low, middle, high = (
                1e3 * value for value in (each.iteration.low, each.iteration.median, each.iteration.high)
            )
            yield (
                f"| {sweep.title} | {size:,} | {LABELS[each.point.memory]} | {middle:.3f} ({low:.3f}..{high:.3f}) "
                f"| {each.point.batch / each.iteration.median:,.0f} | {each.ready:.2f} s | {each.mebibytes:,.0f} MiB |"
            )


def draw(found: Sequence[tuple[Sweep, Sequence[Measured]]], path: Path) -> None:
    """One page: a panel for each of the things that grow."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (sweep, measured) in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        _panel(axes, sweep, measured)
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, sweep: Sweep, measured: Sequence[Measured]) -> None:
    for memory in MEMORIES:
        shown = [each for each in measured if each.point.memory == memory]
        if not shown:
            continue
        sizes = [getattr(each.point, sweep.name) for each in shown]
        low, middle, high = (
            np.array([1e3 * getattr(each.iteration, name) for each in shown]) for name in ("low", "median", "high")
        )
        axes.plot(sizes, middle, marker="o", color=COLOURS[memory], label=LABELS[memory])
        axes.fill_between(sizes, low, high, color=COLOURS[memory], alpha=0.25, linewidth=0)
    axes.set(xscale="log", xlabel=sweep.title, ylabel="ms per iteration")
    if sweep.name == "rows":  # what should not grow
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    sizes = sorted({getattr(each.point, sweep.name) for each in measured})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(visible=True, which="major", alpha=0.3)
    if len({each.point.memory for each in measured}) > 1:
        axes.legend(frameon=False)


# --- the command --------------------------------------------------------------------------------------------------


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=_numbers, default=[16, 64, 256, 1024, 4096])
    parser.add_argument("--rows", type=_numbers, default=[1_000, 10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--widths", type=_numbers, default=[32, 64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("scaling.png"))
    return parser.parse_args()


def main() -> None:
    """Measure, print, draw."""
    given = _arguments()
    found = []
    with tempfile.TemporaryDirectory(prefix="ganglion-scaling-", dir=given.folder) as folder:
        place = Workplace(Path(folder), given.columns, given.threads, given.device)
        for sweep in sweeps(given.batches, given.rows, given.widths):
            found.append((sweep, [measure(point, place, given.seconds, given.rounds) for point in sweep.points]))
    print("\n".join(table(found)))
    draw(found, given.out)


if __name__ == "__main__":
    main()
