"""Judging windows by a classifier that is tested on windows that nothing was fitted to."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting, stream_seed
from ganglion.strategies.metrics.series.recurrent import Recurrent, fit, in_parts, pick, seeded
from ganglion.strategies.metrics.series.windows import (
    Scale,
    interval,
    made_windows,
    real_windows,
    spread,
    standard_scale,
    unit_scale,
)

NAME = "discriminative-v1"


class DiscriminativeSettings(Settings):
    """Settings of the metric `discriminative-v1`."""

    repeats: int = setting(5, "judges fitted", ge=1)
    judge_iterations: int = setting(3000, "updates of each judge", ge=1)
    judge_batch: int = setting(128, "real windows, and as many samples, in each update", ge=1)
    units: int = setting(32, "units of the judge's GRU layer", ge=1)
    count: int = setting(5000, "training windows and test windows at most; samples are as many as both", ge=10)


class Discriminative(Metric):
    """How well a classifier tells unseen real windows from samples it has not seen either.

    A GRU of 32 units reads each step's values and its differences from the step before, both standardised by the
    training windows; it learns from training windows against samples, and is tested on the test part (which shares no
    value with the training part where the data set leaves a gap) against as many further samples. `accuracy`: mean
    over 5 refits of the share that it gets right, both kinds counting the same, with its 95 % interval
    (`accuracyLow`, `accuracyHigh`: over refits, not over other data); `score`: what is above one half, at most 0.5,
    as published scores are scaled; `realRight`, `samplesRight`: the two shares; `sharedRows`: share of the test
    windows' steps that also occur in training windows, above 0 where the parts overlap or values repeat. Where the data
    drift, `realRight` falls for every generator: read it beside `samplesRight`. Asked for by name only: it takes
    minutes.
    """

    Settings = DiscriminativeSettings

    def applies(self, context: EvaluationContext) -> bool:
        return False  # minutes of training: only where it is asked for by name

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        settings = self.settings
        train = real_windows(context, context.splits().train, NAME, "training windows", settings.count)
        test = real_windows(context, context.unseen(), NAME, "test windows", settings.count)
        unit_scale(train, NAME)  # refuses constant data
        made = made_windows(context, NAME, len(train) + len(test))
        update = (settings.units, settings.judge_iterations, settings.judge_batch)
        found = [
            held_out_accuracy(train, test, made, stream_seed(context.seed, NAME, number), *update)
            for number in range(settings.repeats)
        ]
        accuracies = [(each.real + each.made) / 2 for each in found]
        values = {
            "score": max(0.0, sum(accuracies) / len(accuracies) - 0.5),
            **interval("accuracy", accuracies),
            **spread("realRight", [each.real for each in found]),
            **spread("samplesRight", [each.made for each in found]),
            "sharedRows": shared_rows(train, test),
            "samples": float(len(made)),
        }
        return Evaluation(NAME, values)


class Right(NamedTuple):
    """Shares of unseen real windows and of unseen samples that a judge names rightly."""

    real: float
    made: float


class Steps(NamedTuple):
    """What a judge is given of each window: values and first differences, each standardised by real windows."""

    values: Scale
    differences: Scale

    def __call__(self, windows: Tensor) -> Tensor:
        """(count, steps, features) -> (count, steps, 2 features); the first step's differences are 0."""
        differences = self.differences(windows.double().diff(dim=1))
        return torch.cat([self.values(windows), functional.pad(differences, (0, 0, 1, 0))], dim=2)


def steps_of(windows: Tensor) -> Steps:
    """The scales for a judge of windows like these."""
    return Steps(standard_scale(windows), standard_scale(windows.double().diff(dim=1)))


def held_out_accuracy(
    train: Tensor,
    test: Tensor,
    made: Tensor,
    seed: int,
    units: int = 32,
    iterations: int = 3000,
    batch: int = 128,
) -> Right:
    """What one judge gets right of `test` and of the last of `made`, having learnt from `train` and the others.

    `made` holds samples for learning, then as many as `test` for testing. All are (count, steps, features).
    """
    generator, steps = seeded(seed), steps_of(train)
    real, fakes = steps(train), steps(made[: len(made) - len(test)])
    judge = Recurrent(real.shape[2], units, 1, generator)

    def loss() -> Tensor:
        ours, theirs = real[pick(real, batch, generator)], fakes[pick(fakes, batch, generator)]
        scores = judge.last(torch.cat([ours, theirs])).squeeze(1)
        return functional.softplus(-scores[: len(ours)]).mean() + functional.softplus(scores[len(ours) :]).mean()

    fit(judge, loss, iterations)
    names_real = in_parts(judge.last, steps(test)) > 0
    names_made = in_parts(judge.last, steps(made[len(made) - len(test) :])) <= 0
    return Right(float(names_real.double().mean()), float(names_made.double().mean()))


def shared_rows(train: Tensor, test: Tensor) -> float:
    """The share of the steps of `test` whose values are also those of a step of `train`."""
    known = {row.tobytes() for row in train.flatten(0, 1).numpy()}
    rows = test.flatten(0, 1).numpy()
    return sum(row.tobytes() in known for row in rows) / len(rows)


@hookimpl
def register_metrics(register: Any) -> None:
    """discriminative-v1."""
    register(NAME, Discriminative)
