"""TimeGAN's published discriminative score, kept for comparison with its table."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting, stream_seed
from ganglion.strategies.metrics.series.recurrent import Recurrent, fit, in_parts, pick, seeded
from ganglion.strategies.metrics.series.windows import made_windows, published_scale, real_windows, spread

NAME = "timegan-discriminative-v1"
UNIVARIATE = "one feature: the published judge would have floor(1 / 2) = 0 units and fail; this one has 1"


class TimeganDiscriminativeSettings(Settings):
    """Settings of the metric `timegan-discriminative-v1`."""

    repeats: int = setting(10, "judges fitted, each on its own split", ge=1)
    judge_iterations: int = setting(2000, "updates of each judge", ge=1)
    judge_batch: int = setting(128, "real windows, and as many samples, in each update", ge=1)
    count: int | None = setting(None, "training windows, and samples; none: all training windows", ge=10)


class TimeganDiscriminative(Metric):
    """TimeGAN's discriminative score as its code computes it: for comparison with published tables, not for judging.

    `score`: |0.5 - accuracy| of a judge that tells training windows from as many samples, mean of 10 judges (0: it
    cannot; 0.5: it always can); `scoreStd`: its standard deviation over them. One GRU layer of floor(features / 2)
    units, a linear layer on its last state, Adam at 1e-3, 2,000 updates of 128 + 128 windows, independent random
    80/20 splits (Yoon et al. 2019, https://papers.nips.cc/paper/8789-time-series-generative-adversarial-networks,
    and its code). Values within 0..1 stay as they are; others are mapped there, feature by feature, by the training
    windows. Asked for by name only: it takes minutes.

    What is wrong with it: on daily stock prices the judge has 3 units and is nearly blind to time (a frozen row,
    permuted steps, windows played backwards score better than any published generator); overlapping windows lie on
    both sides of its split; the generator was trained on all of them, so nothing is held out and copies score best;
    |0.5 - accuracy| is above 0 by chance alone (about .01). `discriminative-v1` has none of this.

    Deviations: torch's GRU (reset after the product) and initial values; the paper says two LSTM layers, its code has
    this; one feature gets one unit, where the published code fails.
    """

    Settings = TimeganDiscriminativeSettings

    def applies(self, context: EvaluationContext) -> bool:
        return False  # minutes, for a number that says little: only where it is asked for by name

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        real = real_windows(context, context.splits().train, NAME, "training windows", self.settings.count)
        scale = published_scale(real, NAME)
        made = scale(made_windows(context, NAME, len(real)))
        seeds = [stream_seed(context.seed, NAME, number) for number in range(self.settings.repeats)]
        update = (self.settings.judge_iterations, self.settings.judge_batch)
        scores = [published_score(scale(real), made, seed, *update) for seed in seeds]
        values = {**spread("score", scores), "repeats": float(len(scores)), "samples": float(len(made))}
        return Evaluation(NAME, values, {"notice": UNIVARIATE} if real.shape[2] == 1 else {})


def published_score(real: Tensor, made: Tensor, seed: int, iterations: int = 2000, batch: int = 128) -> float:
    """|0.5 - accuracy| of one judge for windows (count, steps, features) with values in 0..1."""
    generator = seeded(seed)
    (real_train, real_test), (made_train, made_test) = _split(real, generator), _split(made, generator)
    features = real.shape[2]
    judge = Recurrent(features, max(1, features // 2), 1, generator)

    def loss() -> Tensor:
        ours = real_train[pick(real_train, batch, generator)]
        theirs = made_train[pick(made_train, batch, generator)]
        scores = judge.last(torch.cat([ours, theirs])).squeeze(1)
        return _cross_entropy(scores[: len(ours)], 1.0) + _cross_entropy(scores[len(ours) :], 0.0)

    fit(judge, loss, iterations)
    right = torch.cat([in_parts(judge.last, real_test) > 0, in_parts(judge.last, made_test) <= 0])
    return abs(0.5 - float(right.double().mean()))


def _cross_entropy(scores: Tensor, label: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


def _split(windows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """80 % of the windows, drawn at random, and the others."""
    order = torch.randperm(len(windows), generator=generator)
    first = int(0.8 * len(windows))
    return windows[order[:first]], windows[order[first:]]


@hookimpl
def register_metrics(register: Any) -> None:
    """timegan-discriminative-v1."""
    register(NAME, TimeganDiscriminative)
