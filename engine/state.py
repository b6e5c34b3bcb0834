"""The state of a strategy: gathered from its attributes, and put back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.errors import StoreError
from ganglion.engine.trees import ObjectState, flatten, unflatten

__all__ = ["ObjectState", "copied", "flatten", "gather", "restore", "unflatten", "unsaved"]

PLAIN = (
    bool,
    int,
    float,
    str,
    NoneType,
)  # exactly these: a subclass (an enum, a numpy number) would not come back as itself
_ABSENT: Any = object()


# --- gathering ----------------------------------------------------------------------------------------------------


def gather(strategy: Any) -> dict[str, Any]:
    """State by attribute: tensors, plain values, state of objects with a `state_dict`, lists, tuples, dicts of them.

    Networks, processors and the sampler of `strategy.context` are left out, as the engine saves them. Parts of the
    context that have state come as `parts.NAME`. Tensors are not copied.
    """
    return _gather(strategy, [])


def unsaved(strategy: Any) -> list[str]:
    """Attributes, or entries of them (`players.0`), that `gather` leaves out and the engine does not save either."""
    paths: list[str] = []
    _gather(strategy, paths)
    return paths


def _gather(strategy: Any, left_out: list[str]) -> dict[str, Any]:
    owned = _owned(strategy)
    state = _attributes(strategy, owned, left_out)
    for name, part in _parts(strategy):
        saved = ObjectState(part.state_dict()) if _has_state(part) else _attributes(part, owned, [])
        if saved:
            state[name] = saved
    return state


def _attributes(holder: Any, owned: set[int], left_out: list[str]) -> dict[str, Any]:
    collected = {
        name: _collect(value, name, owned, left_out)
        for name, value in getattr(holder, "__dict__", {}).items()
        if name != "context"
    }
    return {name: value for name, value in collected.items() if value is not _ABSENT}


def _owned(strategy: Any) -> set[int]:
    """Identities of what the engine saves, or builds anew, by itself."""
    context = getattr(strategy, "context", None)
    owned = {id(strategy), id(context)}
    for network in dict(getattr(context, "networks", {})).values():
        for group in (network.modules(), network.parameters(), network.buffers()):
            owned.update(id(item) for item in group)
    processors = dict(getattr(context, "processors", {})).values()
    sampler = getattr(context, "sampler", None)
    parts = [part for _, part in _parts(strategy)]
    return owned | {id(item) for item in (*processors, *parts, sampler) if item is not None}


def _parts(strategy: Any) -> Iterator[tuple[str, Any]]:
    for name, part in dict(getattr(getattr(strategy, "context", None), "parts", {})).items():
        if isinstance(part, (list, tuple)):
            yield from ((f"parts.{name}.{number}", item) for number, item in enumerate(part) if _is_object(item))
        elif _is_object(part):
            yield f"parts.{name}", part


def _is_object(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, type)


def _has_state(value: Any) -> bool:
    if isinstance(value, type):
        return False
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def _is_owned(value: Any, owned: set[int]) -> bool:
    if isinstance(value, nn.Module):  # `torch.compile` wraps a network in another module
        return id(value) in owned or id(getattr(value, "_orig_mod", value)) in owned
    return id(value) in owned


def _collect(value: Any, path: str, owned: set[int], left_out: list[str]) -> Any:
    if _is_owned(value, owned):
        return _ABSENT
    if isinstance(value, Tensor) or type(value) in PLAIN:
        return value.detach() if isinstance(value, Tensor) else value
    if _has_state(value):
        return ObjectState(value.state_dict())
    return _collect_items(value, path, owned, left_out)


def _collect_items(value: Any, path: str, owned: set[int], left_out: list[str]) -> Any:
    if isinstance(value, dict) and all(type(key) in PLAIN for key in value):
        items = {key: _collect(item, f"{path}.{key}", owned, left_out) for key, item in value.items()}
        present = {key: item for key, item in items.items() if item is not _ABSENT}
        return present if present or not items else _ABSENT
    if isinstance(value, (list, tuple, deque)):
        entries = [_collect(item, f"{path}.{number}", owned, left_out) for number, item in enumerate(value)]
        if entries and all(item is _ABSENT for item in entries):
            return _ABSENT
        entries = [None if item is _ABSENT else item for item in entries]  # positions must not move
        return tuple(entries) if isinstance(value, tuple) else entries
    left_out.append(path)
    return _ABSENT


# --- restoring ----------------------------------------------------------------------------------------------------


def restore(strategy: Any, state: Mapping[str, Any]) -> None:
    """Put back what `gather` gave. Tensors of the same shape and type are filled in place, others replaced by copies.

    Raises StoreError where an object that had state is not there, or does not take it.
    """
    owned = _owned(strategy)
    parts = dict(_parts(strategy))
    for name, value in list(vars(strategy).items()):  # made after the state was taken: it was not there then
        if name not in state and name != "context" and _savable(value) and not _is_owned(value, owned):
            kept: list[str] = []
            if _collect(value, name, owned, kept) is not _ABSENT:
                delattr(strategy, name)
    for name, saved in state.items():
        if name.startswith("parts."):
            _restore_part(name, parts.get(name), saved, owned, strategy)
        else:
            _restore_attribute(strategy, name, saved, owned, strategy)


def _restore_part(name: str, part: Any, saved: Any, owned: set[int], strategy: Any) -> None:
    if part is None:
        raise StoreError(f"{type(strategy).__name__}: the stored state has '{name}', but this job has no such part")
    if isinstance(saved, ObjectState):
        _load(part, saved, name, strategy)
    else:
        for attribute, value in saved.items():
            _restore_attribute(part, attribute, value, owned, strategy)


def _restore_attribute(holder: Any, name: str, saved: Any, owned: set[int], strategy: Any) -> None:
    if name.startswith("__") or name == "context" or callable(getattr(type(holder), name, None)):
        raise StoreError(
            f"{type(holder).__name__}: the stored state has '{name}', which is not an attribute with state"
        )
    current = getattr(holder, "__dict__", {}).get(name, _ABSENT)
    value = _merge(current, saved, name, owned, strategy)
    if value is not current:
        setattr(holder, name, value)


def _merge(current: Any, saved: Any, path: str, owned: set[int], strategy: Any) -> Any:
    """What takes the place of `current`: `current` itself, changed in place, wherever that is possible."""
    if current is not _ABSENT and (_is_owned(current, owned) or (saved is None and not _savable(current))):
        return current
    if isinstance(saved, ObjectState):
        return _load(current, saved, path, strategy)
    if isinstance(saved, Tensor):
        return _fill(current, saved, strategy)
    if isinstance(saved, dict):
        return _merge_dict(current if isinstance(current, dict) else {}, saved, path, owned, strategy)
    if isinstance(saved, (list, tuple)):
        return _merge_sequence(current, saved, path, owned, strategy)
    return saved


def _savable(value: Any) -> bool:
    return isinstance(value, (Tensor, dict, list, tuple, deque)) or type(value) in PLAIN or _has_state(value)


def _load(target: Any, saved: ObjectState, path: str, strategy: Any) -> Any:
    where = f"{type(strategy).__name__}: '{path}'"
    if target is _ABSENT or not _has_state(target):
        raise StoreError(f"{where} held an object with state when it was stored; `setup` should make that object")
    try:
        target.load_state_dict(copied(dict(saved)))
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StoreError(f"{where} does not take its stored state ({type(error).__name__}: {reason})") from error
    return target


def _fill(current: Any, saved: Tensor, strategy: Any) -> Tensor:
    if isinstance(current, Tensor):
        overlapping = current.numel() > 1 and 0 in current.stride()
        if current.shape == saved.shape and current.dtype == saved.dtype and not overlapping:
            with torch.no_grad():
                return current.copy_(saved)
        return saved.detach().to(current.device, copy=True)
    devices = dict(getattr(getattr(strategy, "context", None), "devices", {}))
    return saved.detach().to(next(iter(devices.values()), saved.device), copy=True)


def _merge_dict(current: dict[Any, Any], saved: dict[Any, Any], path: str, owned: set[int], strategy: Any) -> Any:
    for key in [key for key in current if key not in saved]:
        if _savable(current[key]) and not _is_owned(current[key], owned):
            del current[key]
    for key, value in saved.items():
        current[key] = _merge(current.get(key, _ABSENT), value, f"{path}.{key}", owned, strategy)
    return current


def _merge_sequence(current: Any, saved: Any, path: str, owned: set[int], strategy: Any) -> Any:
    old = list(current) if isinstance(current, (list, tuple, deque)) else []
    old += [_ABSENT] * (len(saved) - len(old))
    new = [
        _merge(item, value, f"{path}.{i}", owned, strategy)
        for i, (item, value) in enumerate(zip(old, saved, strict=False))
    ]
    if isinstance(saved, tuple):
        if not isinstance(current, tuple):
            return tuple(new)
        return current._make(new) if hasattr(current, "_make") else type(current)(new)
    if not isinstance(current, (list, deque)):
        return new
    current.clear()
    current.extend(new)
    return current


def copied(tree: Any) -> Any:
    """The same tree with its own containers and its own tensors."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, ObjectState):
        return ObjectState({key: copied(item) for key, item in tree.items()})
    if isinstance(tree, Mapping):
        return {key: copied(item) for key, item in tree.items()}
    return type(tree)(copied(item) for item in tree) if type(tree) in (list, tuple) else tree
