"""How a role's learning rate falls over the iterations of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ganglion.engine.contracts import Method
from ganglion.engine.errors import ConfigError

if TYPE_CHECKING:
    from ganglion.engine.processors import ChainSettings

Decay = Callable[[int], float]


def decay_of(role: str, settings: ChainSettings, method: Method, rate: float, iterations: int) -> Decay | None:
    """The learning rate as a function of the iteration; None where it is constant. Raises ConfigError."""
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
    return _decay(role, kind, settings.decay_rate, rate, low, iterations)


def _decay(role: str, kind: str, speed: float | None, rate: float, low: float, iterations: int) -> Decay:
    if kind == "exponential":
        if speed is None:
            raise ConfigError(
                f"{role}: decayType=exponential needs decayRate, the exponent per iteration, such as 1e-4"
            )
        return lambda i: low + (rate - low) * math.exp(-i * speed)
    if kind == "linear" and speed is not None:
        return lambda i: max(low, rate - speed * i)
    if kind == "cosine" and speed is not None:
        raise ConfigError(
            f"{role}: decayRate={speed:g} means nothing to decayType=cosine, which ends at decayIterations"
        )
    if iterations < 1:
        raise ConfigError(f"{role}: decayType={kind} in a run without end needs decayIterations")
    if kind == "linear":
        return lambda i: rate + (low - rate) * min(i / iterations, 1.0)
    return lambda i: low + (rate - low) * (1.0 + math.cos(math.pi * min(i / iterations, 1.0))) / 2.0
