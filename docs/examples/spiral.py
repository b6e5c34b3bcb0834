"""A data set: learn --plugin spiral.py Generator,Discriminator Spiral strategy=NSGAN"""

import math

import torch

from ganglion.engine import api


class Spiral(api.DatasetFactory):
    """Points on a spiral around 0."""

    class Settings(api.Settings):
        turns: float = api.setting(2.0, "how often it turns", gt=0)
        size: int = api.setting(4096, "training points; a quarter as many to test", ge=4)

    def load(self):
        return api.Splits(train=self.part("train", self.settings.size), test=self.part("test", self.settings.size // 4))

    def part(self, name, count):
        generator = torch.Generator().manual_seed(api.stream_seed(self.context.seed, "Spiral", name))
        radius = torch.rand(count, generator=generator)
        angle = 2 * math.pi * self.settings.turns * radius
        points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        return api.TensorDataset(api.DataSpec("vector", (2,)), points)

    def assess(self, samples):
        radius, angle = samples.norm(dim=1), torch.atan2(samples[:, 1], samples[:, 0])
        turns = radius * self.settings.turns - angle / (2 * math.pi)
        return {"offTheSpiral": float((turns - turns.round()).abs().mean() / self.settings.turns)}


@api.hookimpl
def register_datasets(register):
    register("Spiral", Spiral)
