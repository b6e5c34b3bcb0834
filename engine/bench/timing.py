"""Times that can be compared on a busy machine: contenders in turn, ratios within a round, medians of those."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

Run = Callable[[int], object]
WARM_UP = 3  # iterations before anything is measured


class Spread(NamedTuple):
    """The median of some measurements, the smallest and the largest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and range."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """Their times over ours, round by round: above 1 where ours is faster."""
    return spread([one / other for one, other in zip(theirs, ours, strict=True)])


def seconds_of(run: Run, iterations: int, device: str = "cpu") -> float:
    """How long so many iterations take, to the end of whatever they started on the device."""
    wait(device)
    began = time.perf_counter()
    run(iterations)
    wait(device)
    return time.perf_counter() - began


def wait(device: str) -> None:
    """Until the device has nothing left to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def calibrated(run: Run, seconds: float, device: str = "cpu") -> int:
    """How many iterations take about so many seconds; warms up on the way."""
    run(WARM_UP)
    iterations = 1
    while (taken := seconds_of(run, iterations, device)) < seconds / 4:
        iterations = max(iterations + 1, min(10 * iterations, int(iterations * seconds / 2 / max(taken, 1e-9))))
    return max(1, round(iterations * seconds / taken))


def in_turn(contenders: Mapping[str, Run], iterations: int, pairs: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds per iteration of every contender in every round; every second round goes through them backwards."""
    for run in contenders.values():
        run(min(WARM_UP, iterations))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(pairs):
        gc.collect()  # so that it is nobody's turn in which it happens
        order = list(contenders.items())
        for name, run in order if number % 2 == 0 else reversed(order):
            times[name].append(seconds_of(run, iterations, device) / iterations)
    return times
