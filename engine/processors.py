"""The processor chain of a role: from a loss, or gradients that are there, to one update of the role's network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ganglion.engine.backward import WithoutGradient, backward
from ganglion.engine.capture import Capture
from ganglion.engine.contracts import Batch, GradientProcessor, Loss, Method
from ganglion.engine.decay import Span, decay_of
from ganglion.engine.errors import ConfigError, RunError, fold, suggestion
from ganglion.engine.processes import average_in_place, averaging, this_process, travels
from ganglion.engine.settings import Settings, describe, setting

if TYPE_CHECKING:
    from ganglion.engine.health.watching import Watch


class Gate(Protocol):
    """Says from an update's detached loss whether the update counts: a 0-d tensor of truth, on the loss's device."""

    def __call__(self, loss: Loss, /) -> Tensor: ...


class ChainSettings(Settings):
    """How a role's gradients become updates: the method, how its learning rate falls, and what stands around it.

    Published order: clipNorm, clipValue, l2, method, dianneL2, dianneMomentum, clamp, ema; each link takes part when
    its key is given.
    """

    method: str = setting("SGD", "what updates the weights: an optimiser")
    decay_type: Literal["exponential", "linear", "cosine"] | None = setting(
        None, "how the learning rate falls; with decayRate alone: exponential"
    )
    decay_rate: float | None = setting(
        None,
        "exponential: exp(-i decayRate) of the way above the minimum; linear: taken off per iteration",
        unit="per iteration",
        ge=0,
    )
    min_learning_rate: float = setting(0.0, "where a falling learning rate ends", ge=0)
    warm_up_iterations: int = setting(
        0, "how long the learning rate rises from 0, on top of what decayType says", unit="iterations", ge=0
    )
    accumulate: int = setting(1, "micro-batches per update, of equal size", also=["accumulation"], ge=1)
    processors: tuple[str, ...] | None = setting(
        None, "the links in another order, or third-party ones; 'method' stands for the method"
    )

    def without_effect(self) -> Mapping[str, str]:
        falls = self.decay_type is not None or self.decay_rate is not None
        return {} if falls else {"min_learning_rate": "it has no effect without decayType or decayRate"}


# --- the order of the links ---------------------------------------------------------------------------------------


def is_wanted(link: type[GradientProcessor], settings: Settings) -> bool:
    """Whether the setting that makes a link part of the chain has a value."""
    if link.key is None:
        return False
    names = [info.name for info in describe(link.Settings) if fold(info.key) == fold(link.key)]
    value = getattr(settings, names[0]) if names else None
    return value is not None and value is not False


def order_links(
    role: str, chosen: Mapping[str, type[GradientProcessor]], listed: Sequence[str] | None = None
) -> list[str]:
    """The names of the links in the order in which they act: by position, or as `listed` (then every one, once).

    `chosen` holds the method and the links of a chain by registered name; in a list `method` stands for the method.
    Raises ConfigError unless exactly one of them is a method, and for a list that does not fit the links.
    """
    methods = [name for name, link in chosen.items() if issubclass(link, Method)]
    if len(methods) != 1:
        came = "no method" if not methods else f"{len(methods)} methods ({', '.join(methods)})"
        raise ConfigError(f"{role}: a chain has exactly one method, and this one has {came}")
    if listed is None:
        return sorted(chosen, key=lambda name: chosen[name].position)
    names = [_listed(role, name, chosen, methods[0]) for name in listed]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{role}: processors={','.join(listed)} names '{twice}' twice")
    missing = next((name for name in chosen if name not in names), None)
    if missing is not None:
        raise ConfigError(
            f"{role}: processors={','.join(listed)} leaves out '{missing}' of this chain; list it or drop its key"
        )
    _check_sides(role, names, chosen, methods[0])
    return names


def _listed(role: str, name: str, chosen: Collection[str], method: str) -> str:
    if fold(name) == "method":
        return method
    for known in chosen:
        if fold(known) == fold(name):
            return known
    raise ConfigError(f"{role}: processors: '{name}' is no link of this chain{suggestion(name, chosen)}")


def _check_sides(role: str, names: list[str], chosen: Mapping[str, type[GradientProcessor]], method: str) -> None:
    """A link that changes gradients alone stands before the method, one that changes weights alone after it."""
    for place, name in enumerate(names):
        before, after = _overrides(chosen[name], "before"), _overrides(chosen[name], "after")
        if before != after and before == (place > names.index(method)) and name != method:
            what, side = ("gradients", "before") if before else ("weights", "after")
            raise ConfigError(f"{role}: processors: '{name}' changes {what}, so it stands {side} the method '{method}'")


def _overrides(link: type[GradientProcessor], name: str) -> bool:
    return getattr(link, name) is not getattr(GradientProcessor, name)


# --- the chain ----------------------------------------------------------------------------------------------------


class ProcessorChain:
    """All gradient processors of one role: `links` in the order in which they act; fixed parameters are not passed.

    `learning_rate` is the rate of the current iteration, `updates` counts the updates so far.
    """

    def __init__(
        self,
        role: str,
        network: nn.Module,
        parameters: Sequence[nn.Parameter],
        method: Method,
        links: Sequence[GradientProcessor],
        settings: ChainSettings,
        learning_rate: float,
        span: Span,
    ) -> None:
        self.role = role
        self.network = network
        self.parameters = list(parameters)
        self.leaves: list[Tensor] = [*self.parameters]  # what a backward pass gives gradients to
        self.method = method
        self.links = list(links)
        self.settings = settings
        self.iteration = 0
        self.updates = 0
        self.capture: Capture | None = None  # where losses run as graphs
        self.watch: Watch | None = None  # what notes the updates of this iteration
        self.observed = False  # whether somebody has put something around `zero` and `apply`
        self._pending: Callable[[], None] | None = None  # waits for the gradients of an update that is put off
        self._factor = 1.0
        self._start_rate = learning_rate
        self._decay = decay_of(role, settings, method, learning_rate, span)
        self._before = [link.before for link in self.links if _overrides(type(link), "before")]
        self._after = [link.after for link in self.links if _overrides(type(link), "after")]
        self.begin(0)

    @property
    def falls(self) -> bool:
        """Whether the learning rate changes from iteration to iteration."""
        return self._decay is not None

    def begin(self, iteration: int) -> None:
        """Tell the chain which iteration of the learner this is: the learning rate follows it."""
        self.iteration = iteration
        rate = self._start_rate if self._decay is None else self._decay(iteration)
        self.learning_rate = rate * self._factor

    def update(
        self, loss_of: Callable[..., Loss | Tensor], *inputs: Any, gate: Gate | None = None, later: bool = False
    ) -> Loss:
        """Update the parameters by the gradient of `loss_of(*inputs)`, and return its loss, detached.

        Only these parameters get a gradient, so nothing is computed for other networks' weights. `inputs` (tensors,
        Batches, tuples of them, None) share their first dimension: with `accumulate` the loss is that of equal parts,
        averaged; numbers and 0-d tensors go to every part as they are. `gate` says from the loss, as a 0-d tensor of
        truth, whether the update counts; where it does not, weights and what method and links remember stay as they
        were, and the host never waits to know: `updates`, and what else is counted there (the updates of `ema`), count
        on.

        With `later` the update may take place as late as in `finish`: gradients and loss then travel between processes
        on several machines while the caller goes on with what needs neither, nor this role's weights.
        """
        if self._pending is not None:
            self.finish()
        special = gate is not None or self.capture is not None or self.watch is not None or self.observed
        if special or self.links or self.settings.accumulate > 1 or this_process().count > 1:
            if later and gate is None and self.capture is None and travels(self.leaves):
                loss, self._pending = _begun((self,), loss_of, inputs)
                return loss
            return update_together((self,), loss_of, *inputs, gate=gate)
        # Nothing but loss, gradient and method: as below, but for layers of calls that cost more than small networks.
        for parameter in self.parameters:
            parameter.grad = None
        given = loss_of(*inputs)
        loss = given if isinstance(given, Loss) else Loss(given)
        if self.leaves:
            try:
                backward(loss.total, self.leaves)
            except RuntimeError:
                _explain((self,), loss.total)
                raise
        recorded = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            self.method.update(self.updates, self.learning_rate)
        finally:
            torch._C._set_grad_enabled(recorded)
        self.updates += 1
        for parameter in self.parameters:
            parameter.grad = None
        terms = {name: term.detach() for name, term in loss.terms.items()} if loss.terms else {}
        return Loss(loss.total.detach(), terms)

    def finish(self) -> None:
        """Carry out the update that `later` has put off, if there is one."""
        if self._pending is not None:
            arrived, self._pending = self._pending, None
            arrived()
            self.apply()
            self.zero()

    def zero(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """The gradients that are there, of this process's rows alone."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def step(self, iteration: int) -> None:
        """Update from gradients that the strategy has put into `parameter.grad` itself."""
        self.finish()
        self.begin(iteration)
        if this_process().count > 1:
            average_in_place(self.gradients())
        self.apply()

    def apply(self, verdict: Tensor | None = None) -> None:
        """Update from the gradients that are there; where `verdict` is false all tensors are put back."""
        number = self.updates
        with WithoutGradient():
            held = None if verdict is None else _Held(self, verdict)
            if self.watch is not None:
                self.watch.before(self.parameters)
            for before in self._before:
                before(number)
            self.method.update(number, self.learning_rate)
            if held is not None:
                held.put_back_weights()
            for after in self._after:
                after(number)
                if held is not None:
                    held.put_back_weights()
            if held is not None:
                held.put_back_memory()
            if self.watch is not None:
                self.watch.after(self.parameters, counts=held is None)
        self.updates = number + 1

    def _memory(self) -> dict[str, Tensor]:
        """All tensors that the method and the links remember, by where they stand."""
        return dict(_tensors_in([link.state_dict() for link in (self.method, *self.links)]))

    def averaged(self) -> dict[str, Tensor] | None:
        """The state of the averaged network, when a link of the chain keeps one."""
        for link in self.links:
            average = getattr(link, "averaged", None)
            if average is not None:
                state: dict[str, Tensor] = average()
                return state
        return None

    def rate_left(self) -> float:
        """The learning rate as a share of where it began."""
        return self.learning_rate / self._start_rate if self._start_rate else 1.0

    def lower_learning_rate(self, factor: float) -> None:
        """Multiply the learning rate by `factor` from now on, in resumed runs too; call it after restoring a state."""
        self._factor *= factor
        self.begin(self.iteration)

    def _named_links(self) -> list[tuple[str, GradientProcessor]]:
        """Links with names that two classes of the same name do not share."""
        return [(f"{place}.{type(link).__name__}", link) for place, link in enumerate(self.links)]

    def state_dict(self) -> dict[str, Any]:
        """What the method and the links remember, and the chain's own counters."""
        links = {name: link.state_dict() for name, link in self._named_links()}
        return {
            "updates": self.updates,
            "factor": self._factor,
            "method": self.method.state_dict(),
            "links": {name: state for name, state in links.items() if state},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; a link that was not there then starts afresh."""
        self.updates = int(state["updates"])
        self._factor = float(state["factor"])
        self.method.load_state_dict(state["method"])
        for name, link in self._named_links():
            saved = state["links"].get(name)
            if saved is not None:
                link.load_state_dict(saved)
        self.begin(self.iteration)


class _Held:
    """Weights and memory of a chain as they are before an update that may not count, put back where it does not.

    Weights are put back before a link that acts on them sees them, so that no average takes in what is rejected.
    """

    def __init__(self, chain: ProcessorChain, verdict: Tensor) -> None:
        self.chain, self.verdict = chain, verdict
        self.weights = [parameter.detach().clone() for parameter in chain.parameters]
        self.memory = {place: tensor.clone() for place, tensor in chain._memory().items()}

    def put_back_weights(self) -> None:
        for parameter, before in zip(self.chain.parameters, self.weights, strict=True):
            self._choose(parameter, before)

    def put_back_memory(self) -> None:
        """Looked up anew: a link may have another tensor in the place of the one that was there."""
        for place, tensor in self.chain._memory().items():
            before = self.memory.get(place)
            if before is not None and before.shape == tensor.shape:
                self._choose(tensor, before)

    def _choose(self, tensor: Tensor, before: Tensor) -> None:
        tensor.copy_(torch.where(self.verdict.to(tensor.device), tensor, before.to(tensor.device)))


def _tensors_in(tree: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested mappings and lists, each with where it stands."""
    if isinstance(tree, Tensor):
        yield place, tree
    elif isinstance(tree, Mapping):
        for name, branch in tree.items():
            yield from _tensors_in(branch, f"{place}/{name}")
    elif isinstance(tree, (list, tuple)):
        for number, branch in enumerate(tree):
            yield from _tensors_in(branch, f"{place}/{number}")


def update_together(
    chains: Sequence[ProcessorChain], loss_of: Callable[..., Loss | Tensor], *inputs: Any, gate: Gate | None = None
) -> Loss:
    """One update of several roles' networks by one loss: as `ProcessorChain.update`, with one backward pass for all.

    Raises ConfigError where the chains differ in `accumulate`.
    """
    for chain in chains:
        chain.finish()
    loss, arrived = _begun(chains, loss_of, inputs)
    arrived()
    verdict = None if gate is None else gate(loss)
    for chain in chains:
        chain.apply(verdict)
        chain.zero()
    return loss


def _begun(
    chains: Sequence[ProcessorChain], loss_of: Callable[..., Loss | Tensor], inputs: Sequence[Any]
) -> tuple[Loss, Callable[[], None]]:
    """The loss and, in the chains' parameters, its gradients: those of the whole batch once what comes with it is over.

    All of them travel in one exchange.
    """
    parts = equal_parts(chains)
    for chain in chains:
        chain.zero()
    loss = _accumulated(chains, loss_of, inputs, parts) if parts > 1 else _differentiated(chains, loss_of, inputs, 1)
    if this_process().count == 1:
        return loss, _nothing
    numbers = [loss.total.clone(), *(term.clone() for term in loss.terms.values())]
    arrived = averaging([*numbers, *(gradient for chain in chains for gradient in chain.gradients())])
    return Loss(numbers[0], dict(zip(loss.terms, numbers[1:], strict=True))), arrived


def _nothing() -> None:
    """What there is to wait for where there is one process."""


def equal_parts(chains: Sequence[ProcessorChain]) -> int:
    """The `accumulate` that all of the chains have. Raises ConfigError where it differs."""
    if len(chains) == 1:
        return chains[0].settings.accumulate
    parts = {chain.role: chain.settings.accumulate for chain in chains}
    if len(set(parts.values())) > 1:
        named = " and ".join(f"{role}.accumulate={count}" for role, count in parts.items())
        raise ConfigError(f"{named}: {' and '.join(parts)} learn from one loss, so both need the same accumulate")
    return next(iter(parts.values()))


def _differentiated(
    chains: Sequence[ProcessorChain], loss_of: Callable[..., Loss | Tensor], inputs: Sequence[Any], parts: int
) -> Loss:
    """The loss, detached, the gradients of its `parts`-th part being added to those of the chains' parameters."""
    capture = chains[0].capture
    captured = None if capture is None else capture.differentiate(chains, loss_of, inputs, parts)
    if captured is not None:
        return captured
    given = loss_of(*inputs)
    loss = given if isinstance(given, Loss) else Loss(given)
    parameters = chains[0].leaves if len(chains) == 1 else [leaf for chain in chains for leaf in chain.leaves]
    if parameters:  # all fixed: the loss is still reported
        try:
            backward(loss.total / parts if parts > 1 else loss.total, parameters)
        except RuntimeError:
            _explain(chains, loss.total)
            raise
    terms = {name: term.detach() for name, term in loss.terms.items()} if loss.terms else {}
    return Loss(loss.total.detach(), terms)


def _explain(chains: Sequence[ProcessorChain], total: Tensor) -> None:
    """Raise RunError where the loss itself is the reason why it has no gradient."""
    roles = _roles(chains)
    if total.numel() != 1:
        raise RunError(f"{roles}: the loss has shape {tuple(total.shape)}; one number is wanted: average it")
    if not total.requires_grad:
        raise RunError(f"{roles}: the loss does not depend on the weights of this role's network")


def _roles(chains: Sequence[ProcessorChain]) -> str:
    return " and ".join(chain.role for chain in chains)


def _accumulated(
    chains: Sequence[ProcessorChain], loss_of: Callable[..., Loss | Tensor], inputs: Sequence[Any], parts: int
) -> Loss:
    """The loss of equal parts of the inputs, averaged, and so the gradients."""
    size = _part_size(_roles(chains), inputs, parts)
    losses = [
        _differentiated(chains, loss_of, [_rows(value, start, start + size) for value in inputs], parts)
        for start in range(0, size * parts, size)
    ]
    terms = {name: torch.stack([loss.terms[name] for loss in losses]).mean() for name in losses[0].terms}
    return Loss(torch.stack([loss.total for loss in losses]).mean(), terms)


def _part_size(roles: str, inputs: Sequence[Any], parts: int) -> int:
    sizes = {len(value) for value in inputs if isinstance(value, Batch) or (isinstance(value, Tensor) and value.dim())}
    if len(sizes) != 1 or min(sizes) % parts:
        came = ", ".join(str(size) for size in sorted(sizes)) or "none"
        raise ConfigError(
            f"{roles}: accumulate={parts} cannot part batches of {came} rows; "
            f"the batch size must be a multiple of {parts}"
        )
    return sizes.pop() // parts


def _rows(value: Any, start: int, stop: int) -> Any:
    """Rows start..stop of what has rows, in (named) tuples too; anything else as it is."""
    if isinstance(value, Batch):
        return value.rows(start, stop)
    if isinstance(value, tuple):
        parts = (_rows(item, start, stop) for item in value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value[start:stop] if isinstance(value, Tensor) and value.dim() else value
