"""How a role's learning rate rises and falls over the iterations of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ganglion.engine.errors import ConfigError

if TYPE_CHECKING:
    from ganglion.engine.contracts import Method
    from ganglion.engine.processors import ChainSettings

Decay = Callable[[int], float]


class Span(NamedTuple):
    """The iterations between which whatever falls does; `end` is 0 in a run without end."""

    start: int
    end: int

    def done(self, iteration: int) -> float:
        """The share of the span that is over, from 0 to 1; 0 in a run without end."""
        return min(max(iteration - self.start, 0) / (self.end - self.start), 1.0) if self.end else 0.0


def decay_of(role: str, settings: ChainSettings, method: Method, rate: float, span: Span) -> Decay | None:
    """The learning rate as a function of the iteration; None where it is constant. Raises ConfigError."""
    falling, warm_up = _falling(role, settings, method, rate, span), settings.warm_up_iterations
    if not warm_up:
        return falling
    full = falling or (lambda _: rate)
    return lambda i: full(i) * min(1.0, (i + 1) / warm_up)


def _falling(role: str, settings: ChainSettings, method: Method, rate: float, span: Span) -> Decay | None:
    kind = settings.decay_type
    if kind is None and settings.decay_rate is None:
        return None
    if kind is None:
        other = getattr(method, "decay_rate_alias", None)
        if other is not None:
            raise ConfigError(
                f"{role}: decayRate={settings.decay_rate:g} with method={settings.method}: DIANNE's decayRate of this "
                f"method is '{other}' here; to let the learning rate fall, give decayType too"
            )
        kind = "exponential"
    low = settings.min_learning_rate
    if low > rate:
        raise ConfigError(f"{role}: minLearningRate={low:g} lies above learningRate={rate:g}; give at most that")
    return _decay(role, kind, settings.decay_rate, rate, low, span)


def _decay(role: str, kind: str, speed: float | None, rate: float, low: float, span: Span) -> Decay:
    if kind == "exponential":
        if speed is None:
            raise ConfigError(
                f"{role}: decayType=exponential needs decayRate, the exponent per iteration, such as 1e-4"
            )
        return lambda i: low + (rate - low) * math.exp(-max(i - span.start, 0) * speed)
    if kind == "linear" and speed is not None:
        return lambda i: max(low, rate - speed * max(i - span.start, 0))
    if kind == "cosine" and speed is not None:
        raise ConfigError(
            f"{role}: decayRate={speed:g} means nothing to decayType=cosine, which ends at decayIterations"
        )
    if span.end < 1:
        raise ConfigError(f"{role}: decayType={kind} in a run without end needs decayIterations")
    if kind == "linear":
        return lambda i: rate + (low - rate) * span.done(i)
    return lambda i: low + (rate - low) * (1.0 + math.cos(math.pi * span.done(i))) / 2.0
