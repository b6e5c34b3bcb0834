"""`torchrun -m ganglion.engine learn`: the same command in several processes, with what goes wrong told once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

KEYS = (
    "Generator,Discriminator", "Circle", "strategy=NSGAN", "size=256", "batchSize=8", "Dropout.p=0",
    "generator.ema=0.9", "traceInterval=5", "traces=lines", "sampleInterval=0", "threads=1", "execution=eager",
)  # fmt: skip


def torchrun(*words: str, processes: int = 2, restarts: int = 0, runs: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        f"--max-restarts={restarts}", "-m", "ganglion.engine", "learn", *words, "--runs", str(runs),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def alone(*words: str, runs: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "ganglion.engine", "learn", *words, "--runs", str(runs)],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True,
    )  # fmt: skip


def weights(runs: Path, tag: str, iteration: int) -> dict[str, torch.Tensor]:
    folder = runs / tag / "checkpoints" / str(iteration)
    return {
        f"{path.name}: {name}": value
        for path in sorted(folder.glob("*.safetensors"))
        if path.name != "state.safetensors"
        for name, value in safetensors.torch.load(path.read_bytes()).items()
    }


def test_two_processes_write_one_run_and_one_goes_on_with_it(tmp_path: Path) -> None:
    ended = torchrun(*KEYS, "tag=two", "iterations=10", runs=tmp_path)
    told = ended.communicate(timeout=300)[1]
    assert ended.returncode == 0, told
    record = json.loads((tmp_path / "two" / "record.json").read_text())
    assert record["processes"] == 2 and record["status"] == "finished"
    alone(*KEYS, "tag=one", "iterations=10", runs=tmp_path)
    for name, value in weights(tmp_path, "one", 10).items():
        assert torch.allclose(value, weights(tmp_path, "two", 10)[name], rtol=1e-4, atol=1e-5), name
    lines = {
        tag: [json.loads(line) for line in (tmp_path / tag / "trace.jsonl").read_text().splitlines()]
        for tag in ("one", "two")
    }
    points = {tag: [line for line in own if "generatorLoss" in line] for tag, own in lines.items()}
    assert [point["iteration"] for point in points["two"]] == [5, 10]
    for one, two in zip(points["one"], points["two"], strict=True):
        assert one["generatorLoss"] == pytest.approx(two["generatorLoss"], rel=1e-4)
    alone("tag=two", "iterations=14", runs=tmp_path)
    alone("tag=one", "iterations=14", runs=tmp_path)
    for name, value in weights(tmp_path, "one", 14).items():
        assert torch.allclose(value, weights(tmp_path, "two", 14)[name], rtol=1e-3, atol=1e-4), name


def test_a_killed_process_is_started_again_and_goes_on(tmp_path: Path) -> None:
    keys = (*KEYS, "tag=killed", "iterations=100000", "seconds=600", "storeSeconds=0.5")
    latest, record = (tmp_path / "killed" / name for name in ("checkpoints/latest", "record.json"))
    with torchrun(*keys, restarts=1, runs=tmp_path) as launcher:
        try:
            first = _wait_for(launcher, lambda: int(latest.read_text()) if latest.exists() else 0, above=0)
            workers = _children(launcher.pid)
            assert len(workers) == 2
            os.kill(workers[1], signal.SIGKILL)
            _wait_for(launcher, lambda: int(not set(_children(launcher.pid)) & set(workers)), above=0)
            _wait_for(launcher, lambda: int(latest.read_text()), above=first)
            _wait_for(launcher, lambda: json.loads(record.read_text())["sessions"], above=1)
        finally:
            launcher.send_signal(signal.SIGTERM)  # torchrun ends its processes
            launcher.communicate(timeout=300)
    assert json.loads(record.read_text())["sessions"] == 2
    assert _children(launcher.pid) == []


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    ended = torchrun(*KEYS[:4], "batchSize=9", *KEYS[5:], runs=tmp_path)
    told = ended.communicate(timeout=300)[1]
    assert ended.returncode == 1  # torchrun's own; each process ended with 2
    assert told.count("batchSize=9 counts the rows of all 2 processes together") == 1
    assert "exitcode: 2" in told or "exitcode  : 2" in told
    assert not any(tmp_path.iterdir())


def _wait_for(launcher: subprocess.Popen[str], value: object, above: int, patience: float = 240.0) -> int:
    assert callable(value)
    until = time.monotonic() + patience
    while time.monotonic() < until:
        assert launcher.poll() is None, "".join(launcher.communicate())
        found = int(value())
        if found > above:
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing happened for {patience} s")


def _children(parent: int) -> list[int]:
    """The processes of learn that a launcher has started, in their order."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                words = (entry / "cmdline").read_text(errors="replace").split("\0")
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z" and "learn" in words:
                found.append(int(entry.name))
    return sorted(found)
