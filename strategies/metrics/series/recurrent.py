"""The recurrent judges that metrics fit: made and trained from a seed alone, on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

ROWS = 1000  # windows judged at once


class Recurrent(nn.Module):
    """One GRU layer and a linear layer, with torch's usual initial values drawn from a generator of its own.

    `forward`: (batch, steps, inputs) -> (batch, steps, outputs). `last`: -> (batch, outputs), from the last state.
    """

    def __init__(self, inputs: int, units: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        # Made without initial values: those would be drawn from torch's own generator.
        self.cell = nn.GRU(inputs, units, batch_first=True, device="meta").to_empty(device="cpu")
        self.head = nn.Linear(units, outputs, device="meta").to_empty(device="cpu")
        bound = units**-0.5
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, windows: Tensor) -> Tensor:
        scores: Tensor = self.head(self.cell(windows)[0])
        return scores

    def last(self, windows: Tensor) -> Tensor:
        scores: Tensor = self.head(self.cell(windows)[1][-1])
        return scores


def seeded(seed: int) -> torch.Generator:
    """A generator of the CPU's, from a seed."""
    return torch.Generator().manual_seed(seed)


def pick(windows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The places (count,) of `count` different windows, of all where there are fewer."""
    return torch.randperm(len(windows), generator=generator)[:count]


def fit(network: nn.Module, loss: Callable[[], Tensor], iterations: int, learning_rate: float = 1e-3) -> None:
    """Adam on `loss`, which draws its own batch."""
    with torch.enable_grad():
        optimiser = torch.optim.Adam(network.parameters(), learning_rate, fused=True)
        for _ in range(iterations):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()


@torch.no_grad()
def in_parts(function: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
    """The function's results for windows, a thousand at a time."""
    return torch.cat([function(part) for part in windows.split(ROWS)])
