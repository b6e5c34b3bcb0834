"""Attributes of a strategy that no checkpoint keeps: whether they change while it learns."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from ganglion.engine.state import PLAIN, unsaved

DEEPEST = 5


def unsaved_prints(strategy: Any) -> dict[str, str]:
    """A fingerprint of everything that `gather` leaves out, by path."""
    return {path: fingerprint(_at(strategy, path)) for path in unsaved(strategy)}


def _at(holder: Any, path: str) -> Any:
    """The value at `name.key.number`; keys may be numbers, and may hold dots."""
    name, _, rest = path.partition(".")
    value = vars(holder)[name]
    while rest:
        if isinstance(value, Mapping):
            key = max((key for key in value if _begins(rest, str(key))), key=lambda key: len(str(key)), default=None)
            if key is None:
                return None
            value, rest = value[key], rest[len(str(key)) + 1 :]
        else:
            place, _, rest = rest.partition(".")
            value = list(value)[int(place)]
    return value


def _begins(path: str, key: str) -> bool:
    return path == key or path.startswith(f"{key}.")


def fingerprint(value: Any) -> str:
    """A text that changes when the value does, as far as that can be seen from outside."""
    return hashlib.sha256(repr(_form(value, 0)).encode()).hexdigest()


def _form(value: Any, depth: int) -> Any:
    if depth > DEEPEST or isinstance(value, (nn.Module, type)) or callable(value):
        return id(value)
    if isinstance(value, (*PLAIN, bytes, numpy.generic)):
        return repr(value)
    if isinstance(value, (Tensor, numpy.ndarray)):
        array = value.detach().cpu().float().numpy() if isinstance(value, Tensor) else value
        return array.shape, hashlib.sha256(array.tobytes()).hexdigest()
    if isinstance(value, (torch.Generator, random.Random, numpy.random.Generator)):
        return _form_of_generator(value, depth)
    return _form_of_many(value, depth)


def _form_of_generator(value: Any, depth: int) -> Any:
    if isinstance(value, random.Random):
        return value.getstate()
    return _form(value.get_state() if isinstance(value, torch.Generator) else value.bit_generator.state, depth + 1)


def _form_of_many(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return [(repr(key), _form(item, depth + 1)) for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(_form(item, depth + 1)) for item in value)
    if isinstance(value, (list, tuple)):
        return [_form(item, depth + 1) for item in value]
    if hasattr(value, "__dict__"):
        return [(name, _form(item, depth + 1)) for name, item in vars(value).items()]
    text = repr(value)
    return id(value) if " at 0x" in text else text
