"""Series read from files: the published ones where they are, small ones that are written, and bad ones."""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seriesfiles import WRITERS, dated, midi_file, repetitions, write_series, zipped

from ganglion.datasets.series.energy import Energy
from ganglion.datasets.series.midi import Midi
from ganglion.datasets.series.midifile import read_midi
from ganglion.datasets.series.mnistrows import MNISTRows
from ganglion.datasets.series.movements import Movements
from ganglion.datasets.series.reading import LIMIT
from ganglion.datasets.series.returns import Returns
from ganglion.datasets.series.series import Series
from ganglion.datasets.series.stocks import Stocks
from ganglion.engine.api import Batch, ConfigError, DataContext, DataError
from ganglion.engine.testing import check_dataset

NEEDED = {
    "Stocks": "stocks/stock_data.csv",
    "Energy": "energy/energydata_complete.zip",
    "Returns": "sp500/sp500_daily_1950_2015.csv",
    "Movements": "ui-prmd/m01_Labels_Correct.csv",
    "MNISTRows": "mnist/train-images-idx3-ubyte.gz",
}


def make(kind: Any, folders: tuple[Path, ...] = (), told: list[str] | None = None, **settings: Any) -> Any:
    notify = told.append if told is not None else lambda text: None
    return kind(kind.Settings(**settings), DataContext(folders, Path("no cache"), 0, notify))


def real(dataset: str) -> Path:
    """The folder with the real files; skips where they are not."""
    folder = Path(os.environ.get("GANGLION_DATA", "")).resolve()
    if not os.environ.get("GANGLION_DATA") or not (folder / NEEDED[dataset]).is_file():
        pytest.skip(f"needs the real data: set GANGLION_DATA to a folder that holds {NEEDED[dataset]}")
    return folder


def everything(part: Any) -> Batch:
    return part.rows(torch.arange(len(part)))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def npz(path: Path, **arrays: Any) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return write(path, buffer.getvalue())


# --- the kit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", WRITERS)
def test_data_sets_of_small_files_pass_the_kit(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if dataset == "Midi":
        pytest.importorskip("mido")
    monkeypatch.setenv("GANGLION_DATA", "")
    findings = check_dataset(dataset, **write_series(dataset, tmp_path))
    assert {found.result for found in findings} == {"passed"}, findings


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["Stocks", "Returns", "Movements", "MNISTRows"])
def test_data_sets_of_real_files_pass_the_kit(dataset: str) -> None:
    real(dataset)
    assert {found.result for found in check_dataset(dataset)} == {"passed"}


# --- the published files ------------------------------------------------------------------------------------------


@pytest.mark.data
def test_real_stocks() -> None:
    folder = real("Stocks")
    told: list[str] = []
    source = make(Stocks, (folder,), told)
    train, _, test = source.load()
    # 3,685 rows: 737 to test on, a gap of 24, 2,924 to learn from
    assert (len(train), len(test)) == (2901, 714)
    assert train.spec.features == ("Open", "High", "Low", "Close", "Adj_Close", "Volume") and len(told) == 1
    first = source.unscale(train.rows(torch.tensor([0])).input.to(torch.float64))[0, 0]
    assert first.tolist() == pytest.approx([49.676899, 51.693783, 47.669952, 49.845802, 49.845802, 44994500], rel=1e-6)
    rows = everything(train).input
    assert torch.equal(rows[..., 3], rows[..., 4])  # close is adjusted close
    assert (float(rows.min()), float(rows.max())) == (0.0, 1.0) and float(everything(test).input.max()) > 1.5


@pytest.mark.data
def test_real_stocks_as_timegan_prepares_them() -> None:
    folder = real("Stocks")
    forward = make(Stocks, (folder,), protocol="timegan").load()
    backward = make(Stocks, (folder,), protocol="timegan", reverse=True).load()
    for splits in (forward, backward):
        windows = everything(splits.train).input
        assert tuple(windows.shape) == (3661, 24, 6) and splits.test is None
        assert (float(windows.min()), float(windows.max())) == (0.0, 1.0)
        assert splits.train.spec.value_range == (0.0, 1.0)
    assert torch.equal(forward.train.source.values, backward.train.source.values.flip(0))
    assert not torch.equal(forward.train.starts, torch.arange(3661))


