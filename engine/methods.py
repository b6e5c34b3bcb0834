"""The optimisers: each updates one role's parameters from their gradients with the fewest calls into torch.

They hold their own state and call the kernels behind torch.optim directly: the numbers of its classes (SGD, ADAM and
ADAMW to the last bit, as those with fused=True) at a fraction of their cost per step for small networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from pydantic import model_validator

from ganglion.engine.contracts import Method
from ganglion.engine.settings import Settings, setting
from ganglion.engine.slots import SlotMethod, Tensors


class SgdSettings(Settings):
    """Settings of SGD."""

    learning_rate: float = setting(0.01, "size of the steps", gt=0)
    momentum: float = setting(0.0, "momentum coefficient", ge=0, lt=1)
    nesterov: float | None = setting(None, "Nesterov momentum coefficient, in place of momentum", ge=0, lt=1)

    @model_validator(mode="after")
    def _one_momentum(self) -> Self:
        if self.momentum and self.nesterov:
            raise ValueError(f"momentum={self.momentum:g} and nesterov={self.nesterov:g} exclude each other; give one")
        return self


class Sgd(SlotMethod):
    """Gradient descent with momentum: v = mu v + g, then p -= lr v; with nesterov p -= lr (g + mu v).

    As torch.optim.SGD. DIANNE adds up steps that are already multiplied by the learning rate, so that a change of the
    rate does not rescale the past; the link `dianneMomentum` computes that form.
    """

    Settings = SgdSettings
    divisible = True

    def slot_names(self) -> tuple[str, ...]:
        self._momentum = float(self.settings.nesterov or self.settings.momentum)
        self._nesterov = bool(self.settings.nesterov)
        return ("velocity",) if self._momentum else ()

    def apply(self, parameters: Tensors, gradients: Tensors, slots: list[Tensors], learning_rate: float) -> None:
        torch._fused_sgd_(
            parameters,
            gradients,
            slots[0] if slots else [],
            weight_decay=0.0,
            momentum=self._momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=self._nesterov,
            maximize=False,
            is_first_step=False,  # velocities are zero at first, which comes to the same
        )


class AdamSettings(Settings):
    """Settings of ADAM."""

    learning_rate: float = setting(0.001, "size of the steps", gt=0)
    beta1: float = setting(0.9, "decay of the averaged gradient", ge=0, lt=1)
    beta2: float = setting(0.999, "decay of the averaged squared gradient", ge=0, lt=1)
    epsilon: float = setting(1e-8, "added to the root of the averaged squared gradient", ge=0)


class AdamWSettings(AdamSettings):
    """Settings of ADAMW."""

    weight_decay: float = setting(0.01, "part of each parameter, times the learning rate, taken off per update", ge=0)


class Adam(SlotMethod):
    """Adam: p -= lr m' / (sqrt(v') + epsilon), where m' and v' are corrected for their start at zero.

    As torch.optim.Adam. DIANNE adds epsilon before v is corrected, and corrects by the learner's iteration; here the
    corrections count the updates that each parameter really had.
    """

    Settings = AdamSettings
    divisible = True
    kernel: ClassVar[Callable[..., None]] = staticmethod(torch._fused_adam_)

    def slot_names(self) -> tuple[str, ...]:
        own = self.settings
        self._constants = {"beta1": own.beta1, "beta2": own.beta2, "eps": own.epsilon, "weight_decay": 0.0}
        return "average", "square", "step"

    def apply(self, parameters: Tensors, gradients: Tensors, slots: list[Tensors], learning_rate: float) -> None:
        averages, squares, steps = slots
        base = steps[0]._base
        if base is not None and base.numel() == len(steps):
            base.add_(1)  # all at once
        else:
            torch._foreach_add_(steps, 1)
        self.kernel(
            parameters,
            gradients,
            averages,
            squares,
            [],
            steps,
            lr=learning_rate,
            amsgrad=False,
            maximize=False,
            **self._constants,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr weightDecay, then Adam's step. As torch.optim.AdamW."""

    Settings = AdamWSettings
    kernel = staticmethod(torch._fused_adamw_)

    def slot_names(self) -> tuple[str, ...]:
        names = super().slot_names()
        self._constants["weight_decay"] = self.settings.weight_decay
        return names


