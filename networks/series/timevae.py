"""TimeVAE's pair: a convolutional encoder, and a decoder that adds up level, trend, seasons and what is left.

Desai, Freeman, Wang, Beaver, "TimeVAE: A Variational Auto-Encoder for Multivariate Time Series Generation", 2021,
https://arxiv.org/abs/2111.08095, as in https://github.com/abudesai/timeVAE

Deviations: one cycle of seasons, where the source takes several.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganglion.engine.api import ConfigError, NetworkContext, Settings, hookimpl, setting
from ganglion.networks.series.sequences import Transposed, Window, padding, window_in, window_out

KERNEL, STRIDE = 3, 2


class TimeVAESettings(Settings):
    """What both networks can be set to."""

    channels: tuple[int, ...] = setting(
        (50, 100, 200),
        "channels of the convolutions, each of which halves the steps; the decoder goes back through them",
    )


class TimeVAEDecoderSettings(TimeVAESettings):
    """Settings of TimeVAEDecoder."""

    trend: int = setting(0, "highest power of time in the trend; 0: no trend", ge=0, le=10)
    seasons: int = setting(0, "seasons of a cycle, each with its own value; 0: none", ge=0)
    season_steps: int = setting(1, "how long a season lasts", unit="steps", ge=1)

    def without_effect(self) -> dict[str, str]:
        return {} if self.seasons else {"season_steps": "there are no seasons; give seasons=N too"}


class Encoder(nn.Module):
    """(batch, steps, features) to numbers of the wanted shape: means and log-variances of a code."""

    def __init__(self, window: Window, context: NetworkContext, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        steps = window.steps
        for have, want in zip((window.features, *channels), channels, strict=False):
            layers += [padding(steps, KERNEL, STRIDE), nn.Conv1d(have, want, KERNEL, STRIDE), nn.ReLU()]
            steps = -(-steps // STRIDE)
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.output = nn.Linear(steps * channels[-1], context.output.size)
        self.shape = context.output.shape

    def forward(self, rows: Tensor) -> Tensor:
        made: Tensor = self.output(self.layers(rows.transpose(1, 2))).unflatten(1, self.shape)
        return made


class Trend(nn.Module):
    """Polynomials of time, from the first power on, whose coefficients follow from the code."""

    powers: Tensor

    def __init__(self, latent: int, window: Window, degree: int) -> None:
        super().__init__()
        size = window.features * degree
        self.coefficients = nn.Sequential(nn.Linear(latent, size), nn.ReLU(), nn.Linear(size, size))
        time = torch.linspace(0.0, 1.0, window.steps + 1)[:-1]
        self.register_buffer("powers", torch.stack([time**power for power in range(1, degree + 1)]), persistent=False)

    def forward(self, code: Tensor) -> Tensor:
        coefficients: Tensor = self.coefficients(code).unflatten(1, (-1, len(self.powers)))
        return (coefficients @ self.powers).transpose(1, 2)


class Seasons(nn.Module):
    """A value for each season of a cycle, which follows from the code."""

    season: Tensor

    def __init__(self, latent: int, window: Window, seasons: int, steps: int) -> None:
        super().__init__()
        self.features = window.features
        self.values = nn.Linear(latent, seasons * window.features)
        season = torch.arange(window.steps) // steps % seasons
        self.register_buffer("season", torch.eye(seasons)[season], persistent=False)

    def forward(self, code: Tensor) -> Tensor:
        values: Tensor = self.values(code).unflatten(1, (-1, self.features))
        return self.season @ values  # not by index: its gradient would be summed up in any order on a GPU


class Decoder(nn.Module):
    """(batch, latent) to (batch, steps, features): any numbers."""

    def __init__(self, latent: int, window: Window, settings: TimeVAEDecoderSettings) -> None:
        super().__init__()
        self.window, features = window, window.features
        self.level = nn.Sequential(nn.Linear(latent, features), nn.ReLU(), nn.Linear(features, features))
        parts: list[nn.Module] = []
        if settings.trend:
            parts.append(Trend(latent, window, settings.trend))
        if settings.seasons:
            parts.append(Seasons(latent, window, settings.seasons, settings.season_steps))
        self.parts = nn.ModuleList(parts)
        widths = [*reversed(settings.channels), features]
        steps = window.steps
        for _ in settings.channels:
            steps = -(-steps // STRIDE)
        layers: list[nn.Module] = [nn.Linear(latent, steps * widths[0]), nn.ReLU(), nn.Unflatten(1, (widths[0], steps))]
        for have, want in pairwise(widths):
            layers += [Transposed(have, want, KERNEL, STRIDE), nn.ReLU()]
        made = steps * STRIDE ** len(settings.channels) * features
        self.rest = nn.Sequential(*layers, nn.Flatten(), nn.Linear(made, window.steps * features))

    def forward(self, code: Tensor) -> Tensor:
        made: Tensor = self.level(code).unsqueeze(1) + self.rest(code).unflatten(1, tuple(self.window))
        for part in self.parts:
            made = made + part(code)
        return made


def _channels(settings: TimeVAESettings) -> tuple[int, ...]:
    if not settings.channels or min(settings.channels) < 1:
        given = ",".join(map(str, settings.channels))
        raise ConfigError(f"channels={given}: expects one number above 0 for each convolution, such as 50,100,200")
    return settings.channels


class TimeVAEEncoder:
    """TimeVAE's encoder: convolutions of 50, 100 and 200 channels that halve the steps, then a Linear."""

    Settings: ClassVar[type[Settings]] = TimeVAESettings
    roles = ("encoder",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or TimeVAESettings()
        return Encoder(window_in("TimeVAEEncoder", context), context, _channels(settings))


class TimeVAEDecoder:
    """TimeVAE's decoder: level and convolutional rest, and, where they are asked for, a trend and seasons."""

    Settings: ClassVar[type[Settings]] = TimeVAEDecoderSettings
    roles = ("decoder",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or TimeVAEDecoderSettings()
        window = window_out("TimeVAEDecoder", context)
        _channels(settings)
        return Decoder(context.input.size, window, settings)


@hookimpl
def register_networks(register: Any) -> None:
    """TimeVAEEncoder and TimeVAEDecoder."""
    register("TimeVAEEncoder", TimeVAEEncoder())
    register("TimeVAEDecoder", TimeVAEDecoder())
