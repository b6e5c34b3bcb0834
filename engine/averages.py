"""The link that keeps a running average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganglion.engine.contracts import GradientProcessor
from ganglion.engine.settings import Settings, setting
from ganglion.engine.slots import Tensors, load_tensors


class EmaSettings(Settings):
    """Settings of EMA."""

    ema: float | None = setting(None, "decay of the running average of the weights", gt=0, lt=1)
    ema_start: int = setting(0, "updates before the average begins", unit="updates", ge=0)
    ema_ramp: bool = setting(True, "start with a short average: decay at most (1 + t) / (10 + t) at its update t")

    def without_effect(self) -> Mapping[str, str]:
        return dict.fromkeys(("ema_start", "ema_ramp"), "it has no effect without ema") if self.ema is None else {}


class _Entry(NamedTuple):
    """Where a tensor of the network's state is found: looked up each time, since modules may replace their buffers."""

    name: str
    owner: dict[str, Any]
    key: str


class EMA(GradientProcessor):
    """Keeps an exponential moving average of the network: average = d average + (1 - d) weights after each update.

    It begins as a copy of the weights after update `emaStart` (the first is 0). d is `ema`, under `emaRamp` at most
    (1 + t) / (10 + t) at its update t = 1, 2...: no correction for its start is needed. Parameters, fixed ones too,
    and floating buffers are averaged; whole-number buffers are copied.
    """

    Settings = EmaSettings
    key = "ema"
    position = 70
    divisible = True

    def __init__(self, settings: Any, network: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(settings, network, parameters)
        entries = list(_entries(network))
        self._floating = [entry for entry in entries if entry.owner[entry.key].is_floating_point()]
        self._whole = [entry for entry in entries if not entry.owner[entry.key].is_floating_point()]
        self._average: Tensors = []
        self._copies: Tensors = []
        self._count = 0

    def after(self, step: int) -> None:
        if step < self.settings.ema_start and not self._count:
            return
        floating = [owner[key] for _, owner, key in self._floating]
        whole = [owner[key] for _, owner, key in self._whole]
        if not self._count:
            self._average = [tensor.detach().clone() for tensor in floating]
            self._copies = [tensor.clone() for tensor in whole]
        else:
            torch._foreach_lerp_(self._average, floating, 1.0 - self._decay(self._count))
            if whole:
                torch._foreach_copy_(self._copies, whole)
        self._count += 1

    def _decay(self, count: int) -> float:
        decay = float(self.settings.ema)
        return min(decay, (1 + count) / (10 + count)) if self.settings.ema_ramp else decay

    def averaged(self) -> dict[str, Tensor]:
        """The state of the averaged network, ready for `load_state_dict`; the network's own until the average begins.

        The tensors are the live ones: copy what is to outlast the next update.
        """
        return {**self.network.state_dict(), **self._tensors()}

    def _tensors(self) -> dict[str, Tensor]:
        if not self._count:
            return {}
        names = [entry.name for entry in (*self._floating, *self._whole)]
        return dict(zip(names, (*self._average, *self._copies), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count, "average": self._tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._count = int(state["count"])
        if not self._count:
            return
        self._average = [entry.owner[entry.key].detach().clone() for entry in self._floating]
        self._copies = [entry.owner[entry.key].clone() for entry in self._whole]
        saved = state["average"]
        load_tensors({name: own for name, own in self._tensors().items() if name in saved}, saved, "average")


def _entries(network: nn.Module) -> list[_Entry]:
    """Every tensor of the network's state."""
    entries = []
    for path, module in network.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        entries += [_Entry(prefix + key, module._parameters, key) for key in module._parameters]
        kept = [key for key in module._buffers if key not in module._non_persistent_buffers_set]
        entries += [_Entry(prefix + key, module._buffers, key) for key in kept]
    return [entry for entry in entries if entry.owner[entry.key] is not None]
