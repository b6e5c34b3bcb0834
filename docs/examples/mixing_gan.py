"""Updates of another kind: learn --plugin mixing_gan.py Generator,Discriminator Circle strategy=MixingGAN"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from ganglion.engine import api
from ganglion.strategies.api import AdversarialStrategy, PlayerSettings


class MixingGAN(AdversarialStrategy):
    """The discriminator judges how much of a real sample is in a mixture; mixtures become plain samples in time."""

    class Settings(PlayerSettings):
        mixing: int = api.setting(1000, "how long mixtures take to become plain samples", unit="iterations", ge=1)
        generator_batches: int = api.setting(2, "samples in an update of the generator", unit="batches", ge=1)

        def without_effect(self):
            reason = "mixtures are made of the samples as they are"
            return {**super().without_effect(), "instance_noise": reason, "reuse_noise": reason}

    parts = {}  # it plays for no objective that could be named, and has no penalties
    preset = {"method": "ADAM", "learningRate": 5e-4, "beta1": 0.5}

    def process_iteration(self, i):
        self.mixed = max(0.0, 1.0 - i / self.context.settings.mixing)
        progress = super().process_iteration(i)
        mixed = torch.full((), self.mixed, device=self.context.devices["discriminator"])
        return api.LearnProgress(i, {**progress.values, "mixed": mixed})

    def train_discriminator(self, batch):
        rows = len(batch)
        shares = self.random("shares", "discriminator").uniform(rows, *[1] * (batch.input.dim() - 1))
        chain = self.context.processors["discriminator"]
        loss = chain.update(self.judge, batch, self.draw_noise(rows), shares, self.mixed)
        return {"discriminatorLoss": loss.total, **loss.terms}

    def judge(self, batch, noise, shares, mixed):
        with torch.no_grad():
            fake = self.fake(noise, batch)
        shares = shares.round() + mixed * (shares - shares.round())
        scores = self.scores(torch.lerp(fake, batch.input, shares), batch)
        wanted = shares.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
        return api.Loss(binary_cross_entropy_with_logits(scores, wanted), {"meanScore": scores.mean()})

    def train_generator(self):
        rows = self.context.settings.generator_batches * self.context.sampler.batch_size
        loss = self.context.processors["generator"].update(self.fool, self.draw_noise(rows))
        return {"generatorLoss": loss.total}

    def fool(self, noise):
        return softplus(-self.scores(self.fake(noise, None), None)).mean()


@api.hookimpl
def register_strategies(register):
    register("MixingGAN", MixingGAN)
