"""Judging generated vectors by the exact Wasserstein-1 distance from unseen rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import (
    DataError,
    Evaluation,
    EvaluationContext,
    Metric,
    Settings,
    hookimpl,
    setting,
    stream_seed,
)
from ganglion.strategies.metrics.judge import drawn_rows, own_rows

MOST_NUMBERS = 16


class TransportSettings(Settings):
    """Settings of the metric `transport-v1`."""

    count: int = setting(
        2048, "samples drawn, and rows in each of two real sets; fewer where the data have fewer", ge=1, le=8192
    )


class Transport(Metric):
    """Exact Wasserstein-1 distance between samples and as many test rows: the cheapest way to move one onto the other.

    `w1`: mean Euclidean distance under the optimal one-to-one assignment, for vectors of at most 16 numbers. `floor`:
    the same between those test rows and as many training rows, which is what a perfect generator scores about; the
    fewer rows, the higher. `excess`: w1 - floor, the part that is the generator's.
    """

    Settings = TransportSettings

    def applies(self, context: EvaluationContext) -> bool:
        if not context.strategy.generates() or context.spec.kind != "vector":
            return False
        splits = context.splits()
        return context.spec.shape[0] <= MOST_NUMBERS and (splits.test or splits.validation) is not None

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        if context.spec.kind != "vector" or context.spec.shape[0] > MOST_NUMBERS:
            raise DataError(
                f"metric transport-v1 is for vectors of at most {MOST_NUMBERS} numbers, "
                f"and these data are of kind {context.spec.kind} with shape {context.spec.shape}"
            )
        train, test = context.splits().train, context.unseen()
        count = min(self.settings.count, len(train), len(test))
        seeds = [stream_seed(context.seed, "transport-v1", part) for part in ("train", "test")]
        reference = own_rows(context, test, drawn_rows(count, len(test), seeds[1]))
        real = own_rows(context, train, drawn_rows(count, len(train), seeds[0]))
        distance = wasserstein(_finite(context.samples(count)), reference)
        floor = wasserstein(real, reference)
        values = {"w1": distance, "floor": floor, "excess": distance - floor, "samples": float(count)}
        return Evaluation("transport-v1", values)


def _finite(samples: Tensor) -> Tensor:
    broken = int((~samples.isfinite()).any(1).sum())
    if broken:
        raise DataError(f"metric transport-v1: {broken} of {len(samples)} samples are not finite numbers")
    return samples


def wasserstein(one: Tensor, other: Tensor) -> float:
    """Exact Wasserstein-1 distance of two equally large sets of points (count, size), with Euclidean cost."""
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # late: it takes a while to load

    cost = torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist").numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


@hookimpl
def register_metrics(register: Any) -> None:
    """transport-v1."""
    register("transport-v1", Transport)
