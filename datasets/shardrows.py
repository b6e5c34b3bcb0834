"""The rows of shards as a data set: streamed in an order of its own, or some of them held in memory."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.shardforms import Form, Raw
from ganglion.datasets.shardmemory import Held
from ganglion.datasets.shardorder import Mixing, Segment, ShardOrder
from ganglion.datasets.shardpieces import Pieces, spread
from ganglion.engine.api import Batch, Dataset, DataSpec, Part, StreamedDataset

ORDERS = 3  # epochs whose order is kept


class Memory:
    """The pieces in memory, once some are needed: one for all parts of the same shards, so that it stays bounded."""

    def __init__(self) -> None:
        self.held: Held | None = None
        self.ordered = False  # whether it is as large as the lanes of this process need
        self.lock = threading.Lock()


class ShardRows(StreamedDataset):
    """Rows of shards. Fast in the order that `order` gives; any others are found too, a piece being read for each."""

    def __init__(
        self,
        form: Form,
        pieces: Pieces,
        segments: Sequence[Segment],
        digest: str,
        sampled: int,
        memory: Memory | None = None,
    ) -> None:
        self.form = form
        self.spec: DataSpec = form.spec
        self.pieces = pieces
        self.segments = list(segments)
        self.sampled = sampled
        self._shared = memory or Memory()
        self._digest = digest
        self._first = torch.tensor([0, *(segment.rows for segment in self.segments)]).cumsum(0)
        self._piece = torch.tensor([segment.piece for segment in self.segments])
        self._start = torch.tensor([segment.start for segment in self.segments])
        self._orders: OrderedDict[tuple[Any, ...], ShardOrder] = OrderedDict()

    @property
    def held(self) -> Held | None:
        """The pieces in memory: none before the first are needed."""
        return self._shared.held

    def __len__(self) -> int:
        return int(self._first[-1])

    def rows(self, indices: Tensor) -> Batch:
        indices = indices.cpu()
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"expected rows from 0 to {len(self) - 1}")
        segment = torch.searchsorted(self._first, indices, right=True) - 1
        places = self._start[segment] + indices - self._first[segment]
        return self.form.finished(self._memory().rows_of(self._piece[segment], places))

    def order(self, seed: int, epoch: int, batch_size: int, part: Part) -> ShardOrder:
        key = (seed, epoch, batch_size, part)
        if key not in self._orders:
            self._memory(part)
            reading = self.pieces.reading
            mixing = Mixing(reading.window, reading.lanes, seed, batch_size, self._each())
            self._orders[key] = order = ShardOrder(self.segments, mixing, epoch, self._entered(key))
            while len(self._orders) > ORDERS:
                self._orders.popitem(last=False)
            return order
        return self._orders[key]

    def taken(self, rows: Tensor) -> Dataset:
        ordered = torch.unique(rows.cpu())
        breaks = (ordered.diff() != 1) | (torch.searchsorted(self._first, ordered, right=True).diff() != 0)
        ends = [*(breaks.nonzero().flatten() + 1).tolist(), len(ordered)]
        segments, begin = [], 0
        for end in ends:
            first = int(ordered[begin])
            place = int(torch.searchsorted(self._first, first, right=True)) - 1
            source = self.segments[place]
            segments.append(Segment(source.piece, source.start + first - int(self._first[place]), end - begin))
            begin = end
        return ShardRows(self.form, self.pieces, segments, self._digest, self.sampled, self._shared)

    def sample(self) -> Dataset:
        return Sample(self, self.sampled)

    def digest(self) -> str:
        return hashlib.sha256(repr((self._digest, self.segments)).encode()).hexdigest()

    def order_digest(self) -> str:
        """A hash of what the order of the rows follows from, which all processes that share a job must have alike."""
        pieces = self.pieces
        used = [(pieces.shards[pieces.all[each.piece].shard].source, *each) for each in self.segments]
        listed = [(PurePath(source.name).name, *rest) for source, *rest in used]  # each may have its own copies
        return hashlib.sha256(repr((listed, self.spec, pieces.reading[:2])).encode()).hexdigest()

    def _entered(self, key: tuple[Any, ...]) -> Callable[[int, int], None]:
        """What an order calls. It does not hold these rows: nothing waits for a garbage collection to be freed."""
        own = weakref.ref(self)

        def entered(lane: int, window: int) -> None:
            rows = own()
            if rows is not None:
                rows._ahead(key, lane, window)

        return entered

    def _ahead(self, key: tuple[Any, ...], lane: int, window: int) -> None:
        """A window of a lane is begun: read it, if it is not there, and the windows that come after it."""
        seed, epoch, batch_size, part = key
        order, wanted = self._orders.get(key), list[int]()
        if order is None or lane not in order.own_lanes(part) or not self.pieces.reading.prefetch:
            return
        for _ in range(1 + self.pieces.reading.prefetch):
            if window == len(order.lanes[lane].windows):
                order, window, epoch = self.order(seed, epoch + 1, batch_size, part), 0, epoch + 1
            wanted += order.lanes[lane].pieces(window)
            window += 1
        self._memory(part).want(lane, list(dict.fromkeys(wanted)))

    def _memory(self, part: Part | None = None) -> Held:
        """The pieces in memory: of two windows of each of this process's lanes, and of those that are read ahead."""
        shared = self._shared
        with shared.lock:
            if shared.held is None or (part is not None and part.count > 1 and not shared.ordered):
                example = self.form.decoded(_first_row(self.pieces.read(self.segments[0].piece)))
                shared.held = Held(partial(_decoded, self.form, self.pieces), example, *self._slots(part or Part()))
            shared.ordered = shared.ordered or part is not None
            return shared.held

    def most_rows(self) -> int:
        """Rows that are in memory at most, where one process reads all lanes."""
        slots, largest = self._slots(Part())
        return slots * largest

    def _slots(self, part: Part) -> tuple[int, int]:
        """How many pieces are in memory at most, and how many rows the largest has."""
        lanes = -(-self.pieces.reading.lanes // part.count)
        windows = (
            2 + self.pieces.reading.prefetch
        )  # the one before, of which batches may be still to come, and this one
        slots = lanes * windows * self._each()
        return min(len(self.pieces.all), slots), self.pieces.largest

    def _each(self) -> int:
        """Pieces of a window of a lane: of other sizes as many as of the largest, whose place each of them takes."""
        reading = self.pieces.reading
        return max(1, reading.window // reading.lanes // self.pieces.largest)


def _decoded(form: Form, pieces: Pieces, piece: int) -> Batch:
    return form.decoded(pieces.read(piece))


def _first_row(raw: Raw) -> Raw:
    return Raw(raw.input[:1], None if raw.target is None else raw.target[:1], raw.where, raw.first)


class Sample(Dataset):
    """Some rows of shards, from end to end, read when they are first asked for and then held in memory."""

    resident = False

    def __init__(self, source: ShardRows, most: int) -> None:
        self.spec = source.spec
        self._source = source
        self._chosen = spread(source.segments, most)
        self._rows: Batch | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(len(places) for _, places in self._chosen)

    def rows(self, indices: Tensor) -> Batch:
        held, indices = self._held(), indices.cpu()
        return self._source.form.finished(held.map(lambda values: values.index_select(0, indices)))

    def targets(self) -> Tensor | None:
        return self._held().target

    def _held(self) -> Batch:
        with self._lock:
            if self._rows is None:
                parts = []
                for segment, places in self._chosen:
                    batch = _decoded(self._source.form, self._source.pieces, segment.piece)
                    parts.append(batch.map(lambda values, rows=segment.start + places: values[rows]))  # type: ignore[misc]
                targets = [batch.target for batch in parts if batch.target is not None]
                self._rows = Batch(torch.cat([each.input for each in parts]), torch.cat(targets) if targets else None)
            return self._rows
