"""Losses run as graphs: one per function, roles and shapes, each compared with the loss as it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ganglion.engine.contracts import Loss
from ganglion.engine.streams import undisturbed
from ganglion.engine.tracing import CannotCapture, Compiler, Graph, flattened, trace

if TYPE_CHECKING:
    from ganglion.engine.processors import ProcessorChain

MOST_VARIANTS = 4  # values of what changes for which graphs are made, before a loss is left as it is
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}  # of each result's largest number


class Capture:
    """The graphs of one session's losses.

    A loss that cannot be traced, or whose graph gives something else, is carried out as it is written: `refused` says
    why. So are functions that are no methods or functions of a module, as those are made anew in every call.
    A graph is compared in its first uses, `comparisons` of them: where it is fed through memory of its own, the first
    use alone does not show whether that is filled anew. For `elementary` see `trace`.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        chains: Mapping[str, ProcessorChain],
        compiler: Compiler,
        comparisons: int = 1,
        elementary: bool = True,
    ) -> None:
        self.networks = dict(networks)
        self.chains = dict(chains)
        self.compiler = compiler
        self.comparisons = comparisons
        self.elementary = elementary
        self.refused: dict[str, str] = {}
        self.variants: dict[str, list[dict[str, Any]]] = {}
        self._graphs: dict[Any, list[Graph]] = {}
        self._to_compare: dict[int, int] = {}  # how often still, by the graph's identity
        self._alive: list[Any] = []  # what keys refer to by identity

    def state_dict(self) -> dict[str, Any]:
        """What was refused and which values were read: a run that goes on decides as the one that was stopped."""
        return {"refused": dict(self.refused), "variants": {name: list(seen) for name, seen in self.variants.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.refused = dict(state["refused"])
        self.variants = {name: [dict(values) for values in seen] for name, seen in state["variants"].items()}

    def graphs(self) -> int:
        """How many graphs there are."""
        return sum(len(each) for each in self._graphs.values())

    def differentiate(
        self, chains: Sequence[ProcessorChain], loss_of: Callable[..., Loss | Tensor], inputs: Sequence[Any], parts: int
    ) -> Loss | None:
        """The detached loss, the gradients of its `parts`-th part being added to those of the chains' parameters.

        None where the loss has to be carried out as it is written.
        """
        name = _name(chains, loss_of)
        if name in self.refused:
            return None
        leaves: list[Any] = []
        key = (name, id(getattr(loss_of, "__self__", None)), flattened(tuple(inputs), leaves, self._alive))
        graph = next((each for each in self._graphs.get(key, ()) if each.holds()), None)
        try:
            if graph is None:
                graph = self._made(name, chains, loss_of, tuple(inputs), leaves)
                self._graphs.setdefault(key, []).append(graph)
            elif id(graph) in self._to_compare:
                self._compare_again(graph, loss_of, inputs, leaves)
            results = graph.results(leaves)
        except CannotCapture as reason:
            self.refused[name] = str(reason)
            return None
        return _spread(graph, results, parts)

    def _made(
        self,
        name: str,
        chains: Sequence[ProcessorChain],
        loss_of: Callable[..., Loss | Tensor],
        inputs: tuple[Any, ...],
        leaves: Sequence[Any],
    ) -> Graph:
        """A new graph, compared with the loss as it is written. Raises CannotCapture."""
        owner = getattr(loss_of, "__self__", None)
        self._alive.append(owner)
        watched = [*self.chains.values(), *([] if owner is None else [owner])]
        learning = [parameter for chain in chains for parameter in chain.parameters]
        graph = trace(self.networks, learning, loss_of, inputs, leaves, watched, self.compiler, self.elementary)
        self._count(name, graph)
        self._to_compare[id(graph)] = self.comparisons
        self._compare_again(graph, loss_of, inputs, leaves)
        return graph

    def _compare_again(
        self, graph: Graph, loss_of: Callable[..., Loss | Tensor], inputs: Sequence[Any], leaves: Sequence[Any]
    ) -> None:
        """Raises CannotCapture where a graph gives something else than the loss as it is written."""
        with self._restored():
            found = graph.results(leaves)
        with self._restored():
            wanted = _as_written(loss_of, inputs, graph)
        _compare(found, wanted)
        self._to_compare[id(graph)] -= 1
        if not self._to_compare[id(graph)]:
            del self._to_compare[id(graph)]

    def _count(self, name: str, graph: Graph) -> None:
        """Raises CannotCapture where a loss reads numbers that change all the time."""
        seen = self.variants.setdefault(name, [])
        values = {each.name: each.value for each in graph.readings}
        if values not in seen:
            seen.append(values)
        if len(seen) > MOST_VARIANTS:
            changing = sorted(key for key in values if len({repr(each.get(key)) for each in seen}) > 1)
            raise CannotCapture(f"it reads {', '.join(changing)}, which changes; give that as an argument")

    def _restored(self) -> _Restored:
        return _Restored([buffer for network in self.networks.values() for buffer in network.buffers()])


class _Restored:
    """Leaves buffers and torch's default generators as they were."""

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        self.buffers = buffers
        self.generators = undisturbed()

    def __enter__(self) -> None:
        self.before = [buffer.clone() for buffer in self.buffers]
        self.generators.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.generators.__exit__(*error)
        with torch.no_grad():
            for buffer, before in zip(self.buffers, self.before, strict=True):
                buffer.copy_(before)


def _name(chains: Sequence[ProcessorChain], loss_of: Any) -> str:
    roles = "+".join(chain.role for chain in chains)
    return f"{roles}: {getattr(loss_of, '__name__', type(loss_of).__name__)}"


def _spread(graph: Graph, results: Sequence[Tensor], parts: int) -> Loss:
    """The loss, after its gradients have been put where they belong."""
    gradients = results[1 + len(graph.terms) :]
    for parameter, gradient in zip(graph.learning, gradients, strict=True):
        part = gradient / parts if parts > 1 else gradient
        parameter.grad = part if parameter.grad is None else parameter.grad.add_(part)
    return Loss(results[0], dict(zip(graph.terms, results[1:], strict=False)))


def _as_written(loss_of: Callable[..., Loss | Tensor], inputs: Sequence[Any], graph: Graph) -> list[Tensor]:
    given = loss_of(*inputs)
    loss = given if isinstance(given, Loss) else Loss(given)
    gradients = torch.autograd.grad(loss.total, list(graph.learning))
    return [loss.total.detach(), *(term.detach() for term in loss.terms.values()), *gradients]


def _compare(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Raises CannotCapture where a graph gives something else than the loss as it is written."""
    for one, other in zip(found, wanted, strict=True):
        size = float(other.abs().max()) if other.numel() else 0.0
        if one.shape != other.shape or not torch.allclose(
            one, other, rtol=0.0, atol=TOLERANCES.get(other.dtype, 0.05) * max(size, 1e-3), equal_nan=True
        ):
            raise CannotCapture("its graph gives other numbers than the loss as it is written")
