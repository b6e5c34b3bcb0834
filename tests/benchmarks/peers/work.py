"""What all peers do: DIANNE's pair, batches of 16, against the same loop written by hand, in turn in one process."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

LOOPS = Path(__file__).resolve().parents[3] / "engine" / "bench" / "loops"
BATCH, NOISE, REAL, FAKE = 16, 10, 0.85, 0.15
WARM_UP = 50  # iterations before the clock starts
CRITERION = nn.BCEWithLogitsLoss()


def load(name: str) -> ModuleType:
    """A loop by its file: Ganglion need not be installed beside a peer."""
    spec = importlib.util.spec_from_file_location(f"loop_{name}", LOOPS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images() -> DataLoader[tuple[Tensor, ...]]:
    """Random images, as many as in MNIST; the time does not depend on what they show."""
    return DataLoader(TensorDataset(torch.rand(60_000, 784)), BATCH, shuffle=True, drop_last=True)


def players() -> tuple[nn.Module, nn.Module]:
    """A fresh generator and discriminator."""
    made: tuple[nn.Module, nn.Module] = load("dianne").networks()
    return made


def optimizer(network: nn.Module) -> torch.optim.Optimizer:
    """DIANNE's: gradient descent with momentum."""
    return torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)


def labels(value: float) -> Tensor:
    """One smoothed label per row."""
    return torch.full((BATCH, 1), value)


def plain(iterations: int) -> float:
    """Seconds per iteration of the careful loop with a DataLoader."""
    stream = load("batches").loaded(images().dataset.tensors[0], BATCH)  # type: ignore[attr-defined]
    loop = load("dianne").careful(*players(), stream, BATCH)
    loop(WARM_UP)
    began = time.perf_counter()
    loop(iterations)
    return (time.perf_counter() - began) / iterations


def compare(peers: Mapping[str, Callable[[int], float]]) -> None:
    """Time every form of a peer, and the plain loop, in turn; print their times over the loop's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    contenders = {"plain loop": plain, **peers}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.pairs):
        for name, seconds in contenders.items():
            times[name].append(seconds(arguments.iterations))
    for name, measured in times.items():
        ratios = sorted(one / other for one, other in zip(measured, times["plain loop"], strict=True))
        median, per = statistics.median(ratios), 1e6 * statistics.median(measured)
        print(f"{name}: {per:.0f} us per iteration, {median:.2f} times the loop ({ratios[0]:.2f} to {ratios[-1]:.2f})")


class Stopwatch:
    """Told of every iteration that is done: times those after the warm-up."""

    def __init__(self, iterations: int) -> None:
        self.last = iterations + WARM_UP
        self.done = 0
        self.began = self.ended = 0.0

    def tick(self) -> None:
        """One more iteration is done."""
        self.done += 1
        if self.done == WARM_UP:
            self.began = time.perf_counter()
        if self.done == self.last:
            self.ended = time.perf_counter()

    def per_iteration(self) -> float:
        """Seconds of one iteration."""
        assert self.done == self.last, f"{self.done} iterations were done, not {self.last}"
        return (self.ended - self.began) / (self.last - WARM_UP)