@pytest.mark.data
def test_real_energy() -> None:
    folder = real("Energy")
    source = make(Energy, (folder,), protocol="timegan")
    train = source.load().train
    assert len(train) == 19711 and train.spec.shape == (24, 28)
    assert train.spec.features[0] == "Appliances" and train.spec.features[-2:] == ("rv1", "rv2")
    assert train.spec.sampling_rate == pytest.approx(1 / 600)
    values = source.unscale(train.source.values)
    assert values[0, :3].tolist() == pytest.approx([60, 30, 19.89], rel=1e-5)
    last = train.source.values[:, -1]
    assert torch.equal(train.source.values[:, -2], last)  # both random columns are one
    assert float((last - last.median()).abs().mean()) == pytest.approx(0.25, abs=0.003)  # what a constant guess gets


@pytest.mark.data
def test_real_returns() -> None:
    folder = real("Returns")
    told: list[str] = []
    train, _, test = make(Returns, (folder,), told).load()
    assert "newest row first" in told[0] and (len(train), len(test)) == (112, 112)
    # 16,606 returns: 8,303 in each half, 8,303 - 8,192 + 1 windows
    assert float(train.rows(torch.tensor([0])).input[0, 0, 0]) == pytest.approx(math.log(16.85 / 16.66), rel=1e-6)
    assert float(test.rows(torch.tensor([111])).input[0, -1, 0]) == pytest.approx(math.log(2043.9399 / 2063.3601), 1e-4)
    assert float(everything(test).input.min()) == pytest.approx(-0.229, abs=1e-3)  # October 19, 1987
    assert train.spec.sampling_rate is None  # weekends
    with pytest.raises(DataError, match="leaves no window of 8192 steps in the test"):
        make(Returns, (folder,), test_share=0.2).load()


@pytest.mark.data
def test_real_movements() -> None:
    folder = real("Movements")
    train, _, test = make(Movements, (folder,), scale="none").load()
    assert train.spec.shape == (240, 4) and train.spec.classes == ("correct", "incorrect")
    assert train.targets().bincount().tolist() == [72, 72] and test.targets().bincount().tolist() == [18, 18]
    batches = [everything(part) for part in (train, test)]
    quality = torch.cat([batch.fields["quality"] for batch in batches])
    target = torch.cat([batch.target for batch in batches if batch.target is not None])
    assert float(quality[target == 0].mean()) == pytest.approx(0.944, abs=1e-3)
    assert float(quality[target == 1].mean()) == pytest.approx(0.861, abs=1e-3)
    firsts = torch.cat([batch.input[:, :2] for batch in batches]).tolist()
    wanted = [[0.3087, -0.19966, 0.40313, 0.05701], [0.30195, -0.20006, 0.40225, 0.05354]]  # a frame after the other
    assert any(first == [pytest.approx(row) for row in wanted] for first in firsts)


@pytest.mark.data
def test_real_mnist_rows() -> None:
    folder = real("MNISTRows")
    whole, pooled = (make(MNISTRows, (folder,), side=side).load().train for side in (28, 14))
    assert whole.spec.shape == (28, 28) and pooled.spec.shape == (14, 14) and len(pooled) == 60000
    one, half = (part.rows(torch.tensor([0])).input[0] for part in (whole, pooled))
    assert float(half[5, 7]) == pytest.approx(float(one[10:12, 14:16].mean()), abs=0.5 / 255 + 1e-6)
    assert pooled.targets()[:5].tolist() == [5, 0, 4, 1, 9] and whole.spec.kind == "sequence"
    assert float(one[:4].sum()) == 0.0 and float(one[:, :4].sum()) == 0.0 and one[5:25].sum(dim=1).min() > 0


