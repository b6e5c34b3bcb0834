"""From declared layers to modules, blocks and branches included, each tried on a zero batch as it is built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from ganglion.engine.api import ConfigError
from ganglion.networks.catalogue import ACTIVATIONS_LIMIT, parse_argument
from ganglion.networks.layers import Block, Layer
from ganglion.networks.modules import Add, Concat, Multiply, Residual
from ganglion.networks.single import LAYERS_LIMIT, MISFITS, Account, Place, Plain, build_single, reason

Step = tuple[nn.Module, Plain, Tensor]  # a module, its plain form, and what it makes of the zero batch


class Built(NamedTuple):
    """Modules by name, the same as plain values that can be written to a file, and what they make of the zero batch."""

    modules: dict[str, nn.Module]
    plain: list[Plain]
    value: Tensor

    def sequential(self) -> nn.Sequential:
        """The modules, one after the other."""
        sequence = nn.Sequential()
        for name, module in self.modules.items():
            sequence.add_module(name, module)
        return sequence


@dataclass(frozen=True)
class Builder:
    """Builds one network."""

    origin: str
    blocks: Mapping[str, Block]
    account: Account

    def sequence(self, layers: Sequence[Layer], value: Tensor, names: Mapping[str, Any], inside: str = "") -> Built:
        """Build `layers` for rows like those of `value`; `names` are what `${...}` knows, `inside` the way here."""
        built: dict[str, nn.Module] = {}
        plain: list[Plain] = []
        for layer in layers:
            if layer.kind == "Linear" and value.dim() > 3:
                built[str(len(built))], value = nn.Flatten(), value.flatten(1)
                plain.append("Flatten")
            place = Place(self.origin, layer, value, names, inside + layer.path)
            module, entry, value = self._layer(place, inside)
            built[layer.name or str(len(built))] = module
            plain.append(_with_name(layer, entry))
        return Built(built, plain, value)

    def _layer(self, place: Place, inside: str) -> Step:
        layer = place.layer
        self.account.layers += 1
        if self.account.layers > LAYERS_LIMIT:
            place.refuse(f"more than {LAYERS_LIMIT} layers")
        if layer.spectral_norm and (layer.kind in self.blocks or layer.branches):
            place.refuse("spectral_norm is for single layers with a weight: set it inside")
        if layer.kind in self.blocks:
            return self._block(place)
        return self._branches(place, inside) if layer.branches else build_single(place, self.account)

    def _block(self, place: Place) -> Step:
        block = self.blocks[place.layer.kind]
        given = {name: place.substitute(raw) for name, raw in place.layer.arguments.items()}
        for override in self.account.meant(place.layer, tuple(block.parameters)):
            given[override.argument] = _number(override.value)
        names = dict(place.names)
        for name, default in block.parameters.items():
            names[name] = given[name] if name in given else place.substitute(default, names)
            if names[name] is None:
                place.refuse(f"needs a value for its parameter '{name}'")
        built = self.sequence(block.layers, place.value, names, f"{place.path} > ")
        return built.sequential(), {"Sequential": built.plain}, built.value

    def _branches(self, place: Place, inside: str) -> Step:
        built = [self.sequence(branch, place.value, place.names, inside) for branch in place.layer.branches]
        if place.layer.kind == "Sequential":
            return built[0].sequential(), {"Sequential": built[0].plain}, built[0].value
        if place.layer.kind == "Residual":
            return self._residual(place, built)
        ways, plain = [branch.sequential() for branch in built], [branch.plain for branch in built]
        values = [branch.value for branch in built]
        if place.layer.kind == "Concat":
            dim = self._dimension(place)
            concat = Concat(ways, dim)
            return concat, {"Concat": {"branches": plain, "dim": dim}}, _combine(place, concat, values)
        if place.layer.kind == "Multiply":
            multiply = Multiply(ways)
            return multiply, {"Multiply": plain}, _combine(place, multiply, values)
        _same_shape(place, values)
        add = Add(ways)
        return add, {"Add": plain}, _combine(place, add, values)

    def _residual(self, place: Place, built: Sequence[Built]) -> Step:
        shortcut = built[1].value if len(built) > 1 else place.value
        _same_shape(place, [shortcut, built[0].value], "" if len(built) > 1 else "; give it a 'projection'")
        plain = dict(zip(("layers", "projection"), (branch.plain for branch in built), strict=False))
        module = Residual(*(branch.sequential() for branch in built))
        return module, {"Residual": plain}, shortcut + built[0].value

    def _dimension(self, place: Place) -> int:
        """The dimension of a Concat, from the file or from outside."""
        dim = _dimension(place.substitute(place.layer.arguments.get("dim", 1)))
        if dim is None:
            place.refuse("dim expects a whole number from 1 on; 0 is the batch")
        for override in self.account.meant(place.layer, ("dim",)):
            dim = _dimension(override.value)
            if dim is None:
                raise ConfigError(f"{override.key}={override.value}: expects a whole number from 1 on; 0 is the batch")
        return dim


def _combine(place: Place, module: Add | Concat | Multiply, values: Sequence[Tensor]) -> Tensor:
    largest = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=False)]
    if max(math.prod(largest), sum(value[0].numel() for value in values)) > ACTIVATIONS_LIMIT:
        place.refuse(f"a row could have more than {ACTIVATIONS_LIMIT} values after this layer")
    try:
        return module.combine(values)
    except MISFITS as error:
        place.refuse(f"its branches do not fit together: {reason(error)}")


def _same_shape(place: Place, values: Sequence[Tensor], hint: str = "") -> None:
    shapes = list(dict.fromkeys(str(tuple(value.shape[1:])) for value in values))
    if len(shapes) > 1:
        place.refuse(f"its branches do not fit together: {' and '.join(shapes)}{hint}")


def _dimension(value: Any) -> int | None:
    try:
        dim: int = parse_argument(int, value)
    except ValueError:
        return None
    return dim if dim >= 1 else None


def _number(value: Any) -> Any:
    """A block's parameter from outside: a number where it reads as one."""
    for form in (int, float):
        try:
            return parse_argument(form, value)
        except ValueError:
            continue
    return value


def _with_name(layer: Layer, entry: Plain) -> Plain:
    """The plain entry with what stands beside the layer's own key."""
    extra: dict[str, Any] = {}
    if layer.name is not None:
        extra["name"] = layer.name
    if layer.spectral_norm:
        extra["spectral_norm"] = True
    return {**(entry if isinstance(entry, dict) else {entry: None}), **extra} if extra else entry
