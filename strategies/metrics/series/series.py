"""Judging windows by their autocorrelation, their correlation across features, and their values at each step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting
from ganglion.strategies.metrics.series.windows import STILL, has_unseen, made_windows, real_windows, unit_scale

NAME = "series-v1"


class SeriesSettings(Settings):
    """Settings of the metric `series-v1`."""

    count: int = setting(5000, "samples, training windows and test windows at most, as many of each", ge=10)
    lags: int = setting(32, "largest lag of the autocorrelation; half a window at most", unit="steps", ge=1)


class Series(Metric):
    """Three distances between samples and training windows, each beside that between unseen and training windows.

    `autocorrelation`: mean absolute difference of the autocorrelations inside windows, over lags and features (a window
    that does not move has none: 0); `crossCorrelation`: the same of the correlations between features at the same step,
    over pairs of features; `marginal`: exact Wasserstein-1 distance of the values of one feature at one step, mean over
    both, in shares of the feature's range in the training windows. `autocorrelationFloor` and so on: unseen windows in
    the place of samples, which a perfect generator scores about where the data do not drift. No distance sees windows
    played backwards. (Diffusion-TS, https://arxiv.org/abs/2403.01742, and TSGBench, https://arxiv.org/abs/2309.03755,
    have the first two.)

    Deviations: Diffusion-TS divides its sum by 10 and TSGBench takes the Euclidean norm; these are means, so that
    numbers of features and lags do not change the scale.
    """

    Settings = SeriesSettings

    def applies(self, context: EvaluationContext) -> bool:
        return has_unseen(context)

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        part, unseen = context.splits().train, context.unseen()
        count = min(self.settings.count, len(part), len(unseen))
        train = real_windows(context, part, NAME, "training windows", count)
        test = real_windows(context, unseen, NAME, "test windows", count)
        scale, lags = unit_scale(train, NAME), self.settings.lags
        real = scale(train)
        found = distances(real, scale(made_windows(context, NAME, len(real))), lags)
        floor = distances(real, scale(test), lags)
        values: dict[str, float] = {}
        for name, value in found.items():
            values |= {name: value, f"{name}Floor": floor[name]}
        return Evaluation(NAME, {**values, "samples": float(len(real))})


def distances(real: Tensor, other: Tensor, lags: int = 32) -> dict[str, float]:
    """The three distances of as many windows (count, steps, features); crossCorrelation only for several features."""
    apart = (autocorrelations(real, lags) - autocorrelations(other, lags)).abs()
    found = {"autocorrelation": float(apart.mean())}
    if real.shape[2] > 1:
        found["crossCorrelation"] = float((cross_correlations(real) - cross_correlations(other)).abs().mean())
    ordered = (each.double().sort(dim=0).values for each in (real, other))
    found["marginal"] = float((next(ordered) - next(ordered)).abs().mean())
    return found


def autocorrelations(windows: Tensor, lags: int) -> Tensor:
    """Autocorrelations (lags, features) inside windows (count, steps, features) at lags 1, 2, ..., half a window.

    Products of deviations from each window's own mean, summed over windows, over the sum of their squares.
    """
    deviations = windows.double()
    deviations = deviations - deviations.mean(dim=1, keepdim=True)
    power = deviations.square().sum((0, 1))
    moves = power / (windows.shape[0] * windows.shape[1]) > STILL
    found = [
        (deviations[:, :-lag] * deviations[:, lag:]).sum((0, 1))
        for lag in range(1, min(lags, windows.shape[1] // 2) + 1)
    ]
    return torch.where(moves, torch.stack(found) / power.clamp_min(STILL), 0.0)


def cross_correlations(windows: Tensor) -> Tensor:
    """Correlations (pairs,) of the features of windows (count, steps, features) at the same step; 0 for a constant."""
    flat = windows.double().flatten(0, 1)
    deviations = flat - flat.mean(0)
    scale = deviations.square().mean(0).sqrt()
    normal = torch.where(scale > STILL**0.5, deviations / scale.clamp_min(STILL), 0.0)
    matrix = normal.T @ normal / len(flat)
    return matrix[torch.triu(torch.ones_like(matrix), diagonal=1).bool()]


@hookimpl
def register_metrics(register: Any) -> None:
    """series-v1."""
    register(NAME, Series)
