"""Means over the processes of one machine, through memory that all of them see in place of a socket."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, distributed

FOLDER = Path("/dev/shm")
TURNS = 2  # sets of buffers: nobody still reads what the next exchange writes
PAGE = 4096  # buffers begin at multiples of it
PLACE = 64  # and tensors within a buffer at multiples of this
MOST = 1 << 30  # bytes of all buffers together: what is larger does not wait for a socket's latency anyway


Views = list[list[list[Tensor]]]  # by turn, process and tensor
Kinds = tuple[tuple[torch.Size, torch.dtype], ...]


class SharedMemory:
    """Two buffers per process, mapped by all processes of a group that are on one machine.

    Each writes its share of a mean into its own buffer, all meet, and each adds up everybody's buffers in the same
    order, so that all have the same bits. One meeting per exchange is enough: the next one writes into the other set of
    buffers, and who writes into the first set again has met everybody after they had read it.

    Nothing is left behind: the file has no name any more once all have mapped it. Where processes are on several
    machines, or there is no such memory or too little of it, `averaging` says so in all of them.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self.usable = True  # as far as is known: all processes find out together
        self.size = 0  # bytes of a buffer
        self._buffers: list[list[Tensor]] = []
        self._views: dict[Kinds, Views] = {}  # into the buffers, by the shapes and types that were exchanged
        self._turn = 0
        self._signal = torch.zeros(1)

    def averaging(self, tensors: Sequence[Tensor]) -> Callable[[], None] | None:
        """Begin to replace tensors on the CPU by their means over all processes; None where that is done otherwise.

        What is returned waits for the others and ends it, before the next exchange begins. All processes call it with
        tensors of the same shapes and types. Either raises what torch.distributed does where one of them is gone.
        """
        kinds = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        views = self._views.get(kinds) or self._views_of(kinds)
        if views is None:
            return None
        self._turn = (self._turn + 1) % TURNS
        theirs = views[self._turn]
        for tensor, own in zip(tensors, theirs[self.rank], strict=True):
            torch.div(tensor, self.count, out=own)
        meeting = distributed.all_reduce(self._signal, async_op=True)

        def finish() -> None:
            meeting.wait()
            for tensor, first, second, *others in zip(tensors, *theirs, strict=True):
                torch.add(first, second, out=tensor)
                for other in others:
                    tensor.add_(other)

        return finish

    def _views_of(self, kinds: Kinds) -> Views | None:
        places, size = [], 0
        for shape, dtype in kinds:
            end = size + shape.numel() * dtype.itemsize
            places.append((size, end, dtype, shape))
            size = -(-end // PLACE) * PLACE
        if self.usable and (size > self.size or not self._buffers):
            self._map(max(-(-size // PAGE), 1) * PAGE)
        if not self.usable:
            return None
        self._views[kinds] = views = [
            [[buffer[start:end].view(dtype).view(shape) for start, end, dtype, shape in places] for buffer in buffers]
            for buffers in self._buffers
        ]
        return views

    def _map(self, size: int) -> None:
        """Memory for buffers of `size` bytes, in all processes or in none. What was mapped before is given back."""
        self._views.clear()
        self._buffers = []
        name = torch.tensor(list(os.urandom(16)), dtype=torch.uint8)
        distributed.broadcast(name, 0)
        path = FOLDER / f"ganglion-{bytes(name.tolist()).hex()}"
        whole = size * self.count * TURNS
        try:
            self._agree(self.rank != 0 or _create(path, whole))
            memory = _mapped(path, whole) if self.usable else None
            self._agree(memory is not None)
        finally:
            if self.rank == 0:
                path.unlink(missing_ok=True)
        if memory is not None and self.usable:
            buffers = torch.frombuffer(memory, dtype=torch.uint8).split(size)
            self._buffers = [list(buffers[turn * self.count : (turn + 1) * self.count]) for turn in range(TURNS)]
            self.size = size

    def _agree(self, fine: bool) -> None:
        """Usable from now on only where it is fine in all processes."""
        refused = torch.tensor([0 if fine else 1])
        distributed.all_reduce(refused)
        self.usable = self.usable and not int(refused)


def _create(path: Path, size: int) -> bool:
    """A file of so many bytes that are really there: a write beyond what is left would end the process."""
    if size > MOST:
        return False
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
    return True


def _mapped(path: Path, size: int) -> mmap.mmap | None:
    """The file in this process's memory; None where it is not there: the one that made it is on another machine."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return mmap.mmap(descriptor, size)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
