"""The GAN with an auxiliary classifier: the discriminator also names the class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ganglion.engine.api import (
    Batch,
    ConfigError,
    Dataset,
    DataSpec,
    LearningContext,
    Loss,
    hookimpl,
    setting,
    suggestion,
)
from ganglion.strategies.charges import Drawn, exposed
from ganglion.strategies.labels import TARGET, LabelledStrategy, LabelSettings, answers_of

ROWS = 65536


class AcganSettings(LabelSettings):
    """Settings of ACGAN."""

    class_weight: float = setting(1.0, "multiplies the discriminator's cross-entropy of the classes", ge=0, lt=math.inf)
    generator_class_weight: float = setting(
        1.0, "multiplies the generator's cross-entropy of the classes", ge=0, lt=math.inf
    )
    heads: tuple[str, ...] = setting(
        (), "further labels that are asked for and named: whole-number fields of the data, each with its number of "
        "classes, such as side:2"
    )  # fmt: skip


class ACGAN(LabelledStrategy):
    """The discriminator says real or fake and names the class; both players want the class of fakes to be seen.

    Odena et al. 2016, https://arxiv.org/abs/1610.09585, equations 2 and 3: the cross-entropies of the classes of real
    and fake samples are added to the discriminator's loss, that of fake ones to the generator's; Adam 2e-4, betas 0.5
    and 0.999, batch 100. The discriminator gives a score and, behind it, one logit per class. With `halves=mean` the
    cross-entropies are averaged too. Where the classes take over, lower `generatorClassWeight`: 0.1 has been used.

    Deviations: the generator's loss is the non-saturating one; fakes have the labels of real rows, whose frequencies
    are those of the data; the published networks and their initialisation are not part of the strategy.
    """

    Settings = AcganSettings
    answers = True
    preset = {
        "objective": "nonsaturating",
        "method": "ADAM",
        "learningRate": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 100,
    }

    @classmethod
    def label_sizes(cls, settings: Any, spec: DataSpec) -> dict[str, int]:
        return {**super().label_sizes(settings, spec), **head_sizes(settings.heads)}

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        assert context.sampler is not None
        check_fields(context.sampler.dataset, head_sizes(context.settings.heads))

    def discriminator_loss(self, batch: Batch, fake: Tensor, drawn: Drawn) -> Loss:
        batch, fake = exposed(batch, fake, drawn.charges)
        real_output, fake_output = self.both(batch.input, fake)
        game = self.contest(real_output[..., :1], fake_output[..., :1], batch, fake, drawn)
        labels = self.labels(batch)
        real, false = self.class_loss(real_output, labels), self.class_loss(fake_output, labels)
        classes = real + false if self.context.settings.halves == "sum" else (real + false) * 0.5
        total = game.total + classes * self.context.settings.class_weight
        return Loss(total, {**game.terms, "classesReal": real, "classesFake": false})

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        assert batch is not None
        output = self.judged(fake)
        game = self.played(output[..., :1], batch)
        classes = self.class_loss(output, self.labels(batch))
        total = game + classes * self.context.settings.generator_class_weight
        return Loss(total, {"generatorScore": game, "generatorClasses": classes})

    def class_loss(self, output: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """The sum over the labels of the mean cross-entropy of their logits, which stand behind the score."""
        parts = answers_of(output).split(list(self._sizes.values()), 1)
        losses = [cross_entropy(part, label.to(part.device)) for part, label in zip(parts, labels, strict=True)]
        return torch.stack(losses).sum()


def head_sizes(heads: Sequence[str]) -> dict[str, int]:
    """The number of classes by field, from texts such as side:2. Raises ConfigError."""
    sizes: dict[str, int] = {}
    for text in heads:
        name, colon, size = text.partition(":")
        number = int(size) if size.isascii() and size.isdecimal() and len(size) < 10 else 0
        if not (name and colon and number > 1) or name == TARGET or name in sizes:
            raise ConfigError(
                f"heads={text}: expected NAME:CLASSES, a field of the data besides '{TARGET}', each once, with 2 or "
                "more classes"
            )
        sizes[name] = number
    return sizes


def check_fields(dataset: Dataset, sizes: Mapping[str, int]) -> None:
    """Raises ConfigError unless the data have these fields, with whole numbers below their sizes."""
    for start in range(0, len(dataset) if sizes else 0, ROWS):
        fields = dataset.rows(torch.arange(start, min(start + ROWS, len(dataset)))).fields
        for name, size in sizes.items():
            values = fields.get(name)
            if values is None:
                raise ConfigError(f"heads={name}:{size}: the data have no field '{name}'{suggestion(name, fields)}")
            whole = values.dim() == 1 and not values.is_floating_point()
            if not whole or int(values.min()) < 0 or int(values.max()) >= size:
                came = f"numbers from {int(values.min())} to {int(values.max())}" if whole else "other values"
                wanted = f"one whole number from 0 to {size - 1} per row"
                raise ConfigError(f"heads={name}:{size}: the field holds {came}, expected {wanted}")


@hookimpl
def register_strategies(register: Any) -> None:
    """ACGAN."""
    register("ACGAN", ACGAN)
