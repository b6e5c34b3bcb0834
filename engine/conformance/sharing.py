"""Whether several processes that share a job learn what one does: short runs of a job in forked processes."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ganglion.engine.conformance.courses import ITERATIONS, Job, iterate
from ganglion.engine.conformance.results import Failed, Skipped
from ganglion.engine.errors import InputError
from ganglion.engine.processes import ALONE, Part, joined_by_file

PROCESSES = 2
PATIENCE = 60.0  # seconds that one waits for another
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}  # of the largest number of a tensor, and at least of FLOOR
FLOOR = 1e-3
DONE, FAILED, REFUSED = 0, 1, 2


def weights_alone_and_shared(job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """The weights that one process learns, those that several learn, and by how much they may differ.

    In double precision where the job can: what is left is the order in which numbers are added up. Raises Failed,
    Skipped.
    """
    if not hasattr(os, "fork") or torch.cuda.is_initialized():
        raise Skipped("processes cannot be forked here")
    for dtype, tolerance in TOLERANCES.items():
        code, _, one = learnt_by(1, job, dtype, ITERATIONS)
        if code:
            continue
        code, problem, other = learnt_by(PROCESSES, job, dtype, ITERATIONS)
        if code == REFUSED:
            raise Skipped(problem)
        if code:
            raise Failed(f"{PROCESSES} processes cannot share it: {problem}")
        return one, other, tolerance
    raise Skipped("its iterations do not run in a process of their own")


def first_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float) -> str | None:
    """The first tensor that differs by more than `tolerance` of its largest number, with by how much it does."""
    for name, worst, size in differences(one, other):
        if not worst <= tolerance * size:
            return f"'{name}' differs by {worst:.2g} where it is {size:.2g} at most"
    return None


def differences(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[tuple[str, float, float]]:
    """Every tensor's name, its largest difference, and its largest number, which counts as FLOOR at least."""
    for name, values in one.items():
        if values.numel():
            worst = float((values.double() - other[name].double()).abs().max())
            yield name, worst, max(float(values.abs().max()), FLOOR)


def learnt_by(count: int, job: Job, dtype: torch.dtype, iterations: int) -> tuple[int, str, dict[str, Tensor]]:
    """The weights that so many processes learn; before them an exit code, and what the first that failed says."""
    with tempfile.TemporaryDirectory(prefix="ganglion-") as name:
        folder = Path(name)

        def work(part: Part) -> None:
            _learn(job, dtype, iterations, part, folder)

        code, told = in_processes(count, partial(in_part, work, folder))
        return code, told, {} if code else dict(safetensors.torch.load((folder / "weights").read_bytes()))


def in_part(work: Callable[[Part], None], folder: Path, rank: int, count: int) -> None:
    """Work as one of so many processes, which meet in a folder."""
    if count == 1:
        work(ALONE)
        return
    with joined_by_file(folder / "meeting", Part(rank, count), PATIENCE) as part:
        work(part)


def _learn(job: Job, dtype: torch.dtype, iterations: int, part: Part, folder: Path) -> None:
    """Iterate as the learner does; the first process writes down the weights."""
    torch.set_default_dtype(dtype)
    with job.session(part=part) as session:
        for network in session.networks.values():
            without_dropout(network)
        iterate(session, 0, iterations)
        weights = {
            f"{role}.{name}": value.contiguous().clone()
            for role, own in session.weights().items()
            for name, value in own.items()
        }
    if part.rank == 0:
        safetensors.torch.save_file(weights, folder / "weights")


def without_dropout(network: nn.Module) -> None:
    """Masks are each process's own: they cannot be cut out of those of a whole batch."""
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, nn.RNNBase):
            module.dropout = 0.0


def in_processes(count: int, work: Callable[[int, int], None]) -> tuple[int, str]:
    """Carry out `work` in so many processes; the exit code of the first of those that failed, and what it says."""
    with tempfile.TemporaryDirectory(prefix="ganglion-") as folder:
        sys.stdout.flush()
        sys.stderr.flush()
        children = [_fork(rank, count, work, Path(folder)) for rank in range(count)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if not any(codes):
            return DONE, ""
        told = sorted(Path(folder).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        if not told:
            return FAILED, f"a process ended with {max(codes, key=abs)}"
        return codes[int(told[0].name)], told[0].read_text(encoding="utf-8")


def _told(error: BaseException) -> str:
    if isinstance(error, InputError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"{text} ({Path(last.filename).name}, line {last.lineno})"


def _fork(rank: int, count: int, work: Callable[[int, int], None], folder: Path) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work(rank, count)
        code = DONE
    except BaseException as error:
        code = REFUSED if isinstance(error, InputError) else FAILED
        (folder / str(rank)).write_text(_told(error), encoding="utf-8")
    finally:
        os._exit(code)  # nothing that the parent has begun is ended here
