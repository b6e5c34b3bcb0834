"""This process's part of a network that several processes divide among themselves, and what is whole put together.

Every parameter is cut along its first dimension into as many equal parts as there are processes, the last of which may
be smaller or empty. Methods and links work on these parts, under the names of the whole parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ganglion.engine.errors import DivergedError
from ganglion.engine.health.watching import norm
from ganglion.engine.processes import Part, summed, told_by_all

Norm = Callable[[Sequence[Tensor]], Tensor]


class Shards(nn.Module):
    """A divided network's tensors as far as they are in this process, under the network's names; it is never called.

    `rows` is how many rows each divided parameter has as a whole; buffers are the network's own, and whole. `groups`
    are the modules whose weights are put together when they are called.
    """

    def __init__(self, network: nn.Module, part: Part, groups: Sequence[nn.Module]) -> None:
        super().__init__()
        self.part = part
        self.groups = tuple(groups)
        self.rows: dict[str, int] = {}
        self.pairs: list[tuple[nn.Parameter, nn.Parameter]] = []  # this process's part, and what torch has divided
        _take_after(self, network, {}, self._cut_of)
        for name, parameter in network.named_parameters(remove_duplicate=False):
            self.rows[name] = len(parameter)

    def _cut_of(self, divided: nn.Parameter) -> nn.Parameter:
        """This process's part of a parameter, in the same memory."""
        for own, known in self.pairs:
            if known is divided:
                return own
        with torch.no_grad():
            local: Any = divided
            own = nn.Parameter(local.to_local(), requires_grad=divided.requires_grad)
        self.pairs.append((own, divided))
        return own

    def divide_again(self) -> None:
        """Give up whole weights that are still there from a forward pass, as they are about to change."""
        for group in self.groups:
            module: Any = group
            module.reshard()

    def load_state_dict(self, *given: Any, **options: Any) -> Any:
        self.divide_again()
        return super().load_state_dict(*given, **options)

    def whole_norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Euclidean norm of tensors of which every process has a part."""
        return summed(norm(tensors).square()).sqrt()

    def share(self, count: Tensor, size: int) -> Tensor:
        """Which share `count` is of `size`, both counted over all processes."""
        both = summed(torch.stack((count.double(), count.new_tensor(size, dtype=torch.float64))))
        return both[0] / both[1]

    def whole(self, tree: Any) -> Any:
        """A tree of parts by parameter, those of all processes put together, in the first process's main memory.

        All processes call it; in the others parts stay parts.
        """
        return self._each(tree, self._put_together)

    def own(self, tree: Any) -> Any:
        """A tree of whole tensors by parameter, cut to this process's parts. Raises ValueError for other sizes."""
        return self._each(tree, self._cut)

    def _each(self, tree: Any, change: Callable[[str, Tensor], Tensor], name: str = "") -> Any:
        """The tree with what belongs to a divided parameter changed; numbers per parameter are no parts of it."""
        if isinstance(tree, Tensor):
            return change(name, tree) if name in self.rows and tree.dim() else tree
        if isinstance(tree, Mapping):
            return {key: self._each(branch, change, str(key)) for key, branch in tree.items()}
        return tree

    def _height(self, name: str) -> int:
        """How many rows the first process has."""
        return -(-self.rows[name] // self.part.count)

    def _cut(self, name: str, values: Tensor) -> Tensor:
        if len(values) != self.rows[name]:
            raise ValueError(f"'{name}' has {len(values)} rows there, and {self.rows[name]} here")
        height = self._height(name)
        return values[self.part.rank * height : (self.part.rank + 1) * height].clone()

    def _put_together(self, name: str, own: Tensor) -> Tensor:
        sent = own.new_zeros(self._height(name), *own.shape[1:], device="cpu")
        sent[: len(own)] = own.detach().to("cpu")
        if self.part.rank:
            distributed.gather(sent, None, dst=0)
            return own
        received = [torch.empty_like(sent) for _ in range(self.part.count)]
        distributed.gather(sent, received, dst=0)
        return torch.cat(received)[: self.rows[name]]


def _take_after(
    like: nn.Module, module: nn.Module, made: dict[nn.Module, nn.Module], cut_of: Callable[[nn.Parameter], nn.Parameter]
) -> None:
    """Give `like` the module's names: its own buffers, parts of its parameters, and modules of the same kind below."""
    made[module] = like
    like.__dict__["_buffers"] = module._buffers
    like.__dict__["_non_persistent_buffers_set"] = module._non_persistent_buffers_set
    for name, parameter in module._parameters.items():
        like._parameters[name] = None if parameter is None else cut_of(parameter)
    for name, child in module._modules.items():
        if child is not None and child not in made:
            _take_after(nn.Module(), child, made, cut_of)
        like._modules[name] = None if child is None else made[child]


def norm_of(network: nn.Module) -> Norm:
    """How the norm of a role's gradient is taken: over all processes where they divide the network."""
    return network.whole_norm if isinstance(network, Shards) else norm


def whole_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that every process holds whole: those that torch has not divided."""
    return [parameter for parameter in network.parameters() if not hasattr(parameter, "device_mesh")]


# --- checkpoints --------------------------------------------------------------------------------------------------

Trees = Mapping[str, Any]


def collected(
    shards: Mapping[str, Shards], weights: Trees, averaged: Trees, state: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Weights, averaged weights and state of a learner as one process would have them, in the first of them.

    All processes call it. Raises DivergedError, in all of them, where a part is not finite in one.
    """
    session = state["session"]
    chains = session["chains"]
    _refuse_infinite(shards, (weights, averaged, chains))

    def whole(trees: Trees) -> dict[str, Any]:
        return {role: shards[role].whole(tree) if role in shards else tree for role, tree in trees.items()}

    return whole(weights), whole(averaged), {**state, "session": {**session, "chains": whole(chains)}}


def divided(shards: Mapping[str, Shards], weights: Trees, state: Mapping[str, Any]) -> tuple[Trees, dict[str, Any]]:
    """Weights and state of a checkpoint, cut to this process's parts. Raises ValueError where they do not fit."""

    def own(trees: Trees) -> dict[str, Any]:
        return {role: shards[role].own(tree) if role in shards else tree for role, tree in trees.items()}

    session = state["session"]
    return own(weights), {**state, "session": {**session, "chains": own(session["chains"])}}


def _refuse_infinite(shards: Mapping[str, Shards], kinds: Sequence[Trees]) -> None:
    """What one process finds in its part all must know. Raises DivergedError."""
    bad = next(
        (
            f"{role}: '{name}'"
            for trees in kinds
            for role in shards
            for name, tensor in _tensors_in(trees.get(role, {}))
            if not bool(torch.isfinite(tensor).all())
        ),
        "",
    )
    found = [told.decode() for told in told_by_all(bad.encode()) if told]
    if found:
        raise DivergedError(f"{found[0]} has values that are not finite; this state is not stored")


def _tensors_in(tree: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, Mapping):
        for key, branch in tree.items():
            yield from _tensors_in(branch, str(key))
