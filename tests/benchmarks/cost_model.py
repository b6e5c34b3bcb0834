"""What several processes should cost: a model fitted and checked here, and what it says of machines elsewhere.

    python tests/benchmarks/cost_model.py [--rounds 5] [--only fit|jobs]

An iteration takes  fixed + row x rows / processes + exchanges x (latency + bytes / bandwidth).  `fixed` and `row` come
from one process at three batch sizes, `latency` and `bandwidth` from messages alone in two and four processes. The
model is then held against iterations that it was not fitted on. For GPUs the constants in MACHINES are assumptions, and
every row that rests on them is a prediction. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ganglion.engine import sharedmemory
from ganglion.engine.conformance.courses import Job, iterate
from ganglion.engine.conformance.sharing import in_part, in_processes
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.device import usable_cores
from ganglion.engine.processes import Part, average_in_place

BATCHES = (64, 256, 1024)
SIZES = (1 << 12, 1 << 16, 1 << 20, 1 << 22, 1 << 24)  # bytes of a message
COUNTS = (2, 4)
COUNTED = 40


class Machine(NamedTuple):
    """What a GPU, and the way between several, is taken to do; none of it was measured."""

    name: str
    processes: int
    rate: float  # operations per second that matrix products of these sizes reach
    launch: float  # seconds from one kernel to the next where they are small
    latency: float  # seconds of a message
    bandwidth: float  # bytes per second of a large all-reduce


MACHINES = (
    Machine("8 GPUs on one host (NVLink)", 8, 1e14, 5e-6, 3e-5, 2e11),
    Machine("64 GPUs on eight hosts (400 Gbit/s each way per GPU)", 64, 1e14, 5e-6, 6e-5, 3e10),
)


class Shape(NamedTuple):
    """What one iteration of a job does."""

    operations: float  # of one row
    kernels: int
    exchanges: int
    bytes: int
    rows: int


PICTURES = ("Generator,Discriminator", "MNIST")
PAIR = ("Recurrent,Recurrent", "Sines", {"hidden": 100})
FIVE = ",".join(["Recurrent"] * 5)
LATE: Mapping[str, Mapping[str, Any]] = {  # keys that leave the first phases out: the last one is what is counted
    "WGAN": {"initIterations": 0},
    "WGAN_LP": {"initIterations": 0},
    "TimeGAN": {"autoencoderIterations": 0, "supervisorIterations": 0},
    "RTSGAN": {"pretrainIterations": 0},
    "CRNNGAN": {"pretrainIterations": 0},
}
JOBS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    **{
        name: (*PICTURES, {})
        for name in (
            "GAN", "Minimax", "NSGAN", "WGAN", "LSGAN", "WGAN_GP", "WGAN_LP", "DRAGAN", "HingeGAN", "RpGAN", "RaGAN",
            "PacGAN", "FeatureMatchingGAN", "SNGAN", "R3GAN", "CGAN", "ACGAN", "ProjectionGAN", "InfoGAN",
        )
    },
    "NSGAN, DCGAN": ("DCGANGenerator,DCGANDiscriminator", "MNIST", {}),
    "BEGAN": ("Generator,Autoencoder", "MNIST", {}),
    "EBGAN": ("Generator,Autoencoder", "MNIST", {}),
    "VAE": ("Encoder,Decoder", "MNIST", {}),
    "FeedForward": ("MLP", "MNIST", {}),
    "RGAN": PAIR,
    "RCGAN": (PAIR[0], "Sine", {"hidden": 100, "classes": 2}),
    "CurveGAN": PAIR,
    "FinGAN": PAIR,
    "CRNNGAN": (PAIR[0], "MadeMusic", {"hidden": 100}),
    "TimeGAN": (FIVE, "Sines", {}),
    "RTSGAN": ("MLP,MLP,Recurrent,Recurrent", "Sines", {}),
    "TimeVAE": ("TimeVAEEncoder,TimeVAEDecoder", "Sines", {}),
    "ForecastGAN": (PAIR[0], "Sine", {"hidden": 100, "length": 52}),
    "ImputationGAN": PAIR,
    "BPTT": ("Recurrent", "Sines", {"hidden": 100}),
}  # fmt: skip
ROWS = 256


def job(name: str, **changes: Any) -> Job:
    strategy = name.partition(",")[0]
    networks, dataset, keys = JOBS[name]
    keys = {"batchSize": ROWS, "execution": "eager", **keys, **LATE.get(strategy, {}), **changes}
    return Job(find_subject("strategy", strategy), networks.split(","), dataset, keys)


# --- here ---------------------------------------------------------------------------------------------------------


def seconds(made: Job, count: int, warm: int = 4) -> float:
    """Seconds per iteration in so many processes."""

    def timed(part: Part, folder: Path) -> None:
        torch.set_num_threads(1)
        with made.session(part=part) as session:
            iterate(session, 0, warm)
            began = time.perf_counter()
            iterate(session, warm, warm + COUNTED)
            if part.rank == 0:
                (folder / "answer").write_text(str((time.perf_counter() - began) / COUNTED))

    return answered(timed, count)


def answered(work: Callable[[Part, Path], None], count: int) -> float:
    """The number that the first of `count` processes writes down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code, told = in_processes(count, partial(in_part, lambda part: work(part, folder), folder))
        assert code == 0, told
        return float((folder / "answer").read_text())