@pytest.mark.parametrize(
    ("kind", "source"),
    [(Stocks, "jsyoon0823/TimeGAN"), (Energy, "UCI"), (Returns, "rstudio"), (Movements, "avakanski")],
)
def test_missing_files_say_where_they_were_looked_for_and_can_be_had(kind: Any, source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist here") as caught:
        make(kind, (tmp_path,)).load()
    assert str(tmp_path) in str(caught.value) and source in str(caught.value)


# --- returns, zipped tables -----------------------------------------------------------------------------------------

PRICES = "date,price\n2024-01-04,8\n2024-01-03,2\n2024-01-02,4\n2024-01-01,1\n"


def test_newest_first_files_are_turned_round(tmp_path: Path) -> None:
    keys = {"path": str(write(tmp_path / "a.csv", PRICES)), "price": "price", "length": 3, "test_share": 0.0}
    told: list[str] = []
    train = make(Returns, told=told, **keys).load().train
    assert train.rows(torch.tensor([0])).input.flatten().tolist() == pytest.approx(
        [math.log(4), math.log(0.5), math.log(4)]
    )
    assert len(told) == 1 and "its rows are turned round" in told[0]
    header, *rows = PRICES.split()
    write(tmp_path / "a.csv", "\n".join([header, *reversed(rows)]))
    again = make(Returns, told=told, **keys).load().train
    assert torch.equal(again.source.values, train.source.values) and len(told) == 1
    assert train.spec.sampling_rate == pytest.approx(1 / 86400)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PRICES.replace(",2\n", ",0\n"), "column 'price' has a price of 0, expected prices above 0"),
        (PRICES.replace(",2\n", ",-2\n"), "has a price of -2"),
        (PRICES.replace(",2\n", ",\n"), "line 3, column 'price' is empty"),
        (PRICES.replace("01-02", "01-03"), "line 4 has the same time as line 3"),
        (PRICES.replace("01-02", "01-09"), "line 4 has a later time than line 3"),
        (PRICES.replace("2024-01-02", "2 Jan"), "line 4, column 'date' is '2 Jan', expected a date such as"),
        ("date,price\n2024-01-01,3\n", "has one price"),
    ],
)
def test_wrong_prices(content: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(DataError, match=message):
        make(Returns, path=str(path), price="price", length=1).load()


def test_a_window_longer_than_a_part_is_refused(tmp_path: Path) -> None:
    keys = write_series("Returns", tmp_path)
    with pytest.raises(DataError, match=r"testShare=0\.5 of 300 rows leaves no window of 200 steps in the test part"):
        make(Returns, **{**keys, "length": 200}).load()
    with pytest.raises(DataError, match="the series has 300 rows, and windows of length=8192 need 8192"):
        make(Returns, path=keys["path"], price="a").load()


def bomb(size: int, declared: int | None = None) -> bytes:
    """A ZIP file with a CSV file of zeros; `declared` is the size that it gives."""
    content = zipped("a.csv", "0" * size)
    if declared is None:
        return content
    directory = content.index(b"PK\x01\x02")
    size_bytes = declared.to_bytes(4, "little")
    content = content[: directory + 24] + size_bytes + content[directory + 28 :]
    return content[:22] + size_bytes + content[26:]


def test_zipped_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped("b/a.csv", dated(60, 2)))
    train = make(Series, path=str(path), time="date", length=5).load().train
    plain = make(Series, path=str(write(tmp_path / "a.csv", dated(60, 2))), time="date", length=5).load().train
    assert torch.equal(train.source.values, plain.source.values)
    cases = {
        "declares": bomb(1000, LIMIT + 1),
        "truncated, corrupt or not a ZIP": path.read_bytes()[:-30],
        "not a ZIP file": b"hello",
        "holds 0 CSV files": zipped("a.txt", "1,2"),
        "line 3 has 1 cells": zipped("a.csv", "a,b\n1,2\n3\n"),
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            make(Series, path=str(path), length=5).load()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "1,2")
        archive.writestr("b.csv", "1,2")
    with pytest.raises(DataError, match="holds 2 CSV files"):
        make(Series, path=str(path), length=5).load()


def test_a_zip_that_lies_about_its_size_is_not_unpacked_beyond_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", bomb(1_000_000, 100))
    with pytest.raises(DataError, match=r"a\.zip: the file is truncated, corrupt"):
        make(Series, path=str(path), length=5).load()


# --- series: columns, labels, groups --------------------------------------------------------------------------------


