"""A processor at work: in a chain of its own, on a small network, with gradients that are always the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.conformance.results import Failed
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.contracts import GradientProcessor, Method
from ganglion.engine.decay import Span
from ganglion.engine.errors import ConfigError, fold
from ganglion.engine.methods import Sgd
from ganglion.engine.processors import ChainSettings, ProcessorChain, is_wanted, order_links
from ganglion.engine.resolution import settings_of
from ganglion.engine.settings import Level, Owner, describe, parse_value, refuse_unknown, resolve

ROWS, SIZE = 8, 3
VALUES = (0.5, 1, 2, 0.1, True)  # of the key that makes a link part of a chain, the first that it takes
FIXED = "fixed"  # the layer that is not passed on: it does not learn


class Network(nn.Module):
    """Two layers that learn, of which the second may go unused, and one that is fixed."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.first, self.second, self.fixed = (nn.Linear(SIZE, SIZE) for _ in range(3))
        self.register_buffer("statistics", torch.zeros(SIZE))
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, rows: Tensor, both: bool = True) -> Tensor:
        hidden = self.first(rows).tanh()
        output: Tensor = self.fixed(self.second(hidden) if both else hidden)
        return output


@dataclass
class Bench:
    """A network and the chain that trains it; `steps` are the numbers that the processor was told."""

    network: Network
    chain: ProcessorChain
    processor: GradientProcessor

    def loss(self, rows: Tensor) -> Tensor:
        """What is minimised: every row counts as much."""
        loss: Tensor = self.network(rows).square().mean()
        return loss

    def learn(self, start: int, stop: int) -> None:
        """The updates start..stop (half-open)."""
        for number in range(start, stop):
            self.chain.begin(number)
            self.chain.update(self.loss, rows_of(number))

    def weights(self) -> dict[str, Tensor]:
        """Copies of all tensors of the network."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}


def rows_of(number: int) -> Tensor:
    """The rows of update `number`."""
    return torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(number))


@dataclass
class ProcessorTrial:
    """One processor and its keys."""

    subject: Subject
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_method(self) -> bool:
        """Whether it updates the weights itself; a link stands around a method."""
        return issubclass(self.subject.thing, Method)

    @cached_property
    def settings(self) -> Any:
        """Its settings, with a value for its own key where none is given. Raises ConfigError for a wrong key."""
        settings = self._resolved(self.keys)
        key = self.subject.thing.key
        if key is None or self.is_method or is_wanted(self.subject.thing, settings):
            return settings
        return self._resolved({**self.keys, key: self._value(key)})

    def _resolved(self, keys: Mapping[str, Any]) -> Any:
        entry = self.subject.entry
        owners = [Owner(f"processor {entry.name}", settings_of(entry.thing), prefix=entry.name)]
        levels = [Level("keys", keys)]
        result = resolve(owners, levels, ())
        refuse_unknown(result.unknown, owners, levels, ())
        return result.settings[0]

    def _value(self, key: str) -> Any:
        """A value that its key takes."""
        model = settings_of(self.subject.thing)
        info = next((info for info in describe(model) if fold(info.key) == fold(key)), None)
        if info is None:
            raise Failed(f"its key '{key}' is not one of its settings: key names the setting that switches it on")
        for value in VALUES:
            try:
                parse_value(model.model_fields[info.name].annotation, value)
                self._resolved({key: value})
            except (ConfigError, ValueError):
                continue
            return value
        raise ConfigError(f"{self.subject.name}: give a value for '{info.key}', as in {info.key}=...")

    def bench(self, accumulate: int = 1, wrap: Callable[[GradientProcessor], None] | None = None) -> Bench:
        """A new network with a chain that has this processor in it."""
        network = Network().to(torch.get_default_dtype())
        parameters = [value for name, value in network.named_parameters() if not name.startswith(FIXED)]
        processor: GradientProcessor = self.subject.thing(self.settings, network, parameters)
        if wrap is not None:
            wrap(processor)
        if isinstance(processor, Method):
            method, links = processor, list[GradientProcessor]()
        else:
            method = Sgd(Sgd.Settings(), network, parameters)
            links = [processor]
        order_links("role", {"method": type(method), **{type(link).__name__: type(link) for link in links}})
        rate = float(getattr(self.settings, "learning_rate", 0.05)) if self.is_method else 0.05
        settings = ChainSettings(accumulate=accumulate)
        chain = ProcessorChain("role", network, parameters, method, links, settings, rate, Span(0, 0))
        return Bench(network, chain, processor)
