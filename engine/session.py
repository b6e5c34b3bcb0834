"""A session: the live objects of one job, their state as one tree, and generation from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.adapters import AdaptedSplits
from ganglion.engine.capture import Capture
from ganglion.engine.contracts import Dataset, DatasetFactory, DataSpec, LearningStrategy, Range
from ganglion.engine.processors import ProcessorChain
from ganglion.engine.resolution import Plan
from ganglion.engine.samplers import BatchSampler
from ganglion.engine.streams import Streams, undisturbed

GENERATE_ROWS = 1024
REAL_ROWS = 4  # rows of data in a picture, for every sample


@dataclass(frozen=True)
class Session:
    """What a job was assembled into. `data_range` is the value range of the data as they came, before any scaling."""

    plan: Plan
    strategy: LearningStrategy
    networks: Mapping[str, nn.Module]
    devices: Mapping[str, torch.device]
    chains: Mapping[str, ProcessorChain]
    sampler: BatchSampler
    streams: Streams
    spec: DataSpec
    data_range: Range | None
    data: AdaptedSplits
    factory: DatasetFactory
    notices: tuple[str, ...]
    said: list[str] = field(default_factory=list)  # what the data set has told the user by itself, as it loaded

    @property
    def capture(self) -> Capture | None:
        """The graphs that losses run as, where they do."""
        return next((chain.capture for chain in self.chains.values()), None)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the networks' weights that an exact continuation needs."""
        capture = self.capture
        return {
            **({} if capture is None else {"capture": capture.state_dict()}),
            "strategy": self.strategy.state_dict(),
            "chains": {role: chain.state_dict() for role, chain in self.chains.items()},
            "sampler": self.sampler.state_dict(),
            "streams": self.streams.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if self.capture is not None and "capture" in state:
            self.capture.load_state_dict(state["capture"])
        self.strategy.load_state_dict(state["strategy"])
        for role, chain in self.chains.items():
            chain.load_state_dict(state["chains"][role])
        self.sampler.load_state_dict(state["sampler"])
        self.streams.load_state_dict(state["streams"])

    def holders(self) -> dict[str, nn.Module]:
        """What holds each role's weights in this process: its network, or this process's part of a divided one."""
        return {role: chain.network for role, chain in self.chains.items()}

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """The networks' weights and buffers by role; of a divided network this process's part."""
        return {role: holder.state_dict() for role, holder in self.holders().items()}

    def load_weights(self, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over weights by role."""
        for role, holder in self.holders().items():
            holder.load_state_dict(weights[role])

    def averaged(self) -> dict[str, dict[str, Tensor]]:
        """The averaged weights of the roles that keep some (EMA)."""
        found = {role: chain.averaged() for role, chain in self.chains.items()}
        return {role: weights for role, weights in found.items() if weights is not None}

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Evaluation mode, averaged weights where there are some, no gradients, and all randomness left as it was."""
        averaged = self.averaged()
        holders = {role: self.chains[role].network for role in averaged}
        own = {
            role: {name: value.clone() for name, value in holder.state_dict().items()}
            for role, holder in holders.items()
        }
        modes = [(module, module.training) for network in self.networks.values() for module in network.modules()]
        with undisturbed(), torch.no_grad():
            for role, weights in averaged.items():
                holders[role].load_state_dict(weights)
            set_training(self.networks, False)
            try:
                yield
            finally:
                for role, weights in own.items():
                    holders[role].load_state_dict(weights)
                for module, training in modes:
                    module.training = training


def set_training(networks: Mapping[str, nn.Module], training: bool) -> None:
    """Put all networks into training or evaluation mode."""
    for network in networks.values():
        network.train(training)


def make_samples(strategy: LearningStrategy, noise: Tensor) -> Tensor:
    """Samples from `noise` (count, ...) on the CPU, in pieces that fit in memory; the caller has set the mode."""
    pieces = [strategy.generate(part).float().cpu() for part in noise.split(GENERATE_ROWS)]
    return torch.cat(pieces)


def spread_rows(data: Dataset, count: int) -> Tensor:
    """So many rows (count, ...) of data, on the CPU; from end to end, as they may be sorted."""
    last = len(data) - 1
    rows = torch.linspace(0, last, min(count, len(data))).long().clamp_(max=last)  # above 2**24 rounded up
    return data.rows(rows).input.float().cpu()
