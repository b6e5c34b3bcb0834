"""TimeVAE: a convolutional variational autoencoder of windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from ganglion.engine.api import RandomStream, Settings, hookimpl, setting
from ganglion.strategies.series.windows import PaddedStrategy
from ganglion.strategies.variational import VaeSettings, VariationalStrategy


class TimeVaeSettings(VaeSettings):
    """Settings of TimeVAE."""

    beta: float = setting(
        1 / 3, "multiplies the divergence of the codes from the prior; the source multiplies the error by 3", ge=0
    )


class TimeVAE(PaddedStrategy, VariationalStrategy):
    """Windows coded as one small vector and decoded at once: minutes to learn, and a strong baseline.

    Desai et al. 2021, https://arxiv.org/abs/2111.08095: codes of 8 numbers, reconstruction weighted 3 times the
    divergence, Adam 1e-3, batch 16. Made for `TimeVAEEncoder,TimeVAEDecoder`, whose decoder can add a trend and a
    season (`decoder.trend`, `decoder.season`).

    Where the data have a field `mask`, the error is the sum over what it calls 1, the encoder sees 0 for what it calls
    0, and samples are as long as training windows.

    Deviations: the squared error is the sum over a window (there the sum and the mean over the batch's features
    beside it); weights are given as beta.
    """

    Settings: ClassVar[type[Settings]] = TimeVaeSettings
    preset: ClassVar[Mapping[str, Any]] = {
        "criterion": "MSE",
        "generatorDim": 8,
        "method": "ADAM",
        "learningRate": 1e-3,
        "batchSize": 16,
    }

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return self.with_lengths(super().noise(count, stream), stream)

    def generate(self, noise: Tensor) -> Tensor:
        return self.cut(super().generate(self.without_lengths(noise)), noise)


@hookimpl
def register_strategies(register: Any) -> None:
    """TimeVAE."""
    register("TimeVAE", TimeVAE)
