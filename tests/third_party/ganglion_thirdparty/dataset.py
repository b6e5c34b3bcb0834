"""EchoWaves: sine waves, each with a weaker echo of itself."""

import math

import torch

from ganglion.engine.api import (
    ConfigError,
    DatasetFactory,
    DataSpec,
    Settings,
    Splits,
    TensorDataset,
    setting,
    stream_seed,
)

LENGTH = 16


class EchoWaves(DatasetFactory):
    """Vectors of 16 values: one period of a sine wave at a random phase, plus its echo.

    Samples are judged by `energy`, the mean square of their values.
    """

    class Settings(Settings):
        """Settings of EchoWaves."""

        waves: int = setting(400, "waves to learn from; a quarter of them more to test on", ge=8)
        delay: int = setting(3, "delay of the echo", unit="values", ge=0)
        loss: float = setting(0.5, "how much weaker the echo is", ge=0, le=1)

    def load(self):
        if self.settings.delay >= LENGTH:
            raise ConfigError(f"EchoWaves: delay={self.settings.delay} is not less than the {LENGTH} values of a wave")
        return Splits(self.part("train", self.settings.waves), test=self.part("test", self.settings.waves // 4))

    def part(self, name, count):
        generator = torch.Generator().manual_seed(stream_seed(self.context.seed, "EchoWaves", name))
        phase = torch.rand(count, 1, generator=generator)
        wave = torch.sin(2 * math.pi * (torch.arange(LENGTH) / LENGTH + phase))
        echo = wave.roll(self.settings.delay, dims=1)
        features = tuple(f"t{step}" for step in range(LENGTH))
        return TensorDataset(DataSpec("vector", (LENGTH,), features=features), wave + (1 - self.settings.loss) * echo)

    def assess(self, samples):
        return {"energy": float(samples.double().square().mean())}