def message(size: int, count: int) -> float:
    """Seconds that averaging gradients of so many bytes takes: they are packed, travel and are put back."""

    def timed(part: Part, folder: Path) -> None:
        torch.set_num_threads(1)
        values, often = list(torch.zeros(4, size // 16)), 30
        for _ in range(5):
            average_in_place(values)
        began = time.perf_counter()
        for _ in range(often):
            average_in_place(values)
        if part.rank == 0:
            (folder / "answer").write_text(str((time.perf_counter() - began) / often))

    return answered(timed, count)


def line(places: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Where a line of least relative squares begins, and its slope."""
    table = np.stack((np.ones(len(places)), np.asarray(places))).T / np.asarray(values)[:, None]
    begin, slope = np.linalg.lstsq(table, np.ones(len(places)), rcond=None)[0]
    return float(max(begin, 0.0)), float(slope)


def fit(rounds: int) -> None:
    """Fit on one process and on messages; predict iterations in two and four, and measure them."""
    name = "NSGAN"
    whole = {rows: median(seconds(job(name, batchSize=rows), 1) for _ in range(rounds)) for rows in BATCHES}
    fixed, row = line(list(whole), list(whole.values()))
    print(f"{name}, MNIST perceptrons: {fixed * 1e3:.2f} ms per iteration and {row * 1e6:.2f} us per row (from batches "
          f"of {', '.join(map(str, BATCHES))} in one process of one thread)\n")  # fmt: skip
    ways = {}
    for count in COUNTS:
        taken = [median(message(size, count) for _ in range(rounds)) for size in SIZES]
        ways[count] = line(SIZES, taken)
        print(f"{count} processes: a message takes {ways[count][0] * 1e6:.0f} us and {1e-9 / ways[count][1]:.2f} GB/s")
    shape = look(name)
    print(f"\nAn iteration exchanges {shape.bytes / 1e6:.2f} MB in {shape.exchanges} messages.\n")
    print("| processes | rows of all | predicted ms | measured ms | measured over predicted |\n" + "| --- " * 5 + "|")
    for count in COUNTS:
        busy = max(1.0, count / usable_cores())
        for rows in (ROWS, ROWS * count):
            latency, per_byte = ways[count]
            said = (fixed + row * rows / count) * busy + shape.exchanges * latency + shape.bytes * per_byte
            seen = median(seconds(job(name, batchSize=rows), count) for _ in range(rounds))
            cells = (count, rows, f"{said * 1e3:.2f}", f"{seen * 1e3:.2f}", f"{seen / said:.2f}")
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


# --- elsewhere ----------------------------------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Counts what a GPU would launch (operations that compute, not views), and what matrix products compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels, self.computed = 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.kernels += not func.is_view
        count = flop_registry.get(func._overloadpacket)
        self.computed += count(*args, **(kwargs or {}), out_val=made) if count is not None else 0
        return made


def look(name: str) -> Shape:
    """What one iteration of a job does, counted in two processes that share it; operations in one."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def count(part: Part) -> None:
            sharedmemory.MOST = 0  # on other machines nothing goes through memory: what is sent is counted
            sizes: list[int] = []
            plain = distributed.all_reduce

            def counting(values: Tensor, *arguments: Any, **keys: Any) -> Any:
                sizes.append(values.numel() * values.element_size())
                return plain(values, *arguments, **keys)

            with job(name).session(part=part) as session:
                recurrent = [0.0]
                for network in session.networks.values():
                    for module in network.modules():
                        if isinstance(module, nn.RNNBase):
                            module.register_forward_hook(partial(_recurrent, recurrent))
                iterate(session, 0, 1)
                distributed.all_reduce = counting
                recurrent[0] = 0.0
                with Operations() as seen:
                    iterate(session, 1, 2)
                rows = session.plan.job.batch_size
            operations = (seen.computed + 3 * recurrent[0]) / (rows / part.count)
            if part.rank == 0:
                np.save(place / "shape.npy", [operations, seen.kernels, len(sizes), sum(sizes), rows])

        code, told = in_processes(2, partial(in_part, count, place))
        assert code == 0, f"{name}: {told}"
        operations, kernels, exchanges, size, rows = np.load(place / "shape.npy")
        return Shape(float(operations), int(kernels), int(exchanges), int(size), int(rows))


def _recurrent(total: list[float], module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    """Operations of an LSTM or GRU going forwards, which the counter does not know: backwards twice as many."""
    steps = inputs[0].shape[0] * inputs[0].shape[1]
    total[0] += 2.0 * steps * sum(weight.numel() for weight in module.parameters() if weight.ndim > 1)


def predicted(shape: Shape, machine: Machine, processes: int, rows: int) -> float:
    """Seconds of an iteration: what is launched cannot be faster than one after the other."""
    alone = max(shape.kernels * machine.launch, shape.operations * rows / processes / machine.rate)
    if processes == 1:
        return alone
    travelled = 2 * (processes - 1) / processes * shape.bytes
    return alone + shape.exchanges * machine.latency + travelled / machine.bandwidth


def efficiencies(shape: Shape, machine: Machine, rows: int) -> tuple[float, float]:
    """Strong scaling (the same rows for all) and weak scaling (each has as many as one had)."""
    one, count = predicted(shape, machine, 1, rows), machine.processes
    strong = one / (count * predicted(shape, machine, count, rows))
    return strong, one / predicted(shape, machine, count, rows * count)


def worth(shape: Shape, machine: Machine) -> float:
    """Rows per process from which weak scaling is 80 % or better."""
    for power in range(0, 25):
        rows = 1 << power
        if efficiencies(shape, machine, rows)[1] >= 0.8 and shape.operations * rows / machine.rate > (
            shape.kernels * machine.launch
        ):
            return rows
    return float("inf")


def jobs() -> Iterator[str]:
    """Markdown: what each job does in an iteration, and what the model says of it elsewhere."""
    heads = ["job", "MFLOP per row", "kernels", "messages", "MB"]
    for machine in MACHINES:
        heads += [f"{kind} on {machine.processes} GPUs" for kind in ("strong", "weak", "rows per GPU")]
    yield f"| {' | '.join(heads)} |"
    yield "| --- " * len(heads) + "|"
    for name in JOBS:
        shape = look(name)
        cells = [name, f"{shape.operations / 1e6:.2f}", str(shape.kernels), str(shape.exchanges),
                 f"{shape.bytes / 1e6:.2f}"]  # fmt: skip
        for machine in MACHINES:
            strong, weak = efficiencies(shape, machine, shape.rows)
            cells += [f"{strong:.2f}", f"{weak:.2f}", f"{worth(shape, machine):,.0f}"]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("fit", "jobs"))
    arguments = parser.parse_args()
    if arguments.only != "jobs":
        fit(arguments.rounds)
    if arguments.only != "fit":
        for text in jobs():
            print(text, flush=True)


if __name__ == "__main__":
    main()
