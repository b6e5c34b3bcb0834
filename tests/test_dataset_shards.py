"""Shards: every row once per epoch, in bounded memory, exactly resumed and shared, and what comes of damaged files."""

from __future__ import annotations

import gc
import http.server
import re
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from commandline import refused

from ganglion.datasets.shardfiles import Patience, Source
from ganglion.datasets.shardorder import Mixing, Segment, ShardOrder
from ganglion.datasets.shardrows import ShardRows
from ganglion.datasets.shards import Shards
from ganglion.engine.adapters import AdapterSettings, split_and_adapt
from ganglion.engine.api import DataContext, Splits, learn
from ganglion.engine.conformance.courses import Job
from ganglion.engine.conformance.sharing import first_difference, in_processes, weights_alone_and_shared
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.data import check_finite, data_digest, refuse_unlike_data
from ganglion.engine.errors import ConfigError, DataError, StoreError
from ganglion.engine.processes import Part, joined_by_file
from ganglion.engine.samplers import BatchSampler, Stream
from ganglion.engine.testing import check_dataset

CPU = torch.device("cpu")
COUNTS = (40, 50, 30, 60, 20, 56)
PAIR = "Generator,Discriminator"
KEYS = {"strategy": "NSGAN", "batchSize": 16, "threads": 1, "sampleInterval": 0, "traces": "lines", "window": 64}


class Made(NamedTuple):
    """A factory, what it has loaded, and what it has said."""

    factory: Shards
    splits: Splits
    said: list[str]

    @property
    def train(self) -> ShardRows:
        assert isinstance(self.splits.train, ShardRows)
        return self.splits.train


def make(*path: str, seed: int = 0, **settings: Any) -> Made:
    said: list[str] = []
    given = {"window": "64", "lanes": 4, "scale": "none", "test_share": 0.2, **settings}
    factory = Shards(Shards.Settings(path=path, **given), DataContext([], Path("no cache"), seed, said.append))
    return Made(factory, factory.load(), said)


