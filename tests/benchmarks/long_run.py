"""A long run in one process: memory, open files and checkpoints must not grow with its iterations.

python tests/benchmarks/long_run.py [--iterations 200000] [--every 10000] [--trace-interval 100]

Perceptrons on the circle in batches of 8, checkpoints by the clock with keep=3; then a short run that validates, for
the best checkpoint; then what a trace point costs. Exits 1 where memory grows by more than 10 MiB after the first two
samples, or anything else does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ganglion.engine import api
from ganglion.engine.launch import learn
from ganglion.engine.trace import TracePoint

LIMIT = 10.0  # MiB
KEEP = 3
EVERY = "LONG_RUN_EVERY"  # iterations between samples; the trace is another copy of this module


class Resources(api.Trace):
    """Samples the memory and the open files of this process at trace points."""

    def __init__(self, settings: api.Settings, context: Any) -> None:
        self.directory, self.every = context.directory, int(os.environ[EVERY])
        self.sampled = (0, time.monotonic())

    def receive(self, event: Any) -> None:
        if not isinstance(event, TracePoint) or event.iteration % self.every:
            return
        iterations, since = event.iteration - self.sampled[0], time.monotonic() - self.sampled[1]
        self.sampled = (event.iteration, time.monotonic())
        sample = {
            "iteration": event.iteration,
            "memory": resident(),
            "files": len(os.listdir("/proc/self/fd")) - 1,  # one is that of the list itself
            "checkpoints": len(checkpoints(self.directory)),
            "speed": iterations / since,
        }
        with (self.directory / "resources.jsonl").open("a") as file:
            file.write(json.dumps(sample) + "\n")
        print(row(sample), flush=True)


@api.hookimpl
def register_traces(register: Any) -> None:
    """The trace `resources`."""
    register("resources", Resources)


def resident() -> float:
    """MiB that this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def checkpoints(directory: Path) -> list[int]:
    """The iterations of a run's checkpoints."""
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir() if path.name.isdecimal())


def row(sample: dict[str, Any]) -> str:
    """One line of the table."""
    texts = [f"{sample['iteration']:,}", f"{sample['memory']:.1f}", sample["files"], sample["checkpoints"]]
    return f"| {' | '.join(map(str, texts))} | {sample['speed']:.0f} |"


# --- the runs -----------------------------------------------------------------------------------------------------

COMMON = {"batchSize": 8, "threads": 1, "sampleInterval": 0, "keep": KEEP, "clean": "true"}


def carry_out(folder: str, tag: str, *names: str, **keys: Any) -> Path:
    """Learn in this process; the run's directory."""
    given = {**COMMON, "tag": tag, **keys}
    learnt = learn(*names, given, plugins=[__file__], runs=folder, quiet=True, notify=lambda sentence: None)
    return learnt.directory


def long_run(folder: str, iterations: int, every: int, interval: int) -> list[str]:
    """What does not hold in a long run."""
    print("| iterations | memory (MiB) | open files | checkpoints | iterations per second |\n" + "| --- " * 5 + "|")
    os.environ[EVERY] = str(every)
    keys = {"iterations": iterations, "traceInterval": interval, "traces": "lines,resources", "storeSeconds": 2}
    directory = carry_out(folder, "long", "Generator,Discriminator", "Circle", strategy="GAN", **keys)
    samples = [json.loads(line) for line in (directory / "resources.jsonl").read_text().splitlines()]
    grown = max(sample["memory"] for sample in samples) - samples[1]["memory"]
    print(f"\nmemory after the first two samples: {grown:+.1f} MiB at most; checkpoints left: {checkpoints(directory)}")
    wrong = [f"memory grew by {grown:.1f} MiB"] if grown > LIMIT else []
    if max(sample["files"] for sample in samples) > samples[1]["files"]:
        wrong.append("the number of open files grew")
    if max(sample["checkpoints"] for sample in samples) > KEEP or checkpoints(directory)[-1] != iterations:
        wrong.append(f"keep={KEEP} does not hold")
    return wrong


def best_run(folder: str) -> list[str]:
    """What does not hold of the best checkpoint in a run that validates."""
    keys = {"validationSet": "0,200", "validationInterval": 100, "storeSeconds": 0.5, "traces": "lines"}
    directory = carry_out(folder, "best", "MLP", "Digits", strategy="FeedForward", iterations=20_000, **keys)
    lines = [json.loads(line) for line in (directory / "trace.jsonl").read_text().splitlines()]
    losses = {line["iteration"]: line["validation"]["loss"] for line in lines if "validation" in line}
    lowest, there = min(losses, key=losses.__getitem__), checkpoints(directory)
    best = int((directory / "checkpoints" / "best").read_text())
    print(f"validated {len(losses)} times, the lowest loss at {lowest:,}; best: {best:,}; checkpoints left: {there}")
    wrong = [] if best == lowest and best in there else ["the best checkpoint is not the one of the lowest loss"]
    return wrong if len(there) <= KEEP + 1 else [*wrong, f"keep={KEEP} does not hold beside the best one"]


def trace_cost(folder: str, pairs: int = 5, iterations: int = 2000) -> None:
    """Print what one trace point costs in processor time: pairs of runs with and without one at every iteration."""
    costs = []
    for number in range(pairs):
        times = []
        for interval in (1, iterations):
            tag = f"cost-{number}-{interval}"
            keys = {"iterations": iterations, "traceInterval": interval, "traces": "lines", "storeSeconds": 0}
            began = time.process_time()
            carry_out(folder, tag, "Generator,Discriminator", "Circle", strategy="GAN", **keys)
            times.append(time.process_time() - began)
        costs.append(1e6 * (times[0] - times[1]) / iterations)
    costs.sort()
    print(f"a trace point costs {costs[pairs // 2]:.0f} us (median of {pairs}; {costs[0]:.0f} to {costs[-1]:.0f})")


def main() -> int:
    """Everything in turn; 1 where something does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=200_000)
    parser.add_argument("--every", type=int, default=10_000)
    parser.add_argument("--trace-interval", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganglion-long-") as folder:
        wrong = long_run(folder, arguments.iterations, arguments.every, arguments.trace_interval)
        wrong += best_run(folder)
        trace_cost(folder)
    print(f"does not hold: {'; '.join(wrong)}" if wrong else "all of it holds")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
