"""Python objects in the place of names: a strategy's class, functions that make networks, networks, data in memory."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganglion.engine.contracts import Dataset, DatasetFactory, DataSpec, NetworkContext, Splits
from ganglion.engine.data import TensorDataset
from ganglion.engine.errors import ConfigError, DataError, fold
from ganglion.engine.registry import Registry

KINDS = {1: "vector", 2: "sequence", 3: "image"}  # by the dimensions of a row
RANGES = ((0.0, 1.0), (-1.0, 1.0))  # of pictures; others are between their own least and largest value


def with_names(
    registry: Registry, networks: Any, dataset: Any, keys: Mapping[str, Any]
) -> tuple[Sequence[str] | str | None, str | None, dict[str, Any]]:
    """The same with a name for each object, which `registry` knows from now on. Raises InputError."""
    named = dict(keys)
    for key, value in keys.items():
        if fold(key) == "strategy" and isinstance(value, type):
            named[key] = _named(registry, "strategy", value)
    if networks is not None and not isinstance(networks, str):
        several = networks if isinstance(networks, (list, tuple)) else [networks]
        networks = [each if isinstance(each, str) else _network(registry, each) for each in several]
    if dataset is not None and not isinstance(dataset, str):
        dataset = _named(registry, "dataset", dataset if isinstance(dataset, type) else _data(dataset))
    return networks, dataset, named


def _network(registry: Registry, thing: Any) -> str:
    if isinstance(thing, nn.Module) and not hasattr(thing, "layer_arguments"):
        thing = _maker(thing)
    if not callable(thing):
        raise ConfigError(f"networks: {type(thing).__name__} is neither a name, nor a network, nor makes one")
    return _named(registry, "network", thing)


def _maker(network: nn.Module) -> Callable[[NetworkContext], nn.Module]:
    """What gives a copy of a network, with its weights: the one that was given stays as it is."""

    def make(context: NetworkContext) -> nn.Module:
        return copy.deepcopy(network)

    make.__name__ = make.__qualname__ = type(network).__name__
    make.__doc__ = f"A {type(network).__name__} that a Python program gave."
    return make


def _named(registry: Registry, kind: str, thing: Any) -> str:
    """The name of what is registered or can be imported anywhere; another thing is given to the registry."""
    name = str(getattr(thing, "__name__", type(thing).__name__))
    place = str(getattr(thing, "__module__", ""))
    for entry in registry.all(kind):
        if entry.thing is thing:
            return entry.name
    if "." not in getattr(thing, "__qualname__", ".") and _importable(place) and hasattr(sys.modules[place], name):
        return f"{place}:{name}"
    return registry.give(kind, name, thing)


def _importable(module: str) -> bool:
    """Whether another process would find a module by its name: one of a program or a notebook is only here."""
    if module == "__main__" or module not in sys.modules:
        return False
    top = module.partition(".")[0]
    finders = [finder.find_spec for finder in sys.meta_path if hasattr(finder, "find_spec")]
    return any(find(top, None) is not None for find in finders)


# --- data in memory -----------------------------------------------------------------------------------------------


def _data(value: Any) -> type[DatasetFactory]:
    """A data set of what was given: Splits, a Dataset, rows, or a pair of rows and their targets."""
    splits = value if isinstance(value, Splits) else Splits(value if isinstance(value, Dataset) else _rows(value))

    class Data(DatasetFactory):
        """Data that a Python program gave."""

        def load(self) -> Splits:
            return splits

    return Data


def _rows(value: Any) -> TensorDataset:
    rows, target = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    rows = _tensor(rows, "data")
    if rows.dim() - 1 not in KINDS or not rows.numel():
        raise DataError(
            f"data of shape {tuple(rows.shape)}: expected rows of features (rows, features), of series (rows, steps, "
            "features) or of pictures (rows, channels, height, width)"
        )
    kind, whole = KINDS[rows.dim() - 1], rows.dtype == torch.uint8
    rows = rows if whole else rows.float()
    limits = _limits(rows) if kind == "image" and not whole else (0.0, 1.0) if whole else None
    spec = DataSpec(kind, tuple(rows.shape[1:]), limits)  # type: ignore[arg-type]
    scale = 1 / 255 if whole else 1.0
    if target is None:
        return TensorDataset(spec, rows, scale=scale)
    return _with_target(spec, rows, _tensor(target, "targets"), scale)


def _with_target(spec: DataSpec, rows: Tensor, target: Tensor, scale: float) -> TensorDataset:
    """Whole numbers are classes from 0, others numbers to learn."""
    if len(target) != len(rows):
        raise DataError(f"targets: there are {len(target)} of them, and {len(rows)} rows of data")
    if target.is_floating_point() or target.dim() != 1:
        shape = tuple(target.shape[1:]) or (1,)
        numbers = target.float().reshape(len(target), *shape)
        return TensorDataset(replace(spec, target_shape=shape), rows, numbers, scale=scale)
    if int(target.min()) < 0:
        raise DataError(f"targets: classes are numbered from 0, and {int(target.min())} is among them")
    names = tuple(str(number) for number in range(int(target.max()) + 1))
    return TensorDataset(replace(spec, classes=names), rows, target.long(), scale=scale)


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        return torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{what}: a {type(value).__name__} is neither a tensor nor an array of numbers") from None


def _limits(rows: Tensor) -> tuple[float, float]:
    """The range of pictures: a usual one where they keep to it."""
    low, high = float(rows.min()), float(rows.max())
    usual = (limits for limits in RANGES if limits[0] <= low and high <= limits[1])
    return next(usual, (low, high if high > low else low + 1))
