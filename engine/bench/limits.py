"""What no engine can be faster than: the matrix products of an iteration, and the memory that its optimisers move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ganglion.engine.bench.timing import Run, seconds_of
from ganglion.engine.session import Session

# What multiplies matrices, by torch's own names; convolutions and recurrent layers count as such.
PRODUCTS = frozenset({
    "mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "dot", "linear", "convolution", "convolution_backward",
    "convolution_overrideable", "convolution_backward_overrideable", "mkldnn_rnn_layer", "mkldnn_rnn_layer_backward",
    "_cudnn_rnn", "_cudnn_rnn_backward",
})  # fmt: skip
REPEATS = 5
LEAST_SECONDS = 0.002  # per repeat
LEAST_BYTES = 1 << 16


class Call(NamedTuple):
    """One call into torch, as it came."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]


class Limits(NamedTuple):
    """What an iteration cannot do without: its matrix products, to be timed in turn with it, and optimisers' seconds.

    `products` carries out those of so many iterations; `optimisers` is the time that their memory traffic takes.
    """

    products: Run
    optimisers: float


class Recorder(TorchDispatchMode):
    """Takes down every call that torch carries out, below autograd, with its arguments where `keep` asks for them."""

    def __init__(self, keep: Callable[[str], bool] = lambda name: False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keep = keep
        self.names: list[str] = []
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).split(".")[1]
        self.names.append(name)
        if self.keep(name):
            self.calls.append(Call(func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def limits_of(session: Session, iteration: int) -> Limits:
    """The limits of one iteration of an eager session, which is carried out for it.

    Products with nothing but zeros, as the second derivatives of ReLU are, are none that it cannot do without.
    """
    before = {role: chain.updates for role, chain in session.chains.items()}
    with Recorder(PRODUCTS.__contains__) as recorder:
        session.strategy.process_iteration(iteration)
    optimisers = 0.0
    for role, chain in session.chains.items():
        moved, held = traffic(chain.parameters, chain.method.state_dict())
        updates = chain.updates - before[role]
        optimisers += updates * moved / copy_bandwidth(held, session.devices[role])
    return Limits(partial(_carry_out, tuple(call for call in recorder.calls if _matters(call))), optimisers)


def _matters(call: Call) -> bool:
    """Whether a product of two matrices, the last arguments, is one of more than zeros; other calls do."""
    factors = call.arguments[-2:] if str(call.function).split(".")[1] in {"mm", "addmm"} else ()
    return all(bool(factor.any()) for factor in factors)


@torch.no_grad()
def _carry_out(calls: Sequence[Call], iterations: int) -> None:
    for _ in range(iterations):
        for call in calls:
            call.function(*call.arguments, **call.keywords)


def traffic(parameters: Sequence[Tensor], memory: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes that one update moves, and bytes that it works on.

    Parameters and what the method remembers are read and written, gradients read: seven times the weights for Adam.
    """
    weights = _bytes(parameters)
    remembered = _bytes(tree_leaves(memory))
    return 3 * weights + 2 * remembered, 2 * weights + remembered


def _bytes(tensors: Sequence[Any]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors if isinstance(each, Tensor))


def copy_bandwidth(held: int, device: torch.device) -> float:
    """Bytes per second, read and written, of a copy that works on as many bytes: in a cache where they fit in one."""
    half = max(held, LEAST_BYTES) // 2
    source = torch.zeros(half, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * half / _fastest(lambda: target.copy_(source), device.type)


def _fastest(action: Callable[[], object], device: str) -> float:
    """Seconds of one action: the shortest mean of some repeats."""

    def run(times: int) -> None:
        for _ in range(times):
            action()

    run(1)
    times = max(1, round(LEAST_SECONDS / max(seconds_of(run, 1, device), 1e-9)))
    return min(_means(run, times, device))


def _means(run: Callable[[int], None], times: int, device: str) -> Iterator[float]:
    for _ in range(REPEATS):
        yield seconds_of(run, times, device) / times
