"""Strategies whose generator is told what to make: a condition beside its noise, and class labels as the condition."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    LearningContext,
    Loss,
    NetworkError,
    NoisePart,
    Port,
    RandomStream,
    RoleShape,
    one_hot,
    setting,
)
from ganglion.strategies.adversarial import AdversarialStrategy, score_of
from ganglion.strategies.playing import AdversarialSettings

TARGET = "target"


class LabelSettings(AdversarialSettings):
    """Settings of strategies that need class labels."""

    generator_labels: Literal["data", "uniform"] = setting(
        "data",
        "what the generator's update asks for: the labels of further real rows, so that classes are as frequent as in "
        "the data, or every class equally often",
    )


class ConditionalStrategy(AdversarialStrategy):
    """The generator's input is noise and, behind it, a condition: `width` numbers per sample.

    With `answers` the discriminator gives, behind its score, as many numbers as the condition has.
    """

    answers: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def width(cls, settings: Any, spec: DataSpec) -> int:
        """Numbers of one condition. Raises ConfigError where the data do not have what it needs."""

    @abstractmethod
    def condition(self, batch: Batch) -> Tensor:
        """The conditions (batch, width) of the samples that are made for `batch`."""

    @abstractmethod
    def asked(self, noise: Tensor, batch: Batch | None) -> Batch:
        """What the generator's update is told: a batch that `condition` can be read from."""

    @abstractmethod
    def shown(self, count: int, stream: RandomStream) -> Tensor:
        """The conditions (count, width) of samples that are made to be looked at and judged."""

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        width = cls.width(settings, spec)
        generator, discriminator = super().shapes(settings, spec).values()
        noise = Port("noise", _wider(generator.input.shape, width))
        scored = discriminator.output
        answer = Port("classes", _wider(scored.shape, width)) if cls.answers else scored
        return {
            "generator": RoleShape(noise, generator.output),
            "discriminator": RoleShape(discriminator.input, answer),
        }

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._latent = _wider(self._latent, -self.width(context.settings, context.spec))

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        if self.answers:
            refuse_sigmoid(self._discriminator, type(self).__name__)

    def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
        return super().fake(noise if batch is None else self.told(noise, self.condition(batch)), batch)

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        return self.judged(samples)[..., :1]

    def generator_loss(self, noise: Tensor, batch: Batch | None, blur: Tensor | None = None) -> Loss:
        return super().generator_loss(noise, self.asked(noise, batch), blur)

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return self.told(super().noise(count, stream), self.shown(count, stream))

    def noise_parts(self) -> tuple[NoisePart, ...]:
        return (*super().noise_parts(), *self.condition_parts())

    def condition_parts(self) -> tuple[NoisePart, ...]:
        """What one condition consists of, in the order of its numbers."""
        width = self.width(self.context.settings, self.context.spec)
        return (NoisePart("condition", width, "what is asked for", "row"),)

    def told(self, noise: Tensor, condition: Tensor) -> Tensor:
        """The generator's input: `noise` with `condition` behind it, in place of one that is there already.

        Where noise is (batch, steps, size) the condition is repeated in every step.
        """
        if noise.dim() > 2:
            condition = condition.unsqueeze(1).expand(-1, noise.shape[1], -1)
        return torch.cat((noise[..., : self._latent[-1]], condition.to(noise)), -1)

    def told_of(self, noise: Tensor) -> Tensor:
        """The conditions (batch, width) that stand behind `noise`."""
        condition = noise[..., self._latent[-1] :]
        return condition if condition.dim() < 3 else condition[:, 0]

    def both(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """All that the discriminator gives for real and fake rows."""
        return self.pair(self.judged, real, fake)

    def judged(self, rows: Tensor) -> Tensor:
        """The score of every row and, where the discriminator `answers`, what it says beside."""
        return score_of(self._discriminator(rows))


class LabelledStrategy(ConditionalStrategy):
    """The condition is the class label, one-hot; in the discriminator's update fakes have the real rows' labels."""

    Settings = LabelSettings

    @classmethod
    def label_sizes(cls, settings: Any, spec: DataSpec) -> dict[str, int]:
        """How many classes each label has, by the field of a batch that holds it. Raises ConfigError without any."""
        if not spec.classes:
            raise ConfigError(
                f"{cls.__name__} needs class labels, and the data have none; choose data with classes, or a strategy "
                "without labels such as NSGAN"
            )
        return {TARGET: len(spec.classes)}

    @classmethod
    def width(cls, settings: Any, spec: DataSpec) -> int:
        return sum(cls.label_sizes(settings, spec).values())

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._sizes = self.label_sizes(context.settings, context.spec)

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        self._uniform: bool = context.settings.generator_labels == "uniform"
        if self._uniform and super().reads_real():
            raise ConfigError(
                f"generatorLabels=uniform: objective {context.settings.objective} compares each sample with a real "
                "row, whose label it has to share; use generatorLabels=data"
            )

    def labels(self, batch: Batch) -> list[Tensor]:
        """The labels of a batch, (batch,) each."""
        found = [batch.target if name == TARGET else batch.fields[name] for name in self._sizes]
        return [label for label in found if label is not None]

    def condition(self, batch: Batch) -> Tensor:
        return one_hots(self.labels(batch), self._sizes.values())

    def reads_real(self) -> bool:
        return not self._uniform or super().reads_real()

    def draw_noise(self, count: int) -> Tensor:
        noise = super().draw_noise(count)
        if self._uniform:
            drawn = [self._noise_stream.integers(size, count) for size in self._sizes.values()]
            self._last_noise = noise = self.told(noise, one_hots(drawn, self._sizes.values()))
        return noise

    def asked(self, noise: Tensor, batch: Batch | None) -> Batch:
        if batch is not None:
            return batch
        pieces = self.told_of(noise).split(list(self._sizes.values()), 1)
        labels = {name: piece.argmax(1) for name, piece in zip(self._sizes, pieces, strict=True)}
        return Batch(noise, labels.pop(TARGET), labels)

    def requested(self, noise: Tensor) -> Tensor | None:
        return self.asked(noise, None).target

    def condition_parts(self) -> tuple[NoisePart, ...]:
        return tuple(
            NoisePart("label" if name == TARGET else name, size, f"the class, 0 to {size - 1}", "class")
            for name, size in self._sizes.items()
        )

    def shown(self, count: int, stream: RandomStream) -> Tensor:
        """The classes in turn, so that a grid of samples shows them in order."""
        place = torch.arange(count, device=stream.device)
        labels = []
        for size in self._sizes.values():
            labels.append(place % size)
            place = place // size
        return one_hots(labels, self._sizes.values())


def answers_of(output: Tensor) -> Tensor:
    """What a discriminator says behind its score, (batch, width): of answers in every step the mean."""
    answers = output[..., 1:]
    return answers if answers.dim() < 3 else answers.mean(1)


def _wider(shape: tuple[int, ...], width: int) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] + width)


def one_hots(labels: Sequence[Tensor], sizes: Iterable[int]) -> Tensor:
    """One row per sample, (batch, sum of sizes): for each label a 1 at its place, among zeros."""
    return torch.cat([one_hot(label, size) for label, size in zip(labels, sizes, strict=True)], 1)


def refuse_sigmoid(network: nn.Module, strategy: str) -> None:
    """Raises NetworkError for a network that gives probabilities where the score and the answers are to be logits."""
    leaves = [module for module in network.modules() if not list(module.children())]
    declared = getattr(network, "outputs", None) == "probability" and not hasattr(network, "probability")
    if declared or (leaves and isinstance(leaves[-1], nn.Sigmoid)):
        raise NetworkError(
            f"{strategy}: the discriminator ends in a Sigmoid, and its score and what it says beside must be raw "
            "numbers; choose one without it"
        )
