"""The links of a processor chain around the method: clipping, l2, DIANNE's own forms, clamping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.averages import EMA
from ganglion.engine.contracts import GradientProcessor
from ganglion.engine.dividing import norm_of
from ganglion.engine.settings import Settings, setting
from ganglion.engine.slots import Tensors, load_tensors, parameter_names


def gradients_of(parameters: Sequence[Tensor]) -> Tensors:
    """The gradients that there are."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


class ClipNormSettings(Settings):
    """Settings of ClipNorm."""

    clip_norm: float | None = setting(None, "largest norm of the role's whole gradient", gt=0)


class ClipNorm(GradientProcessor):
    """Scales the role's whole gradient down to a norm of `clipNorm` where it is longer; never waits for the device."""

    Settings = ClipNormSettings
    key = "clipNorm"
    position = 10
    divisible = True

    def __init__(self, settings: Any, network: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(settings, network, parameters)
        self._norm = norm_of(network)

    def before(self, step: int) -> None:
        gradients = gradients_of(self.parameters)
        if gradients:
            norm = self._norm(gradients)
            torch._foreach_mul_(gradients, (self.settings.clip_norm / (norm + 1e-6)).clamp_(max=1.0))


class ClipValueSettings(Settings):
    """Settings of ClipValue."""

    clip_value: float | None = setting(None, "largest magnitude of one element of the gradient", gt=0)


class ClipValue(GradientProcessor):
    """Limits every element of the gradient to [-clipValue, clipValue]."""

    Settings = ClipValueSettings
    key = "clipValue"
    position = 11
    divisible = True

    def before(self, step: int) -> None:
        clamp(gradients_of(self.parameters), self.settings.clip_value)


def clamp(tensors: Tensors, bound: float) -> None:
    """Limit every element to [-bound, bound], in place; what is not a number stays that."""
    if tensors:
        torch._foreach_clamp_min_(tensors, -bound)
        torch._foreach_clamp_max_(tensors, bound)


class L2Settings(Settings):
    """Settings of L2."""

    l2: float | None = setting(None, "weight of l2 regularisation (DIANNE's usual value: 1e-4)", ge=0)


class L2(GradientProcessor):
    """Adds `l2` times the parameter to its gradient, before the method: torch.optim's `weight_decay`.

    It acts on parameters only, never on running statistics. DIANNE instead takes `l2` times the parameter off after
    the method, not multiplied by the learning rate: the link `dianneL2`.
    """

    Settings = L2Settings
    key = "l2"
    position = 20
    divisible = True

    def before(self, step: int) -> None:
        changing: Tensors = [parameter for parameter in self.parameters if parameter.grad is not None]
        if changing:
            torch._foreach_add_(gradients_of(changing), changing, alpha=self.settings.l2)


class DianneL2Settings(Settings):
    """Settings of DianneL2."""

    dianne_l2: float | None = setting(None, "part of each parameter taken off per update, whatever the rate", ge=0)


class DianneL2(GradientProcessor):
    """DIANNE's l2: the update loses `dianneL2` times the parameter as it was before, not multiplied by the rate.

    With plain SGD at a constant rate this is the link `l2` at l2 = dianneL2 / learningRate.
    """

    Settings = DianneL2Settings
    key = "dianneL2"
    position = 50
    divisible = True

    def before(self, step: int) -> None:
        self._changing: Tensors = [parameter for parameter in self.parameters if parameter.grad is not None]
        self._decay = torch._foreach_mul(self._changing, self.settings.dianne_l2) if self._changing else ()

    def after(self, step: int) -> None:
        if self._changing:
            torch._foreach_sub_(self._changing, self._decay)


class DianneMomentumSettings(Settings):
    """Settings of DianneMomentum."""

    dianne_momentum: float | None = setting(None, "momentum over whole steps, after the method", ge=0, lt=1)
    dianne_nesterov: bool = setting(False, "DIANNE's Nesterov form of dianneMomentum")

    def without_effect(self) -> Mapping[str, str]:
        return {"dianne_nesterov": "it has no effect without dianneMomentum"} if self.dianne_momentum is None else {}


class DianneMomentum(GradientProcessor):
    """DIANNE's momentum over finished steps d of any method: v = d + mu v, then p += v.

    d is the step as the method and `dianneL2` left it, so already multiplied by the learning rate; with
    `dianneNesterov` p += (1 + mu) v - mu v_before. A parameter without a gradient is left alone.
    """

    Settings = DianneMomentumSettings
    key = "dianneMomentum"
    position = 55
    divisible = True

    def __init__(self, settings: Any, network: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(settings, network, parameters)
        velocities = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        self._velocity = dict(zip(parameter_names(network, self.parameters), velocities, strict=True))
        self._pairs = list(zip(self.parameters, velocities, strict=True))

    def before(self, step: int) -> None:
        pairs = [pair for pair in self._pairs if pair[0].grad is not None]
        self._changing: Tensors = [parameter for parameter, _ in pairs]
        self._velocities = [velocity for _, velocity in pairs]
        self._origin = [parameter.detach().clone() for parameter in self._changing]

    def after(self, step: int) -> None:
        if not self._changing:
            return
        momentum, velocities = self.settings.dianne_momentum, self._velocities
        steps = torch._foreach_sub(self._changing, self._origin)
        if self.settings.dianne_nesterov:
            torch._foreach_add_(self._origin, velocities, alpha=-momentum)
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, steps)
        torch._foreach_copy_(self._changing, self._origin)
        torch._foreach_add_(self._changing, velocities, alpha=1 + momentum if self.settings.dianne_nesterov else 1)

    def state_dict(self) -> dict[str, Any]:
        return {"velocity": dict(self._velocity)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_tensors(self._velocity, state.get("velocity", {}), "velocity")


class ClampSettings(Settings):
    """Settings of Clamp."""

    clamp: float | None = setting(None, "largest magnitude of any weight, kept after every update", gt=0)


class Clamp(GradientProcessor):
    """Limits every trainable parameter, biases and normalisation included, to [-clamp, clamp] after each update.

    Running statistics are no parameters and stay as they are; so do fixed parameters.
    """

    Settings = ClampSettings
    key = "clamp"
    position = 60
    divisible = True

    def after(self, step: int) -> None:
        clamp([*self.parameters], self.settings.clamp)


LINKS: dict[str, type[GradientProcessor]] = {
    "ClipNorm": ClipNorm,
    "ClipValue": ClipValue,
    "L2": L2,
    "DianneL2": DianneL2,
    "DianneMomentum": DianneMomentum,
    "Clamp": Clamp,
    "EMA": EMA,
}
