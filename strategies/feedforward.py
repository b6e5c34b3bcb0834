"""Supervised learning: one network, one criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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
    one_hot,
    setting,
)


class FeedForwardSettings(Settings):
    """Settings of FeedForward."""

    criterion: str | None = setting(
        None, "what is minimised ('ganglion list criterion'); none: NLL for classes, MSE for numbers"
    )


class FeedForward(LearningStrategy):
    """One network learns to give the target for the input, by minimising a criterion.

    DIANNE's FeedForwardLearningStrategy (https://github.com/ibcn-cloudlet/dianne). Targets are class labels or numbers;
    `autoencode=true` makes the input the target.

    Deviations: Adam at 1e-3 and batches of 64 (there SGD and 1); the criterion is NLL for classes and MSE for numbers
    unless one is named.
    """

    Settings = FeedForwardSettings

    roles: ClassVar[tuple[str, ...]] = ("network",)
    parts: ClassVar[Mapping[str, str]] = {"criterion": "criterion"}
    preset: ClassVar[Mapping[str, Any]] = {
        "method": "ADAM",
        "learningRate": 1e-3,
        "batchSize": 64,
        "sampling": "PERMUTATION",
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        return {"network": RoleShape(Port(spec.kind, spec.shape), _target(spec))}

    @classmethod
    def defaults(cls, spec: DataSpec) -> Mapping[str, Any]:
        return {"criterion": "NLL" if spec.classes else "MSE"}

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._network = context.networks["network"]
        self._classes = len(context.spec.classes)
        self._criterion: Criterion = context.parts["criterion"]
        self._one_hot = bool(context.spec.classes) and not self._criterion.takes_classes

    def process_iteration(self, i: int) -> LearnProgress:
        assert self.context.sampler is not None
        loss = self.context.processors["network"].update(self.loss, self.context.sampler.next_batch())
        return LearnProgress(i, {"loss": loss.total, **loss.terms})

    def loss(self, batch: Batch) -> Loss:
        """The criterion's mean over the batch."""
        return Loss(self._sample_loss(self._network(batch.input), batch).mean())

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        output = self._network(batch.input)
        figures = {"loss": self._sample_loss(output, batch)}
        if self._classes and batch.target is not None:
            figures["accuracy"] = (output.argmax(1) == batch.target).to(output.dtype)
        return figures

    def predict(self, rows: Tensor) -> Tensor:
        """Output (batch, classes) or (batch, *target) for `rows`."""
        output: Tensor = self._network(rows)
        return output

    def _sample_loss(self, output: Tensor, batch: Batch) -> Tensor:
        target = batch.target
        assert target is not None
        if self._one_hot:
            target = one_hot(target, self._classes).to(output.dtype)
        return self._criterion.loss(output, target)


def _target(spec: DataSpec) -> Port:
    if spec.classes:
        return Port("classes", (len(spec.classes),))
    if spec.target_shape is None:
        raise ConfigError(
            "FeedForward needs targets, and the data have none; name a target column, or set autoencode=true"
        )
    return Port(spec.kind if spec.target_shape == spec.shape else "vector", spec.target_shape)


@hookimpl
def register_strategies(register: Any) -> None:
    """FeedForward."""
    register("FeedForward", FeedForward, aliases=("supervised",))
