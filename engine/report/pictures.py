"""Pictures for a page: read with limits, checked to be PNG, thinned over time so that the page stays below its size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ganglion.engine.errors import StoreError
from ganglion.engine.files import read_bytes
from ganglion.engine.pages.markup import data_uri
from ganglion.engine.report.reading import Reading

SAMPLES = 5_000_000  # bytes of pictures over time, of all runs together
STILLS = 1_500_000  # bytes of other pictures, of all runs together
ONE = 1_500_000  # bytes of one picture
FRAMES = 120  # of one run
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Frame(NamedTuple):
    """Samples after `iteration` iterations."""

    iteration: int
    src: str
    alt: str


class Still(NamedTuple):
    """A picture that does not change, with the name of its file."""

    name: str
    src: str


def frames(reading: Reading, budget: int) -> list[Frame]:
    """The run's sample pictures, the first and the last among them: as many, evenly spread, as fit into `budget`."""
    found = reading.pictures
    for count in _counts(len(found)):
        chosen = _spread(found, count)
        if sum(_size(path) for _, path in chosen) <= budget:
            break
    else:
        return []
    made = [(iteration, _png(path)) for iteration, path in chosen]
    return [
        Frame(iteration, data_uri(content), f"Samples of run {reading.tag} after {iteration:,} iterations")
        for iteration, content in made
        if content is not None
    ]


def stills(reading: Reading, budget: int) -> list[Still]:
    """The pictures of evaluations and forecasts, as many as fit into `budget`."""
    paths = [*sorted(reading.run.directory.glob("evaluation/*.png")), reading.run.directory / "predictions.png"]
    found = []
    for path in paths:
        content = _png(path)
        if content is not None and len(content) <= budget:
            budget -= len(content)
            found.append(Still(path.name, data_uri(content)))
    return found


def _counts(most: int) -> list[int]:
    """How many pictures to try: fewer and fewer."""
    counts = []
    count = min(most, FRAMES)
    while count > 0:
        counts.append(count)
        count = count * 3 // 4
    return counts


def _spread(found: Sequence[tuple[int, Path]], count: int) -> list[tuple[int, Path]]:
    if count < 2:
        return list(found[-1:])
    return [found[round(index * (len(found) - 1) / (count - 1))] for index in range(count)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _png(path: Path) -> bytes | None:
    """The file, where it is a PNG of a size that a page can hold."""
    try:
        content = read_bytes(path, ONE)
    except StoreError:
        return None
    return content if content.startswith(SIGNATURE) else None
