"""Calibrates the alarms of a run's health: provoked failures that they must name, and healthy runs that raise none.

    python tests/benchmarks/health.py --runs FOLDER [--quick] [--seeds 3] [--only TEXT] [--replay]

Every case is one short run per seed; runs that are finished already are not done again. The alarms of the table are
those that the code at hand raises over the figures in the runs' `trace.jsonl`; with `--replay` nothing is learnt, so
that thresholds can be tried. The table is Markdown on the standard output; FOLDER/health.json holds it too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ganglion.engine.errors import EngineError, InputError
from ganglion.engine.health.alarms import Diagnosis
from ganglion.engine.job import read_job
from ganglion.engine.launch import learn
from ganglion.engine.repository import Repository

PAIR = "PerceptronGenerator,PerceptronDiscriminator"
GOOD = {"strategy": "NSGAN", "penalty": "R1", "method": "ADAM", "learningRate": 1e-3, "beta1": 0, "beta2": 0.99}
BARE = {**GOOD, "penalty": None}
PLAIN = {"strategy": "NSGAN", "penalty": "R1", "method": "SGD"}
QUICK_SEEDS, QUICK_ITERATIONS = 1, 750


class Data(NamedTuple):
    """Data that failures are provoked on, and the penalty's weight that suits them."""

    dataset: str
    keys: Mapping[str, Any]
    weight: float


DATA = {
    "points": Data("Ring", {"Ring.radius": 2, "Ring.std": 0.02, "Ring.scale": 1.414, "size": 20000}, 0.01),
    "images": Data("Digits", {"generatorDim": 32}, 0.1),
    "series": Data("Sines", {"generatorDim": 32, "noiseForm": "window", "scoreForm": "window"}, 0.1),
}


class Failure(NamedTuple):
    """A way to fail: the alarms that name it rightly, and what provokes it."""

    names: tuple[str, ...]
    keys: Mapping[str, Any]


FAILURES = {
    "collapse: the discriminator hardly learns": Failure(
        ("collapse", "range"), {**BARE, "discriminator.learningRate": 2e-5, "generator.learningRate": 2e-3}
    ),
    "overpowering: the discriminator learns 1,000 times as fast, minimax": Failure(
        ("overpowering", "vanishing"),
        {**BARE, "strategy": "Minimax", "discriminator.learningRate": 5e-3, "generator.learningRate": 5e-6},
    ),
    "blind: half of the labels are exchanged": Failure(
        ("blind", "collapse"), {**GOOD, "labelNoise": 0.499, "iterations": 1500}
    ),
    "divergence: a critic without bounds": Failure(
        ("divergence",), {**BARE, "strategy": "WGAN", "clamp": "none", "initIterations": 0, "learningRate": 5e-3}
    ),
    "divergence: SGD with a rate of 3": Failure(("divergence",), {**PLAIN, "learningRate": 3}),
    "clipping: steps of 0.05 between bounds of 0.01": Failure(
        ("clipping",), {**BARE, "strategy": "WGAN", "clamp": 0.01, "initIterations": 0, "learningRate": 0.05}
    ),
    "stalled: a rate of 1e-9": Failure(("stalled",), {**PLAIN, "learningRate": 1e-9}),
    "vanishing: a critic between bounds of 0.0002, the generator by SGD": Failure(
        ("vanishing", "blind", "clipping"),
        {
            **BARE,
            "strategy": "WGAN",
            "clamp": 0.0002,
            "initIterations": 0,
            "generator.method": "SGD",
            "generator.learningRate": 0.1,
        },
    ),
}


class Case(NamedTuple):
    """One job; `names` are the alarms that it should raise, none where it is healthy."""

    label: str
    kind: str
    names: tuple[str, ...]
    networks: str
    dataset: str
    keys: Mapping[str, Any]


def provoked(iterations: int) -> Iterator[Case]:
    """Every failure on every kind of data."""
    for kind, data in DATA.items():
        for label, failure in FAILURES.items():
            weight = {"R1.weight": data.weight} if failure.keys.get("penalty") else {}
            keys = {key: value for key, value in {**data.keys, **weight, **failure.keys}.items() if value is not None}
            yield Case(label, kind, failure.names, PAIR, data.dataset, {"iterations": iterations, **keys})


