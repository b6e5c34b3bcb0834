"""Wrong data: missing, truncated and corrupt files, numbers that are none, and rows that are not there."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import PAIR, TINY_DIGITS, call, refused, tiny
from PIL import Image

Capture = pytest.CaptureFixture[str]
KEYS = {**TINY_DIGITS, "strategy": "GAN", "generatorDim": 4, "batchSize": 4}

# --- IDX ----------------------------------------------------------------------------------------------------------

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(values: np.ndarray[Any, Any], declared: tuple[int, ...] | None = None) -> bytes:
    """An IDX file of bytes; `declared` is what its header says of the shape."""
    sizes = declared or values.shape
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{len(sizes)}I", *sizes) + values.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small MNIST of 20 and 8 pictures, which GANGLION_DATA names."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 8)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(random.integers(0, 255, (count, 8, 8))))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(random.integers(0, 10, count)))
    monkeypatch.setenv("GANGLION_DATA", str(folder.parent))
    return folder


def packed(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Pack the images, and change the packed bytes."""
    plain = folder / IMAGES
    (folder / f"{IMAGES}.gz").write_bytes(change(gzip.compress(plain.read_bytes(), mtime=0)))
    plain.unlink()


def flipped(content: bytes, position: int) -> bytes:
    """The bytes with one of them changed."""
    return content[:position] + bytes((content[position] ^ 0xFF,)) + content[position + 1 :]


