"""Geometry of whole batches of images (batch, channels, height, width), in pure tensor operations on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def flip(images: Tensor, dimension: int, chosen: Tensor) -> Tensor:
    """The images with those that are `chosen` (batch,) flipped along `dimension`."""
    return torch.where(chosen[:, None, None, None], images.flip(dimension), images)


def rotate(images: Tensor, theta: Tensor, center: tuple[float, float], fill: float) -> Tensor:
    """Each image turned counter-clockwise by its angle `theta` (batch,) in radians about `center` (x, y), bilinear.

    Pixels that come from outside the image get the value `fill`.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device, dtype=images.dtype)[None, None, :] - center[0]
    y = torch.arange(height, device=images.device, dtype=images.dtype)[None, :, None] - center[1]
    cosine, sine = theta.cos()[:, None, None], theta.sin()[:, None, None]
    source_x = cosine * x - sine * y + center[0]
    source_y = sine * x + cosine * y + center[1]
    return _sample(images - fill, source_x, source_y, "zeros") + fill


def _sample(images: Tensor, x: Tensor, y: Tensor, padding: str) -> Tensor:
    """Values of the images at the pixel positions x, y (batch, rows, columns)."""
    height, width = images.shape[-2:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def pad(images: Tensor, padding: int, fill: float) -> Tensor:
    """The images with `padding` pixels of value `fill` on every side."""
    return functional.pad(images, (padding,) * 4, value=fill) if padding else images


def cut(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """The (height, width) patch of each image whose corner is at its own `top`, `left` (batch,)."""
    device = images.device
    sample = torch.arange(images.shape[0], device=device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=device)[None, :, None, None]
    row = top[:, None, None, None] + torch.arange(height, device=device)[None, None, :, None]
    column = left[:, None, None, None] + torch.arange(width, device=device)[None, None, None, :]
    return images[sample, channel, row, column]


def cut_resized(
    images: Tensor, top: Tensor, left: Tensor, size: tuple[Tensor, Tensor], wanted: tuple[int, int]
) -> Tensor:
    """The patch of each image at its own corner, of its own size (heights, widths), resized to `wanted`, bilinear."""
    heights, widths = (lengths.to(images.dtype) for lengths in size)
    steps_y = torch.arange(wanted[0], device=images.device, dtype=images.dtype) + 0.5
    steps_x = torch.arange(wanted[1], device=images.device, dtype=images.dtype) + 0.5
    y = top[:, None] + steps_y * heights[:, None] / wanted[0] - 0.5
    x = left[:, None] + steps_x * widths[:, None] / wanted[1] - 0.5
    shape = (images.shape[0], *wanted)
    return _sample(images, x[:, None, :].expand(shape), y[:, :, None].expand(shape), "border")


def cut_middle(images: Tensor, height: int, width: int) -> Tensor:
    """The (height, width) patch in the middle of every image."""
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


def frame(images: Tensor, height: int, width: int) -> Tensor:
    """The images resized, proportions kept, until they cover (height, width), and cut in the middle to that size."""
    rows, columns = images.shape[-2:]
    if (rows, columns) == (height, width):
        return images
    factor = max(height / rows, width / columns)
    size = (max(height, round(rows * factor)), max(width, round(columns * factor)))
    resized = functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    return cut_middle(resized, height, width)