class RmsPropSettings(Settings):
    """Settings of RMSPROP."""

    learning_rate: float = setting(0.001, "size of the steps", gt=0)
    alpha: float = setting(0.9, "decay of the averaged squared gradient (DIANNE's decayRate)", ge=0, lt=1)
    epsilon: float = setting(1e-8, "added to the root of the averaged squared gradient", ge=0)
    momentum: float = setting(0.0, "momentum coefficient, over the scaled gradients", ge=0, lt=1)


class RmsProp(SlotMethod):
    """RMSprop: p -= lr g / (sqrt(v) + epsilon), v being the decaying average of g squared.

    As torch.optim.RMSprop, with DIANNE's defaults. DIANNE has epsilon inside the root: sqrt(v + epsilon).
    """

    Settings = RmsPropSettings
    divisible = True
    decay_rate_alias = "alpha"

    def slot_names(self) -> tuple[str, ...]:
        return ("square", "velocity") if self.settings.momentum else ("square",)

    def apply(self, parameters: Tensors, gradients: Tensors, slots: list[Tensors], learning_rate: float) -> None:
        settings, squares = self.settings, slots[0]
        torch._foreach_mul_(squares, settings.alpha)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - settings.alpha)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, settings.epsilon)
        if not settings.momentum:
            torch._foreach_addcdiv_(parameters, gradients, roots, value=-learning_rate)
            return
        torch._foreach_mul_(slots[1], settings.momentum)
        torch._foreach_addcdiv_(slots[1], gradients, roots)
        torch._foreach_add_(parameters, slots[1], alpha=-learning_rate)


class AdagradSettings(Settings):
    """Settings of ADAGRAD."""

    learning_rate: float = setting(0.01, "size of the steps", gt=0)
    epsilon: float = setting(1e-10, "added to the root of the summed squared gradients", ge=0)


class Adagrad(SlotMethod):
    """Adagrad: p -= lr g / (sqrt(sum of g squared) + epsilon).

    As torch.optim.Adagrad. DIANNE leaves out the square root, so its steps shrink far too fast.
    """

    Settings = AdagradSettings
    divisible = True

    def slot_names(self) -> tuple[str, ...]:
        return ("sum",)

    def apply(self, parameters: Tensors, gradients: Tensors, slots: list[Tensors], learning_rate: float) -> None:
        torch._foreach_addcmul_(slots[0], gradients, gradients)
        roots = torch._foreach_sqrt(slots[0])
        torch._foreach_add_(roots, self.settings.epsilon)
        torch._foreach_addcdiv_(parameters, gradients, roots, value=-learning_rate)


class AdadeltaSettings(Settings):
    """Settings of ADADELTA."""

    learning_rate: float = setting(1.0, "factor on the steps (DIANNE has none: 1)", gt=0)
    rho: float = setting(0.95, "decay of both averages (DIANNE's decayRate)", ge=0, lt=1)
    epsilon: float = setting(1e-8, "added to both averages inside their roots", gt=0)


class Adadelta(SlotMethod):
    """Adadelta: p -= lr d with d = g sqrt(u + epsilon) / sqrt(v + epsilon); u, v average d squared and g squared.

    As torch.optim.Adadelta with DIANNE's defaults; DIANNE computes the same, without a learning rate.
    """

    Settings = AdadeltaSettings
    divisible = True
    decay_rate_alias = "rho"

    def slot_names(self) -> tuple[str, ...]:
        return "square", "step_square"

    def apply(self, parameters: Tensors, gradients: Tensors, slots: list[Tensors], learning_rate: float) -> None:
        (squares, step_squares), settings = slots, self.settings
        torch._foreach_mul_(squares, settings.rho)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - settings.rho)
        steps = torch._foreach_add(step_squares, settings.epsilon)
        torch._foreach_sqrt_(steps)
        roots = torch._foreach_add(squares, settings.epsilon)
        torch._foreach_sqrt_(roots)
        torch._foreach_div_(steps, roots)
        torch._foreach_mul_(steps, gradients)
        torch._foreach_mul_(step_squares, settings.rho)
        torch._foreach_addcmul_(step_squares, steps, steps, value=1 - settings.rho)
        torch._foreach_add_(parameters, steps, alpha=-learning_rate)


METHODS: dict[str, type[Method]] = {
    "SGD": Sgd,
    "ADAM": Adam,
    "ADAMW": AdamW,
    "RMSPROP": RmsProp,
    "ADAGRAD": Adagrad,
    "ADADELTA": Adadelta,
}