def missing_modes(folder: Path, iterations: int) -> Iterator[Case]:
    """Rows in order of their mode, class or frequency, of which the last ones are never drawn."""
    from sklearn.datasets import load_digits

    generator = np.random.default_rng(0)
    angle = np.repeat(np.arange(8) * np.pi / 4, 2500)
    ring = 1.414 * np.stack((np.cos(angle), np.sin(angle)), 1) + 0.0141 * generator.standard_normal((20000, 2))
    digits, classes = load_digits(return_X_y=True)
    pictures = digits[np.argsort(classes, kind="stable")].reshape(-1, 1, 8, 8)
    frequencies, phases = np.sort(generator.uniform(0.1, 1.0, 5000)), generator.uniform(0, 2 * np.pi, 5000)
    waves = np.sin(frequencies[:, None] * np.arange(24) + phases[:, None])[:, :, None]
    shown = {"points": (ring, 5000), "images": (pictures, int((classes < 2).sum())), "series": (waves, 1000)}
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (rows, drawn) in shown.items():
        file = folder / f"{kind}.npy"
        np.save(file, rows.astype(np.float32))
        own = {
            key: value for key, value in DATA[kind].keys.items() if key in ("generatorDim", "noiseForm", "scoreForm")
        }
        data = {"path": str(file), "testShare": 0, **({} if kind == "points" else {"scale": "minmax"})}
        only = {"sampling": "WEIGHTED", "weightedRanges": f"0,{drawn}", "probabilities": "1"}
        keys = {**GOOD, "R1.weight": DATA[kind].weight, **own, **data, **only, "iterations": iterations}
        yield Case(
            "coverage: a fifth to a quarter of the data is ever drawn",
            kind,
            ("coverage", "collapse"),
            PAIR,
            "Table",
            keys,
        )


def healthy(iterations: int) -> Iterator[Case]:
    """Recipes that work, and jobs that ship; none of them may raise an alarm."""
    ring, digits, sines = DATA["points"], DATA["images"], DATA["series"]
    fall = {"decayType": "cosine", "minLearningRate": 2e-5, "iterations": iterations}
    for name, keys in {
        "NSGAN": BARE,
        "NSGAN, R1": {**GOOD, "R1.weight": 0.01},
        "LSGAN, R1": {**GOOD, "strategy": "LSGAN", "R1.weight": 0.01},
        "HingeGAN, R1": {**GOOD, "strategy": "HingeGAN", "R1.weight": 0.01},
        "WGAN_GP": {**BARE, "strategy": "WGAN_GP", "GP.weight": 0.1, "discriminatorIterations": 1, "beta2": 0.9},
        "R3GAN": {**BARE, "strategy": "R3GAN", "R1.weight": 0.01, "R2.weight": 0.01, "generator.ema": "none",
                  "R1.finalWeight": "none", "R2.finalWeight": "none"},
    }.items():  # fmt: skip
        given = {key: value for key, value in keys.items() if value is not None}
        yield Case(f"{name} on a ring", "healthy", (), PAIR, "Ring", {**ring.keys, **given, **fall, "batchSize": 256})
    yield Case("Minimax on a circle", "healthy", (), "Generator,Discriminator", "Circle",
               {"strategy": "Minimax", "iterations": iterations})  # fmt: skip
    first = {"strategy": "NSGAN", "penalty": "R1", "generator.Dropout.p": 0, "iterations": iterations}
    yield Case("the README's first run", "healthy", (), "Generator,Discriminator", "Digits", first)
    yield Case("NSGAN, R1 on digits", "healthy", (), PAIR, "Digits",
               {**digits.keys, **GOOD, "R1.weight": 0.1, **fall})  # fmt: skip
    yield Case("R3GAN on sines", "healthy", (), PAIR, "Sines",
               {**sines.keys, "strategy": "R3GAN", "batchSize": 128, "learningRate": 1e-3, "minLearningRate": 2e-5,
                "R1.weight": 0.1, "R2.weight": 0.1, "R1.finalWeight": 0.01, "R2.finalWeight": 0.01,
                "generator.ema": 0.998, "iterations": iterations})  # fmt: skip
    yield Case("a VAE on digits", "healthy", (), "Encoder,Decoder", "Digits",
               {"strategy": "VAE", "sampleSize": 8, "iterations": iterations})  # fmt: skip
    classifier = {"strategy": "FeedForward", "method": "ADAM", "learningRate": 1e-3, "iterations": iterations}
    yield Case("a classifier of digits", "healthy", (), "CNN", "Digits", classifier)


