"""The pair that fills gaps in sequences, from values, a mask and covariates in each step.

As in https://github.com/IvanBongiorni/GAN-RNN_Timeseries-imputation

Deviations: two convolutions, because what the source puts behind them is never used; the output goes through nothing,
where the source's ReLU is for data without negative values (activation=relu); the discriminator gives logits, which the
source computes losses of as if they were, and sees the recurrent layer's last state once, not again for every step.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganglion.engine.api import NetworkContext, NetworkError, Settings, hookimpl, setting
from ganglion.networks.series.sequences import (
    ACTIVATIONS,
    RANGES,
    Window,
    check_activation,
    padding,
    same_steps,
    second_derivatives,
    window_in,
)

KERNEL = 3


class ImputationSettings(Settings):
    """What both networks can be set to."""

    hidden: int = setting(64, "units of every LSTM", unit="units", ge=1)
    filters: int = setting(32, "channels of both convolutions", ge=1)


class ImputerSettings(ImputationSettings):
    """Settings of Imputer."""

    activation: Literal["none", "relu", "tanh", "sigmoid"] = setting("none", "what the output goes through")


class Views(nn.Module):
    """A sequence seen twice: an LSTM's last state (batch, hidden), and convolutions (batch, filters, steps)."""

    def __init__(self, window: Window, settings: ImputationSettings) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(window.features, settings.hidden, batch_first=True)
        layers: list[nn.Module] = []
        for have in (window.features, settings.filters):
            layers += [padding(window.steps, KERNEL), nn.Conv1d(have, settings.filters, KERNEL), nn.ELU()]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        with second_derivatives(rows):
            _, (last, _) = self.recurrent(rows)
        return last[-1], self.convolutions(rows.transpose(1, 2))


class Filling(nn.Module):
    """(batch, steps, inputs) to (batch, steps, values)."""

    def __init__(self, window: Window, values: int, settings: ImputerSettings) -> None:
        super().__init__()
        self.views = Views(window, settings)
        self.recurrent = nn.LSTM(settings.hidden + settings.filters, settings.hidden, batch_first=True)
        self.output = nn.Linear(settings.hidden, values)
        self.activation = ACTIVATIONS[settings.activation]()
        self.output_range = RANGES.get(settings.activation)

    def forward(self, rows: Tensor) -> Tensor:
        last, local = self.views(rows)
        seen = torch.cat((last.unsqueeze(1).expand(-1, rows.shape[1], -1), local.transpose(1, 2)), 2)
        with second_derivatives(rows):
            sequence, _ = self.recurrent(seen)
        made: Tensor = self.activation(self.output(sequence))
        return made


class Judging(nn.Module):
    """(batch, steps, inputs) to scores of any shape."""

    def __init__(self, window: Window, context: NetworkContext, settings: ImputationSettings) -> None:
        super().__init__()
        self.views = Views(window, settings)
        self.output = nn.Linear(settings.hidden + settings.filters * window.steps, context.output.size)
        self.shape = context.output.shape

    def forward(self, rows: Tensor) -> Tensor:
        last, local = self.views(rows)
        made: Tensor = self.output(torch.cat((last, local.flatten(1)), 1)).unflatten(1, self.shape)
        return made


class Imputer:
    """Fills gaps: an LSTM's last state and convolutions, side by side, before an LSTM and a Linear in every step.

    Its input holds, in each step, the values with a number where one is missing, the mask, and covariates; its output
    the values of every step.
    """

    Settings: ClassVar[type[Settings]] = ImputerSettings
    roles = ("autoencoder", "imputer", "generator")

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or ImputerSettings()
        window = window_in("Imputer", context)
        if len(context.output.shape) != 2:
            raise NetworkError(
                f"Imputer fills in a sequence (steps, values), not {context.output.kind} {context.output.shape}"
            )
        same_steps("Imputer", context.input, context.output)
        check_activation(settings.activation, context)
        return Filling(window, context.output.shape[1], settings)


class ImputationDiscriminator:
    """Tells filled-in sequences from complete ones: an LSTM's last state and convolutions before one Linear."""

    Settings: ClassVar[type[Settings]] = ImputationSettings
    roles = ("discriminator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        window = window_in("ImputationDiscriminator", context)
        return Judging(window, context, context.settings or ImputationSettings())


@hookimpl
def register_networks(register: Any) -> None:
    """Imputer and ImputationDiscriminator."""
    register("Imputer", Imputer())
    register("ImputationDiscriminator", ImputationDiscriminator())
