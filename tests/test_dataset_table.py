"""Table: CSV, NPZ and Parquet files, good ones and every kind of bad ones."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganglion.datasets.csvfile import read_csv
from ganglion.datasets.npzfile import read_npz
from ganglion.datasets.table import Table
from ganglion.engine.api import ConfigError, DataContext, DataError


def make(path: Path | str, seed: int = 0, **settings: Any) -> Table:
    return Table(Table.Settings(path=str(path), **settings), DataContext([], Path("no cache"), seed, lambda text: None))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def everything(table: Table) -> torch.Tensor:
    """All rows as they stand in the file, whatever part they are in."""
    splits = table.load()
    parts = [splits.train] if splits.test is None else [splits.train, splits.test]
    return torch.cat([table.unscale(part.rows(torch.arange(len(part))).input) for part in parts])


# --- CSV ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4\n",
        "a,b\n1,2\n3,4",  # the last line has no end
        "a;b\r\n1;2\r\n3;4\r\n",
        "a\tb\n1\t2\n3\t4\n",
        "\ufeffa,b\n\n1,2\n\n3,4\n\n",
        '"a","b"\n"1","2"\n 3 , 4 \n',
    ],
)
def test_forms_of_the_same_file(tmp_path: Path, content: str) -> None:
    table = read_csv(write(tmp_path / "a.csv", content))
    assert table.names == ("a", "b")
    assert [list(column) for column in table.values] == [["1", "3"], ["2", "4"]]


def test_no_header_and_columns_by_number_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "0,10,20,30\n1,11,21,31\n2,12,22,32")
    table = make(path, columns=("2", "1"), target=("0",), scale="none", test_share=0.0)
    train = table.load().train
    assert train.rows(torch.arange(3)).input.tolist() == [[20, 10], [21, 11], [22, 12]]
    assert train.targets().tolist() == [[0.0], [1.0], [2.0]] and train.spec.target_shape == (1,)
    assert train.spec.features == ("2", "1") and train.spec.shape == (2,)


@pytest.mark.parametrize(
    ("content", "header", "names", "rows"),
    [
        ("1,2\n3,4", None, ("0", "1"), 2),
        ("1,2\n3,4", True, ("1", "2"), 1),
        ("5.1,3.5,setosa\n4.9,3.0,setosa", None, ("0", "1", "2"), 2),
        ("x,y,kind\n4.9,3.0,setosa", None, ("x", "y", "kind"), 1),
        ("x\n1\n2", None, ("x",), 2),
        ("id,2019\n1,2", None, ("0", "1"), 2),  # a number among the names: not guessed, the bad cell is told
        ("a,b\nc,d", None, ("0", "1"), 2),
        ("x,y,kind\na,b,c", True, ("x", "y", "kind"), 1),
    ],
)
def test_headers(tmp_path: Path, content: str, header: bool | None, names: tuple[str, ...], rows: int) -> None:
    table = read_csv(write(tmp_path / "a.csv", content), header=header)
    assert table.names == names and len(table) == rows


def test_separators(tmp_path: Path) -> None:
    decimal = write(tmp_path / "a.csv", "1,5;2,5\n3,5;4,5\n")
    assert [list(column) for column in read_csv(decimal).values] == [["1,5", "3,5"], ["2,5", "4,5"]]
    with pytest.raises(DataError, match="line 1, column '0' is '1,5', expected a number"):
        make(decimal).load()
    quoted = write(tmp_path / "b.csv", 'name,x\n"a;b",1\n"c,d",2\n')
    assert [list(column) for column in read_csv(quoted).values] == [["a;b", "c,d"], ["1", "2"]]
    pipes = write(tmp_path / "c.csv", "1|2\n3|4\n")
    assert len(read_csv(pipes, "|").names) == 2
    assert len(read_csv(write(tmp_path / "d.tsv", "1\t2\n"), "tab").names) == 2
    with pytest.raises(ConfigError, match="separator=::: expected auto, tab, or one character"):
        read_csv(pipes, "::")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", r"has a header \(a, b\) but no rows"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells, the first row has 2"),
        ("a,b\n1,2\n3,4,5", "line 3 has 3 cells"),
        ("a,b\n1,2\n3,nan\n", "line 3, column 'b' is nan, expected a finite number"),
        ("a,b\n1,2\n-inf,4\n", "line 3, column 'a' is -inf"),
        ("a,b\n1,2\n\n3,x\n", "line 4, column 'b' is 'x', expected a number"),
        ("a,b\n1,\n3,4\n", "line 2, column 'b' is empty, expected a number"),
        ("a,b\n1,1_000\n", "column 'b' is '1_000'"),
        ("a,b\n1,1e400\n", "column 'b' is inf"),
        ("x,2\n3,4\n", "line 1, column '0' is 'x'"),
        ('a,b\n1,"2\n3,4\n', "is not valid CSV"),
        (b"a,b\n1,\xff\n", "not a text file in UTF-8"),
        (b"a,b\n1,\0\n", "column 'b' is '\0'"),
        ("a,b\n1," + "9" * 200_000, "is not valid CSV"),
        ("a,b\n1,1e39\n2,0\n3,0", "column 'b' holds numbers too large"),
    ],
)
def test_wrong_files_name_line_and_column(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path / "a.csv", content)
    scale = "none" if "1e39" in str(content) else "standard"
    with pytest.raises(DataError, match=message) as caught:
        make(path, scale=scale).load()
    assert "a.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_quoted_cells_over_several_lines_keep_the_line_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'note,x\n"two\nlines",1\nplain,oops\n')
    with pytest.raises(DataError, match="line 4, column 'x' is 'oops'"):
        make(path, columns=("x",)).load()


# --- columns, targets, scales, parts ------------------------------------------------------------------------------


def test_classes_from_words_and_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,kind,stars\n1,b,10\n2,a,9\n3,b,10\n")
    train = make(path, target=("kind",), classification=True, columns=("x",), test_share=0.0).load().train
    assert train.spec.classes == ("a", "b") and train.targets().tolist() == [1, 0, 1]
    assert train.targets().dtype == torch.int64 and train.spec.target_shape is None
    stars = make(path, target=("stars",), classification=True, columns=("x",), test_share=0.0).load().train
    assert stars.spec.classes == ("9", "10") and stars.targets().tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="line 2, column 'kind' is 'b', expected a number"):
        make(path, target=("kind",)).load()
    empty = write(tmp_path / "b.csv", "x,kind\n1,a\n2,\n")
    with pytest.raises(DataError, match="line 3, column 'kind' is empty, expected a class"):
        make(empty, target=("kind",), classification=True).load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": ("hieght",)}, "target names no column 'hieght'; did you mean 'height'?"),
        ({"columns": ("3",)}, "columns names no column '3'"),
        ({"columns": ()}, "leaves no input"),
        ({"columns": ("width",), "target": ("width",)}, "'width' is both input and target"),
        ({"classification": True}, "needs one target column, got 0"),
        ({"classification": True, "target": ("width", "height")}, "needs one target column, got 2"),
    ],
)
def test_wrong_columns(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.csv", "width,height,depth\n1,2,3\n4,5,6\n")
    with pytest.raises(ConfigError) as caught:
        make(path, **settings).load()
    assert message in str(caught.value)


def test_a_name_that_comes_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,x\n1,2\n3,4\n")
    with pytest.raises(DataError, match="2 columns are called 'x': choose one by its number"):
        make(path, columns=("x",)).load()
    assert everything(make(path, columns=("1",), test_share=0)).tolist() == [[2.0], [4.0]]


@pytest.mark.parametrize("scale", ["standard", "minmax", "none"])
def test_scales_are_fitted_on_the_training_rows_and_can_be_undone(tmp_path: Path, scale: str) -> None:
    path = write(tmp_path / "a.csv", "x,y,constant\n" + "".join(f"{i},{100 + 7 * i},5\n" for i in range(10)))
    table = make(path, scale=scale, shuffle=False, test_share=0.3)
    splits = table.load()
    assert splits.test is not None and (len(splits.train), len(splits.test)) == (7, 3)
    train, test = splits.train.input, splits.test.input
    if scale == "standard":  # 0..6 has mean 3 and deviation 2
        assert train[:, 0].tolist() == pytest.approx([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
        assert test[:, 0].tolist() == pytest.approx([2.0, 2.5, 3.0]) and splits.train.spec.value_range is None
    elif scale == "minmax":
        assert (float(train.min()), float(train.max())) == (0.0, 1.0) and splits.train.spec.value_range == (0.0, 1.0)
        assert test[:, 1].tolist() == pytest.approx([7 / 6, 8 / 6, 9 / 6])
    else:
        assert train[:, 1].tolist() == [100, 107, 114, 121, 128, 135, 142]
    assert everything(table).allclose(torch.tensor([[i, 100 + 7 * i, 5.0] for i in range(10)]), atol=1e-4)


def test_the_test_part_is_drawn_by_the_seed_and_by_class(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,kind\n" + "".join(f"{i},{'a' if i < 80 else 'b'}\n" for i in range(100)))
    parts = []
    for seed in (0, 0, 1):
        table = make(path, seed, target=("kind",), classification=True)
        splits = table.load()
        assert splits.test is not None and splits.test.targets().bincount().tolist() == [16, 4]
        parts.append(table.unscale(splits.test.input).round().flatten().tolist())
    assert parts[0] == parts[1] != parts[2]
    assert everything(table).round().flatten().sort().values.tolist() == list(range(100))


# --- NPZ ----------------------------------------------------------------------------------------------------------


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_npz_arrays_are_columns_and_groups(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "a.npz", x=np.arange(6.0).reshape(3, 2), size=np.array([5, 6, 7]), kind=np.array(["b", "a", "b"])
    )
    table = make(path, columns=("x", "size"), target=("kind",), classification=True, scale="none", test_share=0.0)
    train = table.load().train
    assert train.spec.features == ("x.0", "x.1", "size") and train.spec.classes == ("a", "b")
    assert train.input.tolist() == [[0, 1, 5], [2, 3, 6], [4, 5, 7]] and train.targets().tolist() == [1, 0, 1]
    fortran = npz(tmp_path / "b.npz", x=np.asfortranarray(np.arange(6.0).reshape(3, 2)))
    assert everything(make(fortran, test_share=0.0)).round().tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([1.0, np.nan])}, "row 1, column 'x' is nan"),
        ({"x": np.array([[1.0, 2.0], [3.0, np.inf]])}, "row 1, column 'x.1' is inf"),
        ({"x": np.array(["a", "b"])}, "column 'x' holds <U1, expected numbers"),
        ({"x": np.array([1j, 2j])}, "column 'x' holds complex128"),
        ({"x": np.array([{}, []], dtype=object)}, "holds Python objects"),
        ({"x": np.zeros((2, 2, 2))}, "has 3 dimensions"),
        ({"x": np.array(1.0)}, "has 0 dimensions"),
        ({"x": np.zeros(3), "y": np.zeros(2)}, "array 'y' has 2 rows, 'x' has 3"),
        ({"x": np.zeros(0)}, "the file is empty"),
        ({}, "the file is empty"),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(npz(tmp_path / "a.npz", **arrays)).load()


def test_truncated_corrupt_and_disguised_npz(tmp_path: Path) -> None:
    content = npz(tmp_path / "a.npz", x=np.arange(1000.0)).read_bytes()
    flipped = content[:4000] + bytes([content[4000] ^ 1]) + content[4001:]
    for wrong in (content[:-10], content[: len(content) // 2], b"", b"PK\3\4", b"\x93NUMPY", flipped):
        with pytest.raises(DataError, match=r"a\.npz") as caught:
            make(write(tmp_path / "a.npz", wrong)).load()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rows", [10**12, 5, 2**62])
def test_a_declared_size_is_checked_before_anything_is_allocated(
    tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (rows,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", stream.getvalue() + bytes(80))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *given, **named: pytest.fail("allocated"))
    with pytest.raises(DataError, match=f"declares {8 * rows} bytes, but the file holds 80"):
        make(tmp_path / "a.npz").load()


def test_an_array_over_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(10_000))
    with pytest.raises(DataError, match="at most 50000 are allowed"):
        read_npz(path, limit=50_000)


def test_an_encrypted_or_strange_header(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (__import__('os').getpid(),)}   \n"
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="truncated, corrupt or not an NPZ"):
        make(tmp_path / "a.npz").load()


# --- Parquet and paths --------------------------------------------------------------------------------------------


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install ganglion\[parquet\]"):
        make(write(tmp_path / "a.parquet", b"PAR1")).load()


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"x": [1.0, 2.0], "n": [3, 4], "kind": ["b", "a"]}), path)
    table = make(path, target=("kind",), classification=True, scale="none", test_share=0.0)
    train = table.load().train
    assert train.input.tolist() == [[1, 3], [2, 4]] and train.targets().tolist() == [1, 0]
    parquet.write_table(pyarrow.table({"x": [1.0, None]}), path)
    with pytest.raises(DataError, match="row 1, column 'x' is missing"):
        make(path).load()
    with pytest.raises(DataError, match="not a Parquet file"):
        make(write(path, path.read_bytes()[:-8])).load()


def test_paths_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Table needs path="):
        make("").load()
    with pytest.raises(DataError, match="does not exist here"):
        make(tmp_path / "none.csv").load()
    with pytest.raises(DataError, match="is not a file"):
        make(tmp_path).load()
    with pytest.raises(DataError, match=r"ends in '\.xlsx', expected \.csv"):
        make(write(tmp_path / "a.xlsx", "")).load()
