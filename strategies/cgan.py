"""The conditional GAN: both players are told the class."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from ganglion.engine.api import LearningContext, hookimpl, setting
from ganglion.strategies.telling import ToldSettings, ToldStrategy


class CganSettings(ToldSettings):
    """Settings of CGAN."""

    conditioning: Literal["planes", "row"] = setting(
        "planes",
        "how the discriminator is shown an image's class: planes: one constant plane per class; row: the one-hot label "
        "in rows below the image, which costs a perceptron next to nothing, and which convolutions hardly see",
    )


class CGAN(ToldStrategy):
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
    def conditioning(cls, settings: Any) -> str:
        choice: str = settings.conditioning
        return choice

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


@hookimpl
def register_strategies(register: Any) -> None:
    """CGAN."""
    register("CGAN", CGAN, aliases=("conditionalGAN",))
