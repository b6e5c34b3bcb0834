"""Parts that any strategy can use: a sampling, a criterion, a link of the processor chain, an objective."""

import math

import torch
from torch.nn.functional import relu, softplus

from ganglion.engine.api import Criterion, GradientProcessor, Objective, Sampling, Settings, setting


class EverySecond(Sampling):
    """All even rows in random order, then all odd ones."""

    def order(self, generator):
        rows = torch.randperm(len(self.dataset), generator=generator)
        return torch.cat([rows[rows % 2 == 0], rows[rows % 2 == 1]])


class LogCosh(Criterion):
    """The logarithm of the hyperbolic cosine of the error: like MSE near 0 and like ABS far away."""

    def loss(self, output, target, mask=None):
        error = output - target
        values = error + softplus(-2 * error) - math.log(2)
        weights = torch.ones_like(values) if mask is None else mask.expand_as(values)
        return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=1)


class Centralize(GradientProcessor):
    """Takes the mean over its inputs off the gradient of every unit."""

    class Settings(Settings):
        """Settings of Centralize."""

        centralize: bool = setting(False, "centre the gradient of every unit")

    key = "centralize"
    position = 5

    def before(self, step):
        for parameter in self.parameters:
            if parameter.grad is not None and parameter.dim() > 1:
                parameter.grad -= parameter.grad.flatten(1).mean(1).view(-1, *[1] * (parameter.dim() - 1))


class Margin(Objective):
    """Real scores above `margin`, fake ones below minus `margin`; the generator raises its scores."""

    class Settings(Settings):
        """Settings of the objective."""

        margin: float = setting(1.0, "distance from 0 beyond which a score is good enough", gt=0)

    def discriminator(self, real, fake):
        return relu(self.settings.margin - real).mean(), relu(self.settings.margin + fake).mean()

    def generator(self, real, fake):
        return -fake.mean()
