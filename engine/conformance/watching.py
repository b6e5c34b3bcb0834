"""Watching what runs: numbers read from tensors on the host, and draws from generators that belong to nobody."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ganglion.engine.conformance.results import current_place
from ganglion.engine.streams import undisturbed

OPTIMISERS = str(Path(torch.optim.__file__).parent)
# Operations whose result, or its size, the host must know; on a GPU each of them waits for the device.
WAITING = (
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal",
    "bincount", "repeat_interleave",
)  # fmt: skip
# Methods that hand the values themselves to the host: they pass no operation by which a CPU could notice them.
HANDING = {
    torch.Tensor.tolist: "tolist()",
    torch.Tensor.numpy: "numpy()",
    torch.Tensor.cpu: "cpu()",
    torch.Tensor.__array__: "numpy",
}


class Watch:
    """What was noticed while watching, each with its place; `inside` counts the modules that are being called."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.draws: list[str] = []
        self.inside = 0

    def read(self, what: str) -> None:
        """Note a read of a value by the host."""
        self.reads.append(f"{what}{current_place()}")

    def draw(self, what: str) -> None:
        """Note a draw from torch's default generators outside of any module."""
        self.draws.append(f"{what}{current_place()}")


class _Operations(TorchDispatchMode):
    """Sees every operation, those of the backward pass included."""

    watch: Watch

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(function).removeprefix("aten.").partition(".")[0]
        counted = name == "repeat_interleave" and kwargs.get("output_size") is not None
        if name in WAITING and not counted and not _in_optimiser():
            self.watch.read("a number is read" if name == WAITING[0] else f"torch's {name.strip('_')}")
        elif name == "index" and any(_is_mask(index) for index in args[1]):
            self.watch.read("rows are picked by a mask")
        seeded = torch.Tag.nondeterministic_seeded in function.tags
        if seeded and kwargs.get("generator") is None and not self.watch.inside:
            self.watch.draw(f"torch's {name.strip('_')}")
        return function(*args, **kwargs)


class _Methods(TorchFunctionMode):
    """Sees the methods of tensors that give values away without an operation."""

    watch: Watch

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.to and "cpu" in (*args[1:], *(kwargs or {}).values()):
            self.watch.read('values are handed over by to("cpu")')
        if function in HANDING:
            self.watch.read(f"values are handed over by {HANDING[function]}")
        return function(*args, **(kwargs or {}))


def _in_optimiser() -> bool:
    """Whether torch's own optimiser reads the number: those that it reads are on the host, on a GPU's side too."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(OPTIMISERS):
            return True
        frame = frame.f_back
    return False


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


@contextmanager
def watching() -> Iterator[Watch]:
    """Note what is read and drawn; dropout and the like inside of modules may use torch's default generators."""
    watch = Watch()

    def enter(*_: Any) -> None:
        watch.inside += 1

    def leave(*_: Any) -> None:
        watch.inside -= 1

    made: Any = (_Operations, _Methods)  # torch does not say what making them takes
    operations, methods = (mode() for mode in made)
    operations.watch = methods.watch = watch
    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        with operations, methods:
            yield watch
    finally:
        for handle in handles:
            handle.remove()


# --- generators that every program shares -------------------------------------------------------------------------


class SharedGenerators:
    """Python's and NumPy's generators as they were: plugins leave them alone."""

    def __init__(self) -> None:
        self.python, self.numpy = random.getstate(), numpy.random.get_state()

    def changed(self) -> list[str]:
        """Names of those that were seeded or drawn from since."""
        arrays = zip(self.numpy, numpy.random.get_state(), strict=True)
        same = all(numpy.array_equal(before, after) for before, after in arrays)
        return [
            *(["Python's random"] if random.getstate() != self.python else []),
            *([] if same else ["numpy.random"]),
        ]

    def restore(self) -> None:
        """Put both back."""
        random.setstate(self.python)
        numpy.random.set_state(self.numpy)


@contextmanager
def contained() -> Iterator[None]:
    """Leave no trace in this process: generators, number of threads and default type are put back at the end."""
    shared, threads, kind = SharedGenerators(), torch.get_num_threads(), torch.get_default_dtype()
    try:
        with undisturbed():
            yield
    finally:
        shared.restore()
        torch.set_default_dtype(kind)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def default_type(kind: torch.dtype) -> Iterator[None]:
    """Another default type of numbers for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
