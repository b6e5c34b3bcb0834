"""A small picture of samples in characters: half-blocks for images, braille for points and series, text as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from rich.console import Console
from rich.style import Style
from rich.text import Text
from torch import Tensor
from torch.nn import functional

from ganglion.engine.tables import BLOCKS, BLUE, clean_text, shorten
from ganglion.engine.terminal.samples import Kept

Ink = Literal["colours", "shades", "ascii"]
SHADES = {"shades": " ░▒▓█", "ascii": " .:-=+*#%@"}
DENSITIES = " .:*#"
BARS = {"colours": f" {BLOCKS}", "shades": f" {BLOCKS}", "ascii": " .:-=+*#"}
BRAILLE = 0x2800
DOTS = torch.tensor([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a braille character: rows, columns
LEVELS = 15  # of each colour: the fewer there are, the sooner they are drawn
GAP = 2
NARROWEST, LOWEST = 32, 4  # columns and lines below which nothing can be recognised
WIDEST_SERIES, WIDEST_HISTOGRAM = 36, 60


class Group(NamedTuple):
    """Drawings of the same size beside each other, under one heading; `width` is that of one drawing."""

    heading: str
    drawings: list[list[Text]]
    width: int

    def room(self, longest: int) -> int:
        """The columns that it takes, its heading cut to `longest`."""
        drawn = len(self.drawings) * (self.width + GAP) - GAP
        return max(drawn, min(longest, Text(clean_text(self.heading)).cell_len))


Drawing: TypeAlias = Callable[[Kept, int, int, Ink], list[Group]]


def ink_of(console: Console) -> Ink:
    """What a terminal can show: colours, shades of characters, or plain characters only."""
    if console.options.ascii_only:
        return "ascii"
    rich_colours = console.color_system in ("256", "truecolor") and not console.no_color
    return "colours" if rich_colours else "shades"


def picture_lines(kept: Kept, width: int, height: int, ink: Ink) -> list[Text]:
    """The picture in at most `height` lines of `width` cells, headings included; nothing where that is too small."""
    drawing: Drawing | None = _texts if kept.spec.text else DRAWINGS.get(kept.spec.kind)
    if width < NARROWEST or height < LOWEST or drawing is None or not (len(kept.samples) or kept.texts):
        return []
    groups = drawing(kept, width, height - 1, ink)
    lines = [Text(no_wrap=True) for _ in range(1 + max(len(each) for group in groups for each in group.drawings))]
    place, longest = 0, (width - GAP) // len(groups)
    for group in groups:
        _put(lines[:1], [shorten(group.heading, longest, ink == "ascii")], place)
        for number, drawn in enumerate(group.drawings):
            _put(lines[1:], drawn, place + number * (group.width + GAP))
        place += group.room(longest) + GAP
    lines[0].stylize("dim")
    return lines


def _put(lines: Sequence[Text], drawn: Sequence[Text], place: int) -> None:
    """Append what is drawn to the lines, from column `place` on."""
    for line, part in zip(lines, drawn, strict=False):
        line.append(" " * (place - line.cell_len))
        line.append_text(part)


def _heading(kept: Kept, about: str = "") -> str:
    return f"samples at {kept.iteration:,}{about}"


# --- images -------------------------------------------------------------------------------------------------------


def _images(kept: Kept, width: int, height: int, ink: Ink) -> list[Group]:
    channels, rows, columns = kept.spec.shape
    tall = min(2 * height, 2 * max(rows, LOWEST))  # a cell holds two pixels; what is small is not blown up
    wide = max(1, min(width, round(tall * columns / rows)))
    count = max(1, (width + GAP) // (wide + GAP))
    real = kept.real[: count // 3] if kept.real is not None else kept.samples[:0]

    def drawn(images: Tensor) -> list[list[Text]]:
        shown = images[:, : 3 if channels >= 3 else 1].nan_to_num(0.0)
        small = functional.interpolate(shown, size=(tall, wide), mode="bilinear", align_corners=False, antialias=True)
        return [_image(image, ink) for image in small.clamp(0, 1)]

    groups = [Group(_heading(kept), drawn(kept.samples[: count - len(real)]), wide)]
    return [*groups, Group("data", drawn(real), wide)] if len(real) else groups


def _image(image: Tensor, ink: Ink) -> list[Text]:
    """Lines of an image (channels, rows, columns) in 0..1."""
    if ink != "colours":
        grey = functional.avg_pool2d(image.mean(0, keepdim=True)[None], (2, 1))[0, 0]
        shades = SHADES[ink]
        places = (grey * len(shades)).long().clamp(max=len(shades) - 1).tolist()
        return [Text("".join(shades[place] for place in row)) for row in places]
    levels = (image.expand(3, -1, -1) * LEVELS).round().mul(255 // LEVELS).long().permute(1, 2, 0).tolist()
    return [_half_blocks(upper, lower) for upper, lower in zip(levels[::2], levels[1::2], strict=True)]


def _half_blocks(upper: Sequence[Sequence[int]], lower: Sequence[Sequence[int]]) -> Text:
    """Two rows of pixels as one line: the upper one in the colour, the lower one in the background."""
    line, begun = Text(no_wrap=True), 0
    for place in range(len(upper)):
        if place + 1 == len(upper) or (upper[place + 1], lower[place + 1]) != (upper[begun], lower[begun]):
            style = Style(color=_colour(upper[begun]), bgcolor=_colour(lower[begun]))
            line.append("▀" * (place + 1 - begun), style)
            begun = place + 1
    return line


def _colour(levels: Sequence[int]) -> str:
    return f"#{levels[0]:02x}{levels[1]:02x}{levels[2]:02x}"


# --- points -------------------------------------------------------------------------------------------------------


def _points(kept: Kept, width: int, height: int, ink: Ink) -> list[Group]:
    """The first two features of samples and of data, beside each other: told apart without a colour too."""
    if kept.spec.shape[-1] == 1:
        return _histograms(kept, width, height, ink)
    side = min(2 * height, (width - GAP) // 2)  # a cell is about twice as high as wide
    named = kept.spec.features[:2] if len(kept.spec.features) > 2 else ()
    about = f", {' and '.join(named)}" if named else ""
    rows = kept.samples.reshape(len(kept.samples), -1)[:, :2]
    outside = int((~_within(rows)).sum())
    if outside:
        about = f", {outside} of {len(rows)} outside"
    groups = [Group(_heading(kept, about), [_scatter(rows, side, height, ink, BLUE)], side)]
    if kept.real is not None:
        groups.append(Group("data", [_scatter(kept.real.reshape(len(kept.real), -1), side, height, ink, "")], side))
    return groups


def _within(points: Tensor) -> Tensor:
    """Which points are in the panel; those that are not finite are not."""
    return ((points >= 0) & (points <= 1)).all(1)


def _scatter(points: Tensor, width: int, height: int, ink: Ink, style: str) -> list[Text]:
    """The points (count, 2) that lie within 0..1, the vertical axis upwards."""
    points = points[:, :2]
    points = points[_within(points)]
    rows, columns = _resolution(width, height, ink)
    across = (points[:, 0] * columns).long().clamp(0, columns - 1)
    down = ((1 - points[:, 1]) * rows).long().clamp(0, rows - 1)
    counts = torch.bincount(down * columns + across, minlength=rows * columns)
    return _dotted(counts.reshape(rows, columns), ink, style)


def _resolution(width: int, height: int, ink: Ink) -> tuple[int, int]:
    """The rows and columns of dots that a panel has."""
    return (height, width) if ink == "ascii" else (4 * height, 2 * width)


def _dotted(dots: Tensor, ink: Ink, style: str) -> list[Text]:
    """Dots (rows, columns) as lines of braille; without it, as characters by how many there are."""
    if ink == "ascii":
        return [Text("".join(DENSITIES[min(count, 4)] for count in row), style) for row in dots.tolist()]
    rows, columns = dots.shape[0] // 4, dots.shape[1] // 2
    cells = (dots > 0).reshape(rows, 4, columns, 2).permute(0, 2, 1, 3)
    codes = (cells * DOTS).sum((2, 3)) + BRAILLE
    return [Text("".join(map(chr, row)), style) for row in codes.tolist()]


def _histograms(kept: Kept, width: int, height: int, ink: Ink) -> list[Group]:
    """Rows of one number: how often each value occurs."""
    room = min(WIDEST_HISTOGRAM, (width - GAP) // 2)
    groups = [Group(_heading(kept), [_bars(kept.samples, room, height, ink, BLUE)], room)]
    return groups if kept.real is None else [*groups, Group("data", [_bars(kept.real, room, height, ink, "")], room)]


def _bars(values: Tensor, width: int, height: int, ink: Ink, style: str) -> list[Text]:
    counts = torch.histc(values[torch.isfinite(values)], bins=width, min=0.0, max=1.0)
    bars = BARS[ink]
    steps = len(bars) - 1
    filled = (counts / counts.max().clamp_min(1) * height * steps).round().long().tolist()
    return [
        Text("".join(bars[max(0, min(steps, each - row * steps))] for each in filled), style)
        for row in reversed(range(height))
    ]


# --- series and text ----------------------------------------------------------------------------------------------


def _series(kept: Kept, width: int, height: int, ink: Ink) -> list[Group]:
    """The first feature of samples, and of real series to the right: never one over the other, they are no pairs."""
    count = max(2, min(4, width // NARROWEST))
    room = min(WIDEST_SERIES, (width + GAP) // count - GAP)
    real = kept.real[: count // 2] if kept.real is not None else kept.samples[:0]
    named = kept.spec.features if kept.spec.shape[-1] > 1 else ()

    def drawn(rows: Tensor, style: str) -> list[list[Text]]:
        return [_dotted(_curve(row[:, 0], room, height, ink), ink, style) for row in rows]

    about = f", {named[0]}" if named else ""
    groups = [Group(_heading(kept, about), drawn(kept.samples[: count - len(real)], BLUE), room)]
    return [*groups, Group("data", drawn(real, ""), room)] if len(real) else groups


def _curve(series: Tensor, width: int, height: int, ink: Ink) -> Tensor:
    """The dots of a line through `series` (steps,), without gaps between neighbours."""
    rows, columns = _resolution(width, height, ink)
    shown = series.nan_to_num(0.0).clamp(0, 1)[None, None]
    stretched = functional.interpolate(shown, size=columns, mode="linear", align_corners=True)[0, 0]
    places = ((1 - stretched) * rows).long().clamp(0, rows - 1)
    before = torch.cat([places[:1], places[:-1]])
    each = torch.arange(rows)[:, None]
    return ((each >= torch.minimum(places, before)) & (each <= torch.maximum(places, before))).long()


def _texts(kept: Kept, width: int, height: int, ink: Ink) -> list[Group]:
    lines = [shorten(f"  {text}", width, ink == "ascii") for text in kept.texts[:height]]
    return [Group(_heading(kept), [lines], width)]


DRAWINGS: dict[str, Drawing] = {"image": _images, "vector": _points, "sequence": _series}
