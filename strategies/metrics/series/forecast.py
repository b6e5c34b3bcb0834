"""How well a strategy continues series, beside plain ways to do so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import (
    DataError,
    Evaluation,
    EvaluationContext,
    LearningStrategy,
    Metric,
    RandomStream,
    Settings,
    hookimpl,
    setting,
    stream_seed,
)
from ganglion.strategies.metrics.judge import drawn_rows
from ganglion.strategies.series.windows import example_rows

METRIC = "forecast-v1"
FITTED = 4096  # training windows that the linear autoregression is fitted on
RIDGE = 1e-6  # of the mean squared value, added to its normal equations
SHOWN = 3


class ForecastSettings(Settings):
    """Settings of forecast-v1."""

    steps: int | None = setting(
        None, "steps that are forecast; none: all of a window behind the history", unit="steps", ge=1
    )
    count: int = setting(100, "series that are continued", ge=1)
    block: int = setting(10, "steps of which one error is given", unit="steps", ge=1)
    season: int | None = setting(
        None, "steps of the season that the seasonal forecast repeats; none: found in the training data", ge=1
    )


class Forecast(Metric):
    """Mean absolute error of forecasts that go on from themselves, by how far they reach, in the data's own scale.

    Unseen windows begin with the known history; what the strategy forecasts is appended to it and the last of it is
    the next history, so forecasts of 200 steps in blocks of 10 are made from 42, 32, 22... known steps. `relative` is
    the error over the amplitude, half of a series' range. Beside it: persistence (the last value), a linear
    autoregression of each feature on its history, fitted by least squares on training windows, and the seasonal naive
    forecast (the value one season ago) where a season of at most the history is found or given.
    """

    Settings = ForecastSettings

    def applies(self, context: EvaluationContext) -> bool:
        if not type(context.strategy).forecasts() or context.spec.kind != "sequence":
            return False
        splits = context.splits()
        return splits.test is not None or splits.validation is not None

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        if not type(context.strategy).forecasts():
            raise DataError(f"metric {METRIC}: strategy {type(context.strategy).__name__} does not continue series")
        known, unseen, train = context.strategy.history_steps(), context.unseen(), context.splits().train
        length = unseen.spec.shape[0]
        steps = self.settings.steps or length - known
        if known + steps > length or steps < 1:
            raise DataError(
                f"metric {METRIC}: a history of {known} steps and {steps} to forecast need windows of {known + steps}, "
                f"and the data's have {length}; give length={known + steps}, or fewer steps"
            )
        rows = drawn_rows(min(self.settings.count, len(unseen)), len(unseen), stream_seed(context.seed, METRIC))
        windows = unseen.rows(rows).input.float()
        history, truth = windows[:, :known], windows[:, known : known + steps]
        fitted = example_rows(train, FITTED).float()
        season = self.settings.season or season_of(fitted, known)
        if season > known:
            raise DataError(f"metric {METRIC}: season={season} is longer than the history of {known} steps; give less")
        weights = autoregression(fitted, min(known, train.spec.shape[0] - 1))
        stream = RandomStream(context.seed, METRIC, context.device)
        made = {
            "forecast": rolled(context.strategy, history, steps, stream, context.device),
            "persistence": history[:, -1:].expand(-1, steps, -1),
            "autoregression": continued(weights, history, steps),
        }
        if season > 1:
            made["seasonal"] = history[:, known - season :].repeat(1, -(-steps // season), 1)[:, :steps]
        return self._judged(context, history, truth, made, season)

    def _judged(
        self, context: EvaluationContext, history: Tensor, truth: Tensor, made: dict[str, Tensor], season: int
    ) -> Evaluation:
        own: Callable[[Tensor], Tensor] = context.own_scale
        real = own(truth)
        if not bool(made["forecast"].isfinite().all()):
            raise DataError(f"metric {METRIC}: the forecast holds numbers that are not finite")
        errors = {name: (own(values) - real).abs().mean((0, 2)) for name, values in made.items()}
        whole = own(torch.cat((history, truth), 1))
        amplitude = ((whole.amax(1) - whole.amin(1)) / 2).mean()
        values = {name: float(error.mean()) for name, error in errors.items()}
        values["relative"] = values["forecast"] / max(float(amplitude), 1e-12)
        if season > 1:
            values["season"] = float(season)
        return Evaluation(
            METRIC,
            values,
            {
                "error by horizon": self._table(errors),
                "series": {
                    "history": own(history[:SHOWN]).tolist(),
                    "truth": real[:SHOWN].tolist(),
                    "forecast": own(made["forecast"][:SHOWN]).tolist(),
                },
            },
        )

    def _table(self, errors: dict[str, Tensor]) -> dict[str, Any]:
        steps, block = len(next(iter(errors.values()))), self.settings.block
        rows = [
            [f"{start + 1}-{min(start + block, steps)}"]
            + [f"{float(error[start : start + block].mean()):.4g}" for error in errors.values()]
            for start in range(0, steps, block)
        ]
        return {"columns": ["steps", *errors], "rows": rows}


def rolled(
    strategy: LearningStrategy, history: Tensor, steps: int, stream: RandomStream, device: torch.device
) -> Tensor:
    """Forecasts (count, steps, features) of histories, each next one made from what was forecast before."""
    known, pieces, there = history.to(device), list[Tensor](), 0
    kept = known.shape[1]
    with torch.no_grad():
        while there < steps:
            piece = strategy.forecast(known, stream)
            pieces.append(piece)
            there += piece.shape[1]
            known = torch.cat((known, piece), 1)[:, -kept:]
    return torch.cat(pieces, 1)[:, :steps].cpu()


def autoregression(windows: Tensor, order: int) -> Tensor:
    """Weights (features, order + 1) that foretell the next value from `order` values and a constant, least squares."""
    found = []
    for series in windows.unbind(2):
        values = series.double().unfold(1, order + 1, 1).flatten(0, 1)  # (positions, order + 1)
        given = torch.cat((values[:, :-1], torch.ones(len(values), 1, dtype=values.dtype)), 1)
        normal = given.mT @ given
        ridge = RIDGE * normal.diagonal().mean() * torch.eye(order + 1, dtype=values.dtype)
        found.append(torch.linalg.solve(normal + ridge, given.mT @ values[:, -1]))
    return torch.stack(found)


def continued(weights: Tensor, history: Tensor, steps: int) -> Tensor:
    """What a linear autoregression makes of histories (count, known, features), going on from its own values."""
    order = weights.shape[1] - 1
    values = history.double()
    for _ in range(steps):
        last = values[:, -order:]
        following = torch.einsum("csf,fs->cf", last, weights[:, :-1]) + weights[:, -1]
        values = torch.cat((values, following.unsqueeze(1)), 1)
    return values[:, history.shape[1] :].to(history.dtype)


def season_of(windows: Tensor, longest: int) -> int:
    """The lag up to `longest` at which the mean autocorrelation has its highest peak; 1 where it has none."""
    centred = (windows - windows.mean(1, keepdim=True)).double()
    likeness = [
        float((centred[:, lag:] * centred[:, : windows.shape[1] - lag]).mean())
        for lag in range(min(longest + 1, windows.shape[1] - 1) + 1)
    ]
    peaks = [lag for lag in range(2, len(likeness) - 1) if likeness[lag - 1] < likeness[lag] > likeness[lag + 1]]
    return max(peaks, key=likeness.__getitem__, default=1)


@hookimpl
def register_metrics(register: Any) -> None:
    """forecast-v1."""
    register(METRIC, Forecast)
