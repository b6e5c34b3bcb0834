"""A strategy, a network and a data set: learn --plugin local_plugin.py Slim,Slim Spiral strategy=CalmGAN"""

import math

import torch
from torch import nn

from ganglion.engine import api
from ganglion.strategies.api import AdversarialSettings, AdversarialStrategy


class CalmGAN(AdversarialStrategy):
    """A GAN whose generator also keeps the scores of its samples from running away."""

    class Settings(AdversarialSettings):
        calm: float = api.setting(0.01, "weight of the mean square of the generator's scores", ge=0)

    preset = {"objective": "nonsaturating", "method": "ADAM", "learningRate": 5e-4, "beta1": 0.5}

    def generator_loss(self, noise, batch):
        scores = self.scores(self.fake(noise, batch), batch)
        calm = self.context.settings.calm * scores.square().mean()
        return api.Loss(self.context.parts["objective"].generator(None, scores) + calm, {"calm": calm})


def slim(context):
    """One hidden layer between whatever goes in and whatever should come out."""
    return nn.Sequential(nn.Linear(context.input.size, 32), nn.ReLU(), nn.Linear(32, context.output.size))


class Spiral(api.DatasetFactory):
    """Points on a spiral around 0."""

    class Settings(api.Settings):
        turns: float = api.setting(2.0, "how often it turns", gt=0)

    def load(self):
        generator = torch.Generator().manual_seed(api.stream_seed(self.context.seed, "Spiral"))
        radius = torch.rand(512, generator=generator)
        angle = 2 * math.pi * self.settings.turns * radius
        points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        return api.Splits(api.TensorDataset(api.DataSpec("vector", (2,)), points))


@api.hookimpl
def register_strategies(register):
    register("CalmGAN", CalmGAN)


@api.hookimpl
def register_networks(register):
    register("Slim", slim)


@api.hookimpl
def register_datasets(register):
    register("Spiral", Spiral)
