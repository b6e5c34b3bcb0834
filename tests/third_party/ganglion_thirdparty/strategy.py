"""EchoGAN: the generator also matches the mean wave of the real batch."""

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

    def generator_loss(self, noise, batch):
        fake = self.fake(noise, batch)
        loss = self.context.parts["objective"].generator(None, self.scores(fake, batch))
        real = self.real_batch() if batch is None else batch
        means = [rows.gather().input.mean(0, keepdim=True) for rows in (real.with_input(fake), real)]
        echo = self.context.parts["criterion"].loss(*means).mean()
        return Loss(loss + self.context.settings.echo * echo, {"echo": echo})
