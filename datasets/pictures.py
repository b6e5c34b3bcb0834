"""Reads one picture file into bytes, trusting nothing that the file says."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ganglion.engine.api import DataError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
PIXEL_LIMIT = 64_000_000  # of one picture; more is a mistake or an attack
PACKED = 8 * 1032  # pixels of one bit that a byte can hold at most, by deflate; GIF, BMP and JPEG can hold fewer
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what Pillow raises for broken files


def read_picture(path: Path, channels: int, size: int | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture as bytes (channels, height, width), on white where it is transparent, the first frame of several.

    With `size`, it is resized until it covers a square of that size, and cut in the middle. Raises DataError, naming
    the file, where it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture: Image.Image = Image.open(path, formats=FORMATS)
        with picture:
            _check_size(path, picture)
            plain = _flat(ImageOps.exif_transpose(picture), "L" if channels == 1 else "RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: the picture is larger than the {PIXEL_LIMIT} pixels allowed ({error})") from None
    except BROKEN as error:
        raise DataError(f"{path}: not a readable picture: truncated, corrupt or of another format ({error})") from None
    except MemoryError:
        raise DataError(f"{path}: there is not enough memory for a picture of this size") from None
    if size is not None:
        plain = ImageOps.fit(plain, (size, size), method=Image.Resampling.BICUBIC)
    values = np.asarray(plain, dtype=np.uint8)
    return values[None] if channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _check_size(path: Path, picture: Image.Image) -> None:
    """Before anything is unpacked: the declared size must be allowed, and possible for a file of this size."""
    pixels, form = picture.width * picture.height, f"{picture.width}x{picture.height} pixels"
    if pixels > PIXEL_LIMIT:
        raise Image.DecompressionBombError(form)
    present = path.stat().st_size
    if picture.format != "WEBP" and pixels > present * PACKED:
        raise ValueError(f"it declares {form}, which a file of {present} bytes cannot hold")


def _flat(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in `mode`: 16-bit grey by its upper byte, transparency laid on white."""
    picture.load()
    if picture.mode.startswith("I"):
        upper = np.asarray(picture).astype(np.int64) >> 8
        picture = Image.fromarray(np.clip(upper, 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture.convert(mode)
