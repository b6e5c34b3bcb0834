"""Recurrent networks over (batch, steps, features): one pass by torch's layers, or step by step on their own output."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ganglion.engine.api import Port, Settings, averaged, setting
from ganglion.networks.modules import Dropout
from ganglion.networks.series.sequences import ACTIVATIONS, RANGES, Repeat, second_derivatives

LAYERS: dict[str, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
CELLS: dict[str, type[nn.LSTMCell | nn.GRUCell]] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}


class CellSettings(Settings):
    """What all recurrent networks can be set to."""

    cell: Literal["lstm", "gru"] = setting("lstm", "the recurrent cell; torch's GRU resets after its matrix product")
    hidden: int = setting(100, "units of every recurrent layer, in each direction", unit="units", ge=1)
    layers: int = setting(1, "recurrent layers over each other", ge=1)
    dropout: float = setting(0.0, "share of the units dropped between two recurrent layers", ge=0, lt=1)
    forget_bias: float | None = setting(
        None, "what the biases of all gates of an LSTM begin with; none: torch's own start", ge=-100, le=100
    )
    output_init: Literal["none", "truncatedNormal"] = setting(
        "none", "the start of the output layer: torch's own, or N(0, 1) cut off at -2 and 2"
    )

    def without_effect(self) -> dict[str, str]:
        reasons = {}
        if self.layers == 1:
            reasons["dropout"] = "it acts between recurrent layers, and with layers=1 there is one"
        if self.cell == "gru":
            reasons["forget_bias"] = "only an LSTM has a bias of that kind; use cell=lstm"
        return reasons


class BatchMean(nn.modules.batchnorm._NormBase):
    """Each step's features and, behind them, their mean over the batch: (batch, steps, 2 * features).

    A running mean stands in for it in evaluation mode, as in BatchNorm: rows do not depend on each other there. Being
    a norm it is known to mix the rows of a batch, so real and fake ones are never passed through it together.
    """

    def __init__(self, steps: int, features: int) -> None:
        super().__init__(steps * features, affine=False)

    def forward(self, rows: Tensor) -> Tensor:
        assert self.running_mean is not None
        mean = averaged(rows.mean(0)) if self.training else self.running_mean.view(rows.shape[1:])
        if self.training:
            with torch.no_grad():
                self.running_mean.lerp_(mean.flatten(), self.momentum or 0.0)
        return torch.cat((rows, mean.expand_as(rows)), 2)


class RecurrentNetwork(nn.Module):
    """Recurrent layers and a Linear for the wanted output, which decides how they meet.

    (steps, k): the Linear sees every step. (k,), and the whole sequence where `window` is true: it sees the last state
    of the last layer, of both directions. An input (latent,) is repeated in every step. `lengths` (batch,) say where
    sequences end: the last state of what reads forwards is the one there; what reads backwards sees what lies behind.
    """

    def __init__(
        self,
        given: Port,
        made: Port,
        settings: CellSettings,
        *,
        bidirectional: bool = False,
        batch_mean: bool = False,
        window: bool = False,
        activation: str = "none",
    ) -> None:
        super().__init__()
        steps, size = (given if len(given.shape) == 2 else made).shape[0], given.shape[-1]
        self.shape = made.shape
        self.by_step = len(made.shape) == 2 and not window
        self.repeat = Repeat(steps)
        self.batch_mean = BatchMean(steps, size) if batch_mean else nn.Identity()
        self.recurrent = LAYERS[settings.cell](
            2 * size if batch_mean else size,
            settings.hidden,
            settings.layers,
            batch_first=True,
            dropout=settings.dropout if settings.layers > 1 else 0.0,
            bidirectional=bidirectional,
        )
        width = 2 * settings.hidden if bidirectional else settings.hidden
        self.output = nn.Linear(width, made.shape[-1] if self.by_step else made.size)
        self.activation = ACTIVATIONS[activation]()
        self.output_range = RANGES.get(activation)
        start(self, settings, self.output)

    def states(self, rows: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states in every step (batch, steps, width), and the last ones (batch, width)."""
        rows = self.batch_mean(self.repeat(rows))
        with second_derivatives(rows):
            sequence, last = self.recurrent(rows)
        last = last[0] if isinstance(last, tuple) else last
        ends = last[-(2 if self.recurrent.bidirectional else 1) :].unbind(0)
        if lengths is not None:
            ends = (at_end(sequence[..., : self.recurrent.hidden_size], lengths), *ends[1:])
        return sequence, torch.cat(ends, 1)

    def forward(self, rows: Tensor, lengths: Tensor | None = None) -> Tensor:
        sequence, last = self.states(rows, lengths)
        made: Tensor = self.activation(self.output(sequence if self.by_step else last))
        return made if self.by_step else made.unflatten(1, self.shape)


