"""Checkpoints: exact, verified, atomic at every call that touches the disk, and removed in order."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine import checkpoints as checkpoints_module
from ganglion.engine import files
from ganglion.engine.checkpoint_files import MANIFEST, Vanished, _check, _Folder
from ganglion.engine.checkpoints import Checkpoint, Checkpoints
from ganglion.engine.errors import DivergedError, StoreError

ROLE_FILE, STATE_FILE, TREE_FILE = "generator.safetensors", "state.safetensors", "state.json"
ALL_FILES = (ROLE_FILE, "generator.ema.safetensors", STATE_FILE, TREE_FILE, MANIFEST)


def weights(value: float) -> dict[str, dict[str, Tensor]]:
    return {"generator": {"layer.weight": torch.full((2, 3), value), "steps": torch.tensor(int(value))}}


def store(folder: Checkpoints, iteration: int, **arguments: Any) -> Path:
    state = {"count": iteration, "random": torch.get_rng_state(), "moments": {0: torch.ones(4)}}
    return folder.store(iteration, weights(iteration), weights(iteration + 0.5), state, **arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "run" / "checkpoints")


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << (position % 8)
    path.write_bytes(data)


# --- round trips --------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_exactly(folder: Checkpoints) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    network[2].weight = network[0].weight  # type: ignore[assignment]  # tied
    network(torch.randn(8, 3))
    state = {"rng": torch.get_rng_state(), "empty": torch.zeros(0, 2), "flag": torch.tensor(True), "loss": float("inf")}
    state |= {"half": torch.ones(3, dtype=torch.bfloat16), "turned": torch.arange(6).reshape(2, 3).T}
    directory = folder.store(5, {"generator": network.state_dict()}, {}, state)
    assert directory == folder.folder / "5"
    assert sorted(os.listdir(directory)) == sorted([ROLE_FILE, STATE_FILE, TREE_FILE, MANIFEST])
    back = folder.load()
    assert (back.iteration, back.averaged, back.notices) == (5, {}, ())
    assert list(back.networks) == ["generator"]
    for name, value in network.state_dict().items():
        assert (
            torch.equal(back.networks["generator"][name], value)
            and value.dtype == back.networks["generator"][name].dtype
        )
    for name, value in state.items():
        read = back.state[name]
        assert torch.equal(read, value) and read.dtype == value.dtype if isinstance(value, Tensor) else read == value
    other = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    other[2].weight = other[0].weight  # type: ignore[assignment]
    other.load_state_dict(back.networks["generator"])
    assert other[2].weight is other[0].weight and torch.equal(other[0].weight, network[0].weight)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_types_of_tensors(folder: Checkpoints, dtype: torch.dtype) -> None:
    values = {"scalar": torch.ones(()).to(dtype), "empty": torch.ones(0, 3).to(dtype), "row": torch.ones(3).to(dtype)}
    folder.store(1, {}, {}, values)
    back = folder.load().state
    assert {name: (item.dtype, item.shape, item.float().sum()) for name, item in back.items()} == {
        name: (item.dtype, item.shape, item.float().sum()) for name, item in values.items()
    }
    back["row"].zero_()  # what is read may be written to


def test_latest_best_and_exact(folder: Checkpoints) -> None:
    assert (folder.iterations(), folder.latest(), folder.best()) == ([], None, None)
    with pytest.raises(StoreError, match="there is no checkpoint in"):
        folder.load()
    for iteration in (0, 10, 20):
        store(folder, iteration)
    folder.mark_best(10)
    assert (folder.iterations(), folder.latest(), folder.best()) == ([0, 10, 20], 20, 10)
    assert (folder.folder / "latest").read_text() == "20\n" and (folder.folder / "best").read_text() == "10\n"
    assert [folder.load(which).iteration for which in ("latest", "best", 0, "10")] == [20, 10, 0, 10]
    assert folder.load(10).networks["generator"]["layer.weight"].tolist() == [[10.0] * 3] * 2
    assert folder.load(10).averaged["generator"]["layer.weight"][0, 0].item() == 10.5
    with pytest.raises(StoreError, match=r"no checkpoint 15 in .*; there are: 0, 10, 20"):
        folder.load(15)
    with pytest.raises(StoreError, match="'newest' should be latest, best, or an iteration"):
        folder.load("newest")
    with pytest.raises(StoreError, match="30 cannot be the best one"):
        folder.mark_best(30)


def test_without_a_best_one_the_latest_is_used_and_that_is_said(folder: Checkpoints) -> None:
    store(folder, 1)
    back = folder.load("best")
    assert back.notices == ("no checkpoint was marked as the best one; checkpoint 1 is used instead",)


def test_weights_only_needs_no_state(folder: Checkpoints) -> None:
    directory = store(folder, 1)
    (directory / STATE_FILE).unlink()
    flip(directory / TREE_FILE, 3)
    back = folder.weights_only()
    assert back.state is None and back.notices == () and back.averaged["generator"]["steps"].item() == 1
    with pytest.raises(StoreError, match="checkpoint 1 is damaged"):
        folder.load()


def test_the_same_iteration_again_replaces(folder: Checkpoints) -> None:
    store(folder, 1)
    store(folder, 2)
    folder.store(2, weights(7), {}, {"count": 7})
    assert folder.iterations() == [1, 2]
    assert folder.load().state == {"count": 7}
    assert sorted(os.listdir(folder.folder)) == ["1", "2", "latest"]


@pytest.mark.parametrize("role", ["state", "../evil", "a/b", "a.ema", "", ".hidden"])
def test_roles_that_cannot_name_a_file(folder: Checkpoints, role: str) -> None:
    with pytest.raises(StoreError, match="cannot name a file"):
        folder.store(1, {role: {}}, {}, {})
    assert not folder.folder.exists()


# --- what is not finite -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["networks", "averaged", "state"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_what_is_not_finite_is_not_stored(folder: Checkpoints, value: float, place: str, dtype: torch.dtype) -> None:
    store(folder, 1)
    bad = torch.ones(4, dtype=dtype)
    bad[2] = value
    arguments = {"networks": {}, "averaged": {}, "state": {}, place: {"generator": {"w": bad}}}
    with pytest.raises(DivergedError, match=r"1 of 4 values of '(generator\.)?w' are not finite"):
        folder.store(2, **arguments)
    assert sorted(os.listdir(folder.folder)) == ["1", "latest"]
    assert folder.load().iteration == 1


def test_bytes_and_plain_numbers_may_be_anything(folder: Checkpoints) -> None:
    folder.store(1, {}, {}, {"rng": torch.full((8,), 255, dtype=torch.uint8), "best": float("inf")})
    assert folder.load().state["best"] == float("inf")


# --- damage -------------------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [remove, empty, shorten, folder_instead, pipe_instead, lengthen])
@pytest.mark.parametrize("name", ALL_FILES)
def test_a_damaged_file_is_found_and_the_previous_checkpoint_used(
    folder: Checkpoints, name: str, damage: Callable[[Path], None]
) -> None:
    for iteration in (1, 2, 3):
        directory = store(folder, iteration)
    damage(directory / name)
    if (name, damage) == (MANIFEST, shorten):
        damage(directory / name)  # its last byte is only a line end
    back = folder.load()
    assert back.iteration == 2 and back.state["count"] == 2
    assert len(back.notices) == 1 and back.notices[0].endswith("; checkpoint 2 is used instead")
    assert back.notices[0].startswith("checkpoint 3 is damaged (") and name in back.notices[0]


@pytest.mark.parametrize("name", ALL_FILES)
def test_every_flipped_bit_is_found(folder: Checkpoints, name: str) -> None:
    store(folder, 1)
    path = store(folder, 2) / name
    intact = path.read_bytes()
    for position in range(0, len(intact), 1 if name == MANIFEST else max(1, len(intact) // 40)):
        flip(path, position)
        back = folder.load()
        if back.iteration == 2:  # only white space of the manifest can change without a change of meaning
            assert name == MANIFEST and json.loads(path.read_bytes()) == json.loads(intact)
        else:
            assert name in back.notices[0]
        path.write_bytes(intact)
    assert folder.load().notices == ()


def test_damage_everywhere_is_said(folder: Checkpoints) -> None:
    for iteration in (1, 2):
        flip(store(folder, iteration) / ROLE_FILE, 40)
    with pytest.raises(
        StoreError, match=r"no checkpoint is intact: checkpoint 2 is damaged .*; checkpoint 1 is damaged"
    ):
        folder.load()
    with pytest.raises(StoreError, match="checkpoint 1 is damaged"):
        folder.load(1)


def test_pointers_may_be_damaged(folder: Checkpoints) -> None:
    store(folder, 1)
    store(folder, 2)
    pointer = folder.folder / "latest"
    for text in ("", "x", "-1", "1 2", "../1", "9" * 5000, "²"):
        pointer.write_text(text)
        assert folder.load().iteration == 2 and len(folder.load().notices) == 1
    pointer.write_text("17\n")
    assert folder.load().notices == ("checkpoint 17, the latest one, is missing; checkpoint 2 is used instead",)
    pointer.unlink()
    assert (folder.load().iteration, folder.load().notices) == (2, ())


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    body = json.loads(path.read_text())
    body.pop("check")
    change(body)
    path.write_text(json.dumps({**body, "check": _check(body)}))


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "x.pickle", "a\0b"]
)
def test_a_manifest_cannot_lead_outside(folder: Checkpoints, name: str) -> None:
    store(folder, 1)
    directory = store(folder, 2)
    rewrite(directory / MANIFEST, lambda body: body["files"].update({name: {"size": 1, "sha256": "0" * 64}}))
    assert "that no checkpoint has" in folder.load().notices[0]


def test_a_newer_format_is_named_not_skipped(folder: Checkpoints) -> None:
    store(folder, 1)
    rewrite(store(folder, 2) / MANIFEST, lambda body: body.update(format=2))
    with pytest.raises(StoreError, match="format 2 was written by a newer version"):
        folder.load()


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", '{"check": 1}', "[" * 100_000, '{"check": "' + "0" * (17 * 1024 * 1024) + '"}']
)
def test_manifests_that_are_none(folder: Checkpoints, text: str) -> None:
    store(folder, 1)
    (store(folder, 2) / MANIFEST).write_text(text)
    assert folder.load().iteration == 1


# --- retention ----------------------------------------------------------------------------------------------------


def test_the_newest_the_best_and_pinned_ones_are_kept(folder: Checkpoints) -> None:
    for iteration in range(1, 9):
        store(folder, iteration, keep=2, pinned=range(0, 100, 5))
        if iteration == 2:
            folder.mark_best(2)
    assert folder.iterations() == [2, 5, 7, 8]
    folder.mark_best(8)
    store(folder, 9, keep=1)
    assert folder.iterations() == [9] if folder.best() == 9 else [8, 9]
    assert sorted(os.listdir(folder.folder)) == ["8", "9", "best", "latest"]


def test_keep_nothing_away(folder: Checkpoints) -> None:
    for iteration in range(5):
        store(folder, iteration, keep=0)
    assert folder.iterations() == [0, 1, 2, 3, 4]


def test_a_course_that_was_given_up_is_removed(folder: Checkpoints) -> None:
    for iteration in (1, 2, 3):
        store(folder, iteration)
    store(folder, 2)
    assert (folder.iterations(), folder.load().iteration) == ([1, 2], 2)


# --- faults -------------------------------------------------------------------------------------------------------

CALLS = ("open", "write", "fsync", "close", "replace", "rename", "mkdir", "unlink", "ftruncate")


class FaultySystem:
    """`os`, of which call number `fails_at` does `fault` instead; without it, calls are only counted."""

    def __init__(self, fails_at: int | None = None, fault: Callable[[str], None] = lambda name: None) -> None:
        self.fails_at = fails_at
        self.fault = fault
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*arguments: Any) -> Any:
            self.names.append(name)
            if len(self.names) - 1 == self.fails_at:
                if name == "close":
                    real(*arguments)
                self.fault(name)
            return real(*arguments)

        return call


def count_calls(action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    system = FaultySystem()
    with monkeypatch.context() as patch:
        patch.setattr(files, "SYSTEM", system)
        action()
    return system.names


def full_disk(name: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def prepared(folder: Path, again: bool) -> Checkpoints:
    """Two checkpoints; `again`: the next store replaces the second."""
    made = Checkpoints(folder)
    store(made, 1, keep=1)
    made.mark_best(1)
    store(made, 2 if again else 1, keep=1)
    return made


@pytest.mark.parametrize("again", [False, True])
def test_a_failing_call_anywhere_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    names = count_calls_of_store(tmp_path / "counted", again, monkeypatch)
    assert {"open", "write", "fsync", "replace", "rename", "mkdir"} <= set(names)
    for number, name in enumerate(names):
        folder = prepared(tmp_path / f"{again}-{number}", again)
        with monkeypatch.context() as patch:
            patch.setattr(files, "SYSTEM", FaultySystem(number, full_disk))
            try:
                folder.store(2, weights(20), {}, {"count": 20}, keep=1)
                failed = False
            except StoreError as error:
                failed = True
                assert str(error).endswith("the disk is full") and str(folder.folder) in str(error)
        where = f"call {number} ({name})"
        old = 2 if again else 1
        back = folder.load()
        assert back.notices == (), where
        assert back.state["count"] in ((old, 20) if failed else (20,)), where
        assert folder.iterations() in ([1], [1, 2]), where
        assert not [entry for entry in os.listdir(folder.folder) if entry.startswith(files.TEMPORARY)], where
        assert store(folder, 3, keep=1) and folder.load().state["count"] == 3, where
        assert sorted(os.listdir(folder.folder)) == ["1", "3", "best", "latest"], where


def count_calls_of_store(path: Path, again: bool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    folder = prepared(path, again)
    return count_calls(lambda: folder.store(2, weights(20), {}, {"count": 20}, keep=1), monkeypatch)


def test_everything_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    one_file = ["open", "write", "fsync", "close"]
    names = count_calls(lambda: files.write_atomic(tmp_path / "file", b"x"), monkeypatch)
    assert names == [*one_file, "replace", "fsync"]
    names = count_calls_of_store(tmp_path / "run", False, monkeypatch)
    # A role, the state's tensors, its tree, the manifest; then the folder, its new name, and the pointer.
    expected = ["mkdir", *one_file * 4, "fsync", "rename", "rename", "fsync", *one_file, "replace", "fsync"]
    assert names[: len(expected)] == expected


def die(name: str) -> None:
    os._exit(9)


@pytest.mark.parametrize("again", [False, True])
def test_a_crash_at_any_call_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    names = count_calls_of_store(tmp_path / "counted", again, monkeypatch)
    for number, name in enumerate(names):
        folder = prepared(tmp_path / f"{number}", again)
        child = os.fork()
        if child == 0:
            files.SYSTEM = FaultySystem(number, die)
            folder.store(2, weights(20), {}, {"count": 20}, keep=1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, f"call {number} ({name})"
        back = folder.load()
        assert (back.state["count"], back.notices) in (((2 if again else 1), ()), (20, ())), f"call {number} ({name})"
        assert set(folder.iterations()) <= {1, 2}
        store(folder, 3, keep=1)
        assert sorted(os.listdir(folder.folder)) == ["1", "3", "best", "latest"], f"call {number} ({name})"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = FaultySystem()
    monkeypatch.setattr(files, "SYSTEM", system)
    monkeypatch.setattr(os, "write", lambda handle, data, write=os.write: write(handle, bytes(data[:3])))
    files.write_atomic(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789" and system.names.count("write") == 4


def test_a_file_size_limit_of_the_system(tmp_path: Path) -> None:
    """A real refusal by the kernel, half-way through a file."""
    program = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from ganglion.engine.checkpoints import Checkpoints\n"
        "from ganglion.engine.errors import StoreError\n"
        "folder = Checkpoints(Path(sys.argv[1]))\n"
        "folder.store(1, {}, {}, {'count': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    folder.store(2, {'generator': {'w': torch.ones(100_000)}}, {}, {'count': 2})\n"
        "except StoreError as error:\n"
        "    print(error)\n"
        "print(folder.load().iteration, folder.iterations(), sorted(p.name for p in folder.folder.iterdir()))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    lines = result.stdout.splitlines()
    assert lines[0].startswith("cannot write ") and lines[0].endswith("the file would be larger than the system allows")
    assert lines[1] == "1 [1] ['1', 'latest']"
    assert resource.getrlimit(resource.RLIMIT_FSIZE) != (50_000, 50_000)


def test_readers_are_not_disturbed_by_a_writer(folder: Checkpoints) -> None:
    """A process that stores as fast as it can, keeping one checkpoint, and readers that only ever see whole ones."""
    store(folder, 1)
    writer = os.fork()
    if writer == 0:
        for iteration in range(2, 100_000):
            # Every second one replaces the checkpoint that a reader is likely to be reading.
            folder.store(iteration // 2, weights(iteration // 2), {}, {"count": iteration}, keep=1)
    try:
        seen: set[int] = set()
        end = time.monotonic() + 1.5
        while time.monotonic() < end or (len(seen) < 3 and time.monotonic() < end + 30):
            back = folder.load()
            assert back.notices == ()
            assert back.networks["generator"]["layer.weight"][0, 0].item() == back.iteration
            assert back.state["count"] // 2 == back.iteration or back.iteration == 1
            seen.add(back.iteration)
        assert len(seen) > 2
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


def test_what_is_replaced_while_it_is_read_is_read_again(folder: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    store(folder, 1)
    original = _Folder.read
    replaced = []

    def read(self: _Folder, name: str, size: int | None = None, digest: str | None = None) -> bytes:
        if name == ROLE_FILE and not replaced:
            replaced.append(name)
            folder.store(1, weights(9), {}, {"count": 9})
        return original(self, name, size, digest)

    monkeypatch.setattr(_Folder, "read", read)
    back = folder.load()
    assert (back.state, back.networks["generator"]["steps"].item(), back.notices) == ({"count": 9}, 9, ())


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("step", ["_directories", "_pointer"])
def test_a_store_between_two_steps_of_a_reader(
    folder: Checkpoints, monkeypatch: pytest.MonkeyPatch, step: str, keep: int
) -> None:
    store(folder, 1)
    original, stored = getattr(Checkpoints, step), []

    def disturbed(self: Checkpoints, *arguments: str) -> Any:
        found = original(self, *arguments)
        if not stored:
            stored.append(2)
            store(Checkpoints(folder.folder), 2, keep=keep)
        return found

    monkeypatch.setattr(Checkpoints, step, disturbed)
    back = folder.load()
    assert back.iteration in (1, 2) and back.notices == ()


def test_a_checkpoint_set_aside_may_be_removed_while_it_is_read(
    folder: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = store(folder, 1).rename(folder.folder / ".old-1-99")
    original, replaced = _Folder.read, []

    def read(self: _Folder, name: str, size: int | None = None, digest: str | None = None) -> bytes:
        if name == ROLE_FILE and not replaced:
            replaced.append(shutil.copytree(aside, folder.folder / "1"))
            (aside / name).unlink()
        return original(self, name, size, digest)

    monkeypatch.setattr(_Folder, "read", read)
    assert folder.load().notices == () and replaced


def test_a_reader_gives_up_in_the_end(folder: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    store(folder, 1)

    def vanished(*arguments: object) -> Checkpoint:
        raise Vanished

    monkeypatch.setattr(checkpoints_module, "read_checkpoint", vanished)
    monkeypatch.setattr(checkpoints_module, "PAUSE", 0.0)
    with pytest.raises(StoreError, match="replaced too fast"):
        folder.load()
