"""EchoGAN: the generator also matches the mean of the real batch."""

from ganglion.engine.api import Loss, setting
from ganglion.strategies.api import AdversarialSettings, AdversarialStrategy


class EchoGAN(AdversarialStrategy):
    """A GAN whose generator is drawn, by a criterion, to the mean of the real batch.

    The means are those of the whole batch, over all processes.
    """

    class Settings(AdversarialSettings):
        """Settings of EchoGAN."""

        criterion: str = setting("MSE", "how the mean of the samples is compared with that of the data")
        echo: float = setting(1.0, "weight of that comparison", ge=0)

    parts = {**AdversarialStrategy.parts, "criterion": "criterion"}
    preset = {"objective": "margin", "method": "ADAM", "learningRate": 1e-3, "beta1": 0.5}

    def train_generator(self):
        batch = self.real_batch()
        loss = self.context.processors["generator"].update(self.generator_loss, self.draw_noise(len(batch)), batch)
        return {"generatorLoss": loss.total, **loss.terms}

    def generator_loss(self, noise, batch):
        fake = self.fake(noise, batch)
        loss = self.context.parts["objective"].generator(None, self.scores(fake, batch))
        means = [rows.gather().input.mean(0, keepdim=True) for rows in (batch.with_input(fake), batch)]
        echo = self.context.parts["criterion"].loss(*means).mean()
        return Loss(loss + self.context.settings.echo * echo, {"echo": echo})
