"""Strategies whose discriminator is shown the class label beside the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    LearningContext,
    Loss,
    Port,
    RoleShape,
    setting,
)
from ganglion.strategies.adversarial import score_of
from ganglion.strategies.charges import Drawn
from ganglion.strategies.labels import TARGET, LabelledStrategy, LabelSettings

WRONG = "wrong"


class ToldSettings(LabelSettings):
    """Settings of strategies whose discriminator is shown the label."""

    wrong_labels: float = setting(
        0.0,
        "multiplies a third part of the discriminator's loss: real samples beside the label of another class count as "
        "fake; 0: none, 1 in the code of the recurrent conditional GAN",
        ge=0,
        lt=math.inf,
    )


class ToldStrategy(LabelledStrategy):
    """The discriminator is shown the label beside the data; `conditioning` of the settings says how it sees it."""

    Settings = ToldSettings

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

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        if not context.settings.wrong_labels:
            return
        if 1 in self._sizes.values():
            raise ConfigError("wrongLabels: the data have one class, so that no label is wrong; leave it out")
        assert self._objective is not None
        if self._objective.discriminator(torch.zeros(1, 1), torch.zeros(1, 1))[1] is None:
            raise ConfigError(
                f"wrongLabels: objective={context.settings.objective} compares each fake sample with a real one and "
                "has no part for fake ones alone; choose another objective, such as nonsaturating"
            )

    def train_discriminator(self, batch: Batch) -> Mapping[str, Tensor]:
        if self.context.settings.wrong_labels:
            batch = replace(batch, fields={**batch.fields, WRONG: self.wrong_labels(batch)})
        return super().train_discriminator(batch)

    def wrong_labels(self, batch: Batch) -> Tensor:
        """For every label of the rows another one, each of the others being equally likely: (batch, labels)."""
        wrong = []
        for label, size in zip(self.labels(batch), self._sizes.values(), strict=True):
            further = self._noise_stream.integers(size - 1, len(batch)).to(label.device) + 1
            wrong.append((label + further) % size)
        return torch.stack(wrong, 1)

    def contest(self, real_scores: Tensor, fake_scores: Tensor, batch: Batch, fake: Tensor, drawn: Drawn) -> Loss:
        loss = super().contest(real_scores, fake_scores, batch, fake, drawn)
        settings = self.context.settings
        if not settings.wrong_labels:
            return loss
        labels = dict(zip(self._sizes, batch.fields[WRONG].unbind(1), strict=True))
        mistold = Batch(batch.input.detach(), labels.pop(TARGET, None), {**batch.fields, **labels})
        _, half = self.halves(real_scores, self.scores(mistold.input, mistold), drawn)
        assert half is not None
        share: float = settings.wrong_labels * (1.0 if settings.halves == "sum" else 0.5)
        return Loss(loss.total + half * share, {**loss.terms, "discriminatorWrong": half})

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
