"""Reads IDX files (`.gz` or not) into uint8 tensors, trusting nothing that their headers say."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from ganglion.engine.api import DataError

LIMIT = 1 << 30  # bytes of values that one file may hold
UNSIGNED_BYTE = 0x08
DEFLATE_RATIO = 1032  # deflate cannot pack more bytes than this into one


def read_idx(path: Path, dimensions: int, limit: int = LIMIT) -> Tensor:
    """The values of an IDX file of unsigned bytes with that many dimensions. Raises DataError for any other file."""
    try:
        packed = path.suffix == ".gz"
        with cast("BinaryIO", gzip.open(path, "rb")) if packed else path.open("rb") as stream:
            shape = _read_shape(path, stream, dimensions)
            _check_size(path, shape, limit, packed)
            return _read_values(path, stream, shape)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the file is truncated or corrupt ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_shape(path: Path, stream: BinaryIO, dimensions: int) -> tuple[int, ...]:
    magic = stream.read(4)
    if magic != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        wanted = bytes((0, 0, UNSIGNED_BYTE, dimensions)).hex()
        raise DataError(
            f"{path}: not an IDX file of bytes with {dimensions} dimensions: it starts with "
            f"{magic.hex() or 'nothing'} where {wanted} is expected"
        )
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError(
            f"{path}: the file is truncated: its header has {4 + len(header)} of {4 + 4 * dimensions} bytes"
        )
    return tuple(int.from_bytes(header[4 * i : 4 * i + 4], "big") for i in range(dimensions))


def _check_size(path: Path, shape: tuple[int, ...], limit: int, packed: bool) -> None:
    """Before anything is allocated: the declared size must be possible for a file of this size."""
    declared, present = math.prod(shape), path.stat().st_size
    form = "x".join(str(length) for length in shape)
    if declared == 0 or declared > limit:
        raise DataError(f"{path}: the header declares {form} values, expected from 1 to {limit} bytes")
    expected = 4 + 4 * len(shape) + declared
    if (packed and expected > present * DEFLATE_RATIO) or (not packed and expected != present):
        raise DataError(
            f"{path}: the file is truncated or corrupt: its header declares {form} values, "
            f"{expected} bytes, which a file of {present} bytes cannot hold"
        )


def _read_values(path: Path, stream: BinaryIO, shape: tuple[int, ...]) -> Tensor:
    values = bytearray(math.prod(shape))
    view, filled = memoryview(values), 0
    while filled < len(values):
        count = cast("int", stream.readinto(view[filled:]))  # type: ignore[attr-defined]
        if not count:
            raise DataError(f"{path}: the file is truncated: {filled} of {len(values)} values are there")
        filled += count
    if stream.read(1):
        raise DataError(
            f"{path}: the file is corrupt: it goes on after the {len(values)} values that its header declares"
        )
    return torch.frombuffer(values, dtype=torch.uint8).view(shape)
