"""Trees of values as plain JSON and named tensors, and back, exactly: what a checkpoint keeps besides weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.errors import StoreError

NAME_LIMIT = 200  # characters of a tensor's name in a file
RESERVED = "__metadata__"  # safetensors keeps this name for itself


class ObjectState(dict[str, Any]):
    """The `state_dict` of an object, told apart from an attribute that is a dict."""


def flatten(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """A form of `tree` that JSON can hold, and its tensors by name: contiguous copies in main memory.

    Trees are dicts (keys: text, numbers, None, tuples of them), lists, tuples, tensors, numbers, text and None.
    Raises StoreError for anything else, with the place where it was found.
    """
    tensors: dict[str, Tensor] = {}
    try:
        return _encode(tree, "", tensors), tensors
    except RecursionError as error:
        raise StoreError("the state cannot be stored: it is nested too deeply, or holds itself") from error


def unflatten(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that `flatten` was given. Raises StoreError where the two do not belong together."""
    try:
        return _decode(tree, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"the stored state is not one that this version writes ({type(error).__name__}: {error})"
        ) from error


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        name = _unused(path, tensors)
        tensors[name] = stored_tensor(value, path)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return _encode_mapping(value, path, tensors)
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{path}.{number}", tensors) for number, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    raise StoreError(
        f"the state at '{path.lstrip('.')}' cannot be stored: {_type_name(value)} is not a tensor, a plain "
        "number, text, or a list, tuple or dict of them"
    )


def _encode_mapping(value: Mapping[Any, Any], path: str, tensors: dict[str, Tensor]) -> Any:
    for key in value:
        if not _is_key(key):
            raise StoreError(
                f"the state at '{path.lstrip('.')}' cannot be stored: the key {key!r} is a {_type_name(key)}"
            )
    items = {key: _encode(item, f"{path}.{key}", tensors) for key, item in value.items()}
    word = "object" if isinstance(value, ObjectState) else "dict"
    if all(type(key) is str for key in items):
        return {word: items}
    return {f"{word} pairs": [[_encode(key, path, tensors), item] for key, item in items.items()]}


def _is_key(key: Any) -> bool:
    if type(key) is tuple:
        return all(_is_key(item) for item in key)
    return key is None or type(key) in (bool, int, float, str)


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def stored_tensor(tensor: Tensor, path: str) -> Tensor:
    """A contiguous copy in main memory, sharing with nothing. Raises StoreError for what has no plain bytes."""
    where = f"the tensor '{path.lstrip('.')}' cannot be stored"
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        kind = "has no values (device meta)" if tensor.is_meta else f"is {tensor.layout}, not dense"
        raise StoreError(f"{where}: it {'is quantized' if tensor.is_quantized else kind}")
    if tensor.dtype == torch.complex128:
        raise StoreError(f"{where}: the file format has no {tensor.dtype}; keep its real and imaginary parts")
    plain = tensor.detach().resolve_conj().resolve_neg()
    return plain.to("cpu", copy=True, memory_format=torch.contiguous_format)


def _unused(path: str, tensors: Mapping[str, Tensor]) -> str:
    """A name for the tensor at `path`: keys may hold dots, be long, or not be ASCII, so two paths may look the same."""
    base = path.lstrip(".").encode("ascii", "backslashreplace").decode("ascii")[-NAME_LIMIT:]
    name, number = base, 1
    while name in tensors or name in (RESERVED, ""):
        number += 1
        name = f"{base}#{number}"
    return name


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    ((word, content),) = node.items()
    if word == "tensor":
        return tensors[content]
    if word == "float":
        return float(content)
    if word == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    if word.endswith(" pairs"):
        items = {_decode(key, tensors): _decode(item, tensors) for key, item in content}
    else:
        items = {key: _decode(item, tensors) for key, item in content.items()}
    if word not in ("dict", "dict pairs", "object", "object pairs"):
        raise ValueError(f"unknown word '{word}'")
    return ObjectState(items) if word.startswith("object") else items


def same_bytes(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree in shape, type and every bit: -0 is not 0, and NaN is itself."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    bits = [each.detach().cpu().contiguous().flatten().view(torch.uint8) for each in (one, other)]
    return torch.equal(*bits)
