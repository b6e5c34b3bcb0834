"""Strategies whose discriminator is shown the class label beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ganglion.engine.api import Batch, DataSpec, Port, RoleShape
from ganglion.strategies.adversarial import score_of
from ganglion.strategies.labels import LabelledStrategy


class ToldStrategy(LabelledStrategy):
    """The discriminator is shown the label beside the data; `conditioning` of the settings says how it sees it."""

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        generator, discriminator = super().shapes(settings, spec).values()
        label = torch.zeros(1, cls.width(settings, spec), device="meta")
        seen = beside(torch.zeros(1, *spec.shape, device="meta"), label, cls.conditioning(settings))
        judged = RoleShape(Port(spec.kind, tuple(seen.shape[1:])), discriminator.output)
        return {"generator": generator, "discriminator": judged}

    @classmethod
    def conditioning(cls, settings: Any) -> str:
        """How an image's label is shown: `planes` or `row`."""
        return "planes"

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        assert batch is not None
        label = self.condition(batch).to(samples)
        return score_of(self._discriminator(beside(samples, label, self.conditioning(self.context.settings))))


def beside(samples: Tensor, label: Tensor, conditioning: str = "planes") -> Tensor:
    """Samples (batch, *shape) with their labels (batch, classes) shown beside them, as one tensor for a network."""
    if samples.dim() == 2:
        return torch.cat((samples, label), 1)
    if samples.dim() == 3:
        return torch.cat((samples, label.unsqueeze(1).expand(-1, samples.shape[1], -1)), 2)
    count, channels, height, width = samples.shape
    if conditioning == "planes":
        return torch.cat((samples, label.view(count, -1, 1, 1).expand(-1, -1, height, width)), 1)
    rows = pad(label, (0, -label.shape[1] % width)).view(count, 1, -1, width)
    return torch.cat((samples, rows.expand(-1, channels, -1, -1)), 2)
