"""FinGAN's pair for long series of returns.

Takahashi, Chen, Tanaka-Ishii, "Modeling financial time-series with generative adversarial networks", Physica A 527,
2019, https://doi.org/10.1016/j.physa.2019.121261, as in https://github.com/stakahashy/fingan

Deviations: any number of steps and features, where the source has 8192 steps of one. The convolutional forms double the
steps six times from there; a shorter window is doubled less often, so that some eight steps are left to begin with, by
the shorter kernels, and its code has more channels, so that it keeps 128 numbers or more. What is too much is dropped.
The discriminator gives logits.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ganglion.engine.api import NetworkContext, Settings, hookimpl, setting
from ganglion.networks.modules import Dropout
from ganglion.networks.series.sequences import Window, batch_norm, padding, window_in, window_out

KERNELS = (35, 25, 15, 15, 15, 15)  # of the convolutions, the shortest maps first
SHORTEST = 8  # steps of the code where a window is too short for all of them
CODE = 128
SLOPE = 0.3  # of LeakyReLU in Keras
UNIFORM = 0.05  # Keras' random_uniform reaches so far


class FinGANGeneratorSettings(Settings):
    """Settings of FinGANGenerator."""

    form: Literal["mlp", "cnn", "mlp-cnn", "plus"] = setting(
        "mlp-cnn",
        "a perceptron; convolutions; convolutions times what a Linear makes of the code; that times a number in 0..1",
    )
    width: int = setting(64, "channels of the convolutions", ge=1)
    hidden: int = setting(2048, "units of the perceptron's second layer", ge=1)


class FinGANDiscriminatorSettings(Settings):
    """Settings of FinGANDiscriminator."""

    width: int = setting(64, "channels of the first convolution; the others have twice as many", ge=1)
    dropout: float = setting(0.5, "share of the features dropped before the output", ge=0, lt=1)


class Perceptron(nn.Module):
    """The form `mlp`: (batch, latent) to (batch, steps, features), tanh throughout."""

    output_range = (-1.0, 1.0)

    def __init__(self, latent: int, window: Window, hidden: int) -> None:
        super().__init__()
        sizes = [latent, CODE, hidden, window.steps * window.features]
        layers: list[nn.Module] = []
        for have, want in pairwise(sizes):
            layers += [nn.Linear(have, want), nn.Tanh()]
            nn.init.uniform_(layers[-2].get_parameter("weight"), -UNIFORM, UNIFORM)
            nn.init.zeros_(layers[-2].get_parameter("bias"))
        self.layers = nn.Sequential(*layers, nn.Unflatten(1, tuple(window)))

    def forward(self, noise: Tensor) -> Tensor:
        made: Tensor = self.layers(noise)
        return made


class Branches(nn.Module):
    """The last convolution, and two shorter ones beside it that see what it gives: the sum of all three."""

    def __init__(self, channels: int, width: int, steps: int) -> None:
        super().__init__()
        self.long = nn.Sequential(padding(steps, KERNELS[-1]), nn.Conv1d(channels, width, KERNELS[-1]))
        self.short = nn.ModuleList(
            nn.Sequential(padding(steps, kernel), nn.Conv1d(width, width, kernel)) for kernel in (7, 4)
        )

    def forward(self, rows: Tensor) -> Tensor:
        long: Tensor = self.long(rows)
        first, second = self.short
        made: Tensor = long + first(long) + second(long)
        return made


class Convolutions(nn.Module):
    """The other forms: (batch, latent) to (batch, steps, features) within -1..1."""

    output_range = (-1.0, 1.0)

    def __init__(self, latent: int, window: Window, settings: FinGANGeneratorSettings) -> None:
        super().__init__()
        self.window = window
        kernels = KERNELS[-stages(window.steps) :]
        steps = -(-window.steps // 2 ** len(kernels))
        self.channels = -(-CODE // steps)
        self.code = nn.Linear(latent, steps * self.channels)
        layers: list[nn.Module] = []
        for place, kernel in enumerate(kernels):
            have = settings.width if place else self.channels
            steps *= 2
            last = place == len(kernels) - 1
            plain = nn.Sequential(padding(steps, kernel), nn.Conv1d(have, settings.width, kernel))
            layers += [nn.Upsample(scale_factor=2), Branches(have, settings.width, steps) if last else plain]
            layers += [batch_norm(settings.width), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv1d(settings.width, window.features, 1), nn.Tanh())
        masked, scaled = settings.form != "cnn", settings.form == "plus"
        self.mask = nn.Linear(self.code.out_features, window.steps * window.features) if masked else None
        self.size = nn.Linear(latent, 1) if scaled else None

    def forward(self, noise: Tensor) -> Tensor:
        code = self.code(noise)
        made: Tensor = self.layers(code.unflatten(1, (self.channels, -1)))[:, :, : self.window.steps].transpose(1, 2)
        if self.mask is not None:
            made = made * self.mask(code).tanh().unflatten(1, tuple(self.window))
        return made if self.size is None else made * self.size(noise).sigmoid().unsqueeze(2)


class Critic(nn.Module):
    """(batch, steps, features) to scores of any shape."""

    def __init__(self, window: Window, context: NetworkContext, settings: FinGANDiscriminatorSettings) -> None:
        super().__init__()
        width = settings.width
        layers: list[nn.Module] = []
        for have, want in ((window.features, width), (width, 2 * width), (2 * width, 2 * width)):
            layers += [padding(window.steps, 10), nn.Conv1d(have, want, 10), nn.LeakyReLU(0.2)]
        layers += [nn.Flatten(), nn.Linear(2 * width * window.steps, 32), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, Dropout(settings.dropout), nn.Linear(32, context.output.size))
        self.shape = context.output.shape

    def forward(self, rows: Tensor) -> Tensor:
        made: Tensor = self.layers(rows.transpose(1, 2)).unflatten(1, self.shape)
        return made


def stages(steps: int) -> int:
    """How often the steps are doubled: six times from 512 steps on, at least once."""
    return min(len(KERNELS), max(1, (steps // SHORTEST).bit_length() - 1))


class FinGANGenerator:
    """FinGAN's generator: a window of one vector, by convolutions times a mask, or another of its four forms."""

    Settings: ClassVar[type[Settings]] = FinGANGeneratorSettings
    roles = ("generator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or FinGANGeneratorSettings()
        window = window_out("FinGANGenerator", context)
        if settings.form == "mlp":
            return Perceptron(context.input.size, window, settings.hidden)
        return Convolutions(context.input.size, window, settings)


class FinGANDiscriminator:
    """FinGAN's discriminator: three convolutions over the whole window, a dense layer of 32 and a logit."""

    Settings: ClassVar[type[Settings]] = FinGANDiscriminatorSettings
    roles = ("discriminator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        window = window_in("FinGANDiscriminator", context)
        return Critic(window, context, context.settings or FinGANDiscriminatorSettings())


@hookimpl
def register_networks(register: Any) -> None:
    """FinGANGenerator and FinGANDiscriminator."""
    register("FinGANGenerator", FinGANGenerator())
    register("FinGANDiscriminator", FinGANDiscriminator())
