"""The functions for files: data files, pictures, and the directories of runs."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganglion.datasets.columns import labels, numbers
from ganglion.datasets.csvfile import read_csv
from ganglion.datasets.idx import read_idx
from ganglion.datasets.npzfile import read_npz
from ganglion.datasets.pictures import read_picture
from ganglion.datasets.table import Table
from ganglion.engine.checkpoint_files import MANIFEST, _manifest
from ganglion.engine.checkpoints import Checkpoints
from ganglion.engine.contracts import DataContext
from ganglion.engine.errors import DataError, InputError
from ganglion.engine.job import request
from ganglion.engine.registry import Registry
from ganglion.engine.resolution import Resolver

ROOT = Path(__file__).resolve().parents[2]
PAIR = "Generator,Discriminator"


@cache
def folder() -> Path:
    """Where inputs that are read from files are written: in memory where the system has such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="ganglion-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))


def clear() -> None:
    """Remove that folder."""
    shutil.rmtree(folder(), ignore_errors=True)
    folder.cache_clear()


@cache
def registry() -> Registry:
    """Everything that is built in."""
    return Registry().load()


def written(name: str, data: bytes) -> Path:
    """A file in it with that content."""
    path = folder() / name
    path.write_bytes(data)
    return path


# --- data files ---------------------------------------------------------------------------------------------------


def _idx(values: Any) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + b"".join(length.to_bytes(4, "big") for length in values.shape)
    return header + values.astype(np.uint8).tobytes()


def idx_seeds() -> list[bytes]:
    """Images and labels, plain and packed."""
    images, classes = _idx(np.arange(32).reshape(2, 4, 4)), _idx(np.arange(5))
    return [images, classes, gzip.compress(images, mtime=0), gzip.compress(images * 1, 0, mtime=0)]


def read_idx_file(data: bytes) -> None:
    """An IDX file, packed where it begins so, as images or as labels."""
    path = written("values.gz" if data[:2] == b"\x1f\x8b" else "values", data)
    read_idx(path, 1 if data[3:4] == b"\x01" else 3)


def npz_seeds() -> list[bytes]:
    """Archives of several arrays, and single arrays that are put into an archive once they have been changed."""
    found = []
    for values in (np.arange(12.0).reshape(6, 2), np.array(list("abc")), np.zeros((2, 3), order="F", dtype=">i2")):
        stream = io.BytesIO()
        np.save(stream, values)
        found.append(stream.getvalue())
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, x=np.arange(12.0).reshape(6, 2), y=np.arange(6))
        found.append(stream.getvalue())
    return found


def read_npz_file(data: bytes) -> None:
    """An NPZ file: its columns as numbers and as classes, and a table of it."""
    if data[:1] != b"P":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("x.npy", data)
        data = stream.getvalue()
    _use(read_npz(written("table.npz", data)))
    _table("table.npz")


CSV = (
    "a,b,c\n1,2,x\n3,4.5,y\n-1e3,.5,x\n7,8,y\n",
    'name;"v;w"\n"one\n""two""";1\n three ;2\n\n x;3\n',
    "1\t2\n3\t4\n5\t6\n",
    "\ufeffx,y\r\n0.1,0.2\r\n1,1\r\n2,9\r\n",
)


def read_csv_file(data: bytes) -> None:
    """A CSV file, in the same way."""
    _use(read_csv(written("table.csv", data)))
    _table("table.csv")


def _use(table: Any) -> None:
    """Every column as numbers and as classes."""
    for position in range(min(len(table.names), 8)):
        for read in (numbers, labels):
            with contextlib.suppress(DataError):
                read(table, position)


def _table(name: str) -> None:
    context = DataContext([], folder(), 0, lambda sentence: None)
    Table(Table.Settings(path=str(folder() / name)), context).load()


def picture_seeds() -> list[bytes]:
    """A small picture in every format, some with a palette, transparency, or frames."""
    grey = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    found = []
    for form, mode in (
        ("png", "L"), ("png", "P"), ("png", "RGBA"), ("png", "1"), ("png", "I;16"), ("jpeg", "RGB"), ("bmp", "RGB"),
        ("gif", "P"), ("webp", "RGBA"),
    ):  # fmt: skip
        stream = io.BytesIO()
        grey.convert(mode).save(stream, form)
        found.append(stream.getvalue())
    return found


def read_picture_file(data: bytes) -> None:
    """A picture, as it is and resized; the sums of a PNG's parts are made to fit, as an attacker would."""
    path = written("picture.png", _mended(data) if data[:4] == b"\x89PNG" else data)
    read_picture(path, 3, None)
    read_picture(path, 1, 4)


def _mended(data: bytes) -> bytes:
    """A PNG with the right sum after each of its parts."""
    parts, at = [data[:8]], 8
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        parts.append(data[at:end] + zlib.crc32(data[at + 4 : end]).to_bytes(4, "big"))
        at = end + 4
    return b"".join((*parts, data[at:]))


# --- run directories ----------------------------------------------------------------------------------------------


