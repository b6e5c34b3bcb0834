"""Keys as Python gives them: a mapping and keyword arguments together, with values as settings take them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ganglion.engine.errors import ConfigError, fold


def python_keys(keys: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All keys in full: `generator={"learning_rate": 1e-4}` is the key `generator.learning_rate`.

    Raises ConfigError for a key that is given twice, in whatever spelling.
    """
    found: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    for name, value in (*_in_full(keys if keys is not None else {}), *_in_full(settings)):
        if fold(name) in spelt:
            raise ConfigError(f"the key '{name}' is given twice, first as '{spelt[fold(name)]}'")
        spelt[fold(name)] = name
        found[name] = value
    return found


def _in_full(keys: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(keys, Mapping):
        raise ConfigError(
            f"keys {keys!r:.80}: expected a mapping of keys to values, or keywords such as strategy='GAN'"
        )
    for name, value in keys.items():
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"{prefix}{name!r}: expected the name of a key")
        if isinstance(value, Mapping):
            yield from _in_full(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name.strip()}", _plain(value)


def _plain(value: Any) -> Any:
    """A path as text, a number of numpy or torch as Python's own."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
