"""The convolutional pair for days of electricity use and generation.

Zhang, Kuppannagari, Kannan, Prasanna, "Generative Adversarial Network for Synthetic Time Series Data Generation in
Smart Grids", 2018, as in the authors' later https://github.com/vermouth1992/synthetic-time-series-smart-grid

Deviations: any number of steps, where the source wants multiples of 8: the generator makes the next multiple and drops
what is too much. Labels come as one-hot numbers behind the noise: the first Linear is their embedding and what follows
it there. The heads are logits: one Linear gives the score and the answers behind it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from ganglion.engine.api import NetworkContext, Settings, hookimpl, setting
from ganglion.networks.series.sequences import Transposed, Window, batch_norm, padding, window_in, window_out

STAGES = 3
SLOPE = 0.2


class SmartGridSettings(Settings):
    """What both networks can be set to."""

    width: int = setting(
        64, "channels of the shortest maps; every stage towards the whole window has half as many", ge=4
    )


class DayGenerator(nn.Module):
    """(batch, latent) to (batch, steps, features) in 0..1."""

    output_range = (0.0, 1.0)

    def __init__(self, latent: int, window: Window, width: int) -> None:
        super().__init__()
        self.steps, self.width = window.steps, width
        channels = [width, width // 2, width // 4]
        self.entry = nn.Linear(latent, -(-window.steps // 2**STAGES) * width)
        layers: list[nn.Module] = []
        for have, want in zip(channels, [*channels[1:], window.features], strict=True):
            layers += [batch_norm(have), nn.LeakyReLU(SLOPE), Transposed(have, want, 4, 2)]
        self.layers = nn.Sequential(*layers)
        self.activation = nn.Sigmoid()

    def forward(self, noise: Tensor) -> Tensor:
        made: Tensor = self.layers(self.entry(noise).unflatten(1, (self.width, -1)))
        values: Tensor = self.activation(made[:, :, : self.steps].transpose(1, 2))
        return values


class DayDiscriminator(nn.Module):
    """(batch, steps, features) to scores, or a score and answers, of any shape."""

    def __init__(self, window: Window, shape: tuple[int, ...], size: int, width: int) -> None:
        super().__init__()
        self.shape = shape
        channels = [window.features, width // 4, width // 2, width]
        layers: list[nn.Module] = []
        steps = window.steps
        for stage in range(STAGES):
            layers += [padding(steps, 4, 2), nn.Conv1d(channels[stage], channels[stage + 1], 4, 2)]
            layers += [*([batch_norm(channels[stage + 1])] if stage else []), nn.LeakyReLU(SLOPE)]
            steps = -(-steps // 2)
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.output = nn.Linear(steps * width, size)

    def forward(self, rows: Tensor) -> Tensor:
        made: Tensor = self.output(self.layers(rows.transpose(1, 2))).unflatten(1, self.shape)
        return made


class SmartGridGenerator:
    """Transposed convolutions that make a window in 0..1 of one vector: noise and, behind it, one-hot labels."""

    Settings: ClassVar[type[Settings]] = SmartGridSettings
    roles = ("generator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or SmartGridSettings()
        window = window_out("SmartGridGenerator", context)
        return DayGenerator(context.input.size, window, settings.width)


class SmartGridDiscriminator:
    """Strided convolutions that judge a window: a score, and the classes of its labels where they are asked for."""

    Settings: ClassVar[type[Settings]] = SmartGridSettings
    roles = ("discriminator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or SmartGridSettings()
        window = window_in("SmartGridDiscriminator", context)
        return DayDiscriminator(window, context.output.shape, context.output.size, settings.width)


@hookimpl
def register_networks(register: Any) -> None:
    """SmartGridGenerator and SmartGridDiscriminator."""
    register("SmartGridGenerator", SmartGridGenerator())
    register("SmartGridDiscriminator", SmartGridDiscriminator())
