"""The processes that carry out one job together: which of them this is, its part of a batch, what they exchange.

Nothing is wrapped: every process holds the whole networks, draws the whole batch's numbers and takes its part of them;
the gradients of an update are averaged before any processor sees them. All that is exchanged goes through this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch._subclasses.fake_tensor import FakeTensor

from ganglion.engine.sharedmemory import SharedMemory

BUCKET_BYTES = 25 << 20  # gradients travel together up to so many bytes


@dataclass(frozen=True)
class Part:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    def rows(self, values: Tensor) -> Tensor:
        """This process's part of the rows of a whole batch."""
        if self.count == 1:
            return values
        each = len(values) // self.count
        return values[self.rank * each : (self.rank + 1) * each]


ALONE = Part()
_part = ALONE  # set while this process has joined others, so that asking costs an iteration nothing
_memory: SharedMemory | None = None  # what it shares with them where all are on one machine


def this_process() -> Part:
    """Which of the job's processes this is; alone where there is one."""
    return _part


@contextmanager
def joined_by_file(path: Path, part: Part, patience: float) -> Iterator[Part]:
    """Join processes of this machine that were forked here; `path` is a file that is not there yet."""
    distributed.init_process_group(
        "gloo", init_method=path.as_uri(), rank=part.rank, world_size=part.count, timeout=timedelta(seconds=patience)
    )
    with being(part):
        yield part


@contextmanager
def being(part: Part) -> Iterator[Part]:
    """Be one of several processes until the group is left."""
    global _part, _memory
    _part, _memory = part, SharedMemory(part.rank, part.count)
    try:
        yield part
    finally:
        _part, _memory = ALONE, None
        leave()


def leave() -> None:
    """Close the connections to the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


# --- what is exchanged -------------------------------------------------------------------------------------------


class _Sum(torch.autograd.Function):
    """The sum over all processes, in every one of them; its gradient is the sum of the gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return summed(gradients[0])


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, differentiable as often as wanted; the values themselves in one process."""
    if this_process().count == 1:
        return values
    if isinstance(values, FakeTensor):  # while a graph is traced: there is nothing to exchange yet
        raise RuntimeError("it exchanges numbers with other processes")
    total: Tensor = _Sum.apply(values.contiguous())  # type: ignore[no-untyped-call]
    return total


def averaged(values: Tensor) -> Tensor:
    """The mean over all processes, differentiable as often as wanted."""
    count = this_process().count
    return values if count == 1 else summed(values) / count


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of the whole batch, differentiable as often as wanted."""
    part = this_process()
    if part.count == 1:
        return rows
    own = rows if rows.is_floating_point() else rows.to(torch.float64)
    before, after = part.rank * len(rows), (part.count - 1 - part.rank) * len(rows)
    parts = [own.new_zeros(before, *own.shape[1:]), own, own.new_zeros(after, *own.shape[1:])]
    return summed(torch.cat(parts)).to(rows.dtype)


def travels(tensors: Sequence[Tensor]) -> bool:
    """Whether means of these tensors go over connections: something else can be computed meanwhile.

    Through memory that all processes see they do not: there is nothing to wait for but the others.
    """
    local = _memory is not None and _memory.usable and all(tensor.device.type == "cpu" for tensor in tensors)
    return this_process().count > 1 and not local


def average_in_place(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their mean over all processes."""
    averaging(tensors)()


@torch.no_grad()
def averaging(tensors: Sequence[Tensor]) -> Callable[[], None]:
    """Begin to replace tensors by their mean over all processes; what is returned waits and ends it.

    Until then nobody touches the tensors or begins another exchange. On one machine those on the CPU go through memory
    that all see, others in few messages, of which one travels while the next is packed.
    """
    count = this_process().count
    travelling, local = [], [tensor for tensor in tensors if tensor.device.type == "cpu"]
    in_memory = _memory.averaging(local) if local and _memory is not None else None
    if in_memory is not None:
        tensors = [tensor for tensor in tensors if tensor.device.type != "cpu"]
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        travelling.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))

    @torch.no_grad()
    def finish() -> None:
        if in_memory is not None:
            in_memory()
        for bucket, flat, message in travelling:
            message.wait()
            flat.div_(count)
            parts = flat.split([tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view(tensor.shape) for tensor, part in zip(bucket, parts, strict=True)])

    return finish


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one device and type together, as long as they are small."""
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    for alike in kinds.values():
        bucket: list[Tensor] = []
        size = 0
        for tensor in alike:
            if bucket and size + tensor.numel() * tensor.element_size() > BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
            bucket.append(tensor)
            size += tensor.numel() * tensor.element_size()
        yield bucket


def largest(numbers: Sequence[int]) -> list[int]:
    """The largest of each number over all processes: what one of them has seen, all of them act upon."""
    values = torch.tensor(list(numbers), dtype=torch.int64)
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return values.tolist()


def told_by_first(content: bytes | None) -> bytes:
    """What the first process says, in every process."""
    size = torch.tensor([len(content or b"")], dtype=torch.int64)
    distributed.broadcast(size, 0)
    told = torch.zeros(int(size), dtype=torch.uint8)
    if content:
        told.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    if len(told):
        distributed.broadcast(told, 0)
    return told.numpy().tobytes()


def told_by_all(content: bytes) -> list[bytes]:
    """What every process says, in every process, in their order."""
    part = this_process()
    size = largest([len(content)])[0]
    table = torch.zeros(part.count, 8 + size, dtype=torch.uint8)
    written = len(content).to_bytes(8, "big") + content
    table[part.rank, : len(written)] = torch.frombuffer(bytearray(written), dtype=torch.uint8)
    distributed.all_reduce(table)
    lines = [line.numpy().tobytes() for line in table]
    return [line[8 : 8 + int.from_bytes(line[:8], "big")] for line in lines]