def test_calendar_labels_of_known_dates(tmp_path: Path) -> None:
    rows = ["2016-01-11 17:00:00", "2016-02-29 23:59:59", "2024-12-31T00:00:00", "2025-01-01"]
    path = write(tmp_path / "a.csv", "\n".join(["when,x", *(f"{row},{place}" for place, row in enumerate(rows))]))
    keys = {"path": str(path), "time": "when", "length": 1, "test_share": 0.0}
    train = make(Series, calendar=("month", "weekday", "hour", "day"), **keys).load().train
    fields = everything(train).fields
    assert fields["month"].tolist() == [0, 1, 11, 0] and fields["month"].dtype == torch.int64
    assert fields["weekday"].tolist() == [0, 0, 1, 2]  # Monday, Monday, Tuesday, Wednesday
    assert fields["hour"].tolist() == [17, 23, 0, 0] and fields["day"].tolist() == [10, 28, 30, 0]
    assert train.spec.features == ("x",) and train.spec.sampling_rate is None


def test_calendar_labels_before_1970_and_in_other_files(tmp_path: Path) -> None:
    dates = np.array(["1950-01-03", "1969-12-31", "1970-01-01"], dtype="datetime64[D]")
    path = npz(tmp_path / "a.npz", when=dates, x=np.arange(3.0))
    keys = {"time": "when", "calendar": ("weekday", "month"), "length": 1, "test_share": 0.0}
    fields = everything(make(Series, path=str(path), **keys).load().train).fields
    assert fields["weekday"].tolist() == [1, 2, 3] and fields["month"].tolist() == [0, 11, 0]
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        pyarrow.table({"when": dates.astype("datetime64[ms]"), "x": [0.0, 1, 2]}), tmp_path / "a.parquet"
    )
    again = everything(make(Series, path=str(tmp_path / "a.parquet"), **keys).load().train).fields
    assert torch.equal(again["weekday"], fields["weekday"])


def test_days_as_a_smart_grid_has_them(tmp_path: Path) -> None:
    quarter = np.timedelta64(15, "m")
    content = dated(96 * 12 + 30, 2, quarter)
    header, *rows = content.splitlines()
    path = write(tmp_path / "a.csv", "\n".join([header, *rows[10:]]))  # does not begin at midnight
    source = make(
        Series,
        path=str(path),
        time="date",
        length=96,
        align="day",
        calendar=("month", "weekday"),
        normalise="window",
        test_share=0.25,
    )
    splits = source.load()
    train, test = everything(splits.train), everything(splits.test)
    assert train.fields["weekday"].tolist() == [1, 2, 3, 4, 5, 6, 0]  # 2024-01-02, the first whole day, is a Tuesday
    assert test.fields["weekday"].tolist() == [3, 4]  # 293 of 1172 rows, from January 10, 02:15 on
    assert train.input.mean(dim=1).abs().max() < 1e-4 and train.fields["mean"].shape == (7, 2)
    whole = source.unscale(train.input, train.fields["mean"], train.fields["deviation"])
    wanted = [[float(cell) for cell in row.split(",")[1:]] for row in rows[96:192]]
    assert whole[0].allclose(torch.tensor(wanted), atol=1e-4)
    assert splits.train.spec.sampling_rate == pytest.approx(1 / 900)
    with pytest.raises(ConfigError, match="only with mean and deviation given"):
        source.unscale(train.input)


PANEL = "name,day,x,kind,c\n" + "".join(
    f"{name},{day},{10 * rank + day},{'lo' if day < 5 else 'hi'},{day % 2}\n"
    for day in range(10)
    for rank, name in enumerate(("b", "a"))
)


