"""Judging windows by what a predictor that learnt from them is worth on real ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting, stream_seed
from ganglion.strategies.metrics.series.recurrent import Recurrent, fit, in_parts, pick, seeded
from ganglion.strategies.metrics.series.windows import (
    interval,
    made_windows,
    real_windows,
    standard_scale,
    unit_scale,
)

NAME = "tstr-v1"


class TstrSettings(Settings):
    """Settings of the metric `tstr-v1`."""

    repeats: int = setting(5, "predictors fitted on samples, and as many on training windows", ge=1)
    judge_iterations: int = setting(2000, "updates of each predictor", ge=1)
    judge_batch: int = setting(128, "windows in each update", ge=1)
    units: int = setting(32, "units of the predictor's GRU layer", ge=1)
    count: int = setting(5000, "training windows, as many samples, and test windows at most", ge=10)


class Tstr(Metric):
    """Train on synthetic, test on real: the error of a predictor of every feature's next step, on unseen windows.

    A GRU of 32 units reads a window and says by how much each feature changes to the next step. Errors are absolute
    changes missed, in standard deviations of the training windows' changes, so that every feature counts the same.
    `tstr`: fitted on samples; `trtr`: fitted on as many training windows; `persistence`: saying that nothing changes;
    `ratio`: tstr / trtr, 1 for samples as useful as the data. Means of 5 refits with 95 % intervals. A ratio near 1
    says little where trtr is near persistence: nothing could be learnt there (Esteban et al. 2017,
    https://arxiv.org/abs/1706.02633, for the idea). Asked for by name only: it takes minutes.

    Deviations: the paper trains classifiers (`tstr-classes-v1`); this is its regression, for data without labels.
    """

    Settings = TstrSettings

    def applies(self, context: EvaluationContext) -> bool:
        return False  # minutes of training: only where it is asked for by name

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        settings = self.settings
        windows = real_windows(context, context.splits().train, NAME, "training windows", settings.count)
        unseen = real_windows(context, context.unseen(), NAME, "test windows", settings.count)
        unit_scale(windows, NAME)  # refuses constant data
        scale, change = standard_scale(windows), changes(windows)
        made = scale(made_windows(context, NAME, len(windows)))
        train, test = scale(windows), scale(unseen)
        seeds = [stream_seed(context.seed, NAME, number) for number in range(settings.repeats)]
        update = (settings.units, settings.judge_iterations, settings.judge_batch)
        synthetic = [next_step_error(made, test, change, seed, *update) for seed in seeds]
        real = [next_step_error(train, test, change, seed, *update) for seed in seeds]
        values = {
            "ratio": sum(synthetic) / sum(real),
            **interval("tstr", synthetic),
            **interval("trtr", real),
            "persistence": float((test.double().diff(dim=1) / change).abs().mean()),
            "samples": float(len(made)),
        }
        return Evaluation(NAME, values)


def changes(windows: Tensor) -> Tensor:
    """The standard deviation (features,) of the changes from step to step, in standardised values."""
    return standard_scale(standard_scale(windows)(windows).diff(dim=1)).factor


def next_step_error(
    train: Tensor,
    test: Tensor,
    change: Tensor,
    seed: int,
    units: int = 32,
    iterations: int = 2000,
    batch: int = 128,
) -> float:
    """Mean absolute error in units of `change` (features,) on `test` of one predictor fitted on `train`.

    Both are (count, steps, features), standardised.
    """
    generator, unit = seeded(seed), change.float()
    network = Recurrent(train.shape[2], units, train.shape[2], generator)

    def errors(windows: Tensor) -> Tensor:
        predicted: Tensor = network(windows[:, :-1])
        return (predicted - windows.diff(dim=1) / unit).abs()

    fit(network, lambda: errors(train[pick(train, batch, generator)]).mean(), iterations)
    return float(in_parts(lambda part: errors(part).flatten(1).mean(1), test).double().mean())


@hookimpl
def register_metrics(register: Any) -> None:
    """tstr-v1."""
    register(NAME, Tstr)
