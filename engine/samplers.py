"""Samplings (which rows come next) and the batch sampler (the batches themselves, on the device)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganglion.engine.contracts import Adapter, Batch, Dataset, RowOrder, Sampling
from ganglion.engine.errors import ConfigError, PluginError
from ganglion.engine.fetching import Fetcher, result
from ganglion.engine.processes import ALONE, Part
from ganglion.engine.settings import Settings, setting
from ganglion.engine.streams import RandomStream, stream_seed

AT_ONCE = 16  # batches are cut off a block together
BLOCK_BYTES = 4 << 20  # rows are gathered in blocks of about this size and handed out as views


class Uniform(Sampling):
    """Every row with equal probability, with replacement."""

    def order(self, generator: torch.Generator) -> Tensor:
        rows = len(self.dataset)
        return torch.randint(rows, (rows,), generator=generator)


class Sequential(Sampling):
    """Rows in their own order, from the start again after the last."""

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.arange(len(self.dataset))


class Permutation(Sampling):
    """Every row once per epoch, in a new random order each epoch."""

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self.dataset), generator=generator)


class Stream(Permutation):
    """The order in which streamed data are fast to read, every row once per epoch; of other data as PERMUTATION."""

    def streamed_order(self, seed: int, epoch: int, batch_size: int, part: Part) -> RowOrder | None:
        source = self.dataset.streamed()
        return None if source is None else source.order(seed, epoch, batch_size, part)


class WeightedSettings(Settings):
    """Settings of WEIGHTED."""

    weighted_ranges: tuple[int, ...] = setting((), "start,end pairs of rows, half-open", unit="rows")
    probabilities: tuple[float, ...] = setting(
        (), "share of draws per range; what is missing to 1 goes to the other rows"
    )


class Weighted(Sampling):
    """Rows of some ranges more often than others, with replacement; rows outside all ranges share what is left."""

    Settings = WeightedSettings

    def __init__(self, settings: Any, dataset: Dataset) -> None:
        super().__init__(settings, dataset)
        self.weights = _row_weights(settings.weighted_ranges, settings.probabilities, len(dataset))

    def order(self, generator: torch.Generator) -> Tensor:
        # searchsorted rather than multinomial, which takes at most 2**24 categories
        cumulative = self.weights.cumsum(0)
        draws = torch.rand(len(self.dataset), generator=generator, dtype=torch.float64) * cumulative[-1]
        return torch.searchsorted(cumulative, draws, right=True).clamp_(max=len(self.dataset) - 1)


def _row_weights(bounds: Sequence[int], shares: Sequence[float], rows: int) -> Tensor:
    if not bounds or len(bounds) % 2 or len(shares) != len(bounds) // 2:
        raise ConfigError(
            f"sampling WEIGHTED: weightedRanges needs start,end pairs and probabilities one share per pair, "
            f"got {len(bounds)} bounds and {len(shares)} shares"
        )
    total = sum(shares)
    if min(shares) < 0 or not 0 < total <= 1 + 1e-9:
        raise ConfigError(
            f"sampling WEIGHTED: probabilities must be positive and sum to at most 1, they sum to {total:g}"
        )
    weights = torch.zeros(rows, dtype=torch.float64)
    for start, end, share in zip(bounds[::2], bounds[1::2], shares, strict=True):
        if not 0 <= start < end <= rows:
            raise ConfigError(f"sampling WEIGHTED: the range {start},{end} does not lie in the {rows} rows of the data")
        if weights[start:end].any():
            raise ConfigError(f"sampling WEIGHTED: the range {start},{end} overlaps another one")
        weights[start:end] = share / (end - start)
    rest = weights == 0
    if total < 1 and bool(rest.any()):
        weights[rest] = (1 - total) / int(rest.sum())
    return weights


class UniformClass(Sampling):
    """Classes in turn, and within a class every row with equal probability; classes without rows are left out."""

    def __init__(self, settings: Any, dataset: Dataset) -> None:
        super().__init__(settings, dataset)
        targets = dataset.targets()
        if targets is None or targets.is_floating_point() or targets.dim() != 1:
            raise ConfigError("sampling UNIFORMCLASS: the data have no class labels; use UNIFORM or PERMUTATION")
        targets = targets.cpu()
        self.members = [torch.nonzero(targets == value).flatten() for value in torch.unique(targets)]

    def order(self, generator: torch.Generator) -> Tensor:
        each = -(-len(self.dataset) // len(self.members))
        columns = [rows[torch.randint(len(rows), (each,), generator=generator)] for rows in self.members]
        return torch.stack(columns, dim=1).flatten()


SAMPLINGS: dict[str, type[Sampling]] = {
    "UNIFORM": Uniform,
    "SEQUENTIAL": Sequential,
    "PERMUTATION": Permutation,
    "STREAM": Stream,
    "WEIGHTED": Weighted,
    "UNIFORMCLASS": UniformClass,
}


class BatchSampler:
    """Batches on the device; always full, the remainder of an epoch is carried over into the next.

    Its position is (epoch, offset): the order of an epoch follows from (seed, epoch) alone, so resuming is exact.
    Resident data are gathered in blocks of some batches; other data are fetched by `fetch_threads` workers ahead of
    use, in blocks of as many batches as they say (`batches_at_once`). An error while fetching is raised by the
    `next_batch` that needed the rows, or others of their block.
    """

    state_fields: ClassVar[tuple[str, ...]] = ("epoch", "offset")

    def __init__(
        self,
        dataset: Dataset,
        sampling: Sampling,
        batch_size: int,
        seed: int,
        device: torch.device,
        augmentations: Sequence[Adapter] = (),
        stream: RandomStream | None = None,
        fetch_threads: int = 2,
        part: Part = ALONE,
    ) -> None:
        if len(dataset) < batch_size:
            raise ConfigError(f"batchSize={batch_size} is more than the {len(dataset)} rows of the training data")
        if batch_size % part.count:
            near = max(1, round(batch_size / part.count)) * part.count
            raise ConfigError(
                f"batchSize={batch_size} counts the rows of all {part.count} processes together and is not a multiple "
                f"of {part.count}; give batchSize={near}, say"
            )
        self.dataset = dataset
        self.sampling = sampling
        self.batch_size = batch_size // part.count
        self.part = part
        self.seed = seed
        self.device = device
        self.augmentations = list(augmentations)
        self.stream = stream
        self.epoch = 0
        self.offset = 0
        self._order: RowOrder | None = None
        self._block: Batch | None = None
        self._used = self._parted = 0  # rows of the block, and of the batches that are `_ready`, the next one last
        self._ready: list[Batch] = []
        self._length = 0  # of the order of an epoch, the one that `offset` is in, once there is one
        self._block_rows = self.batch_size * _batches_per_block(dataset, batch_size)
        self._pool = None if dataset.resident else Fetcher(fetch_threads)
        self._ahead: dict[tuple[int, int, int], Future[Batch]] = {}

    def next_batch(self, size: int | None = None) -> Batch:
        """The next `size` rows (default: the batch size). Valid until the batch after the next is asked for."""
        size = size or self.batch_size
        if size != self._parted or not self._ready:
            self._make_ready(size)
        batch = self._ready.pop()
        self._used += size
        self.offset += size * self.part.count
        if self.offset >= self._length:
            self._turn()
        for adapter in self.augmentations:
            batch = adapter.apply(batch, self.stream)
        return batch

    @property
    def whole_batch_size(self) -> int:
        """Rows of a batch of all processes together; `batch_size` are those of this one."""
        return self.batch_size * self.part.count

    def state_dict(self) -> dict[str, Any]:
        """The position: epoch, offset within it, and the seed."""
        return {"seed": self.seed, "epoch": self.epoch, "offset": self.offset}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a saved position."""
        self.seed, self.epoch, self.offset = int(state["seed"]), int(state["epoch"]), int(state["offset"])
        self._order = self._block = None
        self._length = 0
        self._ready.clear()
        self._ahead.clear()

    def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            self._pool.close()

    def _turn(self) -> None:
        """Go over into the epoch in which the next row is."""
        while self.offset >= len(self._epoch_order()):
            self.offset -= self._length
            self.epoch += 1
            self._order = None

    def _epoch_order(self) -> RowOrder:
        if self._order is None:
            self._order = self._make_order(self.epoch)
            self._length = len(self._order)
        return self._order

    def _make_ready(self, size: int) -> None:
        """Cut the next batches of `size` rows off the block, or off the next block where it is used up."""
        other = self.part.count > 1 and size != self._parted  # a block is cut into this process's parts of batches
        if self._block is None or other or self._used + size > len(self._block):
            self._block = self._gather(max(size, self._block_rows // size * size), size)
            self._used = 0
        self._parted = size
        count = min(AT_ONCE, (len(self._block) - self._used) // size)
        self._ready = self._block.rows(self._used, self._used + count * size).parts(size)[::-1]

    def _make_order(self, epoch: int) -> RowOrder:
        streamed = self.sampling.streamed_order(self.seed, epoch, self.whole_batch_size, self.part)
        if streamed is not None:
            return streamed
        generator = torch.Generator()
        generator.manual_seed(stream_seed(self.seed, "sampling", epoch))
        order = self.sampling.order(generator)
        if order.dtype != torch.int64 or order.dim() != 1 or len(order) == 0:
            name = type(self.sampling).__name__
            raise PluginError(f"sampling {name}: order() must give row numbers (int64, 1-D, at least one)")
        return order

    def _indices(self, rows: int) -> tuple[Tensor, int, int]:
        """Indices of the next `rows` rows from the position, and the position after them."""
        epoch, offset, order = self.epoch, self.offset, self._epoch_order()
        parts, missing = [], rows
        while missing:
            part = order[offset : offset + missing]
            parts.append(part)
            missing -= len(part)
            offset += len(part)
            if offset == len(order):
                epoch, offset = epoch + 1, 0
                order = self._make_order(epoch) if missing else order
        return torch.cat(parts), epoch, offset

    def _gather(self, rows: int, size: int) -> Batch:
        """The next `rows` rows of this process, in batches of `size`."""
        if self._pool is None:
            return self.dataset.rows(self._own(self._indices(rows * self.part.count)[0], size))
        return self._fetch_ahead(rows, size)

    def _own(self, indices: Tensor, size: int) -> Tensor:
        """This process's part of every batch, of which it has `size` rows."""
        if self.part.count == 1:
            return indices
        return indices.view(-1, self.part.count, size)[:, self.part.rank].reshape(-1)

    def _fetch_ahead(self, rows: int, size: int) -> Batch:
        assert self._pool is not None
        whole = rows * self.part.count
        key = (self.epoch, self.offset, rows)
        indices, epoch, offset = self._indices(whole)
        future = self._ahead.pop(key, None) or self._pool.submit(self.dataset.rows, self._own(indices, size))
        following, _, _ = self._indices(2 * whole)
        ahead = self._pool.submit(self.dataset.rows, self._own(following[whole:], size))
        self._ahead = {(epoch, offset, rows): ahead}
        batch = result(future)
        if self.device.type == "cuda":
            return batch.map(lambda tensor: tensor.pin_memory().to(self.device, non_blocking=True))
        return batch.map(lambda tensor: tensor.to(self.device))


def _batches_per_block(dataset: Dataset, batch_size: int) -> int:
    most = 256 if dataset.resident else dataset.batches_at_once
    floats = int(torch.Size(dataset.spec.shape).numel())
    return max(1, min(most, BLOCK_BYTES // max(1, 4 * floats * batch_size), len(dataset) // batch_size))
