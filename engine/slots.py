"""The tensors that methods and links remember per parameter: made, grouped by device, saved and restored by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ganglion.engine.contracts import Method
from ganglion.engine.errors import StoreError

Tensors = list[Tensor]


def parameter_names(network: nn.Module, parameters: Sequence[Tensor]) -> list[str]:
    """Names of `parameters` in `network`: state is kept by them, so that it survives a change of what is fixed."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names.get(id(parameter), f"parameter {index}") for index, parameter in enumerate(parameters)]


def load_tensors(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str) -> None:
    """Copy saved tensors into the own ones in place; those that were not saved start again from zero."""
    for name, tensor in own.items():
        value = saved.get(name)
        if value is None:
            tensor.zero_()
        elif value.shape != tensor.shape:
            stored, wanted = tuple(value.shape), tuple(tensor.shape)
            raise StoreError(f"{what} of '{name}': the stored shape is {stored}, the network's is {wanted}")
        else:
            tensor.copy_(value)


class _Group(NamedTuple):
    """Parameters of one device and type, and one list of tensors per slot."""

    parameters: Tensors
    slots: list[Tensors]


class SlotMethod(Method):
    """A method whose memory is one tensor per parameter and slot, zero at first; the slot `step` counts updates.

    A parameter without a gradient is left alone, its slots included.
    """

    decay_rate_alias: ClassVar[str | None] = None  # what DIANNE's decayRate of this method is called here

    def __init__(self, settings: Any, network: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(settings, network, parameters)
        self._names = parameter_names(network, self.parameters)
        self._slots = {slot: _zeros(slot, self.parameters) for slot in self.slot_names()}
        places: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for index, parameter in enumerate(self.parameters):
            places.setdefault((parameter.device, parameter.dtype), []).append(index)
        self._groups = [
            _Group(_pick(self.parameters, chosen), [_pick(slot, chosen) for slot in self._slots.values()])
            for chosen in places.values()
        ]

    @abstractmethod
    def slot_names(self) -> tuple[str, ...]:
        """What is remembered per parameter, in the order in which `apply` receives it."""

    @abstractmethod
    def apply(self, parameters: Tensors, gradients: Tensors, slots: list[Tensors], learning_rate: float) -> None:
        """Update `parameters` and `slots` in place; called without gradient recording."""

    def update(self, step: int, learning_rate: float) -> None:
        for parameters, slots in self._groups:
            gradients: Tensors = []
            for parameter in parameters:  # a comprehension would be one more call
                gradient = parameter.grad
                if gradient is not None:
                    gradients.append(gradient)
            if len(gradients) == len(parameters):
                self.apply(parameters, gradients, slots, learning_rate)
            elif gradients:
                chosen = [index for index, parameter in enumerate(parameters) if parameter.grad is not None]
                self.apply(_pick(parameters, chosen), gradients, [_pick(slot, chosen) for slot in slots], learning_rate)

    def state_dict(self) -> dict[str, Any]:
        return {slot: dict(zip(self._names, tensors, strict=True)) for slot, tensors in self._slots.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for slot, tensors in self._slots.items():
            load_tensors(dict(zip(self._names, tensors, strict=True)), state.get(slot, {}), slot)


def _zeros(slot: str, parameters: Sequence[Tensor]) -> Tensors:
    """One tensor per parameter; steps are float32 views of one tensor per device, which counts them all at once."""
    if slot != "step":
        return [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]
    bases = {each.device: torch.zeros(len(parameters), device=each.device, dtype=torch.float32) for each in parameters}
    return [bases[parameter.device][place] for place, parameter in enumerate(parameters)]


def _pick(tensors: Sequence[Tensor], indices: Sequence[int]) -> Tensors:
    return [tensors[index] for index in indices]
