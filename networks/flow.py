"""A perceptron that is told the time: for strategies that learn what rows become as time goes on.

Peebles and Xie, "Scalable Diffusion Models with Transformers", 2022, https://arxiv.org/abs/2212.09748: normalised
layers which time scales and shifts (figure 3, adaLN), each block beginning as nothing; sines and cosines of the time.

Deviations: perceptrons in place of attention; no gate behind a block, whose last layer begins at 0 instead.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganglion.engine.api import NetworkContext, NetworkError, Settings, hookimpl, setting

WAVES, HIGHEST = 32, 1000.0


class FlowSettings(Settings):
    """Settings of FlowMLP."""

    width: int = setting(256, "numbers between the blocks; inside a block twice as many", ge=1)
    blocks: int = setting(4, "residual blocks", ge=1)
    dropout: float = setting(0.0, "how likely a number inside a block is set to 0 in learning", ge=0, lt=1)


class Time(nn.Module):
    """A time (batch, 1) in 0..1 as sines and cosines of growing frequency, through a perceptron: (batch, width)."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0.0, math.log10(HIGHEST), WAVES), persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * WAVES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, time: Tensor) -> Tensor:
        phases = time * self.frequencies
        made: Tensor = self.layers(torch.cat((phases.sin(), phases.cos()), 1))
        return made


class Block(nn.Module):
    """Adds to rows (batch, width) what a hidden layer makes of them, normalised, scaled and shifted by the time."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.time = nn.Linear(width, 2 * width)
        self.inward, self.outward = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.between = nn.Sequential(nn.SiLU(), nn.Dropout(dropout)) if dropout else nn.SiLU()
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, rows: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time).chunk(2, 1)
        hidden = self.between(self.inward(self.norm(rows) * (1.0 + scale) + shift))
        added: Tensor = self.outward(hidden)
        return rows + added


class Flow(nn.Module):
    """(batch, size + 1), the time last, to (batch, wanted size)."""

    def __init__(self, size: int, made: int, settings: FlowSettings) -> None:
        super().__init__()
        self.time, self.rows = Time(settings.width), nn.Linear(size, settings.width)
        self.blocks = nn.ModuleList(Block(settings.width, settings.dropout) for _ in range(settings.blocks))
        self.norm, self.output = nn.LayerNorm(settings.width), nn.Linear(settings.width, made)

        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, rows: Tensor) -> Tensor:
        time, hidden = self.time(rows[:, -1:]), self.rows(rows[:, :-1])
        for block in self.blocks:
            hidden = block(hidden, time)
        made: Tensor = self.output(self.norm(hidden))
        return made


class FlowMLP:
    """A residual perceptron for a row as one vector and a time, with normalised layers: the velocity of a flow."""

    Settings: ClassVar[type[Settings]] = FlowSettings
    roles = ("velocity",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        if len(context.input.shape) != 1 or context.input.size < 2:
            raise NetworkError(f"FlowMLP takes one vector of a row and a time, not {context.input.shape}")
        settings = context.settings if context.settings is not None else FlowSettings()
        return Flow(context.input.size - 1, context.output.size, settings)


@hookimpl
def register_networks(register: Any) -> None:
    """FlowMLP."""
    register("FlowMLP", FlowMLP())
