"""The order in which the rows of shards are learnt from: pieces in a random order, rows mixed in windows of them.

A batch consists of lanes of equal width, and each lane goes through pieces of its own. So one of several processes,
which takes the same part of every batch, reads the pieces of its lanes only, and the order is the same for any number
of them.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import Part, stream_seed

KEPT = 2  # windows of a lane whose order is held: the one in use, and the one before or after it


class Segment(NamedTuple):
    """Rows `start` to `start + rows` of a piece (what is read at once), which stand together in a data set."""

    piece: int
    start: int
    rows: int


class Mixing(NamedTuple):
    """What an order follows from beside the segments."""

    window: int  # rows that are mixed with each other, of all lanes
    lanes: int
    seed: int
    batch_size: int
    pieces: int = sys.maxsize  # of a window of each lane: what there is place for in memory


class Run(NamedTuple):
    """Neighbouring rows of a data set that come from one piece."""

    piece: int
    first: int
    rows: int


class Lane:
    """The runs of one lane, in windows."""

    def __init__(self, runs: Sequence[Run], window: int, pieces: int) -> None:
        self.windows: list[list[Run]] = [[]]
        self.ends = [0]  # rows of the lane up to and with each window
        for run in runs:
            held = sum(other.rows for other in self.windows[-1])
            if held and (held + run.rows > window or len(self.windows[-1]) == pieces):
                self.windows.append([])
                self.ends.append(self.ends[-1])
            self.windows[-1].append(run)
            self.ends[-1] += run.rows
        self.mixed: dict[int, Tensor] = {}

    def pieces(self, window: int) -> list[int]:
        """What must be read for a window."""
        return list(dict.fromkeys(run.piece for run in self.windows[window]))


class ShardOrder:
    """One epoch's rows, each once; any stretch of them is worked out when it is asked for."""

    def __init__(self, segments: Sequence[Segment], mixing: Mixing, epoch: int, entered: Callable[[int, int], None]):
        self.epoch = epoch
        self.seed = mixing.seed
        self.rows = sum(segment.rows for segment in segments)
        self.batch_size = mixing.batch_size
        count = math.gcd(mixing.batch_size, mixing.lanes)
        self.width = mixing.batch_size // count
        self.begin = epoch * self.rows  # rows before this epoch: batches do not begin anew with it
        cuts = [self._before(lane, self.begin + self.rows) - self._before(lane, self.begin) for lane in range(count)]
        window = max(1, mixing.window // count)
        pieces = mixing.pieces * max(1, mixing.lanes // count)
        self.lanes = [Lane(runs, window, pieces) for runs in _dealt(self._shuffled(segments), cuts)]
        self._entered = entered

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, part: slice) -> Tensor:
        position, stop, _ = part.indices(self.rows)
        found = [torch.empty(0, dtype=torch.int64)]
        while position < stop:
            place = (self.begin + position) % self.batch_size
            lane, end = place // self.width, min(stop, position + self.width - place % self.width)
            first = self._before(lane, self.begin + position) - self._before(lane, self.begin)
            found += self._lane_rows(lane, first, first + end - position)
            position = end
        return torch.cat(found)

    def own_lanes(self, part: Part) -> range:
        """The lanes of which a process takes rows, where batches are not of another size than usual."""
        each = self.batch_size // part.count
        return range(part.rank * each // self.width, -(-(part.rank + 1) * each // self.width))

    def _before(self, lane: int, position: int) -> int:
        """Rows of the lane among the first `position` of all epochs."""
        batches, place = divmod(position, self.batch_size)
        return batches * self.width + min(max(place - lane * self.width, 0), self.width)

    def _shuffled(self, segments: Sequence[Segment]) -> list[Run]:
        first, runs = 0, []
        for segment in segments:
            runs.append(Run(segment.piece, first, segment.rows))
            first += segment.rows
        return [runs[place] for place in torch.randperm(len(runs), generator=self._generator()).tolist()]

    def _lane_rows(self, number: int, first: int, last: int) -> list[Tensor]:
        lane, found = self.lanes[number], []
        window = bisect_right(lane.ends, first)
        while first < last:
            start = lane.ends[window - 1] if window else 0
            end = min(last, lane.ends[window])
            found.append(self._mixed(number, window)[first - start : end - start])
            first, window = end, window + 1
        return found

    def _mixed(self, number: int, window: int) -> Tensor:
        """The rows of a window of a lane in their random order."""
        lane = self.lanes[number]
        if window not in lane.mixed:
            rows = torch.cat([torch.arange(run.first, run.first + run.rows) for run in lane.windows[window]])
            lane.mixed[window] = rows[torch.randperm(len(rows), generator=self._generator(number, window))]
            for old in list(lane.mixed)[:-KEPT]:
                del lane.mixed[old]
            self._entered(number, window)
        return lane.mixed[window]

    def _generator(self, *names: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed, "shards", self.epoch, *names))


def _dealt(runs: Sequence[Run], counts: Sequence[int]) -> list[list[Run]]:
    """The runs, one after another, to lanes that take so many rows each; a run at the border is cut."""
    lanes: list[list[Run]] = [[] for _ in counts]
    lane, free = 0, counts[0]
    for run in runs:
        first, rows = run.first, run.rows
        while rows:
            while not free:
                lane += 1
                free = counts[lane]
            taken = min(rows, free)
            lanes[lane].append(Run(run.piece, first, taken))
            first, rows, free = first + taken, rows - taken, free - taken
    return lanes
