"""A strategy, a network and a data set of one's own: learn --plugin local_plugin.py Slim,Slim Spiral strategy=CalmGAN"""

import math

import torch
from torch import nn

from ganglion.engine.api import DatasetFactory, DataSpec, Loss, Settings, Splits, TensorDataset, hookimpl, setting, stream_seed
from ganglion.strategies.api import AdversarialSettings, AdversarialStrategy


class CalmGAN(AdversarialStrategy):
    """A GAN whose generator is also asked not to let the scores of its samples run away."""

    class Settings(AdversarialSettings):
        calm: float = setting(0.01, "weight of the mean square of the generator's scores", ge=0)

    preset = {"objective": "nonsaturating", "method": "ADAM", "learningRate": 5e-4, "beta1": 0.5}

    def generator_loss(self, noise, batch):
        scores = self.scores(self.fake(noise, batch), batch)
        calm = self.context.settings.calm * scores.square().mean()
        return Loss(self._objective.generator(None, scores) + calm, {"calm": calm})


def slim(context):
    """One hidden layer between whatever goes in and whatever should come out."""
    width = context.settings.width
    return nn.Sequential(nn.Linear(context.input.size, width), nn.ReLU(), nn.Linear(width, context.output.size))


class SlimSettings(Settings):
    width: int = setting(32, "units of the hidden layer", ge=1)


slim.Settings = SlimSettings


class Spiral(DatasetFactory):
    """Points on a spiral of `turns` turns around 0."""

    class Settings(Settings):
        size: int = setting(512, "points", ge=1)
        turns: float = setting(2.0, "turns of the spiral", gt=0)

    def load(self):
        generator = torch.Generator().manual_seed(stream_seed(self.context.seed, "Spiral"))
        radius = torch.rand(self.settings.size, generator=generator)
        angle = 2 * math.pi * self.settings.turns * radius
        points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        return Splits(TensorDataset(DataSpec("vector", (2,)), points))


register_strategies = hookimpl(lambda register: register("CalmGAN", CalmGAN), specname="register_strategies")
register_networks = hookimpl(lambda register: register("Slim", slim), specname="register_networks")
register_datasets = hookimpl(lambda register: register("Spiral", Spiral), specname="register_datasets")
