"""The deep convolutional pair for images, with as many stages as the height and width ask for.

Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional GANs", 2016,
https://arxiv.org/abs/1511.06434

Deviations: the published networks are for 64 x 64 pixels. Here sides are halved while the smaller one is 8 or more, so
28 pixels have two stages, 32 three, 64 four; an odd side is rounded up and the generator's picture cropped. As in the
authors' wake most implementations do, no convolution has a bias.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from ganglion.engine.api import DataSpec, NetworkContext, NetworkError, Port, Settings, hookimpl, setting
from ganglion.networks.definition import NetworkDefinition

SMALLEST = 8
WIDEST = 8  # the published networks stop at eight times the width


class DCGANSettings(Settings):
    """Settings of both networks."""

    width: int = setting(64, "channels of the largest feature maps; smaller maps have up to eight times as many", ge=1)
    batch_norm: bool = setting(
        True,
        "BatchNorm behind the convolutions; off for a discriminator whose gradient is penalised: then convolutions "
        "have a bias and torch's own initial weights",
    )


class _DCGAN(ABC):
    """What both networks share: a definition that is made for the image's size, and the published initialisation."""

    Settings: ClassVar[type[Settings]] = DCGANSettings
    name: ClassVar[str]
    roles: ClassVar[tuple[str, ...]]

    def __call__(self, context: NetworkContext) -> nn.Module:
        network = self.definition(context)(context)
        return network.apply(initialise) if _settings(context).batch_norm else network

    def definition(self, context: NetworkContext) -> NetworkDefinition:
        """The layers for a context. Raises NetworkError for anything but images."""
        picture = self.picture(context)
        if picture.kind != "image" or min(picture.shape[1:]) < SMALLEST:
            raise NetworkError(
                f"{self.name} is for images of at least {SMALLEST} x {SMALLEST} pixels, "
                f"not for {picture.kind} data of shape {picture.shape}"
            )
        return NetworkDefinition(self.content(context, _settings(context)), self.name)

    def layer_arguments(self, context: NetworkContext | None = None) -> Mapping[str, tuple[str, ...]]:
        """What may be overridden, by layer type: the same for every size of image."""
        known = self._example() if context is None else context
        return self.definition(known).layer_arguments(known)

    def _example(self) -> NetworkContext:
        port = Port("image", (3, 32, 32))
        return NetworkContext("example", port, port, DataSpec("image", port.shape))

    @abstractmethod
    def picture(self, context: NetworkContext) -> Port:
        """The image that the network makes or judges."""

    @abstractmethod
    def content(self, context: NetworkContext, settings: DCGANSettings) -> dict[str, Any]:
        """The definition as plain values."""


class DCGANGenerator(_DCGAN):
    """The DCGAN generator: transposed convolutions, BatchNorm, ReLU, tanh; for images from 8 x 8 pixels on."""

    name = "DCGANGenerator"
    roles = ("generator",)

    def picture(self, context: NetworkContext) -> Port:
        return context.output

    def content(self, context: NetworkContext, settings: DCGANSettings) -> dict[str, Any]:
        norm = settings.batch_norm
        channels, height, across = context.output.shape
        sides = _sides(height, across)
        layers: list[Any] = [{"Reshape": [context.input.size, 1, 1]}]
        for stage, side in enumerate(sides[:-1]):
            out_channels = settings.width * min(2 ** (len(sides) - 2 - stage), WIDEST)
            normalised = ["BatchNorm2d"] if norm else []
            layers += [_up(out_channels, side if stage == 0 else None, norm), *normalised, "ReLU"]
        layers += [_up(channels, None, norm), {"Crop": [height, across]}, "Tanh"]
        return {"name": self.name, "doc": self.__doc__, "output_range": [-1, 1], "layers": layers}


class DCGANDiscriminator(_DCGAN):
    """The DCGAN discriminator: strided convolutions, BatchNorm, LeakyReLU 0.2, a logit; from 8 x 8 pixels on."""

    name = "DCGANDiscriminator"
    roles = ("discriminator",)

    def picture(self, context: NetworkContext) -> Port:
        return context.input

    def content(self, context: NetworkContext, settings: DCGANSettings) -> dict[str, Any]:
        width, norm = settings.width, settings.batch_norm
        layers: list[Any] = []
        sides = _sides(*context.input.shape[1:])
        for stage in range(len(sides) - 1):
            down = {"out_channels": width * min(2**stage, WIDEST), "kernel_size": 4, "stride": 2, "padding": 1}
            normalised = ["BatchNorm2d"] if stage and norm else []
            layers += [{"Conv2d": {**down, "bias": not norm}}, *normalised, {"LeakyReLU": 0.2}]
        final = [side // 2 ** (len(sides) - 1) for side in context.input.shape[1:]]
        layers.append({"Conv2d": {"out_channels": context.output.size, "kernel_size": final, "bias": not norm}})
        layers.append("Flatten")
        return {"name": self.name, "doc": self.__doc__, "layers": layers}


def _settings(context: NetworkContext) -> DCGANSettings:
    return context.settings if context.settings is not None else DCGANSettings()


def _up(out_channels: int, start: tuple[int, int] | None, norm: bool) -> dict[str, Any]:
    """A transposed convolution that doubles the sides, or makes a map of size `start` from a single pixel."""
    if start is not None:
        return {"ConvTranspose2d": {"out_channels": out_channels, "kernel_size": list(start), "bias": not norm}}
    double = {"kernel_size": 4, "stride": 2, "padding": 1}
    return {"ConvTranspose2d": {"out_channels": out_channels, **double, "bias": not norm}}


def _sides(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width at every stage, the smallest first: halved, rounded up, while the smaller one is 8 or more."""
    sides = [(height, width)]
    while min(sides[0]) >= SMALLEST:
        sides.insert(0, ((sides[0][0] + 1) // 2, (sides[0][1] + 1) // 2))
    return sides


def initialise(module: nn.Module) -> None:
    """The published start: convolutions from N(0, 0.02), BatchNorm weights from N(1, 0.02), its biases 0."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


@hookimpl
def register_networks(register: Any) -> None:
    """DCGANGenerator and DCGANDiscriminator."""
    register("DCGANGenerator", DCGANGenerator())
    register("DCGANDiscriminator", DCGANDiscriminator())
