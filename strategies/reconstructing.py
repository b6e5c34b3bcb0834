"""The adversarial loop with a discriminator that is an autoencoder: it judges by how badly it reconstructs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from ganglion.engine.api import Batch, DataSpec, Port, RoleShape, Settings
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.playing import PlayerSettings


class ReconstructingSettings(PlayerSettings):
    """Settings of two-player strategies whose discriminator is an autoencoder."""

    refused: ClassVar[Mapping[str, str]] = {
        "objective": "this strategy plays for reconstruction errors, so it has no objective",
        "penalty": "this strategy's discriminator gives no score that a penalty could be on",
    }


class ReconstructingStrategy(AdversarialStrategy):
    """Two players whose discriminator gives back its input: the `error` of a sample takes the place of a score."""

    Settings: ClassVar[type[Settings]] = ReconstructingSettings
    parts: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        data = Port(spec.kind, spec.shape)
        return {**super().shapes(settings, spec), "discriminator": RoleShape(data, data)}

    @staticmethod
    @abstractmethod
    def error(reconstruction: Tensor, samples: Tensor) -> Tensor:
        """The error per sample, (batch,)."""

    def errors(self, samples: Tensor) -> Tensor:
        """How far every sample (batch, *shape) is from its reconstruction, (batch,)."""
        return self.error(values_of(self._discriminator, samples), samples)

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        """The less the error, the more real: minus the error of every sample."""
        return -self.errors(samples)

    def both_errors(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Errors of real and fake rows, in one pass where that mixes nothing."""
        return self.pair(self.errors, batch.input, fake)


def values_of(network: Any, rows: Tensor) -> Tensor:
    """What a network makes of `rows`, the Sigmoid applied that a layered definition leaves to the loss."""
    as_probability = getattr(network, "probability", None)
    if as_probability is not None and getattr(network, "outputs", None) == "probability":
        rows = as_probability(rows)
    else:
        rows = network(rows)
    return rows
