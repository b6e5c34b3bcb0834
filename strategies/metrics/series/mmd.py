"""Judging windows by the maximum mean discrepancy, with the chance of one as large between equal distributions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting, stream_seed
from ganglion.strategies.metrics.series.windows import has_unseen, made_windows, real_windows, unit_scale

NAME = "mmd-v1"


class MmdSettings(Settings):
    """Settings of the metric `mmd-v1`."""

    count: int = setting(2000, "samples, training windows and test windows at most, as many of each", ge=10, le=4000)
    permutations: int = setting(200, "random relabellings behind the p-value", ge=1)


class Mmd(Metric):
    """Unbiased squared maximum mean discrepancy (MMD^2) between samples and real windows, and its p-value.

    Gaussian kernel exp(-d^2 / (2 s^2)) on the Euclidean distance d of whole windows, features mapped onto 0..1 by the
    training windows; s is the median distance between training windows (Gretton et al. 2012,
    https://jmlr.org/papers/v13/gretton12a.html, equation 3). `mmd2`: samples against training windows (around 0, and
    below 0 half the time, for a perfect generator); `pValue`: share of random relabellings of the two sets with at
    least as large a value (the smallest possible: 1 / 201); `mmd2Test`: samples against unseen windows; `floor`: unseen
    against training windows, which is drift in the data, and no generator's fault. mmd2 far below mmd2Test and floor:
    samples nearer to what was learnt than to what is true.

    Deviations: RGAN (https://arxiv.org/abs/1706.02633) optimises two bandwidths on a fifth of the data; one median
    bandwidth of real windows needs none and cannot follow the samples.
    """

    Settings = MmdSettings

    def applies(self, context: EvaluationContext) -> bool:
        return has_unseen(context)

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        part, unseen = context.splits().train, context.unseen()
        count = min(self.settings.count, len(part), len(unseen))
        train = real_windows(context, part, NAME, "training windows", count)
        test = real_windows(context, unseen, NAME, "test windows", count)
        scale = unit_scale(train, NAME)
        real, other, made = scale(train), scale(test), scale(made_windows(context, NAME, len(train)))
        bandwidth = median_distance(real)
        found = permuted_mmd(
            made, real, bandwidth, self.settings.permutations, stream_seed(context.seed, NAME, "permutations")
        )
        values = {
            "mmd2": found.squared,
            "pValue": found.p_value,
            "mmd2Test": squared_mmd(made, other, bandwidth),
            "floor": squared_mmd(other, real, bandwidth),
            "bandwidth": bandwidth,
            "samples": float(len(made)),
        }
        return Evaluation(NAME, values)


class Discrepancy(NamedTuple):
    """An unbiased MMD^2 and the share of relabellings that reach it."""

    squared: float
    p_value: float


def median_distance(windows: Tensor) -> float:
    """The median Euclidean distance between different windows (count, ...) as vectors; never 0."""
    distances = torch.pdist(windows.flatten(1).double())
    median = float(distances.median())
    return median if median > 0 else float(distances.mean()) or 1.0


def squared_mmd(one: Tensor, other: Tensor, bandwidth: float) -> float:
    """Unbiased MMD^2 of two sets of windows (count, ...), counts of two or more."""
    kernel = _kernel(one, other, bandwidth)
    return float(_discrepancies(kernel, _first(len(one), len(kernel))))


def permuted_mmd(one: Tensor, other: Tensor, bandwidth: float, permutations: int, seed: int) -> Discrepancy:
    """Unbiased MMD^2 of two sets of windows (count, ...), and its p-value among relabellings of one kernel matrix."""
    kernel, first = _kernel(one, other, bandwidth), _first(len(one), len(one) + len(other))
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(kernel), generator=generator) for _ in range(permutations)]
    found = _discrepancies(kernel, torch.cat([first, *(first[order] for order in orders)], dim=1))
    squared, others = float(found[0]), found[1:]
    # Relabellings that give the sets back differ by rounding only, and count as reaching it.
    reached = int((others >= squared - 1e-12).sum())
    return Discrepancy(squared, (1 + reached) / (1 + permutations))


def _kernel(one: Tensor, other: Tensor, bandwidth: float) -> Tensor:
    """The kernel between all windows of both sets, float64, with 0 on the diagonal: no window is its own pair."""
    both = torch.cat([one, other]).flatten(1).double()
    squared = torch.cdist(both, both).square_()
    return squared.mul_(-0.5 / bandwidth**2).exp_().fill_diagonal_(0.0)


def _first(count: int, total: int) -> Tensor:
    """A column (total, 1) that is 1 for the first set."""
    return (torch.arange(total) < count).double()[:, None]


def _discrepancies(kernel: Tensor, first: Tensor) -> Tensor:
    """Unbiased MMD^2 (labellings,) for columns of `first` (total, labellings), each 1 for the windows of one set."""
    count, total = float(first[:, 0].sum()), len(kernel)
    rest = total - count
    within = (first * (kernel @ first)).sum(0)
    towards = first.T @ kernel.sum(1)  # from the first set to all
    between = towards - within
    among_rest = kernel.sum() - 2 * towards + within
    return within / (count * (count - 1)) + among_rest / (rest * (rest - 1)) - 2 * between / (count * rest)


@hookimpl
def register_metrics(register: Any) -> None:
    """mmd-v1."""
    register(NAME, Mmd)
