"""LSTMs and GRUs for sequences: any input and output, and the pair of RGAN.

Esteban, Hyland, Rätsch, "Real-valued (Medical) Time Series Generation with Recurrent Conditional GANs", 2017,
https://arxiv.org/abs/1706.02633

Deviations: torch's own start of the recurrent weights instead of Glorot's; TensorFlow adds 1 to the forget gate beside
the bias of 1; the batch's mean, which the discriminator may see, is a running one in evaluation mode.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import nn

from ganglion.engine.api import ConfigError, NetworkContext, NetworkError, Settings, hookimpl, setting
from ganglion.networks.series.recurrentlayers import CellSettings, FreeRunningNetwork, RecurrentNetwork
from ganglion.networks.series.sequences import ActivationName, check_activation, same_steps, sequence_shapes

PUBLISHED_START = "truncatedNormal"


class RecurrentSettings(CellSettings):
    """Settings of Recurrent."""

    bidirectional: bool = setting(False, "whether every layer also reads the sequence backwards")
    batch_mean: bool = setting(False, "append the mean over the batch to each step's features, against collapse")
    activation: ActivationName = setting("none", "what the output goes through")
    head: Literal["step", "window"] = setting(
        "step",
        "for an output with steps: made in every step, or all at once from the last state, as it always is where input "
        "and output differ in steps",
    )
    free_running: bool = setting(False, "feed each step's output back into the next one")


class RecurrentGeneratorSettings(RecurrentSettings):
    """Settings of RecurrentGenerator."""

    activation: ActivationName = setting("tanh", "what the output goes through")
    forget_bias: float | None = setting(
        1.0, "what the biases of all gates of an LSTM begin with; none: torch's own start", ge=-100, le=100
    )
    output_init: Literal["none", "truncatedNormal"] = setting(
        PUBLISHED_START, "the start of the output layer: torch's own, or N(0, 1) cut off at -2 and 2"
    )


class RecurrentDiscriminatorSettings(CellSettings):
    """Settings of RecurrentDiscriminator."""

    bidirectional: bool = setting(False, "whether every layer also reads the sequence backwards")
    batch_mean: bool = setting(False, "append the mean over the batch to each step's features, against collapse")
    output_init: Literal["none", "truncatedNormal"] = setting(
        PUBLISHED_START, "the start of the output layer: torch's own, or N(0, 1) cut off at -2 and 2"
    )


class Recurrent:
    """An LSTM or GRU for sequences: of the input (steps, k) or (k,) it makes (steps, m) step by step, or (m,).

    An output (m,) is made from the last state, of both directions where there are two; an input (k,) is repeated in
    every step.
    """

    Settings: ClassVar[type[Settings]] = RecurrentSettings

    def __call__(self, context: NetworkContext) -> nn.Module:
        return _recurrent("Recurrent", context, context.settings or RecurrentSettings())


class RecurrentGenerator:
    """RGAN's generator of sequences: an LSTM of 100 units and tanh in every step."""

    Settings: ClassVar[type[Settings]] = RecurrentGeneratorSettings
    roles = ("generator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        return _recurrent("RecurrentGenerator", context, context.settings or RecurrentGeneratorSettings())


class RecurrentDiscriminator:
    """RGAN's discriminator of sequences: an LSTM of 100 units and a logit for every step, or for the last state."""

    Settings: ClassVar[type[Settings]] = RecurrentDiscriminatorSettings
    roles = ("discriminator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or RecurrentDiscriminatorSettings()
        given, made = sequence_shapes("RecurrentDiscriminator", context)
        same_steps("RecurrentDiscriminator", given, made)
        return RecurrentNetwork(
            given, made, settings, bidirectional=settings.bidirectional, batch_mean=settings.batch_mean
        )


def _recurrent(name: str, context: NetworkContext, settings: RecurrentSettings) -> nn.Module:
    """The network that the settings ask for. Raises NetworkError for other data, ConfigError for what excludes it."""
    given, made = sequence_shapes(name, context)
    check_activation(settings.activation, context)
    if settings.free_running:
        _check_free_running(name, settings)
        if len(made.shape) != 2:
            raise NetworkError(f"{name} freeRunning=true makes a sequence, not {made.kind} {made.shape}")
        same_steps(name, given, made)
        return FreeRunningNetwork(given, made, settings, settings.activation)
    differ = len(given.shape) == len(made.shape) == 2 and given.shape[0] != made.shape[0]
    return RecurrentNetwork(
        given,
        made,
        settings,
        bidirectional=settings.bidirectional,
        batch_mean=settings.batch_mean,
        window=differ or settings.head == "window",
        activation=settings.activation,
    )


def _check_free_running(name: str, settings: RecurrentSettings) -> None:
    against = {
        "bidirectional=true": settings.bidirectional,
        "head=window": settings.head == "window",
        "batchMean=true": settings.batch_mean,
    }
    for key, given in against.items():
        if given:
            raise ConfigError(f"{name}: freeRunning=true goes from step to step and cannot be used with {key}")


@hookimpl
def register_networks(register: Any) -> None:
    """Recurrent, RecurrentGenerator and RecurrentDiscriminator."""
    register("Recurrent", Recurrent())
    register("RecurrentGenerator", RecurrentGenerator())
    register("RecurrentDiscriminator", RecurrentDiscriminator())
