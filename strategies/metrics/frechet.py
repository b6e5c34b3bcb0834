"""Judging generated digits by a classifier that this engine trained."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import DataError, Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting
from ganglion.strategies.metrics.judge import divergence, open_judge


class Moments(NamedTuple):
    """Mean (features,) and covariance (features, features) of classifier features, float64."""

    mean: Tensor
    covariance: Tensor


class MnistFrechetSettings(Settings):
    """Settings of the metric `mnist-frechet-v1`."""

    classifier: str | None = setting(None, "tag of the run that judges")
    count: int = setting(10_000, "samples drawn; more than there are features", ge=1000)


class MnistFrechet(Metric):
    """Frechet distance between classifier features of generated digits and of the training images, `mnist-frechet-v1`.

    The classifier is another run (`classifier=TAG`) of strategy FeedForward on the same data with at least 99.0 % test
    accuracy; job file `mnist-classifier` trains one. Heusel et al. 2017 (https://arxiv.org/abs/1706.08500) with our own
    features, so numbers compare only under one classifier. Beside it stand the floor (real test digits against the
    training images), the scale (the same with one digit missing, mean over the ten digits), the ratio of distance and
    scale (at most 1: recognisable), the mean top-class confidence, the score exp(E KL(p(class | image) || p(class)))
    (Salimans et al. 2016, https://arxiv.org/abs/1606.03498; at most 10) and its ratio to that of the test digits, how
    many digits appear with at least 1 % of the samples, and the Kullback-Leibler divergence of the digit histogram from
    the training images' in nats.
    """

    Settings = MnistFrechetSettings

    def applies(self, context: EvaluationContext) -> bool:
        return (
            context.strategy.generates() and context.spec.shape == (1, 28, 28) and self.settings.classifier is not None
        )

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        judge = open_judge(context, self.settings.classifier, "mnist-frechet-v1", (1, 28, 28))
        splits = context.splits()
        labels = None if splits.test is None else splits.test.targets()
        if splits.test is None or labels is None:
            raise DataError("metric mnist-frechet-v1 needs data with labels and a test part")
        test, labels = judge.rows(context, splits.test), labels.cpu()
        accuracy = float((test.probabilities.argmax(1) == labels).double().mean())
        judge.refuse_inaccurate(accuracy, "test digits")
        train = judge.rows(context, splits.train)
        made = judge(context.samples(self.settings.count))
        reference = moments(train.features)
        missing = [frechet_distance(moments(test.features[labels != digit]), reference) for digit in range(10)]
        shares, real = _histogram(made.probabilities), _histogram(train.probabilities)
        scale = sum(missing) / len(missing)
        distance = frechet_distance(moments(made.features), reference)
        values = {
            "distance": distance,
            "floor": frechet_distance(moments(test.features), reference),
            "oneDigitMissing": scale,
            "ratio": distance / scale,
            "confidence": float(made.probabilities.max(1).values.mean()),
            "score": score(made.probabilities),
            "scoreRatio": score(made.probabilities) / score(test.probabilities),
            "digits": float((shares >= 0.01).sum()),
            "digitDivergence": divergence(shares, real),
            "classifierAccuracy": accuracy,
            "samples": float(self.settings.count),
        }
        table = {
            "columns": ["digit", "share of samples", "share of data"],
            "rows": [[str(i), float(shares[i]), float(real[i])] for i in range(10)],
        }
        return Evaluation("mnist-frechet-v1", values, {"shares": table})


def _histogram(probabilities: Tensor) -> Tensor:
    return torch.bincount(probabilities.argmax(1), minlength=10).double() / len(probabilities)


def moments(features: Tensor) -> Moments:
    """Mean and covariance of features (rows, features)."""
    return Moments(features.mean(0), features.T.cov())


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)); the root is taken of a symmetric product and so stays real."""
    root = _root(one.covariance)
    trace = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp_min(0).sqrt().sum()
    between = (one.mean - other.mean).square().sum()
    return float(between + one.covariance.trace() + other.covariance.trace() - 2 * trace)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def score(probabilities: Tensor) -> float:
    """exp of the mean Kullback-Leibler divergence of each row's probabilities (rows, classes) from their mean."""
    apart = torch.xlogy(probabilities, probabilities / probabilities.mean(0).clamp_min(1e-300))
    return math.exp(float(apart.sum(1).mean()))


@hookimpl
def register_metrics(register: Any) -> None:
    """mnist-frechet-v1."""
    register("mnist-frechet-v1", MnistFrechet)
