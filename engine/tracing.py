"""From a loss, as it is written, to a graph of it and its gradients: traced once on made-up values, then compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ganglion.engine.contracts import Batch, Loss
from ganglion.engine.zeros import leave_out_zeros

PLAIN = (bool, int, float, str, type(None))

Runner = Callable[[list[Tensor]], Sequence[Tensor]]
Compiler = Callable[[torch.fx.GraphModule, Sequence[Tensor]], Runner]  # a graph and examples of what it is fed


class CannotCapture(Exception):
    """Why a loss cannot be run as a graph: one clause."""


class Reading(NamedTuple):
    """A plain value that a loss read while it was traced: the graph holds for this one alone."""

    owner: object
    name: str
    value: Any


class Graph(NamedTuple):
    """A compiled loss: what it is fed besides its inputs, and what its results are."""

    run: Runner
    weights: Sequence[Tensor]  # parameters and buffers, in the order of the graph
    used: Sequence[int]  # which of the inputs' tensors the graph reads
    terms: Sequence[str]
    learning: Sequence[nn.Parameter]  # those that have a gradient
    copied: Sequence[int]  # results that share memory with others
    readings: Sequence[Reading]

    def holds(self) -> bool:
        """Whether what was read is still so."""
        return all(getattr(owner, name) == value for owner, name, value in self.readings)

    def results(self, leaves: Sequence[Any]) -> list[Tensor]:
        """The loss, its terms, and the gradients of `learning`."""
        like = _like(self.learning)
        with torch.no_grad():
            results = list(self.run([*self.weights, *(as_tensor(leaves[place], like) for place in self.used)]))
        for place in self.copied:
            results[place] = results[place].clone()
        return results


def as_tensor(leaf: Any, like: Tensor) -> Tensor:
    """A tensor as it is, a number as a tensor of no dimensions, of the type and on the device of `like`."""
    if isinstance(leaf, Tensor):
        return leaf
    if like.device.type == "cpu":
        return torch.tensor(leaf, dtype=like.dtype)
    return torch.full((), leaf, dtype=like.dtype, device=like.device)  # filled there: a copy would have the host wait


def _like(learning: Sequence[Tensor]) -> Tensor:
    return learning[0] if learning else torch.empty((), dtype=torch.float32)


def flattened(value: Any, leaves: list[Any], alive: list[Any]) -> Any:
    """What identifies the structure of `value`; its tensors and floats go into `leaves`, in order.

    Floats are inputs of a graph, as the weights of penalties change; other plain values are part of the identity.
    """
    if isinstance(value, Tensor):
        leaves.append(value)
        return value.shape, value.dtype, value.device.type
    if type(value) is float:
        leaves.append(value)
        return float
    if isinstance(value, Batch):
        parts = [flattened(value.input, leaves, alive), flattened(value.target, leaves, alive)]
        return Batch, *parts, *((name, flattened(each, leaves, alive)) for name, each in value.fields.items())
    if isinstance(value, (tuple, list)):
        return type(value), *(flattened(each, leaves, alive) for each in value)
    if type(value) in PLAIN:
        return value
    if not any(value is each for each in alive):
        alive.append(value)
    return id(value)


def filled(value: Any, leaves: Iterator[Any]) -> Any:
    """The same structure with other leaves."""
    if isinstance(value, Tensor) or type(value) is float:
        return next(leaves)
    if isinstance(value, Batch):
        row, target = filled(value.input, leaves), filled(value.target, leaves)
        return Batch(row, target, {name: filled(each, leaves) for name, each in value.fields.items()})
    if isinstance(value, (tuple, list)):
        parts = [filled(each, leaves) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def trace(
    networks: Mapping[str, nn.Module],
    learning: Sequence[nn.Parameter],
    loss_of: Any,
    inputs: tuple[Any, ...],
    leaves: Sequence[Any],
    watched: Sequence[object],
    compiler: Compiler,
    elementary: bool = True,
) -> Graph:
    """Trace `loss_of(*inputs)` and its gradients by `learning`, and compile that. Raises CannotCapture.

    `leaves` are the tensors and floats of `inputs`, in order; `watched` is what the loss may read plain values from.
    A graph that is not `elementary` has the operations that torch carries out where the loss is called, in place where
    they are. Its `meta` says how many of the tensors that it is fed are `weights`, which come first and are the same
    ones every time, and how many of its results are `reported`: the loss and its terms, which come first as well.
    """
    _refuse(networks, loss_of)
    slots = list(_slots(networks))
    weights = [getattr(module, kind)[name] for module, kind, name in slots]
    like = _like(learning)
    found: dict[str, Any] = {}

    def whole(*flat: Tensor) -> list[Tensor]:
        own, given = flat[: len(weights)], iter(flat[len(weights) :])
        with _swapped(slots, weights, own, learning) as mine:
            loss = loss_of(*filled(inputs, given))
            loss = loss if isinstance(loss, Loss) else Loss(loss)
            found["terms"] = list(loss.terms)
            reported = [loss.total.detach(), *(term.detach() for term in loss.terms.values())]
            return [*reported, *_gradients(loss, mine, found)]

    flat = [*weights, *(as_tensor(leaf, like) for leaf in leaves)]
    with _watching(watched) as seen:
        graph, kept = _traced(whole, flat, elementary)
    graph.meta.update(weights=sum(place < len(weights) for place in kept), reported=1 + len(found["terms"]))
    run = compiler(graph, [flat[place].detach() for place in kept])
    learners = [learning[place] for place in found["places"]]
    fed = [place - len(weights) for place in kept if place >= len(weights)]
    return Graph(
        run,
        [weights[place] for place in kept if place < len(weights)],
        fed,
        found["terms"],
        learners,
        _shared(graph),
        seen,
    )


def _gradients(loss: Loss, mine: Sequence[Tensor], found: dict[str, Any]) -> list[Tensor]:
    """The gradients of the weights that have one, laid out as those are; `found` says which have."""
    given = torch.autograd.grad(loss.total, mine, allow_unused=True) if mine else ()
    found["places"] = [place for place, gradient in enumerate(given) if gradient is not None]
    return [
        gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
        for gradient, weight in zip(given, mine, strict=True)
        if gradient is not None
    ]


def _traced(
    whole: Callable[..., list[Tensor]], flat: Sequence[Tensor], elementary: bool
) -> tuple[torch.fx.GraphModule, list[int]]:
    """The graph, and the places of the inputs that it reads; elementary operations change nothing in place."""
    from torch.fx.experimental.proxy_tensor import make_fx

    detached, table = [tensor.detach() for tensor in flat], _table() if elementary else {}
    try:
        graph = make_fx(whole, decomposition_table=table, tracing_mode="fake")(*detached)
        if elementary:
            functional = torch.func.functionalize(graph)  # changes in place become results; views stay
            graph = make_fx(functional, decomposition_table=table, tracing_mode="fake")(*detached)
            leave_out_zeros(graph)
    except CannotCapture:
        raise
    except Exception as error:  # whatever tracing does not know is carried out as it is written
        raise CannotCapture(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
    places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    kept = [place for place, node in enumerate(places) if node.users]
    for node in places:
        if not node.users:
            graph.graph.erase_node(node)
    graph.recompile()
    return graph, kept


def _table() -> dict[Any, Callable[..., Any]]:
    """What larger operations are made of, by torch's compiler, which takes seconds to import."""
    from torch._inductor.decomposition import select_decomp_table

    return dict(select_decomp_table())


