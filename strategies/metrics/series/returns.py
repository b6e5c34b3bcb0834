"""Judging series of returns by the stylised facts of financial markets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import DataError, Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting
from ganglion.strategies.metrics.series.windows import beside, made_windows, makes_series, own_units

NAME = "returns-v1"
TAIL = 0.02  # share of a series that is its tail
FEWEST_IN_TAIL = 5
LAGS = (1, 10, 100)
LEVERAGE_STEPS = 10


class ReturnsSettings(Settings):
    """Settings of the metric `returns-v1`."""

    count: int = setting(1000, "samples, and real windows at most", ge=1)


class Returns(Metric):
    """Stylised facts of returns, of samples and (`...Real`) of real windows: heavy tails, calm and storm, leverage.

    Each figure is computed per series and averaged over series, never over series laid end to end. `tailExponent`:
    Hill's estimate from the largest 2 % of |r| (3 to 5 in markets; series of 250 steps or more); `excessKurtosis`: 0
    for normal returns; `autocorrelation1`: of r at lag 1, about 0; `absolute1`, `absolute10`, `absolute100`:
    autocorrelation of |r|, which falls slowly; `leverage`: mean over t = 1..10 of
    L(t) = (mean(r_s r_{s+t}^2) - mean(r) mean(r^2)) / mean(r^2)^2, negative in markets. Lags must be shorter than the
    series. Real windows are unseen ones; training windows where there are no others (the record says which). (Cont
    2001, https://doi.org/10.1080/713665670; Takahashi et al. 2019, https://doi.org/10.1016/j.physa.2019.121261.)

    Deviations: FinGAN's code computes autocorrelations over series laid end to end.
    """

    Settings = ReturnsSettings

    def applies(self, context: EvaluationContext) -> bool:
        return makes_series(context) and all("return" in name.lower() for name in context.spec.features or ("",))

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        real, what = beside(context, NAME, self.settings.count)
        made = own_units(context, made_windows(context, NAME, self.settings.count))
        reference = facts(series_of(own_units(context, real)), what)
        values: dict[str, float] = {}
        for name, value in facts(series_of(made), "samples").items():
            values |= {name: value, f"{name}Real": reference[name]}
        counts = {"samples": float(len(made)), "realWindows": float(len(real))}
        return Evaluation(NAME, {**values, **counts}, {"real": what})


def series_of(windows: Tensor) -> Tensor:
    """Every feature of every window as a series of its own: (count, steps, features) -> (count * features, steps)."""
    return windows.double().transpose(1, 2).flatten(0, 1)


def facts(series: Tensor, what: str = "series") -> dict[str, float]:
    """The stylised facts of returns (count, steps), means over series. Raises DataError for a constant series."""
    deviations = series - series.mean(1, keepdim=True)
    variance = deviations.square().mean(1)
    still = int((variance <= 1e-12 * series.square().mean(1)).sum())
    if still:
        raise DataError(
            f"metric {NAME}: {still} of {len(series)} series of the {what} are constant: no facts to compare"
        )
    steps = series.shape[1]
    found = {"excessKurtosis": float((deviations.pow(4).mean(1) / variance.square() - 3).mean())}
    if int(TAIL * steps) >= FEWEST_IN_TAIL:
        found["tailExponent"] = float(tail_exponents(series).mean())
    found["autocorrelation1"] = float(autocorrelation(series, 1).mean())
    found |= {f"absolute{lag}": float(autocorrelation(series.abs(), lag).mean()) for lag in LAGS if lag < steps}
    if steps > LEVERAGE_STEPS:
        found["leverage"] = float(leverages(series).mean())
    return found


def tail_exponents(series: Tensor) -> Tensor:
    """Hill's estimate (count,) from the largest 2 % of the absolute values of each series (count, steps)."""
    largest = int(TAIL * series.shape[1])
    top = series.abs().topk(largest + 1, dim=1).values.clamp_min(1e-300).log()
    return 1 / (top[:, :-1] - top[:, -1:]).mean(1)


def autocorrelation(series: Tensor, lag: int) -> Tensor:
    """The autocorrelation (count,) of each series (count, steps) at a lag; 0 for a constant one."""
    deviations = series - series.mean(1, keepdim=True)
    power = deviations.square().sum(1)
    return (deviations[:, :-lag] * deviations[:, lag:]).sum(1) / power.clamp_min(1e-300)


def leverages(series: Tensor) -> Tensor:
    """The leverage L(t) (count, 10) of each series (count, steps) for t = 1..10."""
    squares = series.square()
    power = squares.mean(1)
    lags = range(1, LEVERAGE_STEPS + 1)
    together = torch.stack([(series[:, :-lag] * squares[:, lag:]).mean(1) for lag in lags], dim=1)
    return (together - (series.mean(1) * power)[:, None]) / power.square()[:, None]


@hookimpl
def register_metrics(register: Any) -> None:
    """returns-v1."""
    register(NAME, Returns)
