"""A two-player strategy: learn --plugin calm_gan.py Generator,Discriminator Circle strategy=CalmGAN"""

from ganglion.engine import api
from ganglion.strategies.api import AdversarialSettings, AdversarialStrategy


class CalmGAN(AdversarialStrategy):
    """A GAN whose generator also keeps the scores of its samples from running away."""

    class Settings(AdversarialSettings):
        calm: float = api.setting(0.01, "weight of the mean square of the generator's scores", ge=0)

    preset = {"objective": "nonsaturating", "method": "ADAM", "learningRate": 5e-4, "beta1": 0.5}

    def generator_contest(self, fake, batch):
        scores = self.scores(fake, batch)
        calm = self.context.settings.calm * scores.square().mean()
        return api.Loss(self.played(scores, batch) + calm, {"calm": calm})


@api.hookimpl
def register_strategies(register):
    register("CalmGAN", CalmGAN)