@cache
def _run() -> Path:
    """A run of two iterations, made once."""
    from ganglion.engine.launch import learn

    keys = {
        "strategy": "GAN", "size": 64, "testSize": 8, "batchSize": 8, "iterations": 2, "threads": 1,
        "sampleInterval": 0,
        "traces": "lines", "tag": "run", "generatorDim": 2, "keep": 1,
    }  # fmt: skip
    directory = learn(PAIR, "Circle", keys, runs=folder() / "runs", notify=lambda sentence: None).directory
    # Few keys, and networks by their names alone: inputs are read faster, and most changes meet something that counts.
    settings = "".join(f"  {key}: {value}\n" for key, value in keys.items() if key not in ("tag", "strategy"))
    (directory / "job.yaml").write_text(
        f"format: 1\nnetworks: [Generator, Discriminator]\ndataset: Circle\nstrategy: GAN\nplugins: []\n"
        f"settings:\n{settings}"
        "  generator.learningRate: 0.01\n  noise: uniform\n  schedule: none\n"
    )
    shutil.rmtree(directory / "networks")
    return directory


def _tagged(paths: Sequence[Path], names: Callable[[Path], str]) -> list[bytes]:
    """Files as inputs: the name on a line of its own, then the content."""
    return [names(path).encode() + b"\n" + path.read_bytes() for path in paths]


def checkpoint_seeds() -> list[bytes]:
    """Every file of a checkpoint, its manifest twice: as it is, and to be made anew for the changed content."""
    return _tagged(sorted((_run() / "checkpoints" / "2").iterdir()), lambda path: path.name)


def read_checkpoint(data: bytes) -> None:
    """A checkpoint with one changed file, all sums made to fit, as an attacker would; then as a run goes on with it."""
    from ganglion.engine.resuming import take_up

    copy = _changed_checkpoint()
    name, directory = copy.change(data), copy.directory
    if name != MANIFEST:
        files = {name: content for name, content in copy.files.items() if name != MANIFEST}
        copy.write(MANIFEST, _manifest(2, {**files, name: (directory / name).read_bytes()}))
    checkpoint = Checkpoints(directory.parent).load(2)
    try:
        take_up(_learner(), checkpoint)
    except InputError:
        _learner.cache_clear()  # it may have taken up half of the state
        raise


@cache
def _learner() -> Any:
    """A learner that can take up the checkpoints of the run."""
    from ganglion.engine.assembly import assemble
    from ganglion.engine.folders import data_context
    from ganglion.engine.learner import Learner
    from ganglion.engine.repository import Run
    from ganglion.engine.store import Store
    from ganglion.engine.trace import Traces

    job = Run(_run()).read_whole_job()
    session = assemble(registry(), request(None, None, {"iterations": "9"}, job), data_context(print))
    if not (folder() / "spare").exists():
        shutil.copytree(_run(), folder() / "spare")
    return Learner(session, Store(Run(folder() / "spare"), 1, lambda: 0), Traces([]))


class _Changed:
    """A copy of a directory of which one file at a time has other content."""

    def __init__(self, source: Path, into: str) -> None:
        self.directory = folder() / into
        shutil.copytree(source, self.directory)
        self.files = {path.name: path.read_bytes() for path in self.directory.iterdir() if path.is_file()}
        self.last: set[str] = set()

    def write(self, name: str, content: bytes) -> None:
        """Give a file its content, until `change` is called again."""
        (self.directory / name).write_bytes(content)
        self.last.add(name)

    def change(self, data: bytes) -> str:
        """Give the file that an input names in its first line the rest as content, and all others their own."""
        first, _, content = data.partition(b"\n")
        name = first.decode("ascii", "replace")
        while self.last:
            before = self.last.pop()
            (self.directory / before).write_bytes(self.files[before])
        if name not in self.files:
            raise DataError("no file of that name")
        self.write(name, content)
        return name


@cache
def _changed_checkpoint() -> _Changed:
    return _Changed(_run() / "checkpoints" / "2", "checkpoint/2")


@cache
def _changed_run() -> _Changed:
    return _Changed(_run(), "changed/run")


DOCUMENTS = ("job.yaml", "record.json", "data.json")


def document_seeds() -> list[bytes]:
    """The documents of a run."""
    return _tagged([_run() / name for name in DOCUMENTS], lambda path: path.name)


def read_documents(data: bytes) -> None:
    """A run with one changed document: as `runs` lists it, `sample` opens it, and `learn` goes on with it."""
    from ganglion.engine.opening import draw_samples, open_run
    from ganglion.engine.repository import Run
    from ganglion.engine.resuming import refuse_other_names, refuse_other_settings

    copy = _changed_run()
    name, run = copy.change(data), Run(copy.directory)
    run.info()
    run.read_record()
    run.read_data()
    if name == "record.json":
        return
    draw_samples(open_run(registry(), run), 2, 0)
    stored = run.read_whole_job()
    resolver = Resolver(registry(), request(None, None, {}, stored))
    refuse_other_names(run, stored, resolver.names())
    refuse_other_settings(run, stored, resolver.plan())
