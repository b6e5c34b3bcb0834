"""How pictures lie in memory: the channels of each pixel together, where a job asks for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.errors import ConfigError

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
PICTURES = 4  # dimensions of a batch of pictures, and of the weights of a convolution


def lay_channels_last(networks: Mapping[str, nn.Module]) -> None:
    """Let networks with 2-d convolutions keep weights, and take batches, with the channels last in memory.

    Raises ConfigError where no network has one.
    """
    convolutional = [network for network in networks.values() if any(map(_is_convolution, network.modules()))]
    if not convolutional:
        raise ConfigError(
            f"channelsLast=true: it is for 2-d convolutions, and none of the networks ({', '.join(networks)}) has one; "
            "leave it out"
        )
    for network in convolutional:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.register_forward_pre_hook(_laid)


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTIONS)


def _laid(network: nn.Module, rows: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a network is given, pictures with the channels last."""
    return tuple(_last(each) if isinstance(each, Tensor) and each.dim() == PICTURES else each for each in rows)


def _last(pictures: Tensor) -> Tensor:
    return pictures.contiguous(memory_format=torch.channels_last)
