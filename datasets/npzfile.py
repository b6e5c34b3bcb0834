"""Reads NPZ files (NumPy's zipped arrays) without pickle, and without believing their declared sizes."""

from __future__ import annotations

import math
import sys
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ganglion.datasets.columns import Column, Columns, row_number
from ganglion.datasets.idx import DEFLATE_RATIO
from ganglion.engine.api import DataError

LIMIT = 1 << 33  # bytes of all arrays of a file
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes; others can hold any size in a few bytes
SLACK = 1 << 16  # bytes of headers
HEADER_READERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, SyntaxError, tokenize.TokenError,
    RecursionError,
)  # fmt: skip


def read_npz(path: Path, limit: int = LIMIT) -> Columns:
    """Each 1-D array is a column by its name, each 2-D array columns `name.0`, `name.1`...; all have as many rows."""
    return _as_columns(path, read_arrays(path, limit))


def read_arrays(path: Path, limit: int = LIMIT) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an NPZ file by name, as they are. Raises DataError for a broken file, or one above the limit."""
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files as Python 2, or an older NumPy, wrote them
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in members) > limit + SLACK * len(members):
                raise DataError(f"{path}: its arrays are of more than the {limit} bytes that are allowed")
            return {info.filename.removesuffix(".npy"): _read_array(path, archive, info, limit) for info in members}
    except BROKEN as error:
        raise DataError(f"{path}: the file is truncated, corrupt or not an NPZ file ({error})") from None
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _read_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> np.ndarray[Any, Any]:
    """One array, after its header has been compared with what the archive holds."""
    if info.compress_type not in PACKINGS or info.file_size > SLACK + DEFLATE_RATIO * info.compress_size:
        raise DataError(f"{path}: array {info.filename} is packed in a way that NumPy does not use")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in HEADER_READERS:
            raise DataError(f"{path}: array {info.filename} has format version {version}, expected 1.0 or 2.0")
        shape, _, dtype = HEADER_READERS[version](stream)
        header = stream.tell()
    if dtype.hasobject:
        raise DataError(f"{path}: array {info.filename} holds Python objects, expected numbers")
    declared = math.prod(shape) * dtype.itemsize
    if declared > limit or declared + header != info.file_size:
        raise DataError(
            f"{path}: array {info.filename} declares {declared} bytes, but the file holds {info.file_size - header} "
            f"(at most {limit} are allowed)"
        )
    with archive.open(info) as stream:
        array = np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    if array.dtype.kind == "U" and array.size and int(_code_points(array).max()) > sys.maxunicode:
        raise DataError(
            f"{path}: array {info.filename} holds text that is none: a character beyond U+{sys.maxunicode:X}"
        )
    return array


def _code_points(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The characters of an array of text as numbers; NumPy itself does not look at them."""
    native = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=False)
    return native.view(np.uint32)


def _as_columns(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> Columns:
    names: list[str] = []
    values: list[Column] = []
    for name, array in arrays.items():
        if array.ndim not in (1, 2):
            raise DataError(f"{path}: array '{name}' has {array.ndim} dimensions, expected 1 (a column) or 2 (a table)")
        names += [name] if array.ndim == 1 else [f"{name}.{i}" for i in range(array.shape[1])]
        values += [array] if array.ndim == 1 else list(array.T)
    if not values or len(values[0]) == 0:
        raise DataError(f"{path}: the file is empty, expected arrays with rows")
    for name, array in arrays.items():
        if len(array) != len(values[0]):
            raise DataError(
                f"{path}: array '{name}' has {len(array)} rows, '{next(iter(arrays))}' has {len(values[0])}"
            )
    return Columns(path, tuple(names), values, row_number)