def shipped(iterations: Mapping[str, int]) -> Iterator[Case]:
    """Jobs that ship, shortened."""
    from ganglion.engine.commands import job_folders

    for name, count in iterations.items():
        job = read_job(next(folder / f"{name}.yaml" for folder in job_folders() if (folder / f"{name}.yaml").exists()))
        keys = {**job["settings"], "strategy": job["strategy"], "iterations": count}
        keys |= {"decayStart": count // 2} if "decayStart" in keys else {}
        yield Case(f"job {name}", "healthy", (), job["networks"], job["dataset"], keys)


class Reading(NamedTuple):
    """What became of one run: alarms with the iteration at which they began, seconds, and how it ended."""

    case: Case
    seed: int
    alarms: Mapping[str, int]
    iterations: int
    ended: str


def carry_out(case: Case, seed: int, runs: Path, replay: bool) -> Reading | None:
    """Learn what is not learnt yet, and tell which alarms there were; None where there is nothing to tell."""
    tag = "-".join("".join(letter if letter.isalnum() else " " for letter in f"{case.kind} {case.label}").split())
    run = Repository(runs).run(f"{tag[:80]}-{seed}")
    ended = run.read_record().get("status") if run.exists else None
    if ended not in ("finished", "failed"):
        if replay:
            return None
        fixed = {"tag": run.tag, "clean": True, "seed": seed, "traces": "lines", "sampleInterval": 0, "threads": 1,
                 "traceInterval": 50, "healthInterval": 5}  # fmt: skip
        began = time.monotonic()
        try:
            learnt = learn(case.networks, case.dataset, {"execution": "eager", **case.keys, **fixed, "storeSeconds": 0},
                           runs=runs, notify=lambda sentence: None)  # fmt: skip
            if learnt.outcome.signal:
                raise SystemExit(128 + learnt.outcome.signal)
        except InputError:
            raise  # a case that cannot begin would look like one without alarms
        except EngineError as error:
            print(f"  {run.tag}: {error}", flush=True)
        print(f"  {run.tag}: {time.monotonic() - began:.0f} s", flush=True)
        ended = run.read_record().get("status") if run.exists else "refused"
    return Reading(case, seed, *replayed(run.trace_path), str(ended))


def replayed(file: Path) -> tuple[dict[str, int], int]:
    """The alarms that the code at hand raises over a run's figures, and the last iteration that was traced."""
    diagnosis, began, progress, last = Diagnosis(), {}, {}, 0
    for line in map(json.loads, file.read_text().splitlines() if file.exists() else []):
        last = line["iteration"]
        if "health" in line:
            values = {name: np.inf if value is None else value for name, value in line["health"].items()}
            for alarm in diagnosis.read(last, values, progress).alarms:
                began.setdefault(alarm.kind, last)
        elif "validation" not in line:
            progress = {name: np.inf if value is None else value for name, value in line.items()
                        if name not in ("iteration", "seconds", "iterationsPerSecond", "nonFinite")}  # fmt: skip
    return began, last


def table(readings: Sequence[Reading]) -> Iterator[str]:
    """Markdown: one row per case, and what was raised."""
    yield "| data | case | should be named | runs | named | first after | raised beside |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for case in dict.fromkeys(reading.case.label + "|" + reading.case.kind for reading in readings):
        mine = [each for each in readings if each.case.label + "|" + each.case.kind == case]
        wanted = mine[0].case.names
        first = [min(at for kind, at in each.alarms.items() if kind in wanted) for each in mine
                 if set(each.alarms) & set(wanted)]  # fmt: skip
        beside = Counter(kind for each in mine for kind in each.alarms if kind not in wanted)
        named = f"{len(first)} of {len(mine)}" if wanted else "-"
        failed = sum(each.ended == "failed" for each in mine)
        named += f" ({failed} ended as not finite)" if failed else ""
        others = ", ".join(f"{kind} {count}" for kind, count in beside.items()) or "none"
        span = f"{min(first):,} to {max(first):,}" if first else "-"
        cells = (mine[0].case.kind, mine[0].case.label, " or ".join(wanted) or "nothing", str(len(mine)))
        yield f"| {' | '.join((*cells, named, span, others))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose kind or label holds this text")
    parser.add_argument("--quick", action="store_true", help="one seed and fewer iterations; no job that ships")
    parser.add_argument("--replay", action="store_true", help="learn nothing; alarms over the figures that are there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds, iterations = (QUICK_SEEDS, QUICK_ITERATIONS) if arguments.quick else (arguments.seeds, 1000)
    cases = [*provoked(iterations), *missing_modes(arguments.runs / "data", iterations), *healthy(2 * iterations)]
    if not arguments.quick:
        cases += shipped({"points": 2000, "mnist-perceptron": 1500, "mnist-conv": 1000})
    cases = [case for case in cases if arguments.only in f"{case.kind} {case.label}"]
    found = []
    for seed in range(seeds):
        for case in cases:
            reading = carry_out(case, seed, arguments.runs, arguments.replay)
            found += [reading] if reading is not None else []
    print("\n".join(table(found)))
    document = [{**each.case._asdict(), **each._asdict(), "case": each.case.label} for each in found]
    (arguments.runs / "health.json").write_text(json.dumps(document, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
