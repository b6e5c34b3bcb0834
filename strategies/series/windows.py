"""What strategies for time series share: that the data have steps, and windows of the data kept to start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganglion.engine.api import (
    Batch,
    ConfigError,
    Dataset,
    DataSpec,
    LearningContext,
    LearningStrategy,
    NoisePart,
    RandomStream,
    RoleShape,
)
from ganglion.strategies.masking import lengths_of, mask_of, within
from ganglion.strategies.schedule import Phase, Schedule

EXAMPLES = 256
LENGTHS = 4096


def need_sequences(spec: DataSpec, strategy: str) -> tuple[int, int]:
    """Steps and features of a window. Raises ConfigError for data without steps."""
    if spec.kind != "sequence":
        raise ConfigError(
            f"{strategy} is for time series, and the data are of kind {spec.kind}; choose data such as Sine or Stocks"
        )
    steps, features = spec.shape
    return steps, features


def drawn_examples(examples: Tensor, count: int, stream: RandomStream) -> tuple[Tensor, Tensor]:
    """`count` of the windows that were kept, on the stream's device, and which ones they are (count,)."""
    chosen = stream.integers(len(examples), count)
    return examples[chosen.to(examples.device)].to(chosen.device), chosen


def looks_ahead(network: nn.Module, rows: Tensor) -> bool:
    """Whether what a network gives for earlier steps of `rows` (1, steps, features) changes with the last one."""
    changed = rows.clone()
    changed[:, -1] += 1.0
    first, second = evaluated(network, rows), evaluated(network, changed)
    return not torch.equal(first[:, :-1], second[:, :-1])


def evaluated(network: nn.Module, *inputs: Tensor) -> Tensor:
    """What a network gives in evaluation mode; its modes are left as they were."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            output: Tensor = network(*inputs)
            return output
    finally:
        for module, training in modes:
            module.training = training


def example_rows(dataset: Dataset, count: int = EXAMPLES) -> Tensor:
    """Evenly spaced windows (at most `count`, steps, features) of a data set."""
    return example_batch(dataset, count).input


def example_batch(dataset: Dataset, count: int = EXAMPLES) -> Batch:
    """Evenly spaced windows (at most `count`) of a data set, with all of their fields; copies."""
    dataset = dataset.sample()
    spaced = torch.linspace(0, len(dataset) - 1, min(count, len(dataset)), dtype=torch.float64).round().to(torch.int64)
    return dataset.rows(spaced).map(torch.clone)


class SequenceStrategy(LearningStrategy):
    """Stands before another base of a strategy that is for time series alone."""

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        need_sequences(spec, cls.__name__)
        return super().shapes(settings, spec)


class PaddedStrategy(SequenceStrategy):
    """Stands before another base of a strategy whose samples are as long as the data's windows.

    Where the data have a field `mask`, the length of a sample, drawn from those of training windows, stands behind its
    noise, and what lies beyond holds what the data hold there.
    """

    lasting: ClassVar[tuple[str, ...]] = ("_lengths", "_filler")
    _lengths: Tensor | None = None  # of training windows; None: all are whole
    _filler: float = 0.0

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        assert context.sampler is not None
        self._lengths, self._filler = known_lengths(context.sampler.dataset)

    def with_lengths(self, noise: Tensor, stream: RandomStream) -> Tensor:
        """Noise (count, size) or (count, steps, size), one wider where lengths are drawn."""
        if self._lengths is None:
            return noise
        drawn, _ = drawn_examples(self._lengths, len(noise), stream)
        column = drawn.to(noise).view(-1, *[1] * (noise.dim() - 1))
        return torch.cat((noise, column.expand(*noise.shape[:-1], 1)), -1)

    def noise_parts(self) -> tuple[NoisePart, ...]:
        parts = super().noise_parts()
        if self._lengths is None:
            return parts
        longest = self.context.spec.shape[0]
        return (*parts, NoisePart("length", 1, f"how many steps a sample has, 1 to {longest}", "count"))

    def without_lengths(self, noise: Tensor) -> Tensor:
        """What `with_lengths` was given."""
        return noise if self._lengths is None else noise[..., :-1]

    def cut(self, samples: Tensor, noise: Tensor) -> Tensor:
        """Samples (count, steps, features) up to the lengths that stand behind `noise`."""
        if self._lengths is None:
            return samples
        lengths = noise.flatten(1)[:, -1].to(samples.device)
        return samples.masked_fill(~within(lengths, samples.shape[1]), self._filler)


def known_lengths(dataset: Dataset) -> tuple[Tensor | None, float]:
    """Lengths of evenly spaced windows, and the number that stands for what is missing; None where nothing is."""
    if mask_of(dataset.rows(torch.zeros(1, dtype=torch.int64))) is None:
        return None, 0.0
    batch = example_batch(dataset, LENGTHS)
    mask = mask_of(batch)
    assert mask is not None
    missing = batch.input[(mask == 0).expand_as(batch.input)]
    return lengths_of(mask), float(missing[0]) if len(missing) else 0.0


def postponed(schedule: Schedule, iterations: int) -> Schedule:
    """A schedule that begins so many iterations later."""
    phases = (Phase(turns, None if until is None else until + iterations) for turns, until in schedule.phases)
    return Schedule(tuple(phases))
