"""The projection discriminator: the class enters the score as an inner product."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ganglion.engine.api import Batch, hookimpl
from ganglion.strategies.labels import LabelledStrategy


class ProjectionGAN(LabelledStrategy):
    """The score is psi(phi(x)) + <embed(y), phi(x)>: how real a sample is, and how well it fits its class.

    Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637, figure 1d, with the hinge loss, spectral normalisation of
    the discriminator, Adam 2e-4, betas 0 and 0.9, 5 discriminator updates per iteration and batch 64 of the authors'
    code. Any network serves as discriminator: it gives 1 + classes numbers, of which the first is psi and the one of
    the class its inner product, the rows of the last layer being the embeddings.

    Deviations: the last layer's bias gives each class an offset of its own; psi and the embeddings, being one layer,
    are normalised together; features are not summed over places unless the network does so; the generator is told the
    class by a one-hot label beside its noise, not by conditional BatchNorm, and updated with 64 samples (there 128);
    the learning rate does not fall unless `decayType=linear`.
    """

    answers = True
    preset = {
        "objective": "hinge",
        "discriminator.spectralNorm": True,
        "discriminatorIterations": 5,
        "method": "ADAM",
        "learningRate": 2e-4,
        "beta1": 0.0,
        "beta2": 0.9,
        "batchSize": 64,
    }

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        assert batch is not None and batch.target is not None
        output = self.judged(samples)
        label = batch.target.to(samples.device).view(-1, *[1] * (output.dim() - 1)) + 1
        return output[..., :1] + output.gather(-1, label.expand(*output.shape[:-1], 1))


@hookimpl
def register_strategies(register: Any) -> None:
    """ProjectionGAN."""
    register("ProjectionGAN", ProjectionGAN, aliases=("projection",))
