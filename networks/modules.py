"""The layers that network definitions have beyond torch.nn: shapes and branches, and a faster Dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BITS = 15  # random bits behind each value of a mask: torch draws 63 at once, which are four times 15
FEW = 2048  # values: below, torch's own draws are as fast


class Dropout(nn.Dropout):
    """nn.Dropout with masks made of 15 random bits a value, several times as fast on a processor.

    A value is dropped with the probability `p`, rounded to 1 / 32,768; those that are left are divided by the rest of
    it, so that the mean stays exact. Where there are few values, on other devices, and for values that do not lie one
    after the other, it is torch's own, which draws 53 bits for each.
    """

    def forward(self, input: Tensor) -> Tensor:
        dropped, count = round(self.p * 2**BITS), input.numel()
        plain = input.device.type == "cpu" and input.is_contiguous() and input.is_floating_point()
        if not self.training or not plain or count < FEW or not 0 < dropped < 2**BITS or self.inplace:
            return super().forward(input)
        words = torch.empty(-(-count // 4), dtype=torch.int64).random_().bitwise_left_shift_(1)  # 63 are drawn
        halves, least = words.view(torch.int32), (2 * dropped - 2**BITS) << 16
        bits = torch.cat([halves.bitwise_left_shift(16), halves])  # two values a half: its lower bits, then its upper
        kept = bits[:count].view(input.shape).ge_(least)  # 1 or 0, as integers: vectorised, in graphs too
        scaled: Tensor = kept.to(input.dtype).mul_(1 / (1 - dropped / 2**BITS))
        return input * scaled


class Reshape(nn.Module):
    """Gives every row the shape `shape`; one -1 stands for what is left."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.shape)

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


class Crop(nn.Module):
    """Keeps the middle `size` of the last dimensions; of two middles, the one nearer to the start."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        for place, size in enumerate(self.size, start=-len(self.size)):
            excess = x.shape[place] - size
            if excess < 0:
                raise ValueError(f"cannot keep {size} of {x.shape[place]}")
            x = x.narrow(place, excess // 2, size)
        return x

    def extra_repr(self) -> str:
        return f"size={self.size}"


class _Branches(nn.Module):
    """Several ways from one input; an empty branch is the input itself."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """What each branch makes of `x`."""
        return [branch(x) for branch in self.branches]


class Add(_Branches):
    """The sum of all branches, which must agree in shape."""

    def forward(self, x: Tensor) -> Tensor:
        return self.combine(self.outputs(x))

    def combine(self, values: Sequence[Tensor]) -> Tensor:
        """The sum."""
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total


class Multiply(_Branches):
    """The product of all branches; a dimension of size 1 is stretched."""

    def forward(self, x: Tensor) -> Tensor:
        return self.combine(self.outputs(x))

    def combine(self, values: Sequence[Tensor]) -> Tensor:
        """The product."""
        product = values[0]
        for value in values[1:]:
            product = product * value
        return product


class Concat(_Branches):
    """All branches one after the other along dimension `dim` (0 is the batch, 1 the channels or features)."""

    def __init__(self, branches: Sequence[nn.Module], dim: int = 1) -> None:
        super().__init__(branches)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return self.combine(self.outputs(x))

    def combine(self, values: Sequence[Tensor]) -> Tensor:
        """The concatenation."""
        return torch.cat(list(values), self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Residual(nn.Module):
    """The input plus what `layers` make of it; `projection` brings the input to their shape where it differs."""

    def __init__(self, layers: nn.Module, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = layers
        self.projection = projection

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = x if self.projection is None else self.projection(x)
        change: Tensor = self.layers(x)
        return shortcut + change