def _shared(graph: torch.fx.GraphModule) -> list[int]:
    """Results that are another result, or an input, under another name: nobody may change them in place."""
    results = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    roots = [root_of(node) for node in results]
    return [place for place, root in enumerate(roots) if root.op == "placeholder" or root in roots[:place]]


def root_of(node: torch.fx.Node) -> torch.fx.Node:
    """The node whose memory this one may look into."""
    while node.op == "call_function" and _is_in_its_argument(node):
        node = cast(torch.fx.Node, node.args[0])
    return node


def _is_in_its_argument(node: torch.fx.Node) -> bool:
    """Whether an operation's result is its first argument's memory: a view of it, or changed in place."""
    schema = getattr(node.target, "_schema", None)
    in_place = schema is not None and schema.is_mutable and isinstance(node.args[0], torch.fx.Node)
    return in_place or bool(getattr(node.target, "is_view", False))


def _refuse(networks: Mapping[str, nn.Module], loss_of: Any) -> None:
    if not isinstance(loss_of, (MethodType, FunctionType)) or "<" in loss_of.__qualname__:
        raise CannotCapture("it is a function made anew in every iteration")
    for role, network in networks.items():
        recurrent = next((module for module in network.modules() if isinstance(module, nn.RNNBase)), None)
        if recurrent is not None:
            raise CannotCapture(f"the {role} has a layer {type(recurrent).__name__}, which a graph would unroll")


