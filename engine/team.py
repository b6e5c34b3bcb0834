"""What processes that share a job agree on: whether a stage failed, when to stop, which state to go on from."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from ganglion.engine.checkpoint_files import Checkpoint, read_checkpoint, serialise
from ganglion.engine.device import take_own_gpu
from ganglion.engine.dividing import whole_parameters
from ganglion.engine.errors import ConfigError, EngineError, RunError
from ganglion.engine.files import write_new
from ganglion.engine.joining import Meeting, be_patient, joined, started_before, tell_once
from ganglion.engine.launcher import by_torchrun, launched, restarts_left, undisturbed, watched
from ganglion.engine.processes import Part, largest, this_process, told_by_all, told_by_first
from ganglion.engine.store import MAY_BE_INFINITE, Keeper, Store, Weights
from ganglion.engine.streams import stream_seed

PULSE = 0.25  # seconds between the moments at which processes look up together
MOST_BETWEEN = 100  # iterations between two such moments
PATIENCE = 600.0  # seconds that one process waits for another before they learn: it may read data from far away
# What torch says when a message does not arrive.
LOST = ("Connection closed", "Connection reset", "Timed out", "timed out", "gloo", "NCCL", "Socket", "Broken pipe")

NO_COUNT = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # torchrun then keeps nothing from one start to the next

_meeting: Meeting | None = None  # of the processes that share the job which this one carries out


class FailedElsewhere(RunError):
    """Another process of this job failed, and says why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of this job failed")
        self.exit_code = exit_code
        self.told = True


class SaidOnce(RunError):
    """What went wrong first in any process of this job; `told` in all of them but the one that says it."""


@contextmanager
def team(patience: str | None = None) -> Iterator[Part]:
    """The processes that a launcher has started for this job, joined; this one alone where there is no other.

    They wait so many seconds for one another to come, as the job's key says; what it should be is checked with the job.
    """
    launch = launched()
    if this_process().count > 1:
        yield this_process()
        return
    wait = _seconds(patience)
    with watched():
        if launch.count == 1:
            with _met(Meeting(this_process(), None, started_before(wait))):
                yield this_process()
            return
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():
            take_own_gpu()
        with joined(launch, backend, wait) as meeting, _met(meeting), _connected(meeting.part, PATIENCE):
            be_patient(PATIENCE)
            yield meeting.part


def _seconds(text: str | None) -> float:
    try:
        return min(max(float(text or PATIENCE), 1.0), PATIENCE)
    except ValueError:
        return PATIENCE


@contextmanager
def _met(meeting: Meeting) -> Iterator[None]:
    global _meeting  # noqa: PLW0603
    _meeting = meeting
    try:
        yield
    finally:
        _meeting = None


@contextmanager
def stage(part: Part) -> Iterator[None]:
    """What every process does by itself: where it fails in one, all end, and the first that failed says why."""
    if part.count == 1:
        yield
        return
    failed: BaseException | None = None
    try:
        yield
    except Exception as error:
        failed = error
    codes = told_by_all(b"" if failed is None else str(getattr(failed, "exit_code", 1)).encode())
    first = next((rank for rank, code in enumerate(codes) if code), None)
    if first is None:
        return
    undisturbed()
    if failed is None or first != part.rank:
        raise FailedElsewhere(int(codes[first])) from failed
    if part.rank and isinstance(failed, EngineError):
        raise type(failed)(f"process {part.rank + 1} of {part.count}: {failed}") from failed
    raise failed


