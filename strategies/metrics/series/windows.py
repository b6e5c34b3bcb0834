"""Windows of series for metrics: read, drawn, checked, brought to one scale; and how figures spread over refits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import DataError, Dataset, EvaluationContext, stream_seed
from ganglion.strategies.metrics.judge import drawn_rows, own_rows

STILL = 1e-12  # a variance below this, of values that span 0..1, is rounding
FEWEST = 10  # windows that a metric compares


def makes_series(context: EvaluationContext) -> bool:
    """Whether a strategy makes windows of series, which hold no parts of the data as they are."""
    strategy = context.strategy
    return strategy.generates() and not strategy.retells and context.spec.kind == "sequence"


def has_unseen(context: EvaluationContext) -> bool:
    """Whether a strategy makes windows of series, and the data have real ones that it has not seen."""
    return makes_series(context) and any(part is not None for part in context.splits()[1:])


def real_windows(
    context: EvaluationContext, part: Dataset, metric: str, what: str, count: int | None = None, least: int = FEWEST
) -> Tensor:
    """`count` windows (count, steps, features) of a part, or all where it has fewer, in the data's own scale.

    `what` names them in sentences and seeds the draw. Raises DataError for what cannot be judged.
    """
    if context.spec.kind != "sequence":
        shape, kind = context.spec.shape, context.spec.kind
        raise DataError(
            f"metric {metric} is for windows (steps, features), and these data are of kind {kind} with shape {shape}"
        )
    available = len(part)
    wanted = available if count is None else min(count, available)
    rows = drawn_rows(wanted, available, stream_seed(context.seed, metric, what))
    return checked(own_rows(context, part, rows), metric, what, least)


def made_windows(context: EvaluationContext, metric: str, count: int) -> Tensor:
    """`count` samples (count, steps, features) in the data's own scale. Raises DataError where one is not finite."""
    return checked(context.samples(count).float().cpu(), metric, "samples", 1)


def checked(windows: Tensor, metric: str, what: str, least: int = FEWEST) -> Tensor:
    """The windows as they are. Raises DataError for another shape, too few, a single step, or numbers not finite."""
    if windows.dim() != 3 or windows.shape[1] < 2 or windows.shape[2] < 1:
        raise DataError(
            f"metric {metric}: {what} must be windows (count, steps, features) of two steps or more, "
            f"and their shape is {tuple(windows.shape)}"
        )
    if len(windows) < least:
        raise DataError(f"metric {metric} needs at least {least} {what}, and there are {len(windows)}")
    broken = int((~windows.isfinite()).flatten(1).any(1).sum())
    if broken:
        raise DataError(f"metric {metric}: {broken} of {len(windows)} {what} hold numbers that are not finite")
    return windows


class Scale(NamedTuple):
    """What brings features to one scale: (value - shift) / factor, each (features,)."""

    shift: Tensor
    factor: Tensor

    def __call__(self, windows: Tensor) -> Tensor:
        """The windows (count, steps, features) in that scale, float32."""
        return ((windows.double() - self.shift) / self.factor).float()


def unit_scale(windows: Tensor, metric: str) -> Scale:
    """What maps the values of each feature onto 0..1. Raises DataError where every feature is constant."""
    flat = windows.double().flatten(0, 1)
    low, high = flat.amin(0), flat.amax(0)
    if bool((low == high).all()):
        raise DataError(
            f"metric {metric}: every feature of the training windows is constant; there is nothing to judge"
        )
    return Scale(low, torch.where(high > low, high - low, 1.0))


def published_scale(windows: Tensor, metric: str) -> Scale:
    """The scale of TimeGAN's scores: values within 0..1 stay, as those of its sines; others as `unit_scale`."""
    scale = unit_scale(windows, metric)
    within = bool((windows.min() >= 0) & (windows.max() <= 1))
    return Scale(torch.zeros_like(scale.shift), torch.ones_like(scale.shift)) if within else scale


def standard_scale(windows: Tensor) -> Scale:
    """What gives each feature mean 0 and deviation 1; a constant one keeps its deviation of 0."""
    flat = windows.double().flatten(0, 1)
    deviation = flat.std(0)
    return Scale(flat.mean(0), torch.where(deviation > STILL**0.5, deviation, 1.0))


def own_units(context: EvaluationContext, windows: Tensor) -> Tensor:
    """Windows of the data's own scale in the units of their file, where the data set can tell."""
    unscale = getattr(context.factory(), "unscale", None)
    return windows if unscale is None else unscale(windows)


def beside(context: EvaluationContext, metric: str, count: int) -> tuple[Tensor, str]:
    """Real windows to put beside samples, and which they are: unseen ones, or else training windows."""
    splits = context.splits()
    for part, what in ((splits.test, "test windows"), (splits.validation, "validation windows")):
        if part is not None:
            return real_windows(context, part, metric, what, count, least=1), what
    return real_windows(context, splits.train, metric, "training windows", count, least=1), "training windows"


def spread(name: str, scores: Sequence[float]) -> dict[str, float]:
    """The mean of a figure over refits, and its standard deviation (n - 1) where there are two or more."""
    mean = sum(scores) / len(scores)
    if len(scores) < 2:
        return {name: mean}
    return {name: mean, f"{name}Std": _deviation(scores)}


def interval(name: str, scores: Sequence[float]) -> dict[str, float]:
    """The mean of a figure over refits, and its 95 % interval (Student's t) where there are two or more."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # late: it takes a while to load

    mean = sum(scores) / len(scores)
    if len(scores) < 2:
        return {name: mean}
    half = float(stdtrit(len(scores) - 1, 0.975)) * _deviation(scores) / math.sqrt(len(scores))
    return {name: mean, f"{name}Low": mean - half, f"{name}High": mean + half}


def _deviation(scores: Sequence[float]) -> float:
    return float(torch.tensor(scores, dtype=torch.float64).std())
