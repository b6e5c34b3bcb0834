"""The referee: watches the players of a session, and notes who changes whose weights, gradients and inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganglion.engine.assembly import main_output
from ganglion.engine.processors import ProcessorChain
from ganglion.engine.session import Session

MOST_NODES = 20_000  # of a graph that is looked through for the weights on which an input depends

Gradients = list[tuple[Tensor, int]]  # kept alive, so that no other gradient takes their place


class Fed(NamedTuple):
    """What a role's network was given and gave, without the batch dimension, and the number of rows."""

    role: str
    given: tuple[int, ...]
    gave: tuple[int, ...]
    rows: int


class Referee:
    """Wraps `zero` and `apply` of every chain of a session, and looks at every call of its networks."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.problems: list[str] = []
        self.fed: set[Fed] = set()
        self.updates = dict.fromkeys(session.chains, 0)
        self._owner = {id(p): role for role, network in session.networks.items() for p in network.parameters()}
        self._known: dict[str, list[Tensor]] = {}
        self._own_gradients: dict[str, Gradients] = {}
        self._suspects: dict[str, tuple[str, Gradients]] = {}  # role with gradients -> whose update left them
        self._inputs: set[tuple[str, str]] = set()  # (role called, role whose weights its input depends on)
        self._applied: set[str] = set()

    @contextmanager
    def watching(self) -> Iterator[Referee]:
        """Watch until the end of the block."""
        handles = [
            handle
            for role, network in self.session.networks.items()
            for handle in (
                network.register_forward_pre_hook(self._before_call(role), with_kwargs=True),
                network.register_forward_hook(self._after_call(role), with_kwargs=True),
            )
        ]
        for role, chain in self.session.chains.items():
            chain.observed = True
            vars(chain)["zero"] = self._zero(role, chain, chain.zero)
            vars(chain)["apply"] = self._apply(role, chain, chain.apply)
        self._known = self._weights()
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            for chain in self.session.chains.values():
                del vars(chain)["zero"], vars(chain)["apply"]
                chain.observed = False

    def end_of_iteration(self) -> None:
        """Look at what is left when an iteration is over."""
        self._judge_inputs()
        self._note_outside_changes()
        for role, (by, _) in self._suspects.items():
            self._leak(by, role)
        for role, network in self.session.networks.items():
            left = gradients(network)
            if left and role not in self._suspects and not unchanged(self._own_gradients.get(role), left):
                self._note(
                    f"gradients are left on the {role} after an iteration: chain.update(...) takes only those it needs"
                )
        self._suspects.clear()

    # --- chains

    def _zero(self, role: str, chain: ProcessorChain, inner: Callable[[], None]) -> Callable[[], None]:
        def zero() -> None:
            suspect = self._suspects.pop(role, None)
            if suspect is not None:
                self._leak(suspect[0], role)
            inner()

        return zero

    def _apply(self, role: str, chain: ProcessorChain, inner: Callable[..., None]) -> Callable[..., None]:
        def apply(verdict: Tensor | None = None) -> None:
            suspect = self._suspects.pop(role, None)
            if suspect is not None and not unchanged(suspect[1], gradients(chain.network)):
                self._note(
                    f"gradients that the update of the {suspect[0]} left on the {role} are added to its own: "
                    f"use chain.update(...), or call zero() before backward()"
                )
            self._note_outside_changes()
            inner(verdict)
            self._after_apply(role)

        return apply

    def _after_apply(self, role: str) -> None:
        self.updates[role] += 1
        self._applied.add(role)
        weights = self._weights()
        for other in self._changed(weights):
            if other != role:
                self._note(f"the step of the {role} changes weights of the {other}: a processor keeps to its own")
        self._known = weights
        self._own_gradients[role] = gradients(self.session.networks[role])
        for other, network in self.session.networks.items():
            left = gradients(network)
            own = unchanged(self._own_gradients.get(other), left)  # what an update of its own left is its own business
            if other != role and left and not own and other not in self._suspects:
                self._suspects[other] = (role, left)

    def _leak(self, by: str, role: str) -> None:
        self._note(
            f"the update of the {by} leaves gradients on the {role}: use chain.update(...), which differentiates for "
            f"the weights of the {by} only, or detach() what is not to learn"
        )

    def _note_outside_changes(self) -> None:
        weights = self._weights()
        for role in self._changed(weights):
            if self.session.chains[role].parameters and self.updates[role]:
                self._note(
                    f"weights of the {role} change outside of its processor chain: "
                    f"update them by context.processors['{role}'], or by a link of that chain"
                )
        self._known = weights

    def _weights(self) -> dict[str, list[Tensor]]:
        networks = self.session.networks.items()
        return {role: [p.detach().clone() for p in network.parameters()] for role, network in networks}

    def _changed(self, weights: dict[str, list[Tensor]]) -> list[str]:
        return [
            role
            for role, tensors in weights.items()
            if not all(torch.equal(old, new) for old, new in zip(self._known[role], tensors, strict=True))
        ]

    # --- calls of networks

    def _before_call(self, role: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, arguments: Any, named: Any) -> None:
            if self._applied:
                self._judge_inputs()
            for value in (*arguments, *named.values()):
                if isinstance(value, Tensor) and value.grad_fn is not None:
                    self._inputs.update((role, other) for other in self._depends_on(value) if other != role)

        return look

    def _after_call(self, role: str) -> Callable[[nn.Module, Any, Any, Any], None]:
        def look(module: nn.Module, arguments: Any, named: Any, output: Any) -> None:
            output, first = main_output(output), next(iter((*arguments, *named.values())), None)
            if isinstance(first, Tensor) and isinstance(output, Tensor):
                rows, *given = first.shape
                self.fed.add(Fed(role, tuple(given), tuple(output.shape[1:]), rows))

        return look

    def _judge_inputs(self) -> None:
        """Once the updates that followed some calls are done: whose inputs carried gradients in vain?"""
        for role, other in sorted(self._inputs):
            if role in self._applied and other not in self._applied:
                self._note(
                    f"the {role} learns from what the {other} made, with the gradients of the {other} attached: "
                    f"make it under torch.no_grad(), or detach() it"
                )
        if self._applied:
            self._inputs.clear()
        self._applied.clear()

    def _depends_on(self, value: Tensor) -> set[str]:
        """The roles on whose weights a tensor depends."""
        found: set[str] = set()
        seen: set[Any] = set()
        waiting: list[Any] = [value.grad_fn]
        while waiting and len(seen) < MOST_NODES:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            owner = self._owner.get(id(getattr(node, "variable", None)))
            found |= {owner} if owner else set()
            waiting += [following for following, _ in node.next_functions]
        return found

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def gradients(network: nn.Module) -> Gradients:
    """The gradients that there are, each with the number of changes it went through."""
    found = (parameter.grad for parameter in network.parameters())
    return [(grad, grad._version) for grad in found if grad is not None]


def unchanged(before: Gradients | None, now: Gradients) -> bool:
    """Whether these are the very same gradients, and nothing was added to them since."""
    if before is None or len(before) != len(now):
        return False
    return all(old is new and count == other for (old, count), (new, other) in zip(before, now, strict=True))
