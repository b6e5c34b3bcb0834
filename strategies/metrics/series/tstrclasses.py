"""Judging labelled windows by what a classifier that learnt from them is worth on real ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ganglion.engine.api import (
    DataError,
    Dataset,
    Evaluation,
    EvaluationContext,
    LearningStrategy,
    Metric,
    Settings,
    hookimpl,
    setting,
    stream_seed,
)
from ganglion.strategies.metrics.judge import drawn_rows, own_rows
from ganglion.strategies.metrics.series.discriminative import Steps, steps_of
from ganglion.strategies.metrics.series.recurrent import Recurrent, fit, in_parts, pick, seeded
from ganglion.strategies.metrics.series.windows import checked, interval, unit_scale

NAME = "tstr-classes-v1"


class TstrClassesSettings(Settings):
    """Settings of the metric `tstr-classes-v1`."""

    repeats: int = setting(5, "classifiers fitted on samples, and as many on training windows", ge=1)
    judge_iterations: int = setting(500, "updates of each classifier", ge=1)
    judge_batch: int = setting(64, "windows in each update", ge=1)
    units: int = setting(32, "units of the classifier's GRU layer", ge=1)
    count: int = setting(5000, "training windows, as many samples, and test windows at most", ge=10)


class TstrClasses(Metric):
    """Train on synthetic, test on real: what a classifier of labelled windows is worth, and the other way round.

    A GRU of 32 units reads values and first differences. `tstr`: learnt from samples and the classes asked for, tested
    on unseen windows; `trtr`: learnt from as many training windows; `trts`: learnt from training windows and tested on
    samples. Each is the mean over the classes of the share named rightly (so that rare classes count; guessing gives
    `chance` = 1 / classes), with its 95 % interval over 5 refits (Esteban et al. 2017,
    https://arxiv.org/abs/1706.02633, section 4). Asked for by name only: it takes minutes.

    Deviations: the paper's judges are random forests and convolutions on flattened windows, and its figures are AUROC
    and AUPRC of two-class problems, chosen on validation data; here nothing is chosen, and any number of classes fits.
    """

    Settings = TstrClassesSettings

    def applies(self, context: EvaluationContext) -> bool:
        return False  # minutes of training: only where it is asked for by name

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        settings, classes = self.settings, len(context.spec.classes)
        if classes < 2 or type(context.strategy).requested is LearningStrategy.requested:
            raise DataError(f"metric {NAME} needs data with classes and a strategy that is asked for them")
        train = _labelled(context, context.splits().train, "training windows", settings.count)
        test = _labelled(context, context.unseen(), "test windows", settings.count)
        unit_scale(train.windows, NAME)  # refuses constant data
        samples, asked = context.labelled(len(train.labels))
        made = Labelled(checked(samples.float().cpu(), NAME, "samples", 1), asked.cpu())
        _refuse_missing(made.labels, context.spec.classes, "samples")
        _refuse_missing(train.labels, context.spec.classes, "training windows")
        steps = steps_of(train.windows)
        seeds = [stream_seed(context.seed, NAME, number) for number in range(settings.repeats)]
        update = (classes, settings.units, settings.judge_iterations, settings.judge_batch)
        taught = [class_shares(made, (test,), steps, seed, *update) for seed in seeds]
        real = [class_shares(train, (test, made), steps, seed, *update) for seed in seeds]
        values = {
            **interval("tstr", [shares[0] for shares in taught]),
            **interval("trtr", [shares[0] for shares in real]),
            **interval("trts", [shares[1] for shares in real]),
            "chance": 1 / classes,
            "samples": float(len(samples)),
        }
        return Evaluation(NAME, values)


class Labelled(NamedTuple):
    """Windows (count, steps, features) and their classes (count,)."""

    windows: Tensor
    labels: Tensor


def class_shares(
    train: Labelled,
    tests: tuple[Labelled, ...],
    steps: Steps,
    seed: int,
    classes: int,
    units: int = 32,
    iterations: int = 500,
    batch: int = 64,
) -> list[float]:
    """The mean share of each class that one classifier, fitted on `train`, names rightly in each of `tests`."""
    generator, inputs = seeded(seed), steps(train.windows)
    network = Recurrent(inputs.shape[2], units, classes, generator)

    def loss() -> Tensor:
        rows = pick(inputs, batch, generator)
        return functional.cross_entropy(network.last(inputs[rows]), train.labels[rows])

    fit(network, loss, iterations)
    return [mean_share(in_parts(network.last, steps(test.windows)).argmax(1), test.labels) for test in tests]


def mean_share(named: Tensor, labels: Tensor) -> float:
    """The mean over the classes that occur in `labels` (count,) of the share of their rows that is `named` rightly."""
    right = (named == labels).double()
    return float(torch.stack([right[labels == each].mean() for each in labels.unique()]).mean())


def _labelled(context: EvaluationContext, part: Dataset, what: str, count: int) -> Labelled:
    labels = part.targets()
    if labels is None or labels.dim() != 1 or labels.is_floating_point():
        raise DataError(f"metric {NAME} needs the classes of all {what} at hand, and the data give none")
    rows = drawn_rows(min(count, len(part)), len(part), stream_seed(context.seed, NAME, what))
    return Labelled(checked(own_rows(context, part, rows), NAME, what), labels.cpu()[rows])


def _refuse_missing(labels: Tensor, classes: tuple[str, ...], what: str) -> None:
    counts = torch.bincount(labels, minlength=len(classes))
    missing = [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
    if missing:
        raise DataError(f"metric {NAME}: none of the {len(labels)} {what} is of class {', '.join(missing)}")


@hookimpl
def register_metrics(register: Any) -> None:
    """tstr-classes-v1."""
    register(NAME, TstrClasses)
