"""Judging samples by distances alone: how far apart they are, and how near the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting


class SpreadSettings(Settings):
    """Settings of the metric `spread-v1`."""

    count: int = setting(1000, "samples drawn, and real rows in each of two halves", ge=2)


class Spread(Metric):
    """How varied samples are and how near the data, in Euclidean distance of raw values.

    `spread`: mean pairwise distance of samples over that of real rows (1: as varied; near 0: all alike).
    `nearestReal`: mean distance from a sample to the nearest of the real rows, over the same between real rows.
    """

    Settings = SpreadSettings

    def applies(self, context: EvaluationContext) -> bool:
        return context.strategy.generates() and context.spec.kind != "vector"

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        train = context.splits().train
        count = min(self.settings.count, len(train) // 2)
        generator = torch.Generator().manual_seed(context.seed)
        rows = torch.randperm(len(train), generator=generator)[: 2 * count]
        real = context.own_scale(train.rows(rows).input.float().cpu()).flatten(1)
        samples = context.samples(count).flatten(1)
        reference, held_out = real[:count], real[count:]
        values = {
            "spread": float(torch.pdist(samples).mean() / torch.pdist(reference).mean()),
            "nearestReal": float(_nearest(samples, reference) / _nearest(held_out, reference)),
        }
        return Evaluation("spread-v1", {**values, "samples": float(count)})


def _nearest(rows: Tensor, reference: Tensor) -> Tensor:
    return torch.cdist(rows, reference).min(1).values.mean()


@hookimpl
def register_metrics(register: Any) -> None:
    """spread-v1."""
    register("spread-v1", Spread)
