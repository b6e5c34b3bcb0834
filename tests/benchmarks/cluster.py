"""A search of 40 trials on a Ray cluster of three nodes, one of which is killed half-way: all finish, none twice.

python tests/benchmarks/cluster.py [--trials 40] [--iterations 1000] [--command sweep|compare] [--folder FOLDER]

The three nodes, of one core each, are processes on this machine. Prints what there is to say in Markdown.
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
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from raycluster import CORES

SEEDS = 10  # of a comparison
NODES = ("one:south", "two:north", "three:north")
VICTIM = "two"
JOB = ["Ring", "batchSize=32", "storeSeconds=1", "traceInterval=100", "tag=bench"]
ENDED = re.compile(r"\(\d+ of \d+")  # how a line ends that tells what came of a run
PAIR = "Generator,Discriminator"


def command(options: argparse.Namespace, address: str) -> list[str]:
    """The command that carries out so many runs."""
    budget = f"budget=iterations:{options.iterations}"
    engine = ["--engine", "ray", "--address", address, "--runs", str(Path(options.folder, "runs"))]
    if options.command == "compare":
        words = ["compare", "GAN,NSGAN,LSGAN,RpGAN", *JOB, f"networks={PAIR}", f"seeds={SEEDS}"]
    else:
        ranges = ["learningRate=log(1e-4,1e-2)", "beta1=choice(0,0.5,0.9)"]
        words = ["sweep", PAIR, *JOB, "strategy=NSGAN", *ranges, f"trials={options.trials}"]
    metric = "metrics=transport-v1" if options.command == "compare" else "metric=transport-v1.w1:lower"
    return [sys.executable, "-m", "ganglion.engine", *words, budget, metric, *engine]


def queue(folder: Path) -> dict[str, dict[str, Any]]:
    """What the command says of its runs."""
    try:
        found: dict[str, dict[str, Any]] = json.loads((folder / "queue.json").read_text())["tasks"]
        return found
    except (OSError, ValueError):
        return {}


def points(run: Path) -> list[int]:
    """The iterations of a run's trace points, as they were written."""
    lines = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    return [line["iteration"] for line in lines if "iterationsPerSecond" in line]


def learnt(folder: Path) -> int:
    """How many runs are done."""
    return sum(task["state"] == "finished" for task in queue(folder).values())


def stored(folder: Path, name: str) -> int:
    """The iteration of a run's last checkpoint; 0 where it has none but the first."""
    try:
        return int((folder / "runs" / name / "checkpoints" / "latest").read_text())
    except (OSError, ValueError):
        return 0


def on_victim(folder: Path) -> dict[str, int]:
    """The runs that are carried out on the node that is to die, with what they have stored."""
    tasks = queue(folder).items()
    return {name: stored(folder, name) for name, task in tasks if (task["node"], task["state"]) == (VICTIM, "running")}


def carry_out(options: argparse.Namespace, cluster: Any, address: str) -> tuple[float, str, int, dict[str, int]]:
    """Seconds, what was said, the exit code, and what was on the node that is killed when half of the runs are done."""
    folder, began = Path(options.folder, "runs", f"{options.command}-bench"), time.monotonic()
    killed: dict[str, int] = {}
    with open(Path(options.folder, "said"), "w+") as said:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command(options, address), stderr=said, stdout=said, env=environment)
        while process.poll() is None:
            time.sleep(0.2)
            if not killed and learnt(folder) >= options.trials // 2 and any(on_victim(folder).values()):
                cluster.stdin.write(f"kill {VICTIM}\n")
                cluster.stdin.flush()
                killed = on_victim(folder)
        said.seek(0)
        return time.monotonic() - began, said.read(), process.returncode, killed


def main() -> None:
    """Start the nodes, carry out the search, look at what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--command", choices=("sweep", "compare"), default="sweep")
    parser.add_argument("--folder", help="where runs and the nodes' files are; its name must be short")
    options = parser.parse_args()
    options.folder = options.folder or tempfile.mkdtemp(prefix="gb-")
    script = Path(__file__).resolve().parent.parent / "raycluster.py"
    words = [sys.executable, str(script), options.folder, *NODES]
    cluster = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert cluster.stdout is not None
    address = json.loads(cluster.stdout.readline())["address"]
    seconds, said, code, killed = carry_out(options, cluster, address)
    cluster.communicate()
    folder = Path(options.folder, "runs", f"{options.command}-bench")
    tasks = queue(folder)
    traces = {name: points(folder / "runs" / name) for name in tasks}
    wrong = [name for name, found in traces.items() if found != sorted(set(found)) or found[-1] != options.iterations]
    lost = [line for line in said.splitlines() if "was lost" in line]
    ended = Counter(line.partition(":")[0] for line in said.splitlines() if ENDED.search(line))
    print(
        f"- {options.command}: {len(tasks)} runs of {options.iterations} iterations, {len(NODES)} nodes of {CORES} core"
    )
    print(f"- exit code {code}, {seconds:.0f} seconds, {dict(Counter(task['state'] for task in tasks.values()))}")
    print(f"- by node: {dict(Counter(task['node'] for task in tasks.values()))}")
    print(f"- told as ended: {len(ended)} runs, {sum(count > 1 for count in ended.values())} of them twice")
    print(f"- under way on the node that was killed, with the iteration stored last: {killed}")
    print(f"- went on elsewhere: {len(lost)}: {'; '.join(lost)}")
    print(f"- runs whose trace has an iteration twice, or misses its end: {len(wrong)} {wrong or ''}")
    if code:
        print(said[-2000:])


if __name__ == "__main__":
    main()
