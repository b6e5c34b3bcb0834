"""Losses as CUDA graphs: recorded once on memory of their own, then replayed, which is one launch for all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ganglion.engine.session import Session
from ganglion.engine.streams import undisturbed
from ganglion.engine.tracing import CannotCapture, root_of

WARM_UPS = 3  # before recording: libraries choose their ways and reserve memory in the first calls
SECONDS = 0.15  # of measuring at a time
Function = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class Recording(NamedTuple):
    """The tensors that hold a function's results, and what fills them anew from the buffers it was recorded with."""

    results: Sequence[Tensor]
    replay: Callable[[], None]


class Recorder(Protocol):
    """What turns a function of tensors into something that can be replayed."""

    def record(self, function: Function, buffers: Sequence[Tensor]) -> Recording:
        """Call `function(buffers)` to warm up, and record it; the recording reads `buffers` in every replay.

        Of what calls change, their caller puts right what it needs.
        """


class CudaRecorder:
    """Records the kernels that a function launches on one GPU. All recordings share a pool of memory.

    They may: each keeps its results, so that no other is given their memory, and what else it needs it needs only while
    it is replayed. Replays follow each other on the stream that updates are made on. Dropout draws in a replay what it
    would draw without one: torch hands each replay the state of the GPU's default generator and moves that on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @cached_property
    def _stream(self) -> Any:
        return torch.cuda.Stream(self.device)

    @cached_property
    def _pool(self) -> Any:
        return torch.cuda.graph_pool_handle()

    def record(self, function: Function, buffers: Sequence[Tensor]) -> Recording:
        """Warm up and record on a stream of its own; other threads, which may be fetching rows, are not minded."""
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UPS):
                    function(buffers)
            current.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                results = function(buffers)
        return Recording(results, graph.replay)


class Recorded:
    """A compiler whose graphs are recordings. Raises CannotCapture for a graph that cannot be one."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __call__(self, graph: torch.fx.GraphModule, examples: Sequence[Tensor]) -> Replayed:
        """What replays the graph, recorded when it is first called."""
        _refuse(graph, examples)
        return Replayed(graph, self.recorder)


class Replayed:
    """One graph: weights are read and changed where they lie, inputs are copied into memory of the recording's own.

    The loss and its terms are given as copies, as progress keeps them over iterations. Gradients are the recording's
    own tensors: an update drops them before the same graph is replayed, and parts of a batch are divided into new ones.
    Where something keeps one nevertheless, there are no further replays, which would change it.
    """

    def __init__(self, graph: torch.fx.GraphModule, recorder: Recorder) -> None:
        self.graph = graph
        self.recorder = recorder
        self.weights = int(graph.meta["weights"])
        self.reported = int(graph.meta["reported"])
        self._places: list[int] = []  # where the weights lay when this was recorded
        self._buffers: list[Tensor] = []
        self._recording: Recording | None = None
        self._references = 0  # to a gradient, where nobody keeps one

    def __call__(self, given: list[Tensor]) -> Sequence[Tensor]:
        """The graph's results. Raises CannotCapture where it cannot be recorded."""
        if self._recording is None or [weight.data_ptr() for weight in given[: self.weights]] != self._places:
            self._recording = self._record(given)
            self._references = self._most_references(self._recording)
        elif self._most_references(self._recording) > self._references:
            raise CannotCapture("its gradients are kept beyond the update, and a replay would change them")
        elif self._buffers:
            torch._foreach_copy_(self._buffers, given[self.weights :])
        self._recording.replay()
        results = self._recording.results
        return [*(each.clone() for each in results[: self.reported]), *results[self.reported :]]

    def _most_references(self, recording: Recording) -> int:
        return max((sys.getrefcount(each) for each in recording.results[self.reported :]), default=0)

    def _record(self, given: Sequence[Tensor]) -> Recording:
        weights = [weight.detach() for weight in given[: self.weights]]
        self._places = [weight.data_ptr() for weight in weights]
        self._buffers = [each.clone() for each in given[self.weights :]]
        before = [weight.clone() for weight in weights]
        try:
            with undisturbed():
                return self.recorder.record(lambda buffers: self.graph(*buffers), [*weights, *self._buffers])
        except Exception as error:  # whatever a GPU cannot record is carried out as it is written
            first = (str(error).splitlines() or [""])[0]
            raise CannotCapture(f"{type(error).__name__}: {first}") from error
        finally:
            for weight, was in zip(weights, before, strict=True):
                if not torch.equal(weight, was):  # running statistics, which warming up moved on
                    weight.copy_(was)


def _refuse(graph: torch.fx.GraphModule, examples: Sequence[Tensor]) -> None:
    """Raises CannotCapture for what would be recorded, and yet not be what a call of the loss does."""
    devices = sorted({str(tensor.device) for tensor in examples})
    if len(devices) > 1:
        raise CannotCapture(f"it computes on {' and '.join(devices)}, and a CUDA graph is recorded on one GPU")
    if any(place >= graph.meta["weights"] for place in _changed_in_place(graph)):
        raise CannotCapture("it changes an input in place")


def _changed_in_place(graph: torch.fx.GraphModule) -> list[int]:
    """The places of the tensors fed to a graph that an operation of it is known to change."""
    places = {node: place for place, node in enumerate(graph.graph.find_nodes(op="placeholder"))}
    changed: set[int] = set()
    for node in graph.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable:
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                values = value if isinstance(value, (list, tuple)) else [value]
                changed.update(places[root] for root in map(root_of, values) if root in places)
    return sorted(changed)


def only_gpu(session: Session) -> torch.device | None:
    """The one NVIDIA GPU that all networks are on; None where there is none, or several."""
    devices = set(session.devices.values())
    device = next(iter(devices))
    return device if len(devices) == 1 and device.type == "cuda" else None


def seconds_on(device: torch.device, session: Session) -> float:
    """Seconds per iteration on a GPU, which has done all of its work when the clock is read."""
    last, count = max(0, session.plan.job.iterations - 1), 0  # past any warm-up
    session.strategy.process_iteration(last)
    _finish(device)
    began = time.perf_counter()
    while not count or time.perf_counter() - began < SECONDS:
        session.strategy.process_iteration(last)
        count += 1
    _finish(device)
    return (time.perf_counter() - began) / count


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
