"""Generators that are wrong in a known way, made from real windows: what a metric must catch before it is believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ganglion.engine.api import ConfigError, stream_seed, suggestion

Control = Callable[[Tensor, torch.Generator], Tensor]


def _real(windows: Tensor, generator: torch.Generator) -> Tensor:
    return windows


def _permuted(windows: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.rand(windows.shape[:2], generator=generator).argsort(1)
    return windows.gather(1, order[:, :, None].expand_as(windows))


def _frozen(windows: Tensor, generator: torch.Generator) -> Tensor:
    count, steps, _ = windows.shape
    chosen = torch.randint(steps, (count,), generator=generator)
    return windows[torch.arange(count), chosen][:, None].repeat(1, steps, 1)


def _shuffled(windows: Tensor, generator: torch.Generator) -> Tensor:
    orders = [torch.randperm(len(windows), generator=generator) for _ in range(windows.shape[2])]
    return torch.stack([windows[order, :, feature] for feature, order in enumerate(orders)], dim=2)


def _constant(windows: Tensor, generator: torch.Generator) -> Tensor:
    return windows.mean((0, 1)).expand_as(windows).clone()


def _independent(windows: Tensor, generator: torch.Generator) -> Tensor:
    flat = windows.flatten(0, 1)
    chosen = torch.randint(len(flat), flat.shape, generator=generator)
    return flat.gather(0, chosen).view_as(windows)


def _reversed(windows: Tensor, generator: torch.Generator) -> Tensor:
    return windows.flip(1)


CONTROLS: Mapping[str, Control] = {
    "real": _real,  # other real windows: what a perfect generator makes
    "permuted": _permuted,  # the steps of each window in random order
    "frozen": _frozen,  # one row of each window in every step
    "shuffled": _shuffled,  # each feature from another window
    "constant": _constant,  # the mean of each feature, everywhere
    "independent": _independent,  # every number drawn by itself from all values of its feature
    "reversed": _reversed,  # each window played backwards
    "copied": _real,  # windows that were trained on
}


def control(name: str, train: Tensor, other: Tensor, count: int, seed: int) -> Tensor:
    """`count` windows of the generator `name`, made from `other` real windows, `copied` ones from `train`.

    Windows are (count, steps, features); they are drawn with replacement where there are too few. Raises ConfigError
    for an unknown name.
    """
    if name not in CONTROLS:
        raise ConfigError(f"there is no control '{name}'{suggestion(name, CONTROLS)}")
    source = train if name == "copied" else other
    generator = torch.Generator().manual_seed(stream_seed(seed, "control", name))
    if count <= len(source):
        rows = torch.randperm(len(source), generator=generator)[:count]
    else:
        rows = torch.randint(len(source), (count,), generator=generator)
    return CONTROLS[name](source[rows], generator)
