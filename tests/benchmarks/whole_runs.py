"""Whole processes: `learn` with its checkpoints, pictures and traces against the loop written by hand, start to end.

python tests/benchmarks/whole_runs.py [TASK ...] [--seconds 120] [--rounds 2] [--threads 1]

Each task of `ganglion bench` runs for as many iterations as the careful loop with a DataLoader does in about so many
seconds. In turn, each in a process of its own: that loop, the same loop with one gather per batch, `learn` as a user
types it with nothing compiled before, and `learn` once more, which finds what the first one compiled. Prints Markdown:
the loops' seconds over those of `learn`, so that above 1 Ganglion is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ganglion.engine.bench.driving import JOBS, PLUGIN
from ganglion.engine.bench.timing import Spread, ratios, spread

TASKS = ("circle", "dianne", "mnist-16", "mnist-64", "mnist-256", "wgan-gp", "rgan-24")
LOOPS = ("loader", "gather")
RUNS = ("first", "again")
TRIAL = 200  # iterations by which the loop's speed is found


def timed(words: Sequence[str], **variables: str) -> tuple[float, str]:
    """Seconds from the start of a module's process to its end, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *words], env={**os.environ, **variables}, check=True, capture_output=True, text=True
    )
    return time.perf_counter() - began, done.stdout


def loop(task: str, style: str, iterations: int, threads: int) -> tuple[float, str]:
    """The loop written by hand; for shorter names of the same thing see `ganglion.engine.bench.loops`."""
    words = ["ganglion.engine.bench.loops", task, f"--style={style}", f"--iterations={iterations}"]
    return timed([*words, f"--threads={threads}"])


def learn(task: str, iterations: int, threads: int, folder: Path, tag: str) -> tuple[float, str]:
    """`learn` with its defaults; what it compiles is kept below `folder`. Gives the seconds and its execution."""
    words = [
        "ganglion.engine", "learn", "--plugin", PLUGIN, "--runs", str(folder), "--job", str(JOBS / f"{task}.yaml"),
        f"tag={tag}", f"iterations={iterations}", f"threads={threads}",
    ]  # fmt: skip
    seconds, _ = timed(words, GANGLION_CACHE=str(folder / "cache"))
    record = json.loads((folder / tag / "record.json").read_text(encoding="utf-8"))
    return seconds, record["execution"]["name"]


def calibrated(task: str, seconds: float, threads: int) -> int:
    """Iterations that take the loop about so many seconds."""
    found = re.search(r"([\d.]+) iterations per second", loop(task, "loader", TRIAL, threads)[1])
    assert found is not None
    return max(TRIAL, round(float(found[1]) * seconds))


def measure(task: str, seconds: float, rounds: int, threads: int) -> list[str]:
    """The lines of one task, for the first run and for the one after it."""
    iterations = calibrated(task, seconds, threads)
    times: dict[str, list[float]] = {name: [] for name in (*LOOPS, *RUNS)}
    executions: dict[str, str] = {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="ganglion-whole-") as folder:
            for name in LOOPS if number % 2 == 0 else reversed(LOOPS):
                times[name].append(loop(task, name, iterations, threads)[0])
            for name in RUNS:
                taken, executions[name] = learn(task, iterations, threads, Path(folder), name)
                times[name].append(taken)
    loops = " | ".join(f"{spread(times[name]).median:.0f} s" for name in LOOPS)
    return [
        f"| {task} | {iterations:,} | {loops} | {run} ({executions[run]}) | {spread(times[run]).median:.0f} s "
        f"| {' | '.join(_shown(ratios(times[name], times[run])) for name in LOOPS)} |"
        for run in RUNS
    ]


def _shown(value: Spread) -> str:
    return f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print("| task | iterations | DataLoader | one gather | learn | takes | over DataLoader | over one gather |")
    print("| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    for task in given.tasks:
        print("\n".join(measure(task, given.seconds, given.rounds, given.threads)), flush=True)


if __name__ == "__main__":
    main()
