"""Statistics of small samples: bootstrap intervals of a median, paired sign-flip tests, Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ganglion.engine.streams import stream_seed

RESAMPLES = 10_000
EXACT_PAIRS = 16  # up to here all 2^n sign patterns are counted
DRAWS = 100_000
LEVEL = 0.95
SIGNIFICANT = 0.05


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    return float(np.median(np.asarray(values, dtype=np.float64)))


def median_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The 95 % percentile-bootstrap interval of the median: quantiles of the medians of resamples with replacement."""
    numbers = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(stream_seed(seed, "bootstrap"))
    medians = np.median(numbers[generator.integers(len(numbers), size=(RESAMPLES, len(numbers)))], axis=1)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def sign_flip(differences: Sequence[float], seed: int = 0) -> float | None:
    """Two-sided p value of a paired permutation test: how often random signs give as large a mean difference.

    Exact up to 16 pairs, else 100,000 seeded draws with the observed signs counted as one of them. None without pairs.
    """
    numbers = np.asarray(differences, dtype=np.float64)
    if not len(numbers):
        return None
    # Equal sums that were added up in another order must count as equal.
    least = abs(float(numbers.sum())) - 1e-12 * float(np.abs(numbers).sum())
    if len(numbers) <= EXACT_PAIRS:
        sums = np.zeros(1)
        for number in numbers:
            sums = np.concatenate([sums + number, sums - number])
        return float((np.abs(sums) >= least).mean())
    generator = np.random.default_rng(stream_seed(seed, "sign-flip"))
    signs = 2.0 * generator.integers(2, size=(DRAWS, len(numbers))) - 1.0
    return float((1 + (np.abs(signs @ numbers) >= least).sum()) / (1 + DRAWS))


def smallest_p(pairs: int) -> float:
    """The smallest p value that a sign-flip test of so many pairs can give."""
    return min(1.0, 2.0 / 2**pairs) if pairs <= EXACT_PAIRS else 1.0 / (1 + DRAWS)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for their number by Holm's step-down rule; None stays None and counts as no comparison."""
    order = sorted((value, index) for index, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * value))
        corrected[index] = largest
    return corrected
