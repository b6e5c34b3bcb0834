"""Table on .npy files: rows read at need are the rows held in memory, and a file larger than memory costs none."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import QUIET, weights_of

from ganglion.datasets import filerows, npyarray, npyfile
from ganglion.datasets.npyfile import RowFile
from ganglion.datasets.table import Table
from ganglion.engine.api import ConfigError, DataContext, DataError, Dataset, Splits, TensorDataset, learn
from ganglion.engine.comparepictures import slice_of
from ganglion.engine.data import check_finite, data_digest
from ganglion.engine.launch import Learnt
from ganglion.engine.testing import check_dataset

Array = np.ndarray[Any, Any]
MEGABYTE = 1 << 20


def make(path: Path, notify: Callable[[str], None] = lambda text: None, seed: int = 0, **settings: Any) -> Table:
    return Table(Table.Settings(path=str(path), **settings), DataContext([], Path("no cache"), seed, notify))


def load(path: Path, memory: str, **settings: Any) -> Splits:
    return make(path, memory=memory, **settings).load()


def save(path: Path, array: Array) -> Path:
    np.save(path, array)
    return path


def everything(part: Dataset) -> torch.Tensor:
    return part.rows(torch.arange(len(part))).input


def write_sparse(path: Path, shape: tuple[int, ...], dtype: str = "<f4") -> Path:
    """A file of zeros that takes no room; skips where the file system has no such files."""
    size = np.dtype(dtype).itemsize * np.prod(shape, dtype=object)
    for length in (16 * MEGABYTE, size):  # the small one first
        try:
            with path.open("wb") as stream:
                np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
                stream.truncate(stream.tell() + length)
        except OSError as error:
            pytest.skip(f"the file system takes no file of {length} bytes: {error.strerror}")
        if path.stat().st_blocks * 512 > MEGABYTE:
            path.unlink()
            pytest.skip("the file system has no sparse files")
    return path


def some(shape: tuple[int, ...], dtype: str = "<f4") -> Array:
    values = np.random.default_rng(1).normal(0, 40, shape)
    return np.abs(values).astype(dtype) if dtype[1] in "ub" else values.astype(dtype)


# --- the same rows, wherever they are -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|u1", "<i2", ">i4", "<u4", "|b1"])
@pytest.mark.parametrize("scale", ["standard", "minmax", "none"])
def test_rows_from_the_file_are_those_in_memory(tmp_path: Path, dtype: str, scale: str) -> None:
    path = save(tmp_path / "a.npy", some((50, 3), dtype))
    filed, held = (load(path, memory, scale=scale) for memory in ("file", "resident"))
    _same(filed, held)
    assert isinstance(held.train, TensorDataset) and not filed.train.resident and filed.train.targets() is None
    order = torch.tensor([39, 0, 7, 7, 8, 6, 0])  # from anywhere, and twice
    assert torch.equal(filed.train.rows(order).input, held.train.rows(order).input)
    assert filed.train.rows(order[:0]).input.shape == (0, 3)


def _same(one: Splits, other: Splits) -> None:
    assert one.train.spec == other.train.spec and data_digest(one.train) == data_digest(other.train)
    for mine, others in ((one.train, other.train), (one.test, other.test)):
        assert mine is not None and others is not None and len(mine) == len(others)
        batch, wanted = (part.rows(torch.arange(len(part))) for part in (mine, others))
        assert batch.input.dtype == torch.float32 and torch.equal(batch.input, wanted.input)
        assert (batch.target is None) == (wanted.target is None)
        assert batch.target is None or torch.equal(batch.target, wanted.target)


@pytest.mark.parametrize("scale", ["standard", "minmax", "none"])
@pytest.mark.parametrize("settings", [{}, {"shuffle": False}, {"columns": ("2", "0"), "target": ("1", "3")}])
def test_an_array_is_the_same_table_as_in_an_npz_file(tmp_path: Path, scale: str, settings: dict[str, Any]) -> None:
    values = some((101, 4), "<f8")
    np.savez(tmp_path / "a.npz", values)
    zipped = make(tmp_path / "a.npz", scale=scale, **_named(settings)).load()
    filed = load(save(tmp_path / "a.npy", values), "file", scale=scale, **settings)
    assert torch.equal(everything(filed.train), everything(zipped.train))
    assert filed.test is not None and zipped.test is not None
    assert torch.equal(everything(filed.test), everything(zipped.test))
    if "target" in settings:
        assert torch.equal(filed.train.rows(torch.arange(81)).target, zipped.train.targets())
        assert filed.train.spec.features == ("2", "0") and filed.train.spec.target_shape == (2,)


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    """Columns as an NPZ file calls them."""
    return {key: tuple(f"arr_0.{name}" for name in value) if value else value for key, value in settings.items()}


def test_scales_are_of_columns_features_and_images(tmp_path: Path) -> None:
    cube = np.array([[[0, 10], [2, 10], [4, 20]]], dtype="<i4").repeat(2, 0)
    table = make(save(tmp_path / "a.npy", cube), scale="minmax", test_share=0, memory="file")
    train = table.load().train
    assert train.spec.kind == "sequence" and train.spec.shape == (3, 2) and train.spec.features == ("0", "1")
    assert everything(train)[1].tolist() == [[0, 0], [0.5, 0], [1, 1]] and train.spec.value_range == (0.0, 1.0)
    assert table.unscale(everything(train)).tolist() == cube.tolist()
    images = np.array([1, 3, 5, 9], dtype="|u1").reshape(1, 1, 2, 2).repeat(3, 0)
    image = load(save(tmp_path / "b.npy", images), "file", scale="minmax", test_share=0).train
    assert image.spec.kind == "image" and image.spec.shape == (1, 2, 2) and image.spec.features == ()
    assert everything(image)[2].flatten().tolist() == [0, 0.25, 0.5, 1]


def test_the_last_rows_are_for_testing_where_none_are_drawn(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", np.arange(10.0)[:, None])
    splits = load(path, "file", scale="none", shuffle=False, test_share=0.3)
    assert splits.test is not None and everything(splits.train).flatten().tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert everything(splits.test).flatten().tolist() == [7, 8, 9]
    assert load(path, "file", test_share=0).test is None
    for part, position in ((splits.train, 7), (splits.test, 3), (splits.test, -1)):
        with pytest.raises(IndexError, match="expected positions from 0 to"):
            part.rows(torch.tensor([0, position]))


def test_neighbours_are_drawn_together_where_there_are_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filerows, "PIECES", 4)  # 10 rows are pieces of 3: three whole ones, and row 9
    path = save(tmp_path / "a.npy", np.arange(10.0)[:, None])
    found = set()
    for seed in range(6):
        splits = make(path, seed=seed, memory="file", scale="none", test_share=0.4).load()
        assert splits.test is not None and len(splits.train) == 7
        tested = everything(splits.test).flatten().tolist()
        assert tested in ([0, 1, 2], [3, 4, 5], [6, 7, 8])
        assert everything(splits.train).flatten().tolist() == [row for row in range(10) if row not in tested]
        found.add(tuple(tested))
    assert len(found) > 1
    _same(load(path, "file", test_share=0.4), load(path, "resident", test_share=0.4))


def test_a_scale_from_a_sample_is_the_same_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npyarray, "SAMPLE", 8)
    monkeypatch.setattr(npyarray, "RUNS", 2)  # two runs of two rows: of 0..9 the rows 0, 1, 8 and 9
    path, told = save(tmp_path / "a.npy", np.arange(20.0).reshape(10, 2)), list[str]()
    table = make(path, told.append, memory="file", scale="standard", test_share=0, shuffle=False)
    table.load()
    assert table.scaler is not None and table.scaler.shift.tolist() == [9, 10]  # of 0, 2, 16, 18 and 1, 3, 17, 19
    assert "the scale is that of 4 of the 10 training rows" in told[1] and len(told) == 2
    _same(load(path, "file"), load(path, "resident"))
    make(path, told.append, memory="resident", scale="minmax").load()
    assert len(told) == 3 and "valueRange=LOW,HIGH says where all are" in told[2]
    make(path, told.append, memory="resident", scale="minmax", value_range=(0, 20)).load()
    make(path, told.append, memory="resident", scale="none").load()
    assert len(told) == 3


# --- targets and ranges -------------------------------------------------------------------------------------------


def test_classes_are_those_of_the_rows_that_were_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([[row, row % 3] for row in range(30)], dtype="<f4")
    path = save(tmp_path / "a.npy", values)
    keys = {"target": ("1",), "classification": True, "shuffle": False, "scale": "none"}
    filed, held = load(path, "file", **keys), load(path, "resident", **keys)
    _same(filed, held)
    assert filed.train.spec.classes == ("0", "1", "2") and filed.train.spec.shape == (1,)
    assert filed.train.rows(torch.tensor([4, 2, 3])).target.tolist() == [1, 2, 0]
    assert filed.train.targets() is None and held.train.targets().bincount().tolist() == [8, 8, 8]
    values[29, 1] = 7.5
    save(path, values)
    with pytest.raises(DataError, match=r"row 29, column '1' is 7.5, none of the 3 classes of the rows that were"):
        everything(load(path, "file", **keys).test)
    assert load(path, "resident", **keys).train.spec.classes == ("0", "1", "2", "7.5")


def test_a_known_range(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", np.array([[0, 51], [102, 255]], dtype="|u1"))
    keys = {"test_share": 0, "value_range": (0.0, 255.0)}
    for memory in ("file", "resident"):
        scaled = load(path, memory, scale="minmax", **keys).train
        assert everything(scaled).tolist() == pytest.approx(np.array([[0, 0.2], [0.4, 1]]))
        assert load(path, memory, scale="none", **keys).train.spec.value_range == (0, 255)
    with pytest.raises(DataError, match=r"row 1, column '1' is 255, outside valueRange=0,200"):
        everything(load(path, "file", test_share=0, scale="none", value_range=(0, 200)).train)
    text = tmp_path / "a.csv"
    text.write_text("x,y\n0,51\n102,255\n")
    assert everything(make(text, scale="minmax", **keys).load().train)[1].tolist() == pytest.approx([0.4, 1])
    with pytest.raises(DataError, match="column 'y' holds 255, outside valueRange=0,200"):
        make(text, scale="none", test_share=0, value_range=(0, 200)).load()
    for wrong in ((1.0,), (2.0, 1.0), (0.0, float("inf"))):
        with pytest.raises(ConfigError, match="expected LOW,HIGH, two finite numbers, LOW below HIGH"):
            make(path, value_range=wrong).load()


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), "has 1 dimensions, expected 2 "),
        (np.array(1.0), "has 0 dimensions"),
        (np.zeros((2, 2, 2, 2, 2)), "has 5 dimensions"),
        (np.asfortranarray(np.ones((3, 2))), r"stored column after column \(Fortran order\)"),
        (np.array([[1, None]], dtype=object), "holds Python objects, expected numbers"),
        (np.array([["a", "b"]]), "holds <U1, expected numbers"),
        (np.array([[1j, 2j]]), "holds complex128"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), "holds datetime64"),
        (np.zeros((3, 2), dtype=[("x", "<f4")]), "expected numbers"),
        (np.zeros((0, 2)), r"has the shape \(0, 2\), expected rows"),
        (np.zeros((2, 0)), r"has the shape \(2, 0\), expected rows"),
        (np.array([[1.0, 2.0], [np.nan, 4.0]]), "row 1, column '0' is nan, expected a finite number"),
        (np.full((2, 3, 1, 1), np.inf), "row 0, value 0,0,0 is inf, expected a finite number"),
        (np.array([[-1e308], [1e308]]), "numbers too large or too far apart for scale=standard"),
    ],
)
@pytest.mark.parametrize("memory", ["file", "resident"])
def test_wrong_arrays(tmp_path: Path, array: Array, message: str, memory: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "a.npy", memory, test_share=0)
    assert "a.npy" in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_corrupt_and_disguised_files(tmp_path: Path) -> None:
    content = save(tmp_path / "a.npy", np.arange(100.0).reshape(50, 2)).read_bytes()
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s)}   \n"
    shapes = [b"__import__('os').getpid(), 2", b"-" * 5000 + b"1, 2", b"-5, -20", b"2, 2), 'more': (1", b"1.5, 2"]
    made = [header % shape for shape in shapes]
    disguised = [b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(800) for text in made]
    later = content[:6] + b"\x03" + content[7:]
    for wrong in (content[:-1], content[:100], content + b"x", b"", b"PK\3\4", content[1:], later, *disguised):
        (tmp_path / "a.npy").write_bytes(wrong)
        with pytest.raises(DataError, match=r"a\.npy") as caught:
            load(tmp_path / "a.npy", "file")
        assert "\n" not in str(caught.value)


def test_rows_that_are_too_large_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    for shape, most in (((2, (1 << 20) + 1), 1 << 20), ((1, 1, 1 << 13, (1 << 13) + 1), 1 << 26)):
        path = write_sparse(tmp_path / "a.npy", shape)
        with pytest.raises(DataError, match=f"has {np.prod(shape[1:])} values, expected at most {most}"):
            load(path, "file")


def test_what_is_not_looked_at_first_is_checked_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npyarray, "SAMPLE", 4)
    monkeypatch.setattr(npyarray, "RUNS", 1)
    values = np.ones((100, 2))
    values[70, 1], values[80, 0] = np.nan, 1e39
    path = save(tmp_path / "a.npy", values)
    train = load(path, "file", shuffle=False, test_share=0, scale="none", columns=("1", "0")).train
    assert train.rows(torch.arange(70)).input.eq(1).all()
    with pytest.raises(DataError, match="row 70, column '1' is nan, expected a finite number"):
        train.rows(torch.tensor([3, 70]))
    large = load(save(tmp_path / "b.npy", np.full((9, 2), 3e38)), "file", scale="none").train
    assert large.rows(torch.arange(5)).input.isfinite().all()  # their sum is not
    with pytest.raises(DataError, match=r"row 80, column '0' is 1e\+39, too large for torch.float32"):
        train.rows(torch.tensor([80]))


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", np.ones((100, 2)))
    train = load(path, "file", test_share=0).train
    os.truncate(path, path.stat().st_size - 100)
    assert len(train.rows(torch.arange(90))) == 90
    with pytest.raises(DataError, match="row 95 and what follows it cannot be read: the file has become shorter"):
        train.rows(torch.tensor([0, 95]))


def test_settings_that_fit_only_some_files(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", np.ones((10, 3, 2)))
    for settings in ({"columns": ("0",)}, {"target": ("0",)}, {"classification": True}):
        with pytest.raises(ConfigError, match="are for arrays of 2 dimensions, and this one has 3"):
            load(path, "file", **settings)
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(DataError, match=r"expected \.csv, \.tsv, \.txt, \.npz, \.npy or \.parquet"):
        make(tmp_path / "a.xlsx").load()
    with pytest.raises(ConfigError, match="target names no column '2'"):
        load(save(path, np.ones((10, 2))), "file", target=("2",))
    assert set(Table.Settings(path="a.csv", scale="minmax").without_effect()) == {"memory"}
    assert set(Table.Settings(path="A.NPY").without_effect()) == {"value_range"}


# --- what is held in memory ---------------------------------------------------------------------------------------


def test_large_files_are_left_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = save(tmp_path / "a.npy", np.ones((100, 3), dtype="|u1")), list[str]()  # 1,200 bytes as float32
    for bound, machine, resident in ((1200, 4800, True), (1199, 4800, False), (1200, 4799, False)):
        monkeypatch.setattr(npyarray, "MOST", bound)
        monkeypatch.setattr(npyarray, "_machine_memory", lambda machine=machine: machine)
        assert make(path, told.append).load().train.resident is resident
    assert len(told) == 2 and "a.npy: 1 MB stay in the file: each row is read, and checked, when" in told[0]
    monkeypatch.setattr(npyarray, "_machine_memory", lambda: 1000)
    with pytest.raises(DataError, match="memory=file reads rows as they are needed"):
        load(path, "resident")


def test_neighbours_are_read_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, calls, read = np.arange(40.0).reshape(20, 2), list[tuple[int, int]](), os.preadv
    file = RowFile(save(tmp_path / "a.npy", values))

    def followed(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        calls.append(((offset - file.layout.start) // 16, len(buffers[0])))
        return read(descriptor, [buffers[0][:24]], offset)  # the system may give less than was asked for

    monkeypatch.setattr(npyfile.os, "preadv", followed)
    rows = np.array([7, 3, 5, 4, 3])
    assert (file.read(rows) == values[rows]).all()
    assert calls == [(3, 16), (3, 48), (4, 24), (7, 16)]


def test_opening_reads_a_bounded_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sparse(tmp_path / "a.npy", (25_000_000, 200))  # 20 GB
    counted, read = [0], os.preadv

    def followed(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        counted[0] += len(buffers[0])
        assert counted[0] < 24 * MEGABYTE
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(npyfile.os, "preadv", followed)
    splits = load(path, "auto")
    assert not splits.train.resident and splits.test is not None
    for part in splits:
        if part is not None:
            check_finite(part, "Table")
            data_digest(part)
    assert counted[0] > 0
    assert len(splits.train) + len(splits.test) == 25_000_000 and len(splits.test) == pytest.approx(5e6, rel=1e-3)


def test_memory_does_not_grow_with_what_is_read(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "a.npy", (196_608, 4096))  # 3 GB

    def fetch() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        train, generator = load(path, "auto", scale="none").train, torch.Generator().manual_seed(0)
        for _ in range(1000):  # 1 GB of rows
            train.rows(torch.randint(len(train), (64,), generator=generator))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert _forked(fetch, tmp_path / "told") < 300 << 10  # KiB


def _forked(action: Callable[[], int], told: Path) -> int:
    """What `action` gives in a process of its own: a peak of memory is that of a whole life."""
    child = os.fork()
    if child == 0:
        try:
            told.write_text(str(action()))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return int(told.read_text())


def test_files_are_closed(tmp_path: Path) -> None:
    path, before = save(tmp_path / "a.npy", np.ones((10, 2))), len(os.listdir("/dev/fd"))
    splits = load(path, "file")
    assert len(os.listdir("/dev/fd")) == before + 1
    del splits
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before


# --- in the engine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["file", "resident"])
@pytest.mark.parametrize("shape", [(64, 3), (20, 5, 2), (20, 1, 6, 6)])
def test_passes_the_conformance_kit(tmp_path: Path, memory: str, shape: tuple[int, ...]) -> None:
    path = save(tmp_path / "a.npy", some(shape))
    assert {found.result for found in check_dataset("Table", path=str(path), memory=memory)} == {"passed"}


def learn_rows(path: Path, runs: Path, tag: str, **keys: Any) -> Learnt:
    given = {
        **QUIET, "strategy": "NSGAN", "path": str(path), "batchSize": 8, "sampling": "PERMUTATION", "tag": tag,
        "execution": "eager",  # nothing is tried before the run, and nothing chosen by the clock
    }  # fmt: skip
    return learn("Generator,Discriminator", "Table", {**given, **keys}, runs=runs)


def test_stopped_within_an_epoch_and_resumed_is_never_having_stopped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", some((60, 2)))  # 48 rows to learn from: an epoch is 6 batches
    straight = learn_rows(path, tmp_path, "straight", memory="file", iterations=15)
    learn_rows(path, tmp_path, "resumed", memory="file", iterations=8, decayIterations=15)
    resumed = learn_rows(path, tmp_path, "resumed", memory="file", iterations=15, decayIterations=15)
    held = learn_rows(path, tmp_path, "held", memory="resident", iterations=15)
    assert weights_of(straight) == weights_of(resumed) == weights_of(held)


def test_more_rows_than_float32_can_count(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "a.npy", ((1 << 24) + 4, 2), "|u1")
    learn_rows(
        path,
        tmp_path,
        "many",
        memory="file",
        sampling="UNIFORM",
        testShare=0,
        iterations=1,
        sampleInterval=1,
        samples=4,
    )
    assert int(slice_of((1 << 24) + 4, 500)[-1]) < (1 << 24) + 4


def test_a_row_that_cannot_be_read_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npyarray, "SAMPLE", 4)
    monkeypatch.setattr("ganglion.engine.data.VALUES_AT_ONCE", 8)
    monkeypatch.setattr("ganglion.engine.data.CHECKED_ROWS", 3)
    values = some((1000, 2))
    values[334, 1] = np.nan  # not among the 256 rows of the digest
    path = save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match="row 334, column '1' is nan"):
        learn_rows(path, tmp_path, "bad", memory="file", testShare=0, iterations=126)
    assert (tmp_path / "bad" / "checkpoints" / "0").is_dir()
