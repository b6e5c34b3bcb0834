"""Whole processes: how long from their start to the first iteration, and how much memory they take."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ganglion.engine.bench.driving import JOBS, PLUGIN
from ganglion.engine.errors import RunError

ITERATIONS = 20
TICK = 0.005  # seconds between two looks at a process
PATIENCE = 600.0


class Process(NamedTuple):
    """Seconds from the start of a process to the end of its first iteration, and its peak memory where it is told."""

    seconds: float
    mebibytes: float | None


def engine_process(task: str, threads: int, device: str) -> Process:
    """`learn` as a user types it, to a first trace point that is on the disk; the checkpoint before it included."""
    with tempfile.TemporaryDirectory(prefix="ganglion-bench-") as folder:
        trace = Path(folder) / "bench" / "trace.jsonl"
        words = [
            "ganglion.engine", "learn", "--plugin", PLUGIN, "--runs", folder, "--job", str(JOBS / f"{task}.yaml"),
            "tag=bench", f"iterations={ITERATIONS}", f"threads={threads}", f"device={device}", "traceInterval=1",
            "traces=lines", "lines.flushSeconds=0", "sampleInterval=0", "storeSeconds=0",
        ]  # fmt: skip
        return _watched(words, lambda: trace.is_file() and trace.stat().st_size > 0)


def loop_process(task: str, threads: int, device: str) -> Process:
    """The careful loop with a DataLoader, by itself."""
    words = [
        "ganglion.engine.bench.loops", task, f"--iterations={ITERATIONS}", f"--threads={threads}", f"--device={device}"
    ]  # fmt: skip
    with tempfile.NamedTemporaryFile(suffix=".txt") as told:
        return _watched(words, lambda: Path(told.name).stat().st_size > 0, told.name)


def _watched(words: Sequence[str], first: Callable[[], bool], out: str | None = None) -> Process:
    """Run a module to its end. Raises RunError where it fails, or takes far too long."""
    with tempfile.TemporaryFile() as messages, Path(out).open("wb") if out else tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=output, stderr=messages)
        try:
            seconds, peak = _looked_at(process, first, began)
        finally:
            process.kill()
            process.wait()
        if process.returncode or seconds is None:
            messages.seek(0)
            lines = messages.read().decode("utf-8", "replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
            raise RunError(f"bench: the process '{' '.join(words[:3])} ...' ended with {process.returncode}: {last}")
        return Process(seconds, peak)


def _looked_at(
    process: subprocess.Popen[bytes], first: Callable[[], bool], began: float
) -> tuple[float | None, float | None]:
    """When the first iteration was done, and the last peak seen, once the process has ended."""
    seconds: float | None = None
    peak: float | None = None
    while process.poll() is None and time.perf_counter() - began < PATIENCE:
        if seconds is None and first():
            seconds = time.perf_counter() - began
        peak = peak_memory(process.pid) or peak
        time.sleep(TICK)
    return seconds, peak


def peak_memory(pid: int) -> float | None:
    """MiB that a process has had at most, as Linux tells. What `wait4` tells would include its parent's."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else None
