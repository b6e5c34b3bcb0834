"""Distillation: a network learns what another one, which no longer learns, gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganglion.engine.api import (
    Batch,
    ConfigError,
    Criterion,
    DataSpec,
    LearningContext,
    LearningStrategy,
    LearnProgress,
    Loss,
    Port,
    RoleShape,
    Settings,
    hookimpl,
    setting,
)


class TargetSettings(Settings):
    """Settings of Target."""

    criterion: str = setting("MSE", "what is minimised between the two outputs ('ganglion list criterion')")


UNFIT = ("BCE", "GKL", "GAU")  # criteria that want probabilities, or two numbers for each


class Target(LearningStrategy):
    """A trainee learns to give what a frozen teacher gives for the same input, whatever the data's own targets are.

    DIANNE's TargetLearningStrategy (https://github.com/ibcn-cloudlet/dianne); matching the outputs before the softmax
    by their squared difference is section 2.1 of Hinton et al. 2015, https://arxiv.org/abs/1503.02531. The teacher's
    weights come from another run: after `learn MLP Digits tag=teacher`, `learn CNN,MLP Digits strategy=Target
    initTag=teacher` teaches a CNN what that MLP has learnt. A run of Target gives both networks when initTag names it.
    The teacher is in evaluation mode and never changes. Its output for classes are logits; the trainee's accuracy is
    validated against the data's classes, where there are some.

    Deviations: Adam at 1e-3 and batches of 64 (there SGD and 1).
    """

    Settings = TargetSettings

    roles: ClassVar[tuple[str, ...]] = ("trainee", "teacher")
    parts: ClassVar[Mapping[str, str]] = {"criterion": "criterion"}
    data_role: ClassVar[str | None] = "trainee"
    learnt_role: ClassVar[str | None] = "teacher"
    preset: ClassVar[Mapping[str, Any]] = {
        "method": "ADAM",
        "learningRate": 1e-3,
        "batchSize": 64,
        "sampling": "PERMUTATION",
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        shape = RoleShape(Port(spec.kind, spec.shape), _output(spec))
        return {"trainee": shape, "teacher": shape}

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._trainee, self._teacher = context.networks["trainee"], context.networks["teacher"]
        self._trainee_device, self._teacher_device = context.devices["trainee"], context.devices["teacher"]
        self._classes = len(context.spec.classes)
        self._criterion: Criterion = context.parts["criterion"]

    def setup(self, context: LearningContext) -> None:
        name = type(self._criterion).__name__
        if self._criterion.takes_classes or name in UNFIT:
            raise ConfigError(f"criterion={name}: the teacher gives numbers of any size; use MSE, ABS or HUB")
        self._teacher.eval()

    def process_iteration(self, i: int) -> LearnProgress:
        assert self.context.sampler is not None
        batch = self.context.sampler.next_batch()
        loss = self.context.processors["trainee"].update(self.loss, batch.input, self._wanted(batch.input))
        return LearnProgress(i, {"loss": loss.total, **loss.terms})

    def loss(self, rows: Tensor, wanted: Tensor) -> Loss:
        """The criterion's mean over the batch."""
        return Loss(self._criterion.loss(self._trainee(rows), wanted).mean())

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        output = self.predict(batch.input)
        figures = {"loss": self._criterion.loss(output, self._wanted(batch.input))}
        if self._classes and batch.target is not None:
            figures["accuracy"] = (output.argmax(1) == batch.target).to(output.dtype)
        return figures

    def predict(self, rows: Tensor) -> Tensor:
        """The trainee's output (batch, classes) or (batch, *target) for `rows`."""
        output: Tensor = self._trainee(rows)
        return output

    def _wanted(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            output: Tensor = self._teacher(rows.to(self._teacher_device))
        return output.to(self._trainee_device)


def _output(spec: DataSpec) -> Port:
    """Logits of the classes, or numbers like the data's targets; like the data themselves where they have neither."""
    if spec.classes:
        return Port("classes", (len(spec.classes),))
    shape = spec.target_shape or spec.shape
    return Port(spec.kind if shape == spec.shape else "vector", shape)


@hookimpl
def register_strategies(register: Any) -> None:
    """Target."""
    register("Target", Target, aliases=("distillation",))
