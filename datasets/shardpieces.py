"""What is read at once of shards: pieces, read when they are asked for, and what comes of those that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.datasets.shardfiles import Patience, Source
from ganglion.datasets.shardformats import Layout, format_of
from ganglion.datasets.shardforms import Choice, Raw
from ganglion.datasets.shardorder import Segment
from ganglion.engine.api import DataError

SPREAD = 16  # pieces that a sample is at least taken from, where there are so many


class Shard(NamedTuple):
    """A file, what it says of itself, and the file with its labels."""

    source: Source
    layout: Layout
    labels: Source | None = None
    label_layout: Layout | None = None


class Piece(NamedTuple):
    """Rows of a shard that are read at once."""

    shard: int
    first: int
    rows: int


class Reading(NamedTuple):
    """How much is held and read ahead, and what comes of shards that cannot be read."""

    window: int  # rows
    lanes: int
    prefetch: int  # windows
    patience: Patience
    skip: bool


class Pieces:
    """The pieces of some shards, read when they are asked for."""

    def __init__(self, shards: Sequence[Shard], choice: Choice, reading: Reading, most: int) -> None:
        self.shards = list(shards)
        self.choice = choice
        self.reading = reading
        self.all = [piece for number, shard in enumerate(shards) for piece in _cut(number, shard.layout, most)]
        self.largest = max((piece.rows for piece in self.all), default=1)
        self._said: set[int] = set()

    def read(self, number: int) -> Raw:
        """The rows of a piece; of the next one that can be read where this one cannot and is to be skipped.

        Raises DataError.
        """
        piece = self.all[number]
        try:
            return self._read(piece)
        except DataError as error:
            if not self.reading.skip:
                raise
            return self._instead(number, error)

    def _read(self, piece: Piece) -> Raw:
        shard = self.shards[piece.shard]
        last = piece.first + piece.rows

        def action() -> Raw:
            for source in (shard.source, shard.labels):
                if source is not None:
                    source.check()
            names = [name for name in self.choice.fields() if any(name == field.name for field in shard.layout.fields)]
            found = format_of(shard.source).read(shard.source, shard.layout, names, piece.first, last)
            if shard.labels is not None and shard.label_layout is not None:
                labels = format_of(shard.labels).read(shard.labels, shard.label_layout, [], piece.first, last)
                found = {**found, "labels": next(iter(labels.values()))}
            return self.choice.raw(found, shard.source.name, piece.first)

        return self.reading.patience.keep_trying(shard.source, action)

    def _instead(self, number: int, error: DataError) -> Raw:
        """Always the same rows for a piece, whichever process asks, and whenever: so that a run goes on exactly."""
        piece = self.all[number]
        for step in range(1, len(self.all)):
            other = self.all[(number + step) % len(self.all)]
            if other.shard == piece.shard:
                continue
            try:
                raw = self._read(other)
            except DataError:
                continue
            if piece.shard not in self._said:
                self._said.add(piece.shard)
                self.reading.patience.notify(
                    f"{error}; skipped: rows of {self.shards[other.shard].source.name} take the place of its rows"
                )
            places = torch.arange(piece.rows).remainder(other.rows).numpy()
            return Raw(raw.input[places], None if raw.target is None else raw.target[places], raw.where, raw.first)
        raise error


def _cut(shard: int, layout: Layout, most: int) -> list[Piece]:
    """Equal pieces of at most so many rows, or as many whole groups as have no more."""
    if not layout.groups:
        count = -(-layout.rows // most)
        ends = [layout.rows * place // count for place in range(count + 1)]
        return [Piece(shard, first, last - first) for first, last in pairwise(ends)]
    pieces: list[Piece] = []
    first = 0
    for rows in layout.groups:
        if pieces and pieces[-1].rows + rows <= most:
            pieces[-1] = pieces[-1]._replace(rows=pieces[-1].rows + rows)
        elif rows:
            pieces.append(Piece(shard, first, rows))
        first += rows
    return pieces


def spread(segments: Sequence[Segment], most: int) -> list[tuple[Segment, Tensor]]:
    """At most so many rows, or all: evenly spaced ones of evenly spaced segments, as few as have enough."""
    total = sum(segment.rows for segment in segments)
    if total <= most:
        return [(segment, torch.arange(segment.rows)) for segment in segments]
    count = min(len(segments), most, max(SPREAD, -(-most * len(segments) // total)))
    chosen = torch.linspace(0, len(segments) - 1, count, dtype=torch.float64).round().long().tolist()
    found, left = [], most
    for place, number in enumerate(chosen):
        segment = segments[number]
        rows = min(segment.rows, left // (count - place))
        found.append((segment, torch.linspace(0, segment.rows - 1, rows, dtype=torch.float64).round().long()))
        left -= rows
    return [(segment, places) for segment, places in found if len(places)]
