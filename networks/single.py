"""One layer without branches: its arguments from the file, from outside and from the shape, tried on a zero batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganglion.engine.api import ConfigError, NetworkError
from ganglion.networks.catalogue import (
    ACTIVATIONS_LIMIT,
    LayerType,
    activations_bound,
    check_size,
    expected,
    infer,
    layer_type,
    parse_argument,
)
from ganglion.networks.expressions import substitute
from ganglion.networks.layers import Layer, squeezed

LAYERS_LIMIT = 10_000
PARAMETERS_LIMIT = 2**31
Plain = dict[str, Any] | str

# What torch raises for arguments and shapes that do not go together.
MISFITS = (TypeError, ValueError, RuntimeError, ZeroDivisionError, OverflowError, IndexError, AssertionError)


class Override(NamedTuple):
    """`Layer.argument=value` from outside the definition."""

    key: str
    layer: str
    argument: str
    value: Any


@dataclass
class Account:
    """What one network under construction has used up, and which overrides it has met."""

    overrides: Sequence[Override] = ()
    layers: int = 0
    parameters: int = 0
    used: set[str] = field(default_factory=set)

    def meant(self, layer: Layer, settable: Sequence[str]) -> list[Override]:
        """The overrides that mean this layer, those by its own name last, because they are stronger."""
        found: list[Override] = []
        for target in (layer.kind, layer.name):
            for override in self.overrides:
                argument = next((name for name in settable if squeezed(name) == squeezed(override.argument)), None)
                if argument is not None and target == override.layer:
                    self.used.add(override.key)
                    found.append(override._replace(argument=argument))
        return found


class Place(NamedTuple):
    """A layer, the rows that reach it, what `${...}` knows there, and its path for messages."""

    origin: str
    layer: Layer
    value: Tensor
    names: Mapping[str, Any]
    path: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return tuple(self.value.shape[1:])

    def refuse(self, what: str) -> NoReturn:
        """Raise NetworkError about this layer."""
        raise NetworkError(f"{self.origin}: {self.path}: {what}")

    def substitute(self, raw: Any, names: Mapping[str, Any] | None = None) -> Any:
        """`raw` with its `${...}` replaced."""
        try:
            return substitute(raw, self.names if names is None else names)
        except ValueError as error:
            self.refuse(str(error))


def build_single(place: Place, account: Account) -> tuple[nn.Module, Plain, Tensor]:
    """The module, its plain form, and what it makes of the rows. Raises NetworkError, ConfigError."""
    kind = layer_type(place.layer.kind)
    given = _given(place, kind, account)
    if kind.dimensions and len(place.shape) not in kind.dimensions:
        place.refuse(f"needs rows of {' or '.join(map(str, kind.dimensions))} dimensions, gets {place.shape}")
    arguments = {**infer(kind, place.shape), **given}
    missing = [name for name, argument in kind.arguments.items() if argument.required and name not in arguments]
    if missing:
        place.refuse(f"needs {' and '.join(missing)}")
    _check_sizes(place, kind, arguments, account)
    module = kind.module(**arguments)
    if place.layer.spectral_norm:
        if not isinstance(getattr(module, "weight", None), Tensor):
            place.refuse("spectral_norm needs a layer with a weight")
        module = spectral_norm(module)
    return module, _plain(kind.name, given), _try(place, module)


def _given(place: Place, kind: LayerType, account: Account) -> dict[str, Any]:
    """The arguments that the file and the overrides give, as the types that the layer declares."""
    given: dict[str, Any] = {}
    for name, raw in place.layer.arguments.items():
        given[name] = _typed(kind, name, place.substitute(raw), NetworkError, f"{place.origin}: {place.path}: {name}")
    for override in account.meant(place.layer, kind.settable):
        where = f"{override.key}={override.value}: {place.origin}: {place.path}: {override.argument}"
        given[override.argument] = _typed(kind, override.argument, override.value, ConfigError, where)
    return given


def _typed(kind: LayerType, name: str, value: Any, error: type[NetworkError] | type[ConfigError], where: str) -> Any:
    annotation = kind.arguments[name].annotation
    try:
        parsed = parse_argument(annotation, value)
    except ValueError:
        raise error(f"{where} expects {expected(annotation)}, not {value!r}") from None
    try:
        check_size(name, parsed)
    except ValueError as problem:
        raise error(f"{where} {problem}") from None
    return parsed


def _check_sizes(place: Place, kind: LayerType, arguments: Mapping[str, Any], account: Account) -> None:
    """Refuse what would not fit into memory: the layer is first made without storage, which allocates nothing."""
    try:
        with torch.device("meta"):
            skeleton = kind.module(**arguments)
    except MISFITS as error:
        keys = [f"{override.key}={override.value}" for override in account.meant(place.layer, kind.settable)]
        place.refuse(f"{reason(error)}{' (' + ', '.join(keys) + ')' if keys else ''}")
    account.parameters += sum(parameter.numel() for parameter in skeleton.parameters())
    if account.parameters > PARAMETERS_LIMIT:
        place.refuse(f"the network would have more than {PARAMETERS_LIMIT} parameters")
    if activations_bound(kind, arguments, place.shape) > ACTIVATIONS_LIMIT:
        place.refuse(f"a row could have more than {ACTIVATIONS_LIMIT} values after this layer")


def _try(place: Place, module: nn.Module) -> Tensor:
    """What the module makes of the zero batch, in evaluation mode, so that no random number is drawn."""
    try:
        with torch.no_grad():
            output: Tensor = module.eval()(place.value)
    except (*MISFITS, NotImplementedError) as error:
        place.refuse(f"does not fit rows of shape {place.shape}: {reason(error)}")
    module.train()
    if output.dim() < 1 or output.shape[0] != place.value.shape[0]:
        place.refuse("mixes the rows of a batch")
    if output.numel() == 0:
        place.refuse(f"leaves nothing of rows of shape {place.shape}")
    return output


def _plain(kind: str, arguments: Mapping[str, Any]) -> Plain:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    return {kind: plain} if plain else kind


def reason(error: Exception) -> str:
    """The first line of what torch says, as the end of a sentence."""
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
