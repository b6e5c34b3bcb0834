"""Judging whether samples are copies of the windows that a generator learnt from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting, stream_seed
from ganglion.strategies.metrics.judge import drawn_rows
from ganglion.strategies.metrics.series.windows import FEWEST, has_unseen, made_windows, real_windows, unit_scale

NAME = "memorising-v1"
BLOCK = 5000  # windows compared at once
LOOKUPS = 2_000_000_000  # steps looked at to find windows that share none
NEAR = 0.01  # a sample nearer to a training window than this share of real ones is a copy


class MemorisingSettings(Settings):
    """Settings of the metric `memorising-v1`."""

    count: int = setting(1000, "samples, and real windows that they are compared with", ge=10)


class Memorising(Metric):
    """Whether samples lie nearer to the training windows than real windows do.

    Euclidean distances of whole windows, features mapped onto 0..1 by the training windows. `ratio`: median over
    samples of the distance to the nearest training window over that to the nearest unseen window, from as many of both
    (1: no memorising; 0: copies); it falls where the data drift, too, since samples then are like the training part.
    `copies`: share of samples nearer to a training window, of all there are, than 1 % of the unseen windows are (0.01
    without memorising). `copiesWithin`: the same, but measured by training windows and the nearest others that share
    no value with them; unmoved by drift, left out where values repeat too often.
    """

    Settings = MemorisingSettings

    def applies(self, context: EvaluationContext) -> bool:
        return has_unseen(context)

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        train = real_windows(context, context.splits().train, NAME, "training windows")
        test = real_windows(context, context.unseen(), NAME, "test windows")
        made = made_windows(context, NAME, self.settings.count)
        scale = unit_scale(train, NAME)
        found = memorising(
            scale(train), scale(test), scale(made), stream_seed(context.seed, NAME, "rows"), self.settings.count
        )
        return Evaluation(NAME, {**found, "samples": float(len(made))})


def memorising(train: Tensor, test: Tensor, made: Tensor, seed: int, count: int = 1000) -> dict[str, float]:
    """The figures for windows (count, steps, features) in one scale; `count` real windows measure what is near."""
    few = min(len(train), len(test))
    ours = nearest(made, train[drawn_rows(few, len(train), seed)])
    theirs = nearest(made, test[drawn_rows(few, len(test), seed)])
    copied = nearest(made, train)
    unseen = nearest(test[drawn_rows(count, len(test), seed)], train)
    figures = {
        "ratio": float((ours / theirs.clamp_min(1e-12)).median()),
        "copies": _share_below(copied, unseen),
    }
    within = nearest_apart(train, drawn_rows(count, len(train), seed))
    if len(within) >= FEWEST:
        figures["copiesWithin"] = _share_below(copied, within)
    return figures


def nearest(windows: Tensor, others: Tensor) -> Tensor:
    """The distance (count,) from each window to the nearest of the others."""
    flat = windows.flatten(1).double()  # in float32 equal windows would seem apart
    found = torch.full((len(flat),), torch.inf, dtype=torch.float64)
    for part in others.split(BLOCK):
        found = torch.minimum(found, torch.cdist(flat, part.flatten(1).double()).amin(1))
    return found


def nearest_apart(windows: Tensor, rows: Tensor) -> Tensor:
    """The distance from windows number `rows` to the nearest window that shares no step's values with them.

    Windows for which there is none are left out, and so are rows beyond what takes some seconds.
    """
    codes = step_codes(windows)
    shared, found = torch.zeros(int(codes.max()) + 1, dtype=torch.bool), []
    for row in rows[: max(FEWEST, LOOKUPS // codes.numel())].tolist():
        shared[codes[row]] = True
        others = ~shared[codes].any(1)
        shared[codes[row]] = False
        if bool(others.any()):
            found.append(nearest(windows[row : row + 1], windows[others]))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def step_codes(windows: Tensor) -> Tensor:
    """A number (count, steps) for the values of each step: equal for equal values only."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(windows.shape[2], generator=generator, dtype=torch.float64) + 0.5
    codes = (windows.double() * weights).sum(2)
    numbers: Tensor = codes.unique(return_inverse=True)[1]
    return numbers


def _share_below(made: Tensor, real: Tensor) -> float:
    return float((made < real.quantile(NEAR)).double().mean())


@hookimpl
def register_metrics(register: Any) -> None:
    """memorising-v1."""
    register(NAME, Memorising)
