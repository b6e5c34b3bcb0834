"""What every metric of time series says about generators that are wrong in a known way, as a Markdown table.

GANGLION_DATA=FOLDER python tests/benchmarks/series_controls.py [--data Stocks,Energy] [--repeats 3] [--iterations 3000]

Takes an hour or so on one processor with the defaults. Blocks of 100 rows are dealt out to four parts, so
that no value is in two of them and all are from the same years: training windows, windows that controls are made of
while a judge learns and others for its test (else it would know them by their values alone), and unseen windows.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.strategies.metrics.series.controls import CONTROLS, control
from ganglion.strategies.metrics.series.discriminative import held_out_accuracy
from ganglion.strategies.metrics.series.memorising import memorising
from ganglion.strategies.metrics.series.mmd import median_distance, permuted_mmd
from ganglion.strategies.metrics.series.series import distances
from ganglion.strategies.metrics.series.timegandiscriminative import published_score
from ganglion.strategies.metrics.series.timeganpredictive import published_error
from ganglion.strategies.metrics.series.tstr import changes, next_step_error
from ganglion.strategies.metrics.series.windows import standard_scale

STEPS, BLOCK = 24, 100
COLUMNS = (
    "TimeGAN discriminative", "TimeGAN predictive", "discriminative", "tstr ratio", "mmd2", "p",
    "autocorrelation", "crossCorrelation", "marginal", "ratio", "copies", "copiesWithin",
)  # fmt: skip


class RealParts(NamedTuple):
    """Four sets of windows (count, 24, features) that share no value, in 0..1 over the whole series."""

    train: Tensor
    other: Tensor
    fresh: Tensor
    unseen: Tensor

    def made(self, name: str) -> Tensor:
        """Windows of a control, as many as training windows."""
        return control(name, self.train, self.other, len(self.train), 0)

    def judged(self, name: str) -> Tensor:
        """The same, and behind them as many as unseen windows, made of windows that the former were not made of."""
        return torch.cat([self.made(name), control(name, self.train, self.fresh, len(self.unseen), 1)])


def stocks(folder: Path) -> RealParts:
    """Daily prices and volumes of one share, 2004 to 2019: six columns."""
    with (folder / "stocks" / "stock_data.csv").open(encoding="utf-8", newline="") as file:
        return parts_of([[float(value) for value in row] for row in list(csv.reader(file))[1:]])


def energy(folder: Path) -> RealParts:
    """Energy use and weather around one house, every ten minutes: 28 columns, the date left out."""
    with zipfile.ZipFile(folder / "energy" / "energydata_complete.zip") as archive:
        name = next(each for each in archive.namelist() if each.endswith(".csv") and not each.startswith("__"))
        rows = list(csv.reader(io.StringIO(archive.read(name).decode("utf-8"))))[1:]
    return parts_of([[float(value) for value in row[1:]] for row in rows])


SOURCES = {"Stocks": stocks, "Energy": energy}


def parts_of(rows: list[list[float]]) -> RealParts:
    """Windows at every step inside blocks of rows, the blocks dealt out in turn."""
    table = torch.tensor(rows, dtype=torch.float64)
    low, high = table.amin(0), table.amax(0)
    blocks = ((table - low) / (high - low)).float().split(BLOCK)
    cut = [block.unfold(0, STEPS, 1).transpose(1, 2) for block in blocks if len(block) >= STEPS]
    return RealParts(*(torch.cat(cut[place::4]) for place in range(4)))


def judged(real: RealParts, name: str, repeats: int, iterations: int) -> Iterator[float]:
    """The figures of one control, in the order of COLUMNS."""
    train, unseen = real.train, real.unseen
    made = real.made(name)
    yield _mean(published_score(train, made, seed, 2000) for seed in range(repeats))
    yield _mean(published_error(made, train, seed, 5000) for seed in range(repeats))
    found = [held_out_accuracy(train, unseen, real.judged(name), seed, 32, iterations) for seed in range(repeats)]
    yield _mean((each.real + each.made) / 2 - 0.5 for each in found)
    scale, change = standard_scale(train), changes(train)
    errors = [
        _mean(next_step_error(scale(windows), scale(unseen), change, seed) for seed in range(repeats))
        for windows in (made, train)
    ]
    yield errors[0] / errors[1]
    count = min(len(train), len(unseen), 2000)
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:count]
    found_mmd = permuted_mmd(made[:count], train[rows], median_distance(train[rows]), 200, 0)
    yield from found_mmd
    yield from distances(train, made).values()
    yield from memorising(train, unseen, made[:1000], 0).values()


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=",".join(SOURCES), help="names, separated by commas")
    parser.add_argument("--repeats", type=int, default=3, help="judges fitted per figure")
    parser.add_argument("--iterations", type=int, default=3000, help="updates of the judge of discriminative-v1")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.data.split(","):
        real = SOURCES[name](Path(os.environ["GANGLION_DATA"]))
        print(f"\n{name}: {len(real.train)} training windows, {tuple(real.train.shape[1:])}\n")
        print(f"| control | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
        for each in CONTROLS:
            figures = judged(real, each, arguments.repeats, arguments.iterations)
            print(f"| {each} | {' | '.join(f'{figure:.3g}' for figure in figures)} |", flush=True)


if __name__ == "__main__":
    main()
