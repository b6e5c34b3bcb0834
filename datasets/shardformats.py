"""What is in a shard (Parquet, NPZ, NPY, IDX), and its rows read without the others where possible."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ganglion.datasets.npyfile import MOST_VALUES, SHOWN, Values, read_header
from ganglion.datasets.npzfile import BROKEN, read_arrays
from ganglion.datasets.shardfiles import Source
from ganglion.engine.api import ConfigError, DataError

LIMIT = 1 << 33  # bytes of the values of a shard that can only be read as a whole
HEADER_BYTES = 1 << 16
MOST_IDX = 5  # dimensions
DIVISIBLE: tuple[int, ...] = ()  # the groups of a shard whose rows can be read from anywhere to anywhere


class Field(NamedTuple):
    """One column, or one array: the shape of what a row has in it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.dtype.itemsize


class Layout(NamedTuple):
    """What a shard says of itself. `groups` are rows that are only read together; none: any can be read alone."""

    rows: int
    fields: tuple[Field, ...]
    groups: tuple[int, ...] = DIVISIBLE
    start: int = 0  # byte of the first row
    note: Any = None  # what the reader keeps for itself

    def form(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What all shards have in common."""
        return tuple((field.name, field.shape) for field in self.fields)


class Format(NamedTuple):
    """How shards of a format are looked at, and read: rows `first` to `last` of the fields named."""

    look: Callable[[Source], Layout]
    read: Callable[[Source, Layout, Sequence[str], int, int], Mapping[str, Values]]


def format_of(source: Source) -> Format:
    """The format that the file's ending says. Raises DataError for any other."""
    name = source.name.lower()
    if name.endswith((".parquet", ".pq")):
        return Format(look_parquet, read_parquet)
    if name.endswith(".npz"):
        return Format(look_npz, read_npz)
    if name.endswith(".npy"):
        return Format(look_npy, read_rows)
    if name.endswith((".idx", "-ubyte", ".gz")):
        return Format(look_idx, read_packed if name.endswith(".gz") else read_rows)
    raise DataError(f"{source}: the name ends in none of .parquet, .npz, .npy, .idx, -ubyte, .gz")


# --- NPY and IDX: rows at known places --------------------------------------------------------------------------------


def look_npy(source: Source) -> Layout:
    """What the header says, once the file is known to be as long as that."""
    stream = io.BytesIO(source.read(0, min(source.size, HEADER_BYTES)))
    shape, by_columns, dtype = _npy_header(source, stream)
    if by_columns and len(shape) > 1:
        raise DataError(f"{source}: the array is stored column after column, expected rows one after another")
    field = Field("values", tuple(shape[1:]), dtype)
    return _checked(source, Layout(shape[0] if shape else 0, (field,), start=stream.tell()))


def look_idx(source: Source) -> Layout:
    """The same for an IDX file of unsigned bytes; of a packed one the header alone is unpacked."""
    packed = source.name.lower().endswith(".gz")
    with source.open() as stream:
        head = (gzip.GzipFile(fileobj=stream) if packed else stream).read(4 + 4 * MOST_IDX)
    dimensions = head[3] if len(head) > 3 else 0
    if head[:3] != bytes((0, 0, 8)) or not 1 <= dimensions < MOST_IDX or len(head) < 4 + 4 * dimensions:
        raise DataError(f"{source}: not an IDX file of bytes: it starts with {head[:4].hex() or 'nothing'}")
    sizes = [int.from_bytes(head[4 + 4 * place : 8 + 4 * place], "big") for place in range(dimensions)]
    shape = (1, *sizes[1:]) if dimensions == 3 else tuple(sizes[1:])  # pictures of one channel
    field = Field("values", shape, np.dtype(np.uint8))
    layout = Layout(sizes[0], (field,), (sizes[0],) if packed else DIVISIBLE, 4 + 4 * dimensions)
    return _checked(source, layout, packed)


def _checked(source: Source, layout: Layout, packed: bool = False) -> Layout:
    (field,) = layout.fields
    if layout.rows < 1 or not 0 < math.prod(field.shape) <= MOST_VALUES:
        raise DataError(f"{source}: the array has the shape {(layout.rows, *field.shape)}, expected rows with values")
    declared = layout.rows * field.row_bytes
    if declared != source.size - layout.start and not packed:
        raise DataError(
            f"{source}: the file is truncated or corrupt: its header declares {declared} bytes of values, and "
            f"{source.size - layout.start} follow it"
        )
    if packed and declared > LIMIT:
        raise DataError(f"{source}: its header declares {declared} bytes of values, expected at most {LIMIT}")
    return layout


def read_rows(source: Source, layout: Layout, names: Sequence[str], first: int, last: int) -> Mapping[str, Values]:
    """Rows that stand at known bytes: no others are read."""
    (field,) = layout.fields
    size = field.row_bytes
    return {
        field.name: _values(
            source, field, source.read(layout.start + first * size, layout.start + last * size), last - first
        )
    }


def read_packed(source: Source, layout: Layout, names: Sequence[str], first: int, last: int) -> Mapping[str, Values]:
    """Rows of a packed file, which is read as a whole."""
    (field,) = layout.fields
    with source.open() as stream, gzip.GzipFile(fileobj=stream) as unpacked:
        content = unpacked.read(layout.start + layout.rows * field.row_bytes + 1)
    return {field.name: _values(source, field, content[layout.start :], layout.rows)[first:last]}


def _values(source: Source, field: Field, content: bytes, rows: int) -> Values:
    if len(content) != rows * field.row_bytes:
        raise DataError(f"{source}: the file is truncated or corrupt: {len(content)} of {rows * field.row_bytes} bytes")
    return np.frombuffer(content, dtype=field.dtype).reshape(rows, *field.shape)


def _npy_header(
    source: Source, stream: BinaryIO | Any, inside: str = ""
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    shape, by_columns, dtype = read_header(str(source), stream, inside)
    if dtype.kind not in "fiubU" or dtype.hasobject or (dtype.kind == "U" and not inside):
        raise DataError(f"{source}: {inside}holds {str(dtype)[:SHOWN]}, expected numbers")
    return shape, by_columns, dtype


# --- NPZ: read as a whole ---------------------------------------------------------------------------------------------


def look_npz(source: Source) -> Layout:
    """The arrays that the archive says it holds; nothing of their values is unpacked."""
    try:
        with source.open() as stream, zipfile.ZipFile(stream) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            headers = {}
            for info in members:
                with archive.open(info) as member:
                    headers[info.filename.removesuffix(".npy")] = _npy_header(source, member, f"{info.filename}: ")
    except BROKEN as error:
        raise DataError(f"{source}: the file is truncated, corrupt or not an NPZ file ({error})") from None
    counts = {shape[0] if shape else 0 for shape, _, _ in headers.values()}
    if len(counts) != 1 or min(counts) < 1:
        raise DataError(f"{source}: its arrays have {sorted(counts) or 'no'} rows, expected the same number in each")
    fields = tuple(Field(name, tuple(shape[1:]), dtype) for name, (shape, _, dtype) in headers.items())
    (rows,) = counts
    return Layout(rows, fields, (rows,))


def read_npz(source: Source, layout: Layout, names: Sequence[str], first: int, last: int) -> Mapping[str, Values]:
    """Rows of the arrays named."""
    arrays = read_arrays(source.whole(), LIMIT)
    found = Layout(
        len(next(iter(arrays.values()), ())), tuple(Field(n, a.shape[1:], a.dtype) for n, a in arrays.items())
    )
    if (found.rows, found.form()) != (layout.rows, layout.form()):
        raise DataError(f"{source}: holds other arrays than when the run began")
    return {name: arrays[name][first:last] for name in names}


# --- Parquet: read in row groups --------------------------------------------------------------------------------------


def look_parquet(source: Source) -> Layout:
    """What the footer says of columns and row groups."""
    pyarrow = _pyarrow(source)
    try:
        with source.open() as stream:
            file = pyarrow.parquet.ParquetFile(stream)
            described, schema = file.metadata, file.schema_arrow
    except pyarrow.ArrowException as error:
        raise DataError(f"{source}: the file is truncated, corrupt or not a Parquet file ({_short(error)})") from None
    fields = tuple(_parquet_field(source, column) for column in schema)
    groups = tuple(described.row_group(number).num_rows for number in range(described.num_row_groups))
    if described.num_rows < 1 or sum(groups) != described.num_rows or not fields:
        raise DataError(f"{source}: the file is empty, expected columns with rows")
    return Layout(described.num_rows, fields, groups, note=described)


def _parquet_field(source: Source, column: Any) -> Field:
    """Columns of numbers or text; a list of a fixed size is a group of columns. Others are refused where chosen."""
    from pyarrow import types

    shape: tuple[int, ...] = ()
    kind = column.type
    if types.is_fixed_size_list(kind):
        kind, shape = kind.value_type, (kind.list_size,)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return Field(column.name, shape, np.dtype(kind.to_pandas_dtype()))
    return Field(column.name, shape, np.dtype(object))


def read_parquet(source: Source, layout: Layout, names: Sequence[str], first: int, last: int) -> Mapping[str, Values]:
    """Rows of the columns named; of the row groups that hold them, which are whole pieces."""
    pyarrow = _pyarrow(source)
    ends = np.cumsum(layout.groups)
    wanted = [number for number, end in enumerate(ends.tolist()) if end > first and end - layout.groups[number] < last]
    skipped = first - (int(ends[wanted[0]]) - layout.groups[wanted[0]])
    try:
        with source.open() if source.far else nullcontext(source.name) as stream:
            file = pyarrow.parquet.ParquetFile(stream, metadata=layout.note, pre_buffer=True)
            table = file.read_row_groups(wanted, columns=list(names), use_threads=False)
    except pyarrow.ArrowException as error:
        raise DataError(f"{source}: the file is truncated or corrupt ({_short(error)})") from None
    fields = {field.name: field for field in layout.fields}
    return {name: _column(source, table, fields[name])[skipped : skipped + last - first] for name in names}


def _column(source: Source, table: Any, field: Field) -> Values:
    column = table.column(field.name)
    if column.null_count:
        raise DataError(f"{source}: {column.null_count} values of column '{field.name}' are missing")
    if not field.shape:
        return np.asarray(column.to_numpy())
    flat = column.combine_chunks()
    flat = flat.flatten() if not hasattr(flat, "chunks") else flat.chunk(0).flatten()
    if flat.null_count or len(flat) != table.num_rows * field.shape[0]:
        raise DataError(f"{source}: values of column '{field.name}' are missing")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, *field.shape)


def _pyarrow(source: Source) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f"{source}: Parquet needs pyarrow: pip install ganglion[parquet]") from None
    return pyarrow


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