def _slots(networks: Mapping[str, nn.Module]) -> Iterator[tuple[nn.Module, str, str]]:
    """Where the parameters and buffers of all networks stand, each once."""
    for network in networks.values():
        for module in network.modules():
            for kind in ("_parameters", "_buffers"):
                for name, tensor in getattr(module, kind).items():
                    if tensor is not None:
                        yield module, kind, name


@contextmanager
def _swapped(
    slots: Sequence[tuple[nn.Module, str, str]],
    before: Sequence[Tensor],
    values: Sequence[Tensor],
    learning: Sequence[nn.Parameter],
) -> Iterator[list[Tensor]]:
    """Put `values` in the place of weights, and give those of `learning`, which gradients are taken of."""
    mine: dict[int, Tensor] = {}
    try:
        for (module, kind, name), own, value in zip(slots, before, values, strict=True):
            mine.setdefault(id(own), value.detach().requires_grad_(own.requires_grad))
            getattr(module, kind)[name] = mine[id(own)] if kind == "_parameters" else value
        yield [mine[id(parameter)] for parameter in learning]
    finally:
        for (module, kind, name), own in zip(slots, before, strict=True):
            getattr(module, kind)[name] = own


@contextmanager
def _watching(objects: Sequence[object]) -> Iterator[list[Reading]]:
    """Notes the plain values that are read from `objects`. Raises CannotCapture where one of them is changed."""
    seen: list[Reading] = []
    with ExitStack() as stack:
        for each in objects:
            stack.enter_context(_watched(each, seen))
        yield seen


@contextmanager
def _watched(owner: Any, seen: list[Reading]) -> Iterator[None]:
    before = type(owner)

    class Watched(before):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            value = object.__getattribute__(self, name)
            if type(value) in PLAIN and name in object.__getattribute__(self, "__dict__"):
                seen.append(Reading(self, name, value))
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            raise CannotCapture(f"it changes {name} of {before.__name__}")

    owner.__class__ = Watched
    try:
        yield
    finally:
        object.__setattr__(owner, "__class__", before)  # its own way of setting refuses


def inductor(graph: torch.fx.GraphModule, examples: Sequence[Tensor]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Machine code for a graph, by torch's own compiler. Raises CannotCapture."""
    try:
        import torch._inductor.config as options
        from torch._inductor.compile_fx import compile_fx_inner

        # Dropout draws as it does without a graph; shapes were compared when the graph was chosen.
        with torch.no_grad(), options.patch(fallback_random=True, size_asserts=False):
            compiled = compile_fx_inner(graph, list(examples))
    except Exception as error:
        raise CannotCapture(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
    return compiled


def interpreted(graph: torch.fx.GraphModule, examples: Sequence[Tensor]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """The graph as it is, one operation after the other: what tests use where compiling would take long."""
    return lambda tensors: graph(*tensors)
