"""EchoNet: a perceptron that fits any role."""

from itertools import pairwise

from torch import nn

from ganglion.engine.api import NetworkError, Settings, setting


class EchoNet:
    """Perceptron between the flat input and the flat output, with SiLU between its layers."""

    class Settings(Settings):
        """Settings of EchoNet."""

        widths: tuple[int, ...] = setting((32, 32), "units of the hidden layers")

    def __call__(self, context):
        if min(context.settings.widths, default=1) < 1:
            raise NetworkError("EchoNet: widths must be positive")
        sizes = [context.input.size, *context.settings.widths]
        layers = [nn.Flatten()]
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), nn.SiLU()]
        layers += [nn.Linear(sizes[-1], context.output.size), nn.Unflatten(1, context.output.shape)]
        return nn.Sequential(*layers)
