"""The energy-based GAN."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ganglion.engine.api import Batch, ConfigError, LearningContext, Loss, gathered, hookimpl, setting
from ganglion.strategies.charges import Drawn
from ganglion.strategies.features import the_tensor
from ganglion.strategies.reconstructing import ReconstructingSettings, ReconstructingStrategy

CODE = "code"  # the name of the layer whose output the pulling-away term compares
PULLING = 0.1


class EbganSettings(ReconstructingSettings):
    """Settings of EBGAN."""

    margin: float | None = setting(
        None, "m: the energy that fakes are pushed up to; none: max(1, batchSize / 64)", gt=0, lt=math.inf
    )
    pt_weight: float | None = setting(
        None,
        "weight of the pulling-away term; none: 0.1 where the discriminator has a layer named 'code', otherwise 0",
        ge=0,
        lt=math.inf,
    )


class EBGAN(ReconstructingStrategy):
    """An autoencoder as energy: low for real samples, pushed up to a margin for fakes; fakes are held apart.

    Zhao et al. 2016, https://arxiv.org/abs/1609.03126, section 2 (EBGAN-PT). The energy E is the mean squared error of
    the reconstruction; the discriminator minimises E(real) + max(0, margin - E(fake)) per sample, the generator E(fake)
    + ptWeight PT, where PT is the mean over pairs of fakes of their codes' squared cosine similarity; the weight 0.1 is
    the paper's for MNIST. Codes are what the discriminator's layer named `code` gives, as in network Autoencoder;
    without one there is no such term.

    Deviations: the paper searches for margin, optimiser and rate; here they are max(1, batchSize / 64), as
    implementations have it, and Adam 2e-4, betas 0.5 and 0.999, batch 64. Some implementations do not square the
    similarities. With accumulate= the term compares the fakes of each part.
    """

    Settings = EbganSettings

    preset = {
        "method": "ADAM",
        "learningRate": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 64,
    }

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        given = context.settings.margin
        self._margin: float = max(1.0, self._whole_batch_size() / 64) if given is None else given
        self._code = _code_layer(self._discriminator)
        weight = context.settings.pt_weight
        if self._code is None and weight:
            raise ConfigError(
                f"ptWeight={weight:g}: the discriminator has no layer named '{CODE}', whose output the term compares; "
                "name one, as network Autoencoder does, or leave ptWeight out"
            )
        if self._code is None and weight is None:
            context.notify(
                f"the discriminator has no layer named '{CODE}', so fakes are not held apart (no pulling-away term); "
                "network Autoencoder has one"
            )
        self._pulling: float = (PULLING if self._code is not None else 0.0) if weight is None else weight

    @staticmethod
    def error(reconstruction: Tensor, samples: Tensor) -> Tensor:
        return (reconstruction - samples).square().flatten(1).mean(1)

    def discriminator_loss(self, batch: Batch, fake: Tensor, drawn: Drawn) -> Loss:
        real, false = self.both_errors(batch, fake)
        missing = (self._margin - false).clamp(min=0).mean()
        return Loss(real.mean() + missing, {"realError": real.mean(), "fakeError": false.mean()})

    def generator_loss(self, noise: Tensor, batch: Batch | None, blur: Tensor | None = None) -> Loss:
        fake = self.seen_fake(noise, batch, blur)
        if self._code is None or not self._pulling:
            return Loss(self.errors(fake).mean())
        codes: list[Tensor] = []
        handle = self._code.register_forward_hook(lambda module, given, output: codes.append(output))
        try:
            energy = self.errors(fake).mean()
        finally:
            handle.remove()
        together = pulling_away(the_tensor(codes, "code")) * self._pulling
        return Loss(energy + together, {"pullingAway": together})


def pulling_away(codes: Tensor) -> Tensor:
    """The mean squared cosine similarity of pairs of different rows of `codes` (batch, ...), 0-d; 0 for one row."""
    rows = functional.normalize(gathered(codes.flatten(1)), dim=1)
    pairs = len(rows) * (len(rows) - 1)
    squares = (rows @ rows.T).square()
    return (squares.sum() - squares.diagonal().sum()) / max(pairs, 1)


def _code_layer(network: nn.Module) -> nn.Module | None:
    return next((module for name, module in network.named_modules() if name.rpartition(".")[2] == CODE), None)


@hookimpl
def register_strategies(register: Any) -> None:
    """EBGAN."""
    register("EBGAN", EBGAN)
