"""The conditional GAN: both players are told the class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ganglion.engine.api import Batch, DataSpec, LearningContext, Port, RoleShape, hookimpl, setting
from ganglion.strategies.adversarial import score_of
from ganglion.strategies.labels import LabelledStrategy, LabelSettings


class CganSettings(LabelSettings):
    """Settings of CGAN."""

    conditioning: Literal["planes", "row"] = setting(
        "planes",
        "how the discriminator is shown an image's class: planes: one constant plane per class; row: the one-hot label "
        "in rows below the image, which costs a perceptron next to nothing, and which convolutions hardly see",
    )


class CGAN(LabelledStrategy):
    """A game per class: the generator's noise and the discriminator's input carry the class label, one-hot.

    Mirza and Osindero 2014, https://arxiv.org/abs/1411.1784, equation 2; batch 100. It works with every pair of
    networks: the label is appended to the features of points, repeated in every step of a sequence, and for images
    shown as `conditioning` says, where `conditioning=row` is several times as fast for perceptrons. Fakes have the
    labels of the real rows that they are judged beside; in the generator's update those of a further batch, so classes
    are as frequent as in the data and a label alone never tells a fake (`generatorLabels=uniform` makes them equally
    frequent there).

    Deviations: the generator's loss is the non-saturating one; Adam 2e-4, betas 0.5 and 0.999, in place of gradient
    descent with a rising momentum and a falling rate; normal noise in place of uniform; labels go in beside the data,
    not through hidden layers of their own.
    """

    Settings = CganSettings
    preset = {
        "objective": "nonsaturating",
        "method": "ADAM",
        "learningRate": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 100,
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        generator, discriminator = super().shapes(settings, spec).values()
        label = torch.zeros(1, cls.width(settings, spec), device="meta")
        seen = beside(torch.zeros(1, *spec.shape, device="meta"), label, settings.conditioning)
        judged = RoleShape(Port(spec.kind, tuple(seen.shape[1:])), discriminator.output)
        return {"generator": generator, "discriminator": judged}

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        convolves = any(isinstance(module, nn.modules.conv._ConvNd) for module in self._discriminator.modules())
        row = context.settings.conditioning == "row"
        if context.spec.kind == "image" and row == convolves:
            context.notify(
                "conditioning=row: a convolutional discriminator hardly sees a label below the image; "
                "conditioning=planes is meant for it"
                if row
                else "every class is a plane beside the image; for a discriminator without convolutions "
                "conditioning=row says the same with fewer numbers, so it is faster"
            )

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        assert batch is not None
        label = self.condition(batch).to(samples)
        return score_of(self._discriminator(beside(samples, label, self.context.settings.conditioning)))


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


@hookimpl
def register_strategies(register: Any) -> None:
    """CGAN."""
    register("CGAN", CGAN, aliases=("conditionalGAN",))
