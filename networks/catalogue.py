"""Which layers a definition may name: their arguments and types, what is inferred, and which inputs fit."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union

import torch
from torch import nn

from ganglion.engine.api import parse_value
from ganglion.networks.modules import Crop, Dropout, Reshape

BRANCHING = ("Add", "Concat", "Multiply", "Residual", "Sequential")
OWN: dict[str, type[nn.Module]] = {"Reshape": Reshape, "Crop": Crop, "Dropout": Dropout}
SIZE_LIMIT = 2**31
ACTIVATIONS_LIMIT = 2**27  # values that one row may have after one layer

_BY_DIMENSIONS = (
    "Conv ConvTranspose BatchNorm InstanceNorm Dropout MaxPool AvgPool AdaptiveAvgPool AdaptiveMaxPool LPPool "
    "ZeroPad ConstantPad ReflectionPad ReplicationPad CircularPad"
)
_PLAIN = (
    "Linear GroupNorm LayerNorm RMSNorm LocalResponseNorm Dropout AlphaDropout FeatureAlphaDropout "
    "ReLU ReLU6 LeakyReLU PReLU RReLU ELU SELU CELU GELU SiLU Mish GLU Sigmoid LogSigmoid Hardsigmoid Hardswish "
    "Tanh Hardtanh Hardshrink Softshrink Tanhshrink Softplus Softsign Threshold Softmax LogSoftmax Softmin "
    "Upsample PixelShuffle PixelUnshuffle ChannelShuffle Flatten Unflatten Identity"
)
# In-place layers would change what other branches see; the rest are the engine's business, or change what comes out.
_WITHHELD = {"inplace", "device", "dtype", "return_indices", "self", "args", "kwargs"}
_MAIN = {"Linear": "out_features", "Upsample": "scale_factor", "Conv": "out_channels"}
_INFERRED = {
    "Linear": "in_features",
    "Conv": "in_channels",
    "BatchNorm": "num_features",
    "InstanceNorm": "num_features",
    "GroupNorm": "num_channels",
    "LayerNorm": "normalized_shape",
    "RMSNorm": "normalized_shape",
}
_DEFAULTS: dict[str, dict[str, Any]] = {name: {"dim": 1} for name in ("Softmax", "LogSoftmax", "Softmin")}
_POSITIVE = {
    "out_features", "out_channels", "kernel_size", "stride", "dilation", "groups", "num_groups", "num_parameters",
    "output_size", "upscale_factor", "downscale_factor", "scale_factor", "size", "num_features", "normalized_shape",
}  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """One constructor argument of a layer."""

    name: str
    annotation: Any
    required: bool


@dataclass(frozen=True)
class LayerType:
    """One whitelisted layer class. `dimensions` are the numbers of dimensions that a row may have; empty means any."""

    name: str
    module: type[nn.Module]
    arguments: Mapping[str, Argument]
    main: str | None
    inferred: str | None
    dimensions: tuple[int, ...]

    @property
    def settable(self) -> tuple[str, ...]:
        """The arguments that may be overridden from outside: all but the inferred one."""
        return tuple(name for name in self.arguments if name != self.inferred)


def _names() -> dict[str, type[nn.Module]]:
    numbered = [f"{stem}{count}d" for stem in _BY_DIMENSIONS.split() for count in (1, 2, 3)]
    known = {name: getattr(nn, name, None) for name in (*_PLAIN.split(), *numbered)}
    return {**{name: module for name, module in known.items() if module is not None}, **OWN}


LAYERS = _names()


@cache
def layer_type(name: str) -> LayerType:
    """What is known of the whitelisted layer `name`."""
    module = LAYERS[name]
    hints = typing.get_type_hints(module.__init__)
    arguments = {}
    for parameter in inspect.signature(module).parameters.values():
        if parameter.name not in _WITHHELD and not parameter.name.startswith("_"):
            annotation = hints.get(parameter.name, type(parameter.default))
            required = parameter.default is parameter.empty
            arguments[parameter.name] = Argument(parameter.name, annotation, required)
    family = _family(name)
    main = _MAIN.get(family) or next(iter(arguments), None)
    return LayerType(name, module, arguments, main, _INFERRED.get(family), _dimensions(name))


def _family(name: str) -> str:
    stem = name[:-2] if name[-2:] in ("1d", "2d", "3d") else name
    return "Conv" if stem == "ConvTranspose" else stem


def _dimensions(name: str) -> tuple[int, ...]:
    if name in ("PixelShuffle", "PixelUnshuffle"):
        return (3,)
    if name == "BatchNorm1d":
        return (1, 2)
    return (int(name[-2]) + 1,) if name[-2:] in ("1d", "2d", "3d") else ()


def infer(layer: LayerType, shape: tuple[int, ...]) -> dict[str, Any]:
    """The arguments that follow from the shape of a row: sizes, channels, the normalised shape."""
    inferred: dict[str, Any] = dict(_DEFAULTS.get(layer.name, {}))
    if layer.inferred is None or not shape:
        return inferred
    if layer.inferred == "in_features":
        inferred[layer.inferred] = shape[-1]
    elif layer.inferred == "normalized_shape":  # an image as a whole; a vector or a step of a sequence by itself
        inferred[layer.inferred] = list(shape) if len(shape) > 2 else [shape[-1]]
    else:
        inferred[layer.inferred] = shape[0]
    return inferred


# --- values -------------------------------------------------------------------------------------------------------


def parse_argument(annotation: Any, value: Any) -> Any:
    """`value` (text, or what YAML makes of it) as the annotation says. Raises ValueError, without a message of use."""
    candidates = _candidates(annotation)
    if value is None or (isinstance(value, str) and value.strip().lower() in ("none", "null")):
        if type(None) in typing.get_args(annotation):
            return None
        raise ValueError("none is no value here")
    if isinstance(value, bool) and bool not in candidates:
        raise ValueError("not a truth value")
    for candidate in candidates:
        try:
            parsed = parse_value(candidate, value)
        except (ValueError, TypeError, OverflowError):
            continue
        if _fits(candidate, parsed):
            return parsed
    raise ValueError("of another type")


def _candidates(annotation: Any) -> list[Any]:
    """The forms to try, text last: it would take everything."""
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    forms = [form for form in (typing.get_args(annotation) if union else (annotation,)) if form is not torch.Size]
    return [*(form for form in forms if form not in (str, type(None))), *(form for form in forms if form is str)]


def _fits(form: Any, parsed: Any) -> bool:
    values = parsed if isinstance(parsed, (tuple, list)) else (parsed,)
    if any(isinstance(item, float) and not math.isfinite(item) for item in values):
        return False
    arguments = typing.get_args(form)
    fixed = typing.get_origin(form) is tuple and Ellipsis not in arguments
    return len(values) == len(arguments) if fixed else len(values) > 0


def expected(annotation: Any) -> str:
    """A type as a user reads it: `int or 2 of int`, `float`, `zeros|reflect`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(expected(form) for form in arguments if form is not torch.Size))
    if origin is Literal:
        return "|".join(str(argument) for argument in arguments)
    if origin in (list, tuple):
        count = "a list" if origin is list or Ellipsis in arguments else str(len(arguments))
        return f"{count} of {expected(arguments[0])}"
    names = {str: "text", type(None): "none", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def check_size(name: str, value: Any) -> None:
    """Refuse sizes that are not positive, or that nobody can mean. Raises ValueError with the reason."""
    for item in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            continue
        if name in _POSITIVE and item <= 0:
            raise ValueError(f"must be above 0, not {item}")
        if abs(item) > SIZE_LIMIT:
            raise ValueError(f"is beyond 2**31 with {item}")


def activations_bound(layer: LayerType, arguments: Mapping[str, Any], shape: tuple[int, ...]) -> int:
    """An upper bound of the number of values that a row has after the layer, found without running it."""
    if not shape:
        return 1
    channels = int(arguments.get("out_channels", shape[0]))
    largest = {name: _largest(value) for name, value in arguments.items()}
    if layer.name == "Linear":
        return math.prod(shape[:-1]) * int(arguments["out_features"])
    return channels * math.prod(_extent(layer.name, largest, extent) for extent in shape[1:])


def _extent(name: str, largest: Mapping[str, float], extent: int) -> int:
    if name.startswith("ConvTranspose"):
        reach = largest.get("dilation", 1) * largest["kernel_size"] + largest.get("output_padding", 0)
        return int(extent * largest.get("stride", 1) + reach)
    if name == "Upsample":
        return int(max(extent * largest.get("scale_factor", 0), largest.get("size", 0)))
    if name.startswith("Adaptive"):
        return int(largest["output_size"]) or extent
    return int(extent + 2 * largest.get("padding", 0))


def _largest(value: Any) -> float:
    numbers = [
        item for item in (value if isinstance(value, (tuple, list)) else (value,)) if isinstance(item, (int, float))
    ]
    return max([abs(number) for number in numbers], default=0)
