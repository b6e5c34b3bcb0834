"""Judging stacked digits: how many of the thousand triples a generator makes, and how evenly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import (
    DataError,
    Dataset,
    Evaluation,
    EvaluationContext,
    Metric,
    Settings,
    hookimpl,
    setting,
    stream_seed,
)
from ganglion.strategies.metrics.judge import ROWS, Judge, divergence, drawn_rows, open_judge, own_rows

DIGITS = 10
MODES = DIGITS**3
SHAPE = (3, 28, 28)


class StackedSettings(Settings):
    """Settings of the metric `stacked-v1`."""

    classifier: str | None = setting(None, "tag of the run that judges")
    count: int = setting(26_000, "samples drawn, and as many test rows", ge=1)


class Stacked(Metric):
    """How many of the 1,000 triples of digits samples show, and how evenly: the protocol of VEEGAN and PacGAN.

    A classifier of MNIST (`classifier=TAG`, at least 99.0 % of the test digits right) names the digit of each channel.
    `modes`: different triples among the samples (26,000 in the protocol); `reverseKL`: Kullback-Leibler divergence of
    their histogram from the uniform one, in nats; `modesReal` and `floorKL`: the same of as many test rows, which a
    perfect generator would score (PacGAN, https://arxiv.org/abs/1712.04086, section 4.2).
    """

    Settings = StackedSettings

    def applies(self, context: EvaluationContext) -> bool:
        return context.strategy.generates() and context.spec.shape == SHAPE and self.settings.classifier is not None

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        if context.spec.shape != SHAPE:
            raise DataError(f"metric stacked-v1 is for data of shape {SHAPE}, and these have {context.spec.shape}")
        judge = open_judge(context, self.settings.classifier, "stacked-v1", (1, *SHAPE[1:]))
        test, count = context.unseen(), self.settings.count
        if len(judge.classes) != DIGITS or len(context.spec.classes) != MODES:
            raise DataError(
                f"metric stacked-v1 needs a classifier of {DIGITS} classes and data of {MODES}, "
                f"and these have {len(judge.classes)} and {len(context.spec.classes)}; use the data set StackedMNIST"
            )
        if len(test) < count:
            raise DataError(
                f"metric stacked-v1: the data have {len(test)} test rows to compare {count} samples with; "
                f"choose count={len(test)} or less"
            )
        real, accuracy = _real_triples(judge, context, test, count)
        judge.refuse_inaccurate(accuracy, "test digits")
        made = triples(judge, context.samples(count))
        values = {
            "modes": float(len(made.unique())),
            "reverseKL": unevenness(made),
            "modesReal": float(len(real.unique())),
            "floorKL": unevenness(real),
            "classifierAccuracy": accuracy,
            "samples": float(count),
        }
        return Evaluation("stacked-v1", values)


def _real_triples(judge: Judge, context: EvaluationContext, test: Dataset, count: int) -> tuple[Tensor, float]:
    """The triples that the judge sees in test rows, and its share of right digits there."""
    rows = drawn_rows(count, len(test), stream_seed(context.seed, "stacked-v1", "test"))
    found = torch.cat([triples(judge, own_rows(context, test, part)) for part in rows.split(ROWS)])
    labels = test.targets()
    assert labels is not None
    wanted = labels.cpu()[rows]
    right = [(found // place % DIGITS == wanted // place % DIGITS).double().mean() for place in (100, 10, 1)]
    return found, float(sum(right) / 3)


def triples(judge: Judge, images: Tensor) -> Tensor:
    """The number (count,) that the digits of the three channels of images (count, 3, 28, 28) form."""
    digits = [judge.named(images[:, channel : channel + 1]) for channel in range(3)]
    return 100 * digits[0] + 10 * digits[1] + digits[2]


def unevenness(numbers: Tensor) -> float:
    """Divergence of the histogram of numbers 0..999 from the uniform one, in nats: 0 for equally many of each."""
    shares = numbers.bincount(minlength=MODES).double() / len(numbers)
    return divergence(shares, torch.full_like(shares, 1 / MODES))


@hookimpl
def register_metrics(register: Any) -> None:
    """stacked-v1."""
    register("stacked-v1", Stacked)
