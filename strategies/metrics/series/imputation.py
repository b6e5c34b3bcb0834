"""How well missing values are filled in, beside plain ways to do so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import (
    DataError,
    Evaluation,
    EvaluationContext,
    Metric,
    RandomStream,
    Settings,
    hookimpl,
    setting,
    stream_seed,
)
from ganglion.strategies.metrics.judge import drawn_rows
from ganglion.strategies.series.imputationgan import OBSERVED, ImputationGAN
from ganglion.strategies.series.windows import example_batch

METRIC = "imputation-v1"
PIECE = 512
FITTED = 4096  # training windows behind the mean


class ImputationMetricSettings(Settings):
    """Settings of imputation-v1."""

    count: int = setting(2000, "unseen windows that are filled in", ge=1)


class Imputation(Metric):
    """Mean absolute error of values that were taken away from unseen windows, in the data's own scale.

    What is taken away is drawn as in learning. Beside it: a straight line between the known neighbours, the last known
    value, and the training windows' mean of each feature.
    """

    Settings = ImputationMetricSettings

    def applies(self, context: EvaluationContext) -> bool:
        splits = context.splits() if isinstance(context.strategy, ImputationGAN) else None
        return splits is not None and any(part is not None for part in splits[1:])

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        strategy = context.strategy
        if not isinstance(strategy, ImputationGAN):
            raise DataError(f"metric {METRIC}: strategy {type(strategy).__name__} fills nothing in")
        unseen = context.unseen()
        rows = drawn_rows(min(self.settings.count, len(unseen)), len(unseen), stream_seed(context.seed, METRIC))
        stream = RandomStream(context.seed, METRIC, context.device)
        sums: dict[str, float] = {}
        counted = 0.0
        mean = _mean(context)
        for piece in rows.split(PIECE):
            batch = unseen.rows(piece).map(lambda tensor: tensor.to(context.device))
            holes = strategy.holes(len(batch), stream)
            missing = strategy.missing_of(holes, batch)
            values = missing.shape[2]
            windows = batch.input[..., :values]
            with torch.no_grad():
                made = strategy.completed(batch.input, missing)[..., :values]
            judged = strategy.judged_values(batch, holes)
            plain = mean[:values].to(windows).expand_as(windows)
            blank = missing.amin(1, keepdim=True) > 0  # nothing is known of a feature in its window
            ways = {
                "imputation": made,
                "linear": torch.where(blank, plain, between_known(windows, missing)),
                "lastKnown": torch.where(blank, plain, last_known(windows, missing)),
                "mean": plain,
            }
            real = context.own_scale(windows.cpu())
            for name, filled in ways.items():
                error = (context.own_scale(filled.cpu()) - real).abs() * judged.cpu()
                sums[name] = sums.get(name, 0.0) + float(error.sum())
            counted += float(judged.sum())
        if not counted:
            raise DataError(f"metric {METRIC}: nothing that was taken away is known")
        return Evaluation(METRIC, {name: total / counted for name, total in sums.items()})


def between_known(windows: Tensor, missing: Tensor) -> Tensor:
    """Windows (batch, steps, values) with straight lines between known neighbours, and the nearest one at the ends."""
    before, after = _neighbour(missing, False), _neighbour(missing, True)
    steps = torch.arange(windows.shape[1], device=windows.device).view(1, -1, 1).expand_as(before)
    first, last = torch.where(before < 0, after, before), torch.where(after < 0, before, after)
    low, high = windows.gather(1, first.clamp(min=0)), windows.gather(1, last.clamp(min=0))
    share = (steps - first).float() / (last - first).clamp(min=1)
    return low + (high - low) * share.clamp(0, 1)


def last_known(windows: Tensor, missing: Tensor) -> Tensor:
    """Windows with the last known value, or the first known one where there is none before."""
    before, after = _neighbour(missing, False), _neighbour(missing, True)
    return windows.gather(1, torch.where(before < 0, after, before).clamp(min=0))


def _neighbour(missing: Tensor, later: bool) -> Tensor:
    """The nearest known step at or before (at or after) each step, -1 where there is none."""
    steps = torch.arange(missing.shape[1], device=missing.device).view(1, -1, 1).expand(missing.shape)
    if not later:
        return torch.where(missing > 0, -1, steps).cummax(1).values
    end = missing.shape[1]
    found = torch.where(missing > 0, end, steps).flip(1).cummin(1).values.flip(1)
    return torch.where(found == end, -1, found)


def _mean(context: EvaluationContext) -> Tensor:
    """The mean (features,) of what is known of training windows."""
    batch = example_batch(context.splits().train, FITTED)
    known = batch.fields.get(OBSERVED)
    counted = torch.ones_like(batch.input) if known is None else known.to(batch.input)
    return (batch.input * counted).sum((0, 1)) / counted.sum((0, 1)).clamp(min=1.0)


@hookimpl
def register_metrics(register: Any) -> None:
    """imputation-v1."""
    register(METRIC, Imputation)