DAMAGE: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "truncated": (
        lambda folder: (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-5]),
        (IMAGES, "truncated or corrupt", "20x8x8"),
    ),
    "too long": (
        lambda folder: (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes() + b"x"),
        (IMAGES, "truncated or corrupt"),
    ),
    "another format": (
        lambda folder: (folder / IMAGES).write_bytes(b"\x1b[31m" + bytes(2000)),
        (IMAGES, "not an IDX file", "00000803 is expected"),
    ),
    "half a header": (
        lambda folder: (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:9]),
        (IMAGES, "its header has 9 of 16 bytes"),
    ),
    "empty": (lambda folder: (folder / IMAGES).write_bytes(b""), (IMAGES, "starts with nothing")),
    "declared too large": (
        lambda folder: (folder / IMAGES).write_bytes(idx(np.zeros((2, 2, 2)), (2**31, 2**31, 8))),
        (IMAGES, "declares 2147483648x2147483648x8"),
    ),
    "truncated gz": (lambda folder: packed(folder, lambda content: content[:-40]), (f"{IMAGES}.gz", "truncated")),
    "a flipped byte in gz": (
        lambda folder: packed(folder, lambda content: flipped(content, 200)),
        (f"{IMAGES}.gz", "corrupt"),
    ),
    "no gz": (lambda folder: packed(folder, lambda content: b"<html>"), (f"{IMAGES}.gz", "Not a gzipped file")),
    "fewer labels": (
        lambda folder: (folder / LABELS).write_bytes(idx(np.zeros(19))),
        (LABELS, "19 labels for the 20 images"),
    ),
    "a label of no class": (
        lambda folder: (folder / LABELS).write_bytes(idx(np.full(20, 77))),
        (LABELS, "label 77 in row 0, expected 0 to 9"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_idx_file_is_named_with_what_is_wrong(damage: str, mnist: Path, capsys: Capture) -> None:
    change, parts = DAMAGE[damage]
    change(mnist)
    refused(capsys, tiny(names=(PAIR, "MNIST"), keys=KEYS), *parts)


def test_the_undamaged_files_are_learnt_from(mnist: Path, capsys: Capture) -> None:
    assert call(capsys, *tiny(names=(PAIR, "MNIST"), keys=KEYS)) == (0, "", "")


def test_missing_files_are_answered_with_the_ways_out(
    mnist: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mnist / IMAGES).unlink()
    words = tiny("download=false", names=(PAIR, "MNIST"), keys=KEYS)
    refused(capsys, words, f"{IMAGES}.gz", "set GANGLION_DATA", "go online", "Digits")
    monkeypatch.setenv("GANGLION_DATA", "/nowhere")
    refused(capsys, words, "GANGLION_DATA=/nowhere", "no such folder")


# --- tables -------------------------------------------------------------------------------------------------------

GOOD = "a,b\n" + "".join(f"{row},{row * row}\n" for row in range(10))


def npz(**arrays: Any) -> bytes:
    """The bytes of an NPZ file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


NUMBERS = npz(x=np.arange(200.0).reshape(100, 2))
TABLES: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "ragged.csv": (f"{GOOD}1\n", ("line 12 has 1 cells", "the first row has 2")),
    "text.csv": (f"{GOOD}1,four\n", ("line 12, column 'b' is 'four'", "expected a number")),
    "nan.csv": (f"{GOOD}1,nan\n", ("line 12, column 'b' is nan", "finite")),
    "infinite.csv": (f"{GOOD}1,1e400\n", ("line 12, column 'b'", "finite")),
    "hole.csv": (f"{GOOD}1,\n", ("line 12, column 'b' is empty",)),
    "empty.csv": ("", ("the file is empty",)),
    "header.csv": ("a,b\n", ("a header (a, b) but no rows",)),
    "quote.csv": (f'{GOOD}1,"2\n', ("line 12 is not valid CSV",)),
    "binary.csv": (bytes(range(256)) * 4, ("not a text file in UTF-8",)),
    "escape.csv": (f"{GOOD}\x1b[31mx\x1b[0m,1\n", ("line 12, column 'a' is 'x'",)),
    "page.csv": ("<html><body>Not found</body></html>\n", ("no rows",)),
    "table.xlsx": (GOOD, ("ends in '.xlsx'", "expected .csv")),
    "truncated.npz": (NUMBERS[: len(NUMBERS) // 2], ("truncated, corrupt or not an NPZ file",)),
    "flipped.npz": (flipped(NUMBERS, len(NUMBERS) // 2), ("truncated, corrupt", "CRC")),
    "text.npz": (GOOD, ("not an NPZ file",)),
    "empty.npz": (b"", ("not an NPZ file",)),
    "nan.npz": (npz(x=np.array([1.0, np.nan, 3.0])), ("row 1, column 'x' is nan",)),
    "objects.npz": (npz(x=np.array([1, None], dtype=object)), ("x.npy", "holds Python objects")),
    "words.npz": (npz(x=np.array(["a", "b"])), ("column 'x'", "expected numbers")),
    "cube.npz": (npz(x=np.zeros((2, 2, 2))), ("array 'x' has 3 dimensions",)),
    "rows.npz": (npz(a=np.zeros(3), b=np.zeros(4)), ("'b' has 4 rows, 'a' has 3",)),
    "nothing.npz": (npz(), ("the file is empty",)),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_wrong_table_is_named_with_the_place(name: str, tmp_path: Path, capsys: Capture) -> None:
    content, parts = TABLES[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    refused(capsys, tiny(f"path={tmp_path / name}", names=(PAIR, "Table"), keys=KEYS), name, *parts)


def test_wrong_settings_of_a_table(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "good.csv").write_text(GOOD)
    path = f"path={tmp_path / 'good.csv'}"
    for tokens, parts in (
        ((path, "columns=c"), ("columns names no column 'c'", "there are: a, b")),
        ((path, "target=bb"), ("target names no column 'bb'", "did you mean 'b'?")),
        ((path, "classification=true"), ("needs one target column", "target=NAME")),
        ((path, "separator=ab"), ("separator=ab", "one character")),
        ((path, "columns=a", "target=a"), ("column 'a' is both input and target",)),
        ((path, "batchSize=9"), ("batchSize=9 is more than the 8 rows",)),
        (("path=missing.csv",), ("path=missing.csv does not exist", "expected a file")),
        ((f"path={tmp_path}",), ("is not a file",)),
        ((f"path={'x' * 5000}",), ("cannot be looked up", "too long")),
        (("path=a\0b",), ("does not exist",)),
        ((), ("Table needs path=",)),
    ):
        refused(capsys, tiny(*tokens, names=(PAIR, "Table"), keys=KEYS), *parts)


# --- pictures -----------------------------------------------------------------------------------------------------


def png(side: int = 8) -> bytes:
    """The bytes of a noisy picture."""
    values = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    return buffer.getvalue()


BOMB = png()[:16] + struct.pack(">II", 60000, 60000) + png()[24:]
PICTURES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "truncated": (png()[: len(png()) // 2], ("z.png", "not a readable picture")),
    "flipped": (flipped(png(), 60), ("z.png", "not a readable picture")),
    "text": (b"hello", ("z.png", "not a readable picture")),
    "empty": (b"", ("z.png", "not a readable picture")),
    "another size": (png(9), ("z.png has 9x9 pixels", "has 8x8", "size=")),
    "a bomb": (BOMB, ("z.png",)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_wrong_picture_is_named(kind: str, tmp_path: Path, capsys: Capture) -> None:
    content, parts = PICTURES[kind]
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png())
    (tmp_path / "z.png").write_bytes(content)
    refused(capsys, tiny(f"path={tmp_path}", names=(PAIR, "Images"), keys=KEYS), *parts)


def test_folders_without_usable_pictures(tmp_path: Path, capsys: Capture) -> None:
    def answer(*parts: str) -> None:
        refused(capsys, tiny(f"path={tmp_path / 'x'}", names=(PAIR, "Images"), keys=KEYS), *parts)

    answer("does not exist", "expected a folder")
    (tmp_path / "x").mkdir()
    answer("holds no pictures")
    (tmp_path / "x" / "[red]\x1b[31mz.png").write_bytes(b"none")
    assert "[red]z.png" in refused(capsys, tiny(f"path={tmp_path / 'x'}", names=(PAIR, "Images"), keys=KEYS))
    (tmp_path / "x" / "sub").mkdir()
    (tmp_path / "x" / "sub" / "z.png").write_bytes(png())
    answer("expected one of both")


# --- rows ---------------------------------------------------------------------------------------------------------

ROWS = {
    "range=5,5": ("range=5,5", "START < END", "64 rows"),
    "range=0": ("range=0",),
    "range=0,1000": ("range=0,1000", "END <= 64"),
    "range=1000": ("range=1000", "64 rows"),
    "range=-3,4": ("range=-3,4", "0 <= START"),
    "testSet=0,100": ("testSet=0,100", "the test part has 8 rows"),
    "validationSet=0,64": ("validationSet", "none is left to learn from"),
    "validationSet=60,70": ("validationSet=60,70", "END <= 64"),
    "range=0,10 validationSet=5,12": ("range and validationSet share 5 rows", "do not overlap"),
}


@pytest.mark.parametrize("tokens", ROWS)
def test_rows_that_are_not_there_or_used_twice(tokens: str, capsys: Capture) -> None:
    refused(capsys, tiny(*tokens.split()), *ROWS[tokens])


def test_data_that_are_not_finite_are_refused_whatever_makes_them(tmp_path: Path, capsys: Capture) -> None:
    source = (
        "import torch\nfrom ganglion.engine.api import DatasetFactory, DataSpec, NoSettings, Splits, TensorDataset\n"
        "class Holes(DatasetFactory):\n    '''Points with a hole.'''\n    Settings = NoSettings\n"
        "    def load(self):\n        points = torch.zeros(64, 2)\n        points[7, 1] = float('nan')\n"
        "        return Splits(train=TensorDataset(DataSpec('vector', (2,)), points))\n"
    )
    (tmp_path / "holes.py").write_text(source)
    keys = {key: value for key, value in KEYS.items() if key not in ("size", "testSize")}
    sentence = refused(capsys, tiny(names=(PAIR, f"{tmp_path / 'holes.py'}:Holes"), keys=keys), "Holes", "row 7")
    assert "nan" in sentence or "finite" in sentence


def test_class_names_from_folders_reach_the_terminal_as_plain_text(tmp_path: Path, capsys: Capture) -> None:
    for name in ("[red]first", "\x1b[31msecond"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "x" / name / f"{number}.png").write_bytes(png())
    words = [f"path={tmp_path / 'x'}", "batchSize=4", "iterations=2", "threads=1", "tag=mine"]
    learnt = call(capsys, "learn", "MLP", "Images", *words)
    judged = call(capsys, "ganglion", "evaluate", "mine", "metric=classification")
    assert learnt.code == judged.code == 0
    assert "[red]first" in judged.out and "second" in judged.out
    assert "\x1b" not in learnt.err + judged.out + judged.err
