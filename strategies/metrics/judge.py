"""A classifier that this engine trained, as the judge of what another run makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganglion.engine.api import ConfigError, Dataset, EvaluationContext

ROWS = 100  # judged at once: twice as fast on a CPU as 1,000, whose activations leave its cache
LEAST_ACCURACY = 0.99


class Judged(NamedTuple):
    """What the classifier says: features (rows, features) and class probabilities (rows, classes), float64."""

    features: Tensor
    probabilities: Tensor


class Judge:
    """A classifier (`classifier=TAG`), given samples in the data's own scale, on the CPU."""

    def __init__(self, context: EvaluationContext, tag: str) -> None:
        network = context.strategy.context.networks.get("network")
        features, predict = getattr(network, "features", None), getattr(context.strategy, "predict", None)
        if network is None or features is None or predict is None or not context.spec.classes:
            raise ConfigError(
                f"classifier={tag}: it is not a classifier whose features can be read; "
                "train one with job mnist-classifier"
            )
        self.tag = tag
        self.classes = context.spec.classes
        self.shape = context.spec.shape
        self._device = context.device
        self._features: Callable[[Tensor], Tensor] = features
        self._predict: Callable[[Tensor], Tensor] = predict
        self._last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1:]
        self._in_one_pass: bool | None = None  # unknown until features have been read once

    def __call__(self, samples: Tensor) -> Judged:
        """Features and probabilities of samples (count, *shape)."""
        with torch.no_grad():
            parts = [self._both(part.to(self._device)) for part in samples.split(ROWS)]
        found, scores = (torch.cat([part[place].cpu() for part in parts]).double() for place in (0, 1))
        return Judged(found.flatten(1), scores.softmax(1))

    def named(self, samples: Tensor) -> Tensor:
        """The class (count,) that it names for each of the samples."""
        with torch.no_grad():
            return torch.cat([self._predict(part.to(self._device)).argmax(1).cpu() for part in samples.split(ROWS)])

    def rows(self, context: EvaluationContext, dataset: Dataset, indices: Tensor | None = None) -> Judged:
        """Features and probabilities of rows of a part of the data, of all of them by default."""
        chosen = torch.arange(len(dataset)) if indices is None else indices
        parts = [self(own_rows(context, dataset, rows)) for rows in chosen.split(ROWS)]
        return Judged(torch.cat([part.features for part in parts]), torch.cat([part.probabilities for part in parts]))

    def refuse_inaccurate(self, accuracy: float, what: str) -> None:
        """Raises ConfigError where the judge itself errs too often."""
        if accuracy < LEAST_ACCURACY:
            raise ConfigError(
                f"classifier={self.tag}: {accuracy:.2%} of the {what} are right, "
                f"{100 * LEAST_ACCURACY:.1f} % are needed"
            )

    def _both(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Features and scores: of one pass where features are what the last Linear is given, of two otherwise."""
        seen: list[Tensor] = []
        hooks = [layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for layer in self._last]
        try:
            scores = self._predict(part)
        finally:
            for hook in hooks:
                hook.remove()
        if not self._in_one_pass:
            features = self._features(part)
            if self._in_one_pass is None:
                self._in_one_pass = len(seen) > 0 and torch.equal(seen[0], features)
            return features, scores
        return seen[0], scores


def open_judge(context: EvaluationContext, tag: str | None, metric: str, shape: Sequence[int]) -> Judge:
    """The classifier that `classifier=TAG` names, for samples of `shape`. Raises ConfigError where it cannot judge."""
    if tag is None:
        raise ConfigError(
            f"metric {metric} needs classifier=TAG; 'learn --job mnist-classifier tag=judge' trains one for digits"
        )
    judge = Judge(context.run(tag), tag)
    if judge.shape != tuple(shape):
        raise ConfigError(
            f"classifier={tag}: it takes data of shape {judge.shape}, and metric {metric} shows it {tuple(shape)} here"
        )
    return judge


def own_rows(context: EvaluationContext, dataset: Dataset, indices: Tensor) -> Tensor:
    """The inputs of some rows of a part, in the data's own scale."""
    return context.own_scale(dataset.rows(indices).input.float().cpu())


def accuracy_of(judged: Judged, dataset: Dataset, indices: Tensor | None = None) -> float | None:
    """The share of rows whose label is named; None where the data have no labels."""
    labels = dataset.targets()
    if labels is None or labels.dim() != 1 or labels.is_floating_point():
        return None
    wanted = labels.cpu() if indices is None else labels.cpu()[indices]
    return float((judged.probabilities.argmax(1) == wanted).double().mean())


def divergence(shares: Tensor, reference: Tensor) -> float:
    """Kullback-Leibler divergence of one histogram from another, in nats; 0 log 0 is 0."""
    present = shares > 0
    return float((shares[present] * (shares[present] / reference[present].clamp_min(1e-12)).log()).sum())


def drawn_rows(count: int, available: int, seed: int) -> Tensor:
    """`count` different rows of `available`, or all of them where they are fewer, in the order of a seed."""
    return torch.randperm(available, generator=torch.Generator().manual_seed(seed))[:count]