def tell(part: Part, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the first process says, in all of them."""
    if part.count == 1:
        return dict(content or {})
    told: dict[str, Any] = json.loads(told_by_first(None if content is None else json.dumps(content).encode()))
    return told


def restarted(tag: str | None, clean: bool = False) -> bool:
    """Whether torchrun has started this job anew after a failure. Raises ConfigError where it could not go on then."""
    if clean and by_torchrun() and os.environ.get(NO_COUNT) == "1":
        raise ConfigError(f"clean=true would remove the run at every start: with {NO_COUNT}=1 they cannot be counted")
    again = _meeting is not None and _meeting.again
    if not tag and (again or restarts_left() > 0):
        raise ConfigError("processes that torchrun may restart (--max-restarts) find their run by its tag: give tag=")
    return again


@contextmanager
def _connected(part: Part, patience: float) -> Iterator[None]:
    """Say what it means when a message does not arrive. Raises RunError."""
    try:
        yield
    except RuntimeError as error:
        sentence = _lost(part, error, patience)
        if sentence is None:
            raise
        raise _told(sentence) from None


@contextmanager
def explained(part: Part, patience: float) -> Iterator[None]:
    """While they learn: wait so long for one another; one process says what went wrong first. Raises RunError."""
    if part.count == 1:
        yield
        return
    be_patient(patience)
    try:
        with _connected(part, patience):
            yield
    except SaidOnce:
        raise
    except EngineError as error:
        if part.rank and not error.told:
            raise _told(f"process {part.rank + 1} of {part.count}: {error}", error) from error
        if not error.told:
            _told(str(error))
        raise
    except Exception as error:
        sentence = f"{type(error).__name__}: {error}"
        said = _told(f"process {part.rank + 1} of {part.count}: {sentence}" if part.rank else sentence)
        if part.rank and said.told:
            raise FailedElsewhere(1) from error
        raise


def _told(sentence: str, error: EngineError | None = None) -> SaidOnce:
    """The error to end with: what went wrong first, which one of the processes says."""
    assert _meeting is not None
    undisturbed()
    told = tell_once(_meeting, sentence)
    failure = SaidOnce(told.sentence)
    failure.told = not told.says
    failure.exit_code = error.exit_code if error is not None else failure.exit_code
    return failure


def _lost(part: Part, error: RuntimeError, patience: float) -> str | None:
    """What it means when a message does not arrive; None where that is not what happened."""
    text = str(error)
    if part.count == 1 or isinstance(error, EngineError) or not any(word in text for word in LOST):
        return None
    who = f"process {part.rank + 1} of {part.count}"
    late = "imed out" in text or "imeout" in text
    what = (
        f"{who} has waited {patience:g} s (patience) for another, which is cut off, stopped or too slow"
        if late
        else f"{who} lost another, which ended or was killed"
    )
    again = by_torchrun() and restarts_left() > 0
    return f"{what}; {'torchrun starts them again' if again else 'given its tag, the run goes on from where it stored'}"


class Pulse:
    """When all processes look up from their iterations together: some times a second, and after as many iterations."""

    def __init__(self, part: Part) -> None:
        self.shared = part.count > 1
        self._leads = part.rank == 0
        self._last = (0, time.monotonic())
        self._next = 0

    def following(self, iteration: int) -> int:
        """The iteration at which they look up next."""
        self._next = max(self._next, iteration + 1)
        return self._next

    def agree(self, iteration: int, signal: int, over: bool, store: bool) -> tuple[int, bool, bool]:
        """What any process has seen of a signal, of the end of the time and of a checkpoint that is due."""
        now = time.monotonic()
        since, moved = now - self._last[1], iteration - self._last[0]
        self._last = (iteration, now)
        gap = min(MOST_BETWEEN, max(1, int(PULSE * moved / since))) if moved > 0 and since > 0 else 1
        signal, ends, stores, gap = largest([signal, int(over), int(store), gap if self._leads else 0])
        self._next = iteration + gap
        return signal, bool(ends), bool(stores)


# --- state that is passed on ------------------------------------------------------------------------------------


class LeadingStore(Store):
    """The store of the first process, which alone writes; what it loads, all go on from."""

    def save(
        self, iteration: int, weights: Weights, averaged: Weights, state: Mapping[str, Any], pinned: bool, best: bool
    ) -> Path:
        generators = [torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in told_by_all(_generator())]
        return super().save(iteration, weights, averaged, {**state, "generators": generators}, pinned, best)

    def load(self) -> Checkpoint:
        try:
            checkpoint = super().load()
        except BaseException:
            told_by_first(b"")
            raise
        told_by_first(_packed(checkpoint))
        return checkpoint


class FollowingStore(Keeper):
    """The store of every other process: it writes nothing, and goes on from what the first process sends."""

    def __init__(self, part: Part, seed: int, stored: bool) -> None:
        self.part = part
        self.seed = seed
        self.stored = stored

    def has_checkpoint(self) -> bool:
        """Whether the first process has stored anything yet."""
        return self.stored

    def save(
        self, iteration: int, weights: Weights, averaged: Weights, state: Mapping[str, Any], pinned: bool, best: bool
    ) -> Path:
        """Send what belongs to this process alone. Raises DivergedError, as the first process does."""
        self.stored = True
        told_by_all(_generator())
        serialise(iteration, weights, averaged, state, MAY_BE_INFINITE)
        return Path()

    def load(self) -> Checkpoint:
        """The checkpoint that the first process has loaded, with this process's own random state."""
        packed = told_by_first(None)
        if not packed:
            raise FailedElsewhere(1)
        checkpoint = _unpacked(packed)
        kept = checkpoint.state.get("generators", [])
        default = checkpoint.state["session"]["streams"]["default"]
        if self.part.rank < len(kept):
            default.update(_unjoined(kept[self.part.rank]))
        else:
            default.update(self._fresh(checkpoint.iteration))
        return checkpoint

    def _fresh(self, iteration: int) -> dict[str, torch.Tensor]:
        """Where torch's default generators begin in a process that was not there before."""
        seed, own, found = stream_seed(self.seed, "network", self.part.rank, iteration), _own_cuda(), {}
        for name, device in {"cpu": "cpu", **({own: own.replace("cuda", "cuda:")} if own else {})}.items():
            found[name] = torch.Generator(device).manual_seed(seed).get_state()
        return found

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Nothing here is cut back: the first process keeps the trace."""


def share_weights(part: Part, networks: Mapping[str, nn.Module]) -> None:
    """Let every process begin with the weights of the first, which alone may have read them from somewhere."""
    if part.count == 1:
        return
    with torch.no_grad():
        for network in networks.values():
            for tensor in (*whole_parameters(network), *network.buffers()):
                flat = tensor.detach().contiguous().view(-1).view(torch.uint8)  # bytes: of whatever type it is
                if flat.numel():
                    distributed.broadcast(flat, 0)
                    tensor.copy_(flat.view(tensor.dtype).view(tensor.shape))


def _generator() -> bytes:
    """The states of torch's default generators, which dropout draws from: each process has its own, its GPU's behind.

    How long that of the CPU is does not change, so that those of a run that was stored without a GPU's are read too.
    """
    own = torch.get_rng_state().numpy().tobytes()
    return own + torch.cuda.get_rng_state().numpy().tobytes() if _own_cuda() else own


def _unjoined(states: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `_generator` has put together, by the names that a checkpoint has for them."""
    size, own = len(torch.get_rng_state()), _own_cuda()
    found = {"cpu": states[:size]}
    if own and len(states) > size:
        found[own] = states[size:]
    return found


def _own_cuda() -> str | None:
    """How a checkpoint calls this process's GPU, where it computes on one."""
    return f"cuda{torch.cuda.current_device()}" if torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _packed(checkpoint: Checkpoint) -> bytes:
    contents = serialise(
        checkpoint.iteration, checkpoint.networks, checkpoint.averaged, checkpoint.state, MAY_BE_INFINITE
    )
    sizes = {name: len(data) for name, data in contents.items()}
    header = json.dumps({"iteration": checkpoint.iteration, "sizes": sizes}).encode()
    return len(header).to_bytes(8, "big") + header + b"".join(contents.values())


def _unpacked(packed: bytes) -> Checkpoint:
    start = 8 + int.from_bytes(packed[:8], "big")
    header = json.loads(packed[8:start])
    with tempfile.TemporaryDirectory(prefix="ganglion-") as folder:
        for name, size in header["sizes"].items():
            write_new(Path(folder) / name, packed[start : start + size])
            start += size
        return read_checkpoint(Path(folder), header["iteration"])