def test_windows_never_cross_groups(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.csv", PANEL))
    keys = {"path": path, "group": "name", "time": "day", "columns": ("x",), "scale": "none"}
    train, _, test = make(Series, length=3, gap=0, test_share=0.3, **keys).load()
    assert everything(train).input[:, 0, 0].tolist() == [10, 11, 12, 13, 14, 0, 1, 2, 3, 4]  # a, then b
    assert everything(test).input[:, :, 0].tolist() == [[17, 18, 19], [7, 8, 9]]
    drawn = make(Series, length=3, split="series", test_share=0.5, **keys).load()
    assert {len(drawn.train), len(drawn.test)} == {8}
    kept, tested = ({value // 10 for value in everything(part).input.flatten().tolist()} for part in drawn[::2])
    assert kept.isdisjoint(tested)
    with pytest.raises(DataError, match="expected the rows of a series in the order"):
        make(Series, **{**keys, "group": None}, length=3).load()


def test_windows_in_which_the_label_changes_are_left_out(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.csv", PANEL))
    keys = {"path": path, "group": "name", "columns": ("x",), "scale": "none", "labels": ("kind", "c")}
    told: list[str] = []
    single = make(Series, told=told, **{**keys, "labels": ("kind",)}, length=4, test_share=0.0).load().train
    batch = everything(single)
    assert batch.input[:, 0, 0].tolist() == [10, 11, 15, 16, 0, 1, 5, 6] and single.spec.classes == ("hi", "lo")
    assert batch.target is not None and batch.target.tolist() == [1, 1, 0, 0] * 2
    assert told == ["Series: no window begins at 6 rows, as a label would change in it"]
    both = everything(make(Series, **keys, length=1, test_share=0.0).load().train)
    assert both.fields["c"].tolist() == [0, 1] * 10
    with pytest.raises(DataError, match="no window of 6 steps that keeps its label"):
        make(Series, **{**keys, "labels": ("kind",)}, length=6, test_share=0.0).load()


def test_short_groups(tmp_path: Path) -> None:
    content = "name,x\n" + "".join(f"a,{row}\n" for row in range(6)) + "b,10\nb,11\n"
    keys = {"path": str(write(tmp_path / "a.csv", content)), "group": "name", "length": 4, "scale": "none"}
    with pytest.raises(DataError, match="series 'b' has 2 rows, fewer than the 4 of a window"):
        make(Series, **keys).load()
    with pytest.raises(ConfigError, match="short=pad needs split=series"):
        make(Series, **keys, short="pad")
    batch = everything(make(Series, **keys, short="pad", split="series", test_share=0.0).load().train)
    assert batch.input[:, :, 0].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [10, 11, 0, 0]]
    assert batch.fields["mask"][-1, :, 0].tolist() == [1, 1, 0, 0]


def test_missing_cells(tmp_path: Path) -> None:
    rows = ["1,1", ",2", "NA,3", "4,nan", "5,5", "6,?"]
    keys = {"path": str(write(tmp_path / "a.csv", "\n".join(["a,b", *rows]))), "length": 2, "test_share": 0.0}
    with pytest.raises(DataError, match="line 3, column 'a' is empty, expected a number"):
        make(Series, **keys).load()
    filled = make(Series, **keys, missing="fill", scale="none", stride=2).load().train
    assert everything(filled).input.flatten().tolist() == [1, 1, 1, 2, 1, 3, 4, 3, 5, 5, 6, 5]
    masked = everything(make(Series, **keys, missing="mask", scale="none", stride=2).load().train)
    assert masked.fields["mask"].sum() == 8.0 and masked.input[1].tolist() == [[0, 3], [4, 0]]
    write(tmp_path / "a.csv", "a,b\n1,\n2,\n3,\n")
    with pytest.raises(DataError, match="column 'b' holds no value in the rows that are learnt from"):
        make(Series, **keys, missing="mask").load()
    write(tmp_path / "a.csv", "a,b\n1,1\n2,\n3,x\n")
    with pytest.raises(DataError, match="line 4, column 'b' is 'x', expected a number"):
        make(Series, **keys, missing="mask").load()
    path = npz(tmp_path / "a.npz", x=np.array([[1.0, np.nan], [2.0, 3.0], [np.nan, 4.0]]))
    held = make(Series, path=str(path), missing="mask", length=1, scale="none", test_share=0.0).load().train
    assert everything(held).fields["mask"][:, 0].tolist() == [[1, 0], [1, 1], [0, 1]]


def test_windows_as_they_are(tmp_path: Path) -> None:
    cube = np.arange(10 * 3 * 2, dtype=np.float64).reshape(10, 3, 2)
    path = npz(tmp_path / "a.npz", windows=cube, y=np.array([0, 1] * 5))
    train, _, test = make(Series, path=str(path), columns=("0", "1"), scale="none").load()
    assert train.spec.shape == (3, 2) and (len(train), len(test)) == (8, 2)
    assert (
        everything(train).input.tolist() == cube[:8].tolist() and everything(test).input.tolist() == cube[8:].tolist()
    )
    with_gap = make(Series, path=str(path), columns=("0",), gap=3).load()
    assert (len(with_gap.train), len(with_gap.test)) == (5, 2)
    drawn = make(Series, path=str(path), labels=("y",), split="series", scale="none").load()
    assert drawn.test.targets().tolist() in ([0, 1], [1, 0]) and drawn.train.spec.features == ("0", "1")
    for row, target in zip(everything(drawn.train).input, drawn.train.targets(), strict=True):
        assert int(row[0, 0]) // 6 % 2 == int(target)


# --- wrong files and settings ---------------------------------------------------------------------------------------

GOOD = dated(40)
WRONG: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "shorter than a window": (dated(9), {"time": "date"}, "the series has 9 rows, and windows of length=24 need 24"),
    "ragged": (f"{GOOD}2025-01-01,1\n", {}, "line 42 has 2 cells, the first row has 3"),
    "a word": (f"{GOOD}2025-01-01,1,x\n", {"time": "date"}, "line 42, column 'b' is 'x', expected a number"),
    "infinite": (f"{GOOD}2025-01-01,1,inf\n", {"time": "date"}, "line 42, column 'b' is inf"),
    "the date as a value": (GOOD, {}, "line 2, column 'date' is '2024-01-01T00:00:00', expected a number"),
    "a day twice": (f"{GOOD}2024-02-09,1,1\n", {"time": "date"}, "line 42 has the same time as line 41"),
    "a day too early": (f"{GOOD}2023-02-09,1,1\n", {"time": "date"}, "line 42 has an earlier time than line 41"),
    "no date": (f"{GOOD}soon,1,1\n", {"time": "date"}, "line 42, column 'date' is 'soon', expected a date such as"),
    "empty date": (f"{GOOD},1,1\n", {"time": "date"}, "line 42, column 'date' is empty"),
    "empty": ("", {}, "the file is empty"),
    "no label": (
        GOOD.replace("date", "x").replace("2024-01-05T00:00:00", ""),
        {"labels": ("x",)},
        "line 6, column 'x' is empty, expected a class",
    ),
    "gap": (GOOD, {"time": "date", "length": 8, "gap": 30}, "gap=30 leave no window of 8 steps to learn from"),
    "share": (GOOD, {"time": "date", "length": 8, "test_share": 0.1}, "testShare=0.1 of 40 rows leaves no window"),
    "one share too many": (GOOD, {"time": "date", "length": 8, "validation_share": 0.1}, "validationShare=0.1"),
    "midnights": (
        dated(40, 2, np.timedelta64(7, "h")).replace("T00", "T01"),
        {"time": "date", "length": 3, "align": "day"},
        "no window of 3 steps that begins at midnight",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_series_name_the_place(case: str, tmp_path: Path) -> None:
    content, keys, message = WRONG[case]
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(DataError) as caught:
        make(Series, path=str(path), **keys).load()
    assert message in str(caught.value) and "a.csv" in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": ("c",)}, "columns names no column 'c'"),
        ({"time": "dat"}, "time names no column 'dat'; did you mean 'date'?"),
        ({"labels": ("kind",)}, "labels names no column 'kind'"),
        ({"columns": ("a",), "covariates": ("a",)}, "column 'a' is given as covariates and as value"),
        ({"columns": ()}, "columns leaves no value"),
        ({"columns": ("a",), "calendar": ("month",)}, "calendar=month needs a column of dates, got none"),
        ({"columns": ("a",), "calendar": ("month",), "time": "b"}, "needs a column of dates, got one of numbers"),
        ({"columns": ("a",), "align": "day"}, "align=day needs a column of dates"),
    ],
)
def test_wrong_settings_of_series(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    rows = "\n".join(f"2024-01-{day:02d},{day},{day}" for day in range(1, 31))
    path = write(tmp_path / "a.csv", f"date,a,b\n{rows}")
    with pytest.raises(ConfigError) as caught:
        make(Series, path=str(path), length=4, **keys).load()
    assert message in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("arrays", "keys", "message"),
    [
        ({"x": np.zeros((2, 3, 1)), "y": np.zeros((2, 3, 1))}, {}, "expected one array with 3 dimensions"),
        ({"x": np.zeros((2, 3, 1)), "y": np.zeros(3)}, {}, "array 'y' has 3 entries for 2 windows"),
        ({"x": np.zeros((0, 3, 1))}, {}, "expected windows with values"),
        ({"x": np.zeros((9, 3, 1))}, {"length": 4}, "its windows have 3 steps, got length=4"),
        ({"x": np.full((9, 3, 1), np.nan)}, {}, "window 0, step 0, column '0' is nan"),
        ({"x": np.zeros((9, 3, 1))}, {"group": "0"}, "group=0 is for files of rows"),
        ({"x": np.zeros((9, 3, 1))}, {"protocol": "timegan"}, "protocol=timegan cuts windows from a series"),
        ({"x": np.zeros((2, 3, 1, 1))}, {}, "4 dimensions"),
    ],
)
def test_wrong_windows(arrays: dict[str, Any], keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", **arrays)
    with pytest.raises((DataError, ConfigError)) as caught:
        make(Series, path=str(path), **keys).load()
    assert message in str(caught.value), caught.value


def test_wrong_movements(tmp_path: Path) -> None:
    repetitions(tmp_path)
    keys = {"path": str(tmp_path)}
    assert len(make(Movements, **keys).load().train) == 16
    labels, output = (tmp_path / f"m01_{part}_Correct.csv" for part in ("Labels", "Autoencoder_Output"))
    write(labels, "0.5\n0.5\n")
    with pytest.raises(DataError, match="holds 2 rows of 1, expected 10 of 1"):
        make(Movements, **keys).load()
    write(output, "1,2,3\n4,5,6\n")
    with pytest.raises(DataError, match="a correct repetition has 3 numbers, expected 240 steps"):
        make(Movements, **keys).load()
    labels.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        make(Movements, **keys).load()


# --- music --------------------------------------------------------------------------------------------------------

ON, OFF = 0x90, 0x80


def test_midi_events_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("mido")
    first = [
        (0, bytes((ON, 60, 100))),
        (48, bytes((ON, 64, 90))),
        (48, bytes((OFF, 60, 0))),
        (0, bytes((ON, 64, 0))),  # a note struck with velocity 0 ends
        (96, bytes((ON | 9, 40, 90))),  # drums
        (0, bytes((ON, 62, 80))),  # never ended
    ]
    second = [(48, bytes((ON, 67, 70))), (24, bytes((OFF, 67, 0)))]
    path = write(tmp_path / "a.mid", midi_file([first, second], resolution=96))
    # 96 ticks a quarter become 480
    assert read_midi(path).tolist() == [[0, 480, 60, 100], [240, 240, 64, 90], [0, 120, 67, 70], [720, 0, 62, 80]]
    write(tmp_path / "b.mid", midi_file([[(0, bytes((ON | 9, 40, 90)))]]))
    told: list[str] = []
    keys = {"path": str(tmp_path), "length": 6, "test_share": 0.0, "scale": "none"}
    batch = everything(make(Midi, told=told, **keys, pitch="frequency").load().train)
    assert told == ["Midi: 1 of 2 files have no notes: they are left out"]
    assert batch.input.shape == (1, 6, 4) and float(batch.input[0, 0, 2]) == pytest.approx(261.6256, rel=1e-5)
    assert batch.fields["mask"][0, :, 0].tolist() == [1, 1, 1, 1, 0, 0] and float(batch.input[0, 4:].abs().sum()) == 0
    scaled = everything(make(Midi, **{**keys, "scale": "minmax"}).load().train)
    assert float(scaled.input[0, 0, 2]) == 0.0 and float(scaled.input[0, 2, 2]) == 1.0  # notes 60 and 67


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "not a MIDI file"),
        (b"", "not a MIDI file"),
        (midi_file([[(0, bytes((ON, 60, 100)))]])[:-6], "truncated"),
        (midi_file([[(0, bytes((ON, 200, 100)))]]), "corrupt"),
        (midi_file([[(0, bytes((ON, 60, 100)))]], resolution=-6360), "type 0 or 1 with ticks"),
        (midi_file([[(0, bytes((ON, 60, 100)))]], kind=2), "type 0 or 1"),
    ],
)
def test_wrong_midi_files(content: bytes, message: str, tmp_path: Path) -> None:
    pytest.importorskip("mido")
    with pytest.raises(DataError, match=message):
        read_midi(write(tmp_path / "a.mid", content))


def test_midi_without_mido_and_without_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"holds no \.mid file with notes"):
        make(Midi, path=str(tmp_path)).load()
    write(tmp_path / "a.mid", midi_file([[]]))
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(DataError, match=r"MIDI needs mido: pip install ganglion\[midi\]"):
        make(Midi, path=str(tmp_path)).load()
