"""A game with an objective of its own: learn --plugin fading_gan.py Generator,Discriminator Ring strategy=FadingGAN"""

import torch

from ganglion.engine import api
from ganglion.strategies.api import AdversarialSettings, AdversarialStrategy


class Margin(api.Objective):
    """D: relu(margin - real) + relu(margin + fake). G: -mean(fake)."""

    class Settings(api.Settings):
        margin: float = api.setting(1.0, "the score that real samples must reach, and fake ones its negative", gt=0)

    def discriminator(self, real, fake):
        margin = self.settings.margin
        return torch.relu(margin - real).mean(), torch.relu(margin + fake).mean()

    def generator(self, real, fake):
        return -fake.mean()


class FadingGAN(AdversarialStrategy):
    """A game for a margin, whose instance noise is gone after some iterations, however long the run is."""

    class Settings(AdversarialSettings):
        fade: int = api.setting(2000, "how long instanceNoise takes to fall to 0", unit="iterations", ge=1)

    preset = {"objective": "margin", "instanceNoise": 0.3, "method": "ADAM", "learningRate": 1e-3, "beta1": 0.5}

    def blur_deviation(self, iteration):
        settings = self.context.settings
        return settings.instance_noise * max(0.0, 1.0 - iteration / settings.fade)


@api.hookimpl
def register_strategies(register):
    register("FadingGAN", FadingGAN)


@api.hookimpl
def register_objectives(register):
    register("margin", Margin)
