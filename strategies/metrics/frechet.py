"""Judging generated digits by a classifier that this engine trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import (
    ConfigError,
    DataError,
    Dataset,
    Evaluation,
    EvaluationContext,
    Metric,
    Settings,
    hookimpl,
    setting,
)

ROWS = 1000
LEAST_ACCURACY = 0.99


class Moments(NamedTuple):
    """Mean (features,) and covariance (features, features) of classifier features, float64."""

    mean: Tensor
    covariance: Tensor


class Judged(NamedTuple):
    """What the classifier says: features (rows, features) and class probabilities (rows, classes)."""

    features: Tensor
    probabilities: Tensor


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
    scale (at most 1: recognisable), the mean top-class confidence, how many digits appear with at least 1 % of the
    samples, and the Kullback-Leibler divergence of the digit histogram from the training images' in nats.
    """

    Settings = MnistFrechetSettings

    def applies(self, context: EvaluationContext) -> bool:
        return (
            context.strategy.generates() and context.spec.shape == (1, 28, 28) and self.settings.classifier is not None
        )

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        if self.settings.classifier is None:
            raise ConfigError(
                "metric mnist-frechet-v1 needs classifier=TAG; 'learn --job mnist-classifier tag=judge' trains one"
            )
        judge = _judge(context.run(self.settings.classifier), self.settings.classifier)
        splits = context.splits()
        if splits.test is None:
            raise DataError("metric mnist-frechet-v1 needs data with a test part")
        test, labels = _judged(judge, splits.test, context), _labels(splits.test)
        accuracy = float((test.probabilities.argmax(1) == labels).double().mean())
        if accuracy < LEAST_ACCURACY:
            raise ConfigError(
                f"classifier={self.settings.classifier}: {accuracy:.2%} of the test digits are right, 99.0 % are needed"
            )
        train = _judged(judge, splits.train, context)
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


def _judge(context: EvaluationContext, tag: str) -> Callable[[Tensor], Judged]:
    network = context.strategy.context.networks.get("network")
    features = getattr(network, "features", None)
    predict = getattr(context.strategy, "predict", None)
    if features is None or predict is None:
        raise ConfigError(
            f"classifier={tag}: it is not a classifier whose features can be read; train one with job mnist-classifier"
        )

    def judge(images: Tensor) -> Judged:
        with torch.no_grad():
            parts = [
                (features(rows.to(context.device)), predict(rows.to(context.device))) for rows in images.split(ROWS)
            ]
        found, scores = (torch.cat([part[index].cpu().double() for part in parts]) for index in (0, 1))
        return Judged(found.flatten(1), scores.softmax(1))

    return judge


def _judged(judge: Callable[[Tensor], Judged], dataset: Dataset, context: EvaluationContext) -> Judged:
    parts = [
        judge(context.own_scale(dataset.rows(rows).input.float().cpu()))
        for rows in torch.arange(len(dataset)).split(ROWS)
    ]
    return Judged(torch.cat([part.features for part in parts]), torch.cat([part.probabilities for part in parts]))


def _labels(dataset: Dataset) -> Tensor:
    labels = dataset.targets()
    assert labels is not None
    return labels.cpu()


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


def divergence(shares: Tensor, reference: Tensor) -> float:
    """Kullback-Leibler divergence of one histogram from another, in nats; 0 log 0 is 0."""
    present = shares > 0
    return float((shares[present] * (shares[present] / reference[present].clamp_min(1e-12)).log()).sum())


@hookimpl
def register_metrics(register: Any) -> None:
    """mnist-frechet-v1."""
    register("mnist-frechet-v1", MnistFrechet)
