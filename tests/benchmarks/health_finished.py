"""Reads the health of finished runs, of comparisons for example, at their last checkpoint, and tells the alarms.

    python tests/benchmarks/health_finished.py --out FILE.jsonl RUN_FOLDER [RUN_FOLDER ...]

One line per run is appended to FILE.jsonl; runs that have one are not read again. The table says, for each data set and
strategy, how many runs there are, what their evaluations found, and which alarms would stand at the end. Figures of
gradients are not among those read: a stored run has none.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ganglion.engine.assembly import assemble
from ganglion.engine.errors import EngineError
from ganglion.engine.folders import data_context
from ganglion.engine.health.alarms import Diagnosis
from ganglion.engine.health.reader import HealthReader
from ganglion.engine.job import request
from ganglion.engine.registry import Registry
from ganglion.engine.runs import Run

QUALITY = ("modes", "highQuality", "digits", "ratio")  # figures of evaluations that say whether a run works


def read(registry: Registry, run: Run) -> dict[str, Any] | None:
    """The figures of a run at its last checkpoint; None for one that has not ended."""
    if run.read_record().get("status") != "finished":
        return None
    job = run.read_whole_job()
    session = assemble(registry, request(None, None, {}, job), data_context(lambda sentence: None), None)
    try:
        checkpoint = run.checkpoints().load()
        session.load_weights(checkpoint.networks)
        session.load_state_dict(checkpoint.state["session"])
        figures = HealthReader(session, print).read(checkpoint.iteration, {}).values
    finally:
        session.sampler.close()
    judged = [json.loads(file.read_text())["values"] for file in sorted(run.evaluation().glob("*.json"))]
    found = {name: value for values in judged for name, value in values.items() if name in QUALITY}
    names = {"comparison": run.directory.parent.parent.name, "strategy": run.tag.rpartition("-")[0]}
    return {"run": str(run.directory), **names, "iteration": checkpoint.iteration, "health": figures, "found": found}


def alarms_of(line: Mapping[str, Any]) -> list[str]:
    """The alarms that stand where the figures stay as they are."""
    diagnosis = Diagnosis()
    values = {name: float("nan") if value is None else value for name, value in line["health"].items()}
    for number in (1, 2):
        reading = diagnosis.read(number * 1000, values, {})
    return [alarm.kind for alarm in reading.alarms]


def table(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Markdown: one row per comparison and strategy."""
    yield "| comparison | entry | runs | evaluated as (means) | alarms |"
    yield "| --- | --- | --- | --- | --- |"
    for comparison, strategy in sorted({(line["comparison"], line["strategy"]) for line in lines}):
        mine = [line for line in lines if (line["comparison"], line["strategy"]) == (comparison, strategy)]
        means = {name: [line["found"][name] for line in mine if name in line["found"]] for name in QUALITY}
        found = ", ".join(f"{name} {sum(each) / len(each):.3g}" for name, each in means.items() if each)
        raised = Counter(kind for line in mine for kind in alarms_of(line))
        told = ", ".join(f"{kind} {count}" for kind, count in raised.items()) or "none"
        yield f"| {comparison} | {strategy} | {len(mine)} | {found} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("runs", type=Path, nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    registry = Registry().load()
    for folder in arguments.runs:
        if any(line["run"] == str(folder) for line in known):
            continue
        try:
            line = read(registry, Run(folder))
        except EngineError as error:
            print(f"{folder}: {error}", flush=True)
            continue
        if line is not None:
            known.append(line)
            with arguments.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    print("\n".join(table(known)))


if __name__ == "__main__":
    main()
