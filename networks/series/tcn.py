"""Causal temporal convolutions for sequences: a step depends on no later one.

The networks are those of proceduralia's GANs for daily curves, https://github.com/proceduralia/pytorch-GAN-timeseries,
with the blocks of Bai, Kolter, Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
Sequence Modeling", 2018, https://arxiv.org/abs/1803.01271

Deviations: the discriminator gives logits; asked for one score it gives the mean over the steps; the first weights are
torch's own, which weight normalisation makes of the small ones of the source as well.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ganglion.engine.api import NetworkContext, Port, Settings, hookimpl, setting
from ganglion.networks.modules import Dropout
from ganglion.networks.series.sequences import (
    ACTIVATIONS,
    RANGES,
    ActivationName,
    Repeat,
    check_activation,
    same_steps,
    sequence_shapes,
)


class TCNSettings(Settings):
    """What both networks can be set to."""

    blocks: int = setting(8, "residual blocks; the n-th looks 2^n steps apart, from 1 on", ge=1, le=20)
    channels: int = setting(10, "channels of every convolution", ge=1)
    kernel: int = setting(8, "steps that a convolution looks at", unit="steps", ge=1)
    dropout: float = setting(0.2, "share of the values dropped behind every convolution", ge=0, lt=1)
    weight_norm: bool = setting(True, "learn direction and length of the weights apart")


class TCNGeneratorSettings(TCNSettings):
    """Settings of TCNGenerator."""

    activation: ActivationName = setting("tanh", "what the output goes through")


class TCNDiscriminatorSettings(TCNSettings):
    """Settings of TCNDiscriminator."""

    dropout: float = setting(0.0, "share of the values dropped behind every convolution", ge=0, lt=1)


class CausalConvolution(nn.Module):
    """A convolution of (batch, channels, steps) that sees the present and earlier steps, then ReLU and dropout."""

    def __init__(self, channels: int, dilation: int, settings: TCNSettings) -> None:
        super().__init__()
        convolution = nn.Conv1d(channels, settings.channels, settings.kernel, dilation=dilation)
        self.pad = nn.ConstantPad1d(((settings.kernel - 1) * dilation, 0), 0.0)
        self.convolution = weight_norm(convolution) if settings.weight_norm else convolution
        self.dropout = Dropout(settings.dropout)

    def forward(self, rows: Tensor) -> Tensor:
        made: Tensor = self.dropout(self.convolution(self.pad(rows)).relu())
        return made


class Block(nn.Module):
    """Two causal convolutions, and the input beside them."""

    def __init__(self, channels: int, dilation: int, settings: TCNSettings) -> None:
        super().__init__()
        self.first = CausalConvolution(channels, dilation, settings)
        self.second = CausalConvolution(settings.channels, dilation, settings)
        same = channels == settings.channels
        self.shortcut = nn.Identity() if same else nn.Conv1d(channels, settings.channels, 1)

    def forward(self, rows: Tensor) -> Tensor:
        made: Tensor = self.second(self.first(rows)) + self.shortcut(rows)
        return made.relu()


class TemporalConvolutions(nn.Module):
    """Blocks over (batch, steps, size) and a Linear in every step; one output (k,) is the mean over the steps."""

    def __init__(self, given: Port, made: Port, settings: TCNSettings, activation: str = "none") -> None:
        super().__init__()
        self.by_step = len(made.shape) == 2
        self.repeat = Repeat(made.shape[0])
        sizes = [given.shape[-1], *[settings.channels] * settings.blocks]
        self.blocks = nn.Sequential(*(Block(channels, 2**place, settings) for place, channels in enumerate(sizes[:-1])))
        self.output = nn.Linear(settings.channels, made.shape[-1])
        self.activation = ACTIVATIONS[activation]()
        self.output_range = RANGES.get(activation)

    def forward(self, rows: Tensor) -> Tensor:
        made: Tensor = self.output(self.blocks(self.repeat(rows).transpose(1, 2)).transpose(1, 2))
        made = self.activation(made)
        return made if self.by_step else made.mean(1)


class TCNGenerator:
    """Causal temporal convolutions that make a sequence: 8 blocks of 10 channels, tanh in every step."""

    Settings: ClassVar[type[Settings]] = TCNGeneratorSettings
    roles = ("generator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or TCNGeneratorSettings()
        given, made = sequence_shapes("TCNGenerator", context)
        same_steps("TCNGenerator", given, made)
        check_activation(settings.activation, context)
        return TemporalConvolutions(given, made, settings, settings.activation)


class TCNDiscriminator:
    """Causal temporal convolutions that judge a sequence: 8 blocks of 10 channels, a logit for every step."""

    Settings: ClassVar[type[Settings]] = TCNDiscriminatorSettings
    roles = ("discriminator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        given, made = sequence_shapes("TCNDiscriminator", context)
        same_steps("TCNDiscriminator", given, made)
        return TemporalConvolutions(given, made, context.settings or TCNDiscriminatorSettings())


@hookimpl
def register_networks(register: Any) -> None:
    """TCNGenerator and TCNDiscriminator."""
    register("TCNGenerator", TCNGenerator())
    register("TCNDiscriminator", TCNDiscriminator())
