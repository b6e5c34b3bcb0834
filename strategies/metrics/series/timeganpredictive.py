"""TimeGAN's published predictive score, kept for comparison with its table."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting, stream_seed
from ganglion.strategies.metrics.series.recurrent import Recurrent, fit, in_parts, pick, seeded
from ganglion.strategies.metrics.series.windows import made_windows, published_scale, real_windows, spread

NAME = "timegan-predictive-v1"
UNIVARIATE = "one feature: the published predictor would have no inputs and no units; this one has 1 unit and reads it"


class TimeganPredictiveSettings(Settings):
    """Settings of the metric `timegan-predictive-v1`."""

    repeats: int = setting(10, "predictors fitted on samples, and as many on training windows", ge=1)
    judge_iterations: int = setting(5000, "updates of each predictor", ge=1)
    judge_batch: int = setting(128, "windows in each update", ge=1)
    count: int | None = setting(None, "training windows, and samples; none: all training windows", ge=10)


class TimeganPredictive(Metric):
    """TimeGAN's predictive score as its code computes it: for comparison with published tables, not for judging.

    `score`: mean absolute error on the training windows of a predictor that was fitted on samples, mean of 10;
    `real`: the same of predictors fitted on the training windows themselves; `scoreStd`, `realStd`: their standard
    deviations. From the features but the last at steps 1..T-1 it predicts the last one at the next step: one GRU layer
    of floor(features / 2) units, a sigmoid, absolute error, Adam at 1e-3, 5,000 updates of 128 windows (Yoon et al.
    2019, https://papers.nips.cc/paper/8789-time-series-generative-adversarial-networks, and its code). Values within
    0..1 stay as they are; others are mapped there, feature by feature, by the training windows. Asked for by name
    only: it takes minutes.

    What is wrong with it: it looks at the last feature alone, which is the traded volume in Stocks, a random column in
    Energy (a constant scores .249, real data .250) and independent of the others in Sines, so that most methods "reach
    the real data"; frozen and permuted windows do, too; and it is tested on windows that the generator has learnt.
    `tstr-v1` has none of this.

    Deviations: torch's GRU (reset after the product) and initial values; one feature gets one unit and is its own
    input, where the published code fails.
    """

    Settings = TimeganPredictiveSettings

    def applies(self, context: EvaluationContext) -> bool:
        return False  # minutes, for a number that says little: only where it is asked for by name

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        windows = real_windows(context, context.splits().train, NAME, "training windows", self.settings.count)
        scale = published_scale(windows, NAME)
        real, made = scale(windows), scale(made_windows(context, NAME, len(windows)))
        seeds = [stream_seed(context.seed, NAME, number) for number in range(self.settings.repeats)]
        update = (self.settings.judge_iterations, self.settings.judge_batch)
        values = {
            **spread("score", [published_error(made, real, seed, *update) for seed in seeds]),
            **spread("real", [published_error(real, real, seed, *update) for seed in seeds]),
            "repeats": float(len(seeds)),
            "samples": float(len(made)),
        }
        return Evaluation(NAME, values, {"notice": UNIVARIATE} if real.shape[2] == 1 else {})


def published_error(train: Tensor, test: Tensor, seed: int, iterations: int = 5000, batch: int = 128) -> float:
    """Mean absolute error on `test` of one predictor fitted on `train`, windows (count, steps, features) in 0..1."""
    generator = seeded(seed)
    features = train.shape[2]
    inputs = max(1, features - 1)
    network = Recurrent(inputs, max(1, features // 2), 1, generator)

    def errors(windows: Tensor) -> Tensor:
        predicted: Tensor = network(windows[:, :-1, :inputs]).sigmoid()[:, :, 0]
        return (predicted - windows[:, 1:, -1]).abs()

    fit(network, lambda: errors(train[pick(train, batch, generator)]).mean(), iterations)
    return float(in_parts(errors, test).double().mean())


@hookimpl
def register_metrics(register: Any) -> None:
    """timegan-predictive-v1."""
    register(NAME, TimeganPredictive)