def at_end(rows: Tensor, lengths: Tensor) -> Tensor:
    """The rows (batch, size) of the last of so many steps, of the first where there are none."""
    place = (lengths - 1).clamp(min=0).unsqueeze(1)
    last = torch.arange(rows.shape[1], device=rows.device) == place
    return (rows * last.unsqueeze(2)).sum(1)  # not by index: its gradient could be summed up in any order on a GPU


class FreeRunningNetwork(nn.Module):
    """Cells that are given, in each step, the input and their own previous output (0 before the first one).

    A Linear and a ReLU stand before the cells; the output goes through the activation before it is fed back.
    """

    def __init__(self, given: Port, made: Port, settings: CellSettings, activation: str = "none") -> None:
        super().__init__()
        self.repeat = Repeat(made.shape[0])
        self.size = made.shape[-1]
        self.entry = nn.Linear(given.shape[-1] + self.size, settings.hidden)
        cell = CELLS[settings.cell]
        self.cells = nn.ModuleList(cell(settings.hidden, settings.hidden) for _ in range(settings.layers))
        self.dropout = Dropout(settings.dropout)
        self.output = nn.Linear(settings.hidden, self.size)
        self.activation = ACTIVATIONS[activation]()
        self.output_range = RANGES.get(activation)
        start(self, settings, self.output)

    def forward(self, rows: Tensor, previous: Tensor | None = None) -> Tensor:
        """Values (batch, steps, size); `previous`, of that shape, is fed in place of its own outputs where given.

        Rows (batch, latent) are repeated in every step, or in as many as `previous` has.
        """
        if previous is not None and rows.dim() == 2:
            rows = rows.unsqueeze(1).expand(-1, previous.shape[1], -1)
        rows = self.repeat(rows)
        given = None if previous is None else previous.unbind(1)
        last = rows.new_zeros(rows.shape[0], self.size)
        states: list[Tensor | tuple[Tensor, Tensor] | None] = [None] * len(self.cells)
        outputs = []
        for number, step in enumerate(rows.unbind(1)):
            heard = last if given is None else given[number]
            value = self.entry(torch.cat((step, heard), 1)).relu()
            for place, cell in enumerate(self.cells):
                states[place] = state = cell(self.dropout(value) if place else value, states[place])
                value = state[0] if isinstance(state, tuple) else state
            last = self.activation(self.output(value))
            outputs.append(last)
        return torch.stack(outputs, 1)


@torch.no_grad()
def start(network: nn.Module, settings: CellSettings, output: nn.Linear) -> None:
    """The first weights that the settings ask for. torch has two biases for each gate: their sum is `forgetBias`."""
    if settings.forget_bias is not None and settings.cell == "lstm":
        for name, parameter in network.named_parameters():
            last = name.rpartition(".")[2]
            if last.startswith("bias_"):
                parameter.fill_(settings.forget_bias if last.startswith("bias_ih") else 0.0)
    if settings.output_init == "truncatedNormal":
        for parameter in output.parameters():
            nn.init.trunc_normal_(parameter, 0.0, 1.0, -2.0, 2.0)
