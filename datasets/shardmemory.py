"""A bounded number of pieces of shards in memory, read by threads, ahead of use where it is known what comes."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganglion.engine.api import Batch, Fetcher, RunError

SECONDS = 600.0  # a shard that takes longer is an error: nothing ever hangs
READERS = 2  # threads that read pieces
NOTHING = Batch(torch.empty(0))  # the rows are in their place
PATIENCE = 10.0  # seconds that the end of the program waits for what is being read


class _Busy:
    """What is being read. Nothing may be in the middle of a library of C++ when Python ends."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.reading = 0
        self.over = False

    def begin(self) -> bool:
        with self.changed:
            self.reading += not self.over
            return not self.over

    def end(self) -> None:
        with self.changed:
            self.reading -= 1
            self.changed.notify_all()


def _stop(busy: _Busy, pool: Fetcher) -> None:
    pool.close()
    with busy.changed:
        busy.over = True
        busy.changed.wait_for(lambda: not busy.reading, PATIENCE)


class Held:
    """Pieces in memory: at most `slots` of them.

    The one that was used longest ago makes place for another: first of those that no lane plans to use.
    """

    def __init__(self, read: Callable[[int], Batch], example: Batch, slots: int, rows: int) -> None:
        self._read = read
        self.rows = rows
        self.slots = slots
        self._input = torch.empty((slots * rows, *example.input.shape[1:]), dtype=example.input.dtype)
        target = example.target
        self._target = None if target is None else torch.empty((slots * rows, *target.shape[1:]), dtype=target.dtype)
        self._slot: OrderedDict[int, int] = OrderedDict()  # of each piece, the one used last at the end
        self._free = list(reversed(range(slots)))
        self._state: dict[int, Exception | bool] = {}  # of each piece: whether it is there, or why it cannot be
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._needed: Sequence[int] = ()  # what the batch that is made just now is of
        self._planned: dict[int, Sequence[int]] = {}  # by lane
        self._before: dict[int, Sequence[int]] = {}  # by lane, what it planned last: batches of it may be still to come
        self._pool = Fetcher(READERS)
        self.reads = 0
        self._busy = _Busy()
        weakref.finalize(self, _stop, self._busy, self._pool)

    def want(self, lane: int, pieces: Sequence[int]) -> None:
        """Read what a lane plans to use next, where there is place for it beside what the others plan."""
        with self._changed:
            self._before[lane], self._planned[lane] = self._planned.get(lane, ()), pieces
            for piece in pieces:
                self._begin(piece)

    def rows_of(self, pieces: Tensor, places: Tensor) -> Batch:
        """The rows that stand at places of pieces. Raises what reading one of them raised."""
        distinct, which = torch.unique(pieces, return_inverse=True)
        if len(distinct) <= self.slots:
            return self._gathered(distinct.tolist(), which, places)
        parts: list[tuple[Tensor, Batch]] = []
        for some in torch.arange(len(distinct)).split(self.slots):
            mine = ((which >= some[0]) & (which <= some[-1])).nonzero().flatten()
            parts.append((mine, self._gathered(distinct[some].tolist(), which[mine] - some[0], places[mine])))
        back = torch.cat([mine for mine, _ in parts]).argsort()
        targets = [batch.target for _, batch in parts if batch.target is not None]
        input = torch.cat([batch.input for _, batch in parts])[back]
        return Batch(input, torch.cat(targets)[back] if targets else None)

    def _gathered(self, wanted: list[int], which: Tensor, places: Tensor) -> Batch:
        with self._turn, self._changed:  # one batch at a time: two that wait for each other's places would never end
            self._needed = wanted
            for piece in wanted:
                self._changed.wait_for(lambda piece=piece: self._begin(piece), SECONDS)  # type: ignore[misc]
            there = self._changed.wait_for(lambda: all(self._state.get(piece) for piece in wanted), SECONDS)
            for piece in wanted:
                found = self._state.get(piece)
                if isinstance(found, Exception):
                    self._free.append(self._slot.pop(piece))
                    del self._state[piece]
                    raise found
            if not there:
                raise RunError(f"shards have not been read within {SECONDS:g} seconds")
            rows = torch.tensor([self._slot[piece] for piece in wanted])[which] * self.rows + places
            target = None if self._target is None else self._target.index_select(0, rows)
            return Batch(self._input.index_select(0, rows), target)

    def _begin(self, piece: int) -> bool:
        """Whether the piece is there, or has a place and is being read."""
        if piece in self._slot:
            self._slot.move_to_end(piece)
            return True
        if not self._free:
            old = self._least(piece in self._needed)
            if old is None:
                return False
            self._free.append(self._slot.pop(old))
            del self._state[old]
        slot = self._free.pop()
        self._slot[piece], self._state[piece] = slot, False
        self._pool.submit(self._fill, (piece, slot))
        return True

    def _least(self, pressing: bool) -> int | None:
        """Which piece can go: one that is not planned, or any that this batch does not need where that is pressing."""
        idle = [piece for piece in self._slot if self._state.get(piece) and piece not in self._needed]
        planned = {piece for plans in (self._planned, self._before) for pieces in plans.values() for piece in pieces}
        return next((piece for piece in idle if piece not in planned), idle[0] if idle and pressing else None)

    def _fill(self, task: tuple[int, int]) -> Batch:
        if self._busy.begin():
            try:
                self._read_into(*task)
            finally:
                self._busy.end()
        return NOTHING

    def _read_into(self, piece: int, slot: int) -> None:
        try:
            batch: Batch = self._read(piece)
            place = slice(slot * self.rows, slot * self.rows + len(batch))
            self._input[place] = batch.input
            if self._target is not None and batch.target is not None:
                self._target[place] = batch.target
            state: Exception | bool = True
        except Exception as error:
            state = error
        with self._changed:
            self.reads += 1
            self._state[piece] = state
            self._changed.notify_all()