def write(folder: Path) -> Path:
    """Six shards as NPY, NPZ and Parquet; the first column numbers the rows of all of them."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    folder.mkdir(exist_ok=True)
    generator, first = np.random.default_rng(0), 0
    for number, rows in enumerate(COUNTS):
        values = generator.normal(5, 3, (rows, 3)).astype(np.float32)
        values[:, 0] = first + np.arange(rows)
        kinds = np.arange(rows) % 3
        np.save(folder / f"part-{number}.npy", values)
        np.savez_compressed(folder / f"part-{number}.npz", x=values, y=kinds)
        table = {"a": values[:, 0], "b": values[:, 1], "c": values[:, 2], "kind": ["xyz"[kind] for kind in kinds]}
        parquet.write_table(pyarrow.table(table), folder / f"part-{number}.parquet", row_group_size=16)
        first += rows
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shards"))


def sampler_of(made: Made, part: Part | None = None, seed: int = 7) -> BatchSampler:
    return BatchSampler(made.train, Stream(None, made.train), 16, seed, CPU, part=part or Part())


def numbers(sampler: BatchSampler, batches: int) -> list[int]:
    return [int(value) for _ in range(batches) for value in sampler.next_batch().input[:, 0]]


# --- the order ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "keys"),
    [
        ("npy", {}),
        ("npz", {"columns": ("x",), "target": ("y",), "classification": True}),
        ("parquet", {"target": ("kind",), "classification": True}),
    ],
)
def test_every_row_comes_once_per_epoch_in_a_new_order(folder: Path, ending: str, keys: dict[str, Any]) -> None:
    made = make(f"{folder}/part-*.{ending}", **keys)
    count = len(made.train)
    test = made.splits.test
    assert test is not None and count + len(test) == sum(COUNTS) and len(test) in COUNTS  # one whole shard
    seen = numbers(sampler_of(made), -(-3 * count // 16))
    epochs = [seen[place : place + count] for place in (0, count, 2 * count)]
    kept = [int(value) for value in test.rows(torch.arange(len(test))).input[:, 0]]
    assert all(sorted(epoch + kept) == list(range(sum(COUNTS))) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    held = made.train.held
    assert held is not None and held.slots * held.rows == made.train.most_rows()
    assert made.train.most_rows() <= 3 * 64 or ending == "npz"  # whose shards are read whole


def test_rows_are_mixed_within_a_window_and_windows_are_not() -> None:
    segments = [Segment(piece, 0, 10) for piece in range(8)]
    order, later = (ShardOrder(segments, Mixing(20, 1, 3, 5), epoch, lambda *at: None) for epoch in (0, 1))
    assert order[0:80].tolist() != later[0:80].tolist()
    windows = [order[start : start + 20].tolist() for start in range(0, 80, 20)]
    assert sorted(row for window in windows for row in window) == list(range(80))
    for window in windows:
        assert len({row // 10 for row in window}) == 2  # two pieces, mixed with each other
        assert window != sorted(window) and len({row // 10 for row in window[:10]}) == 2


def test_each_process_reads_its_lanes_and_together_they_have_the_whole_batches(folder: Path) -> None:
    path = f"{folder}/part-*.npy"
    alone, shared = make(path), [make(path), make(path)]
    whole = sampler_of(alone)
    parts = [sampler_of(made, Part(rank, 2)) for rank, made in enumerate(shared)]
    for _ in range(3 * len(alone.train) // 16):
        assert torch.equal(torch.cat([each.next_batch().input for each in parts]), whole.next_batch().input)
    reads = [made.train.held.reads for made in (alone, *shared) if made.train.held is not None]
    assert max(reads[1:]) <= 0.7 * reads[0]  # half, and pieces at the borders of lanes
    assert max(made.train.held.slots for made in shared if made.train.held) <= alone.train.held.slots / 2  # type: ignore[union-attr]


def test_a_sampler_goes_on_exactly_and_reads_no_more_than_its_window(folder: Path) -> None:
    first, again = make(f"{folder}/part-*.npy", prefetch=0), make(f"{folder}/part-*.npy", prefetch=0)
    straight, resumed = sampler_of(first), sampler_of(again, seed=1)
    numbers(straight, 20)
    resumed.load_state_dict(straight.state_dict())
    assert numbers(resumed, 1) == numbers(straight, 1)
    assert again.train.held is not None and again.train.held.reads < len(again.train.pieces.all) * 0.7
    assert numbers(resumed, 20) == numbers(straight, 20)


def test_parts_of_the_same_shards_share_their_memory(folder: Path) -> None:
    made = make(f"{folder}/part-*.npy")
    parts = split_and_adapt(made.splits, AdapterSettings(validation_set=(0, 70)))
    assert isinstance(parts.train, ShardRows) and parts.validation is not None
    parts.validation.rows(torch.arange(2))
    order = parts.train.order(7, 0, 16, Part(1, 2))
    learnt = set(order[0 : len(order)].tolist())
    parts.train.rows(torch.tensor(sorted(learnt)))
    assert parts.train.held is parts.validation.held is made.train.held is not None  # type: ignore[attr-defined]
    assert parts.train.held.slots * parts.train.held.rows <= (2 + 1) * 64 / 2  # of two lanes of four


def test_shards_of_very_unequal_sizes_are_read_once_per_epoch(tmp_path: Path) -> None:
    for number in range(104):
        np.savez(tmp_path / f"part-{number:03}.npz", x=np.zeros((200 if number < 4 else 10, 2), np.float32))
    made = make(f"{tmp_path}/*.npz", window="1600", lanes=2, test_share=0)
    sampler_rows = numbers(sampler_of(made), 1800 // 16)
    held = made.train.held
    assert len(sampler_rows) == 1792 and held is not None
    assert held.reads <= 104 + held.slots and held.slots * held.rows <= 3 * 1600


def test_memory_is_freed_at_once(folder: Path) -> None:
    made = make(f"{folder}/part-*.npy")
    sampler = sampler_of(made)
    numbers(sampler, 1)
    held = weakref.ref(made.train.held)
    gc.disable()
    try:
        sampler.close()
        del made, sampler
        deadline = time.monotonic() + 10
        while held() is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # the readers finish what they are at
        assert held() is None
    finally:
        gc.enable()


def test_a_process_that_finds_other_shards_is_noticed(folder: Path, tmp_path: Path) -> None:
    def one(rank: int, of: int) -> None:
        with joined_by_file(tmp_path / "meeting", Part(rank, of), 60.0):
            alike = make(f"{folder}/part-*.npy")
            refuse_unlike_data(alike.train, "Shards")
            other = make(f"{folder}/part-[0-{5 - rank}].npy")
            with pytest.raises(DataError, match="process 2 of 2 has found other data than the first one"):
                refuse_unlike_data(other.train, "Shards")

    code, told = in_processes(2, one)
    assert code == 0, told


def test_a_batch_of_another_size_disturbs_nothing(folder: Path) -> None:
    made = make(f"{folder}/part-*.npy")
    sampler, seen = sampler_of(made), []
    while len(seen) < len(made.train):
        seen += sampler.next_batch(5 if len(seen) % 2 else 16).input[:, 0].tolist()
    assert len(set(seen[: len(made.train)])) == len(made.train)


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_to_the_bit_and_is_refused_where_a_shard_has_changed(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    keys = {**KEYS, "path": f"{data}/part-*.npy", "healthInterval": 0}
    straight = learn(PAIR, "Shards", {**keys, "tag": "straight", "iterations": 18}, runs=tmp_path / "runs")
    learn(PAIR, "Shards", {**keys, "tag": "halves", "iterations": 7}, runs=tmp_path / "runs")
    halves = learn(PAIR, "Shards", {"tag": "halves", "iterations": 18}, runs=tmp_path / "runs")
    weights = [(run.directory / "checkpoints/18/generator.safetensors").read_bytes() for run in (straight, halves)]
    assert weights[0] == weights[1]
    values = np.load(data / "part-0.npy")
    np.save(data / "part-0.npy", values + 1)
    with pytest.raises(StoreError, match="the data of Shards have changed since it began"):
        learn(PAIR, "Shards", {"tag": "halves", "iterations": 20}, runs=tmp_path / "runs")


def test_two_processes_learn_what_one_does(folder: Path) -> None:
    keys = {"path": f"{folder}/part-*.npy", "batchSize": 16, "window": 64}
    job = Job(find_subject("strategy", "NSGAN"), PAIR.split(","), "Shards", keys)
    one, other, tolerance = weights_alone_and_shared(job)
    assert tolerance == 1e-9 and first_difference(one, other, tolerance) is None


# --- what a row is ------------------------------------------------------------------------------------------------


def test_scale_is_that_of_the_training_rows_and_undone(folder: Path) -> None:
    made = make(f"{folder}/part-*.npy", scale="standard", test_share=0)
    rows = made.train.rows(torch.arange(sum(COUNTS))).input
    whole = torch.cat([torch.from_numpy(np.load(folder / f"part-{number}.npy")) for number in range(6)])
    assert torch.allclose(rows.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(rows.std(0, correction=0), torch.ones(3), atol=1e-5)
    assert torch.allclose(made.factory.unscale(rows), whole, atol=1e-3)
    given = make(f"{folder}/part-*.npy", scale="standard", mean=(1.0,), deviation=(2.0, 4.0, 8.0), test_share=0)
    assert torch.allclose(given.train.rows(torch.tensor([7])).input, (whole[7] - 1) / torch.tensor([2.0, 4, 8]))


def test_idx_images_with_labels_are_numbers_from_0_to_1(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6, dtype=np.uint8).reshape(4, 3, 2)
    for number in range(2):
        part = pixels[2 * number : 2 * number + 2]
        sizes = b"".join(size.to_bytes(4, "big") for size in part.shape)
        (tmp_path / f"images-{number}.idx").write_bytes(bytes((0, 0, 8, 3)) + sizes + part.tobytes())
        (tmp_path / f"labels-{number}.idx").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 2, 5 + number, 7)))
    keys: dict[str, Any] = {"scale": "auto", "labels": (f"{tmp_path}/labels-*",), "test_share": 0}
    made = make(f"{tmp_path}/images-*.idx", **keys)
    batch = made.train.rows(torch.tensor([3, 0]))
    assert (made.train.spec.kind, made.train.spec.shape, made.train.spec.value_range) == (
        "image",
        (1, 3, 2),
        (0.0, 1.0),
    )
    assert torch.equal(batch.input[:, 0], torch.from_numpy(pixels[[3, 0]]).float() * (1 / 255))
    assert made.train.spec.classes == ("5", "6", "7") and batch.target is not None
    assert batch.target.tolist() == [2, 0]
    later = make(f"{tmp_path}/images-*.idx", **keys, shape=(3, 2))
    assert later.train.spec.kind == "sequence"
    (tmp_path / "labels-1.idx").write_bytes((tmp_path / "labels-1.idx").read_bytes() + b"x")
    with pytest.raises(DataError, match=r"labels-1\.idx: the shard has changed since the run began"):
        later.train.rows(torch.tensor([3]))


def test_what_only_looks_at_rows_gets_a_bounded_sample(folder: Path) -> None:
    made = make(f"{folder}/part-*.npy", sample_rows=30)
    adapted = split_and_adapt(made.splits, AdapterSettings(validation_set=(0, 35)))
    assert len(adapted.plain) == 30 and made.splits.test is not None and len(made.splits.test) <= 30
    assert adapted.validation is not None and len(adapted.train) + 35 == len(made.train)
    check_finite(made.train, "Shards")
    data_digest(made.train)
    assert made.train.held is None  # nothing of this has gone through the shards
    learnt = {int(value) for value in adapted.train.rows(torch.arange(len(adapted.train))).input[:, 0]}
    validated = {int(value) for value in adapted.validation.rows(torch.arange(35)).input[:, 0]}
    assert not learnt & validated and {int(v) for v in adapted.plain.rows(torch.arange(30)).input[:, 0]} <= learnt


def test_the_kit_finds_nothing_wrong(folder: Path) -> None:
    findings = check_dataset("Shards", path=f"{folder}/part-*.parquet", target="kind", classification=True, window=64)
    assert {found.result for found in findings} == {"passed"}, findings


# --- damage -------------------------------------------------------------------------------------------------------


def test_a_damaged_shard_is_named_or_skipped_or_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data")
    path = f"{data}/part-{{0..6}}.npy"
    words = ["learn", PAIR, "Shards", f"path={path}", *(f"{key}={value}" for key, value in KEYS.items())]
    refused(capsys, words, "part-6.npy: the shard is missing")
    made = make(path, damaged="skip", test_share=0)
    assert len(made.train) == sum(COUNTS) and [said for said in made.said if said.endswith("is missing; skipped")]
    (data / "part-2.npy").write_bytes((data / "part-2.npy").read_bytes()[:300])  # while it learns
    rows = made.train.rows(torch.arange(90, 120)).input[:, 0]
    assert set(rows.tolist()) <= set(range(120, 180))  # of the next shard
    missing, sentence = made.factory.told()
    assert missing == made.said[-1]  # what is left out at the start is told, to be kept with the run
    assert "part-2.npy: the shard has changed since the run began; skipped: rows of" in sentence
    assert made.factory.told() == []
    with pytest.raises(DataError, match=r"part-2\.npy: the file is truncated or corrupt"):
        make(f"{data}/part-*.npy")


def test_what_was_skipped_is_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "data")
    monkeypatch.setattr(
        Source, "check", lambda self: (_ for _ in ()).throw(OSError("gone")) if "part-3" in str(self) else 0
    )
    keys = {**KEYS, "path": f"{data}/part-*.npy", "damaged": "skip", "testShare": 0, "healthInterval": 0}
    run = learn(PAIR, "Shards", {**keys, "mean": 0, "deviation": 1, "iterations": 10}, runs=tmp_path / "runs")
    (sentence,) = run.record["notices"]
    assert "part-3.npy: the shard cannot be read (OSError: gone); skipped" in sentence


def test_what_is_skipped_at_the_start_and_later_is_shown_once_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, said = write(tmp_path / "data"), list[str]()
    damaged = data / "part-5.npy"
    (data / "part-6.npy").write_bytes(b"no array")

    def say(sentence: str) -> None:  # once it is said, the data have been looked at
        said.append(sentence)
        damaged.write_bytes(damaged.read_bytes()[:300])

    keys = {**KEYS, "path": f"{data}/part-*.npy", "damaged": "skip", "testShare": 0, "healthInterval": 0}
    given: dict[str, Any] = {**keys, "mean": 0, "deviation": 1, "iterations": 17, "traces": "lines,terminal"}
    run = learn(PAIR, "Shards", given, runs=tmp_path / "runs", notify=say)
    shown = "".join([*said, *capsys.readouterr().err.split()])  # whatever was broken into lines
    first, second = run.record["notices"]
    assert "part-6.npy" in first and "part-5.npy" in second
    assert shown.count("part-6.npy") == 1 and shown.count("part-5.npy") == 1 and said == [first]


def test_retrying_waits_longer_each_time() -> None:
    pauses: list[float] = []
    said: list[str] = []

    def fails() -> None:
        if len(pauses) < 3:
            raise TimeoutError("no answer")

    Patience(4, said.append, pauses.append).keep_trying("far.npy", fails)
    assert pauses == [0.5, 1.0, 2.0] and len(said) == 1
    pauses.clear()
    with pytest.raises(DataError, match=r"far\.npy: .*no answer.*\(tried 2 times\)"):
        Patience(2, said.append, pauses.append).keep_trying("far.npy", fails)


# --- elsewhere ----------------------------------------------------------------------------------------------------


class RangeServer(http.server.SimpleHTTPRequestHandler):
    """Gives ranges of files, as servers of data do, and counts the bytes that it gives."""

    sent = 0
    failures = 0

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        cls = type(self)
        if cls.failures:
            cls.failures -= 1
            self.send_error(503)
            return
        content = path.read_bytes()
        part = content[int(asked[1]) : int(asked[2]) + 1]
        cls.sent += len(part)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def do_HEAD(self) -> None:
        path = Path(self.translate_path(self.path))
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(path.stat().st_size if path.is_file() else 0))
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    monkeypatch.chdir(folder)
    RangeServer.sent = RangeServer.failures = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), RangeServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_shards_of_a_server_are_read_in_ranges(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = make(f"{folder}/part-*.npy"), make(address + "/part-{0..5}.npy")
    assert numbers(sampler_of(there), 30) == numbers(sampler_of(here), 30)
    assert RangeServer.sent > 0
    resumed = make(address + "/part-{0..5}.npy", prefetch=0)
    sampler = sampler_of(resumed)
    sampler.load_state_dict({"seed": 7, "epoch": 3, "offset": 64})
    RangeServer.sent = 0
    numbers(sampler, 1)
    assert 0 < RangeServer.sent < 12 * sum(COUNTS) * 0.7  # the pieces of a window, not the epoch
    monkeypatch.setattr("ganglion.datasets.shardfiles.FIRST_PAUSE", 0.01)
    RangeServer.failures = 2
    again = make(address + "/part-{0..5}.npy", damaged="retry")
    assert any("503" in said and "it is tried up to 6 times" in said for said in again.said)


def test_fsspec_reaches_other_places(folder: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for ending in ("npz", "parquet"):
        for number in range(6):
            memory.pipe_file(f"/shards/part-{number}.{ending}", (folder / f"part-{number}.{ending}").read_bytes())
        keys: dict[str, Any] = {"columns": ("x",)} if ending == "npz" else {"columns": ("a", "b", "c")}
        here, there = (make(f"{root}/part-*.{ending}", **keys) for root in (folder, "memory://shards"))
        assert numbers(sampler_of(there), 10) == numbers(sampler_of(here), 10)


# --- wrong input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"path": ()}, "Shards needs path="),
        ({"path": ("nowhere-*.npy",)}, "path=nowhere-*.npy names no file here"),
        ({"path": ("ftpx://host/part.npy",)}, "Protocol not known: ftpx"),
        ({"window": "much"}, "window=much: expected a number of rows, or a size such as 200MB"),
        ({"shape": (2, 2)}, "whose product is the 3 values of a row"),
        ({"target": ("5",)}, "target names no column '5'"),
        ({"scale": "bytes"}, "expected bytes (uint8)"),
        ({"scale": "standard", "mean": (1.0, 2.0), "deviation": (1.0,)}, "mean has 2 numbers, expected 1 or 3"),
        ({"value_range": (0.0, 5.0)}, "outside valueRange=0,5"),
        ({"test_path": ("{folder}/part-1.npy",)}, "path and testPath both name"),
        ({"labels": ("{folder}/part-1.npy",)}, "labels names 1 files, expected one for each of the 6 shards"),
    ],
)
def test_wrong_settings_are_answered_in_one_sentence(folder: Path, settings: dict[str, Any], sentence: str) -> None:
    filled = {
        key: tuple(each.replace("{folder}", str(folder)) for each in value)
        if key.endswith(("path", "labels"))
        else value
        for key, value in settings.items()
    }
    path = filled.pop("path", (f"{folder}/part-*.npy",))
    with pytest.raises((ConfigError, DataError), match=re.escape(sentence)):
        make(*path, **filled).train.rows(torch.tensor([0]))


def test_other_samplings_and_unequal_shards_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["learn", PAIR, "Shards", *(f"{key}={value}" for key, value in KEYS.items())]
    refused(capsys, [*words, f"path={folder}/part-*.npy", "sampling=UNIFORM"], "sampling=UNIFORM", "sampling=STREAM")
    np.save(tmp_path / "part-7.npy", np.zeros((5, 4)))
    path = f"path={folder}/part-*.npy,{tmp_path}/part-7.npy"
    refused(capsys, [*words, path], "part-7.npy: differs from", "in 'values': expected the same columns")
    np.save(tmp_path / "part-7.npy", np.full((9, 3), np.nan))
    refused(capsys, [*words, path, "testShare=0"], "part-7.npy: row 0, column '0' is nan, expected a finite number")
