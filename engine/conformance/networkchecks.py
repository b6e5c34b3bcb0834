"""All checks of a network, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.conformance.declared import DECLARED
from ganglion.engine.conformance.networktrial import ROWS, Made, NetworkTrial, output_of, rows_for
from ganglion.engine.conformance.results import Check, Failed, Finding, Skipped, carry_out
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.conformance.watching import SharedGenerators, contained, default_type, watching
from ganglion.engine.contracts import DataSpec
from ganglion.engine.trees import same_bytes

SCALES = (0.1, 1.0, 30.0)  # of inputs, so that an output which only usually keeps to its range is found out
BOUNDED: dict[type[nn.Module], tuple[float, float]] = {
    nn.Tanh: (-1.0, 1.0), nn.Sigmoid: (0.0, 1.0), nn.Hardtanh: (-1.0, 1.0), nn.Hardsigmoid: (0.0, 1.0),
}  # fmt: skip
CLOSE = 1e-5


def examine_network(
    subject: Subject, role: str | None, data: DataSpec | None, keys: Mapping[str, Any], skip: Sequence[str] = ()
) -> list[Finding]:
    """The findings of every check. Raises ConfigError for a wrong role or key."""
    with contained():
        return carry_out(CHECKS, NetworkTrial(subject, role, data, keys), skip)


def _built(trial: NetworkTrial) -> None:
    """It is built for the data that it is for, and refuses others by a NetworkError."""
    for made in trial.made:
        if not made.network.training:
            raise Failed(f"for {made.data} it is made in evaluation mode: leave the mode to the engine")


def _shape(trial: NetworkTrial) -> None:
    """It gives what its role wants, in training and in evaluation mode."""
    for made in trial.made:
        for training in (True, False):
            made.network.train(training)
            output = output_of(made.network, rows_for(made))
            wanted = (ROWS, *made.shape.output.shape)
            scores = made.shape.output.kind == "score" and output.dim() == 3 and output.shape[::2] == (ROWS, 1)
            if tuple(output.shape) != wanted and not scores:
                raise Failed(
                    f"for {made.data} {made.shape.input.shape} it gives {tuple(output.shape)} where {wanted} is wanted "
                    f"as {trial.as_role()}: follow context.output, or raise NetworkError for data that it is not for"
                )
            if not bool(output.isfinite().all()):
                raise Failed(f"for {made.data} its output is not finite")


def _range(trial: NetworkTrial) -> None:
    """Its values keep to the range that it declares, and probabilities to 0 and 1."""
    for made in trial.made:
        declared = getattr(made.network, "output_range", None)
        if getattr(made.network, "outputs", None) == "probability":
            _check_probability(made)
        makes_data = made.shape.output.shape == trial.spec(made).shape
        last = _last_layer(made.network)
        if makes_data and declared is None and last in BOUNDED:
            raise Failed(
                f"it ends in {last.__name__} and declares no output_range: set it to {BOUNDED[last]} on the module, "
                "so that the data are scaled to it"
            )
        if declared is not None:
            _check_range(made, declared)


def _check_range(made: Made, declared: Any) -> None:
    low, high = (float(bound) for bound in declared)
    if not low < high:
        raise Failed(f"its output_range is {declared!r}: it must be (low, high)")
    values = getattr(made.network, "probability", None) or partial(output_of, made.network)
    for scale in SCALES:
        with torch.no_grad():
            made.network.eval()
            least, most = (float(bound) for bound in values(rows_for(made, scale=scale)).aminmax())
        if least < low - CLOSE or most > high + CLOSE:
            raise Failed(
                f"it declares output_range {low:g}..{high:g} and gives {least:.4g}..{most:.4g}: "
                "end in a layer with that range, or declare none"
            )


def _check_probability(made: Made) -> None:
    """Probabilities are from 0 to 1, and where there is a method for them the output is their logit."""
    method: Any = getattr(made.network, "probability", None)
    inner: Any = getattr(made.network, "inner", None)  # what the engine wraps where there is no such method
    with torch.no_grad():
        made.network.eval()
        rows = rows_for(made, scale=3.0)
        chances = (method or inner or made.network)(rows)
        if method is not None and not torch.allclose(output_of(made.network, rows).sigmoid(), chances, atol=1e-4):
            raise Failed("its output is not the logit of its probability(): forward() must leave the Sigmoid out")
    least, most = (float(bound) for bound in chances.aminmax())
    if least < 0 or most > 1:
        raise Failed(
            f"it declares outputs = 'probability' and gives {least:.4g}..{most:.4g}: "
            "end in a Sigmoid, or declare nothing"
        )


def _last_layer(network: nn.Module) -> type[nn.Module] | None:
    """The class of the last layer that changes values."""
    shaping = ("Flatten", "Unflatten", "Reshape", "Crop", "Identity")
    leaves = [module for module in network.modules() if not list(module.children())]
    values = [type(module) for module in leaves if type(module).__name__ not in shaping]
    return values[-1] if values else None


def _start(trial: NetworkTrial) -> None:
    """Its first weights follow from the seed of its role, and from nothing else."""
    for made in trial.made:
        spec, shared = trial.spec(made), SharedGenerators()
        first, again, other = (trial.build(spec, seed).state_dict() for seed in (1, 1, 2))
        if shared.changed():
            raise Failed(
                f"{' and '.join(shared.changed())} is used while it is built: draw by torch's own functions "
                "(torch.randn, nn.init...), which the engine seeds for every role"
            )
        wrong = next((name for name, value in first.items() if not same_bytes(value, again[name])), None)
        if wrong is not None:
            raise Failed(f"two networks from the same seed differ in '{wrong}': make no generator of your own")
        drawn = {name for name, value in made.network.named_parameters() if value.dim() > 1}
        if drawn and all(same_bytes(value, other[name]) for name, value in first.items() if name in drawn):
            raise Failed("two seeds give the same weights: draw them from torch's default generator, do not seed it")


def _evaluation(trial: NetworkTrial) -> None:
    """In evaluation mode the same rows give the same output, and nothing changes or is drawn."""
    for made in trial.made:
        made.network.eval()
        before = {name: value.clone() for name, value in made.network.state_dict().items()}
        state = torch.get_rng_state()
        with torch.no_grad():
            first, second = (output_of(made.network, rows_for(made)) for _ in range(2))
        if not torch.equal(first, second) or not torch.equal(state, torch.get_rng_state()):
            raise Failed("in evaluation mode it draws random numbers: do that only while self.training is true")
        changed = next((name for name, value in made.network.state_dict().items()
                        if not same_bytes(value, before[name])), None)  # fmt: skip
        if changed is not None:
            raise Failed(f"in evaluation mode '{changed}' changes: do that only while self.training is true")


def _rows_apart(trial: NetworkTrial) -> None:
    """In evaluation mode a row's output does not depend on the other rows, and one row alone is a batch."""
    for made in trial.made:
        rows = rows_for(made)
        with torch.no_grad():
            together = output_of(made.network.eval(), rows)
            alone = torch.cat([output_of(made.network, rows[place : place + 1]) for place in range(ROWS)])
        if together.shape != alone.shape or not torch.allclose(together, alone, atol=CLOSE, rtol=1e-4):
            raise Failed(
                f"in evaluation mode for {made.data} a row's output depends on the other rows of the batch: use "
                "running statistics there, as BatchNorm does, and never squeeze() the batch dimension"
            )


def _gradients(trial: NetworkTrial) -> None:
    """Gradients reach every parameter, and the input."""
    for made in trial.made:
        rows = rows_for(made).requires_grad_()
        made.network.train().zero_grad()
        numbers = _numbers(made.network(rows))
        if not numbers:
            raise Failed("its output depends on nothing that learns: forward() must not detach() it")
        torch.stack([each.square().mean() for each in numbers]).sum().backward()
        for name, value in made.network.named_parameters():
            if value.requires_grad and value.grad is None:
                raise Failed(
                    f"no gradient reaches '{name}': use it in forward(), or make it a buffer if it is not to learn"
                )
            if value.grad is not None and not bool(value.grad.isfinite().all()):
                raise Failed(f"the gradient of '{name}' is not finite on ordinary input")
        if rows.grad is None:
            raise Failed("no gradient reaches its input: forward() must not detach() or convert it")
        made.network.zero_grad()


def _numbers(output: Any) -> list[Tensor]:
    """Every tensor of numbers in a network's output that depends on something."""
    if isinstance(output, Tensor):
        return [output] if output.requires_grad and output.is_floating_point() else []
    parts = output.values() if isinstance(output, dict) else output
    return [tensor for part in parts for tensor in _numbers(part)] if isinstance(output, (dict, list, tuple)) else []


def _saved(trial: NetworkTrial) -> None:
    """Its state_dict is all that it is: loaded into another one, that gives the same."""
    for made in trial.made:
        made.network.train()
        output_of(made.network, rows_for(made))  # running statistics move
        other = trial.build(trial.spec(made), seed=2)
        other.load_state_dict(made.network.state_dict())
        with torch.no_grad():
            first, second = (output_of(network.eval(), rows_for(made)) for network in (made.network, other))
        if not torch.equal(first, second):
            raise Failed(
                "a network that takes over its state_dict gives something else: keep what is drawn or learnt in "
                "parameters and buffers (register_buffer)"
            )


def _double(trial: NetworkTrial) -> None:
    """It is built and works in double precision."""
    with default_type(torch.float64):
        for made in trial.made:
            network = trial.build(trial.spec(made))
            output = output_of(network, rows_for(made))
            tensors: dict[str, Tensor] = {**dict(network.named_parameters()), "its output": output}
            wrong = next((name for name, value in tensors.items() if value.dtype != torch.float64), None)
            if wrong is not None:
                raise Failed(f"'{wrong}' is {tensors[wrong].dtype} where float64 is asked for: name no dtype")


def _host(trial: NetworkTrial) -> None:
    """It never waits for the host, and draws from torch's own generators only."""
    for made in trial.made:
        shared = SharedGenerators()
        made.network.train()
        output_of(made.network, rows_for(made))  # what is done once may wait
        with watching() as watch:
            output_of(made.network, rows_for(made)).square().mean().backward()
        made.network.zero_grad()
        if watch.reads:
            raise Failed(f"it waits for the device: {watch.reads[0]}; keep numbers as tensors")
        if shared.changed():
            raise Failed(f"{' and '.join(shared.changed())} is used in forward(): draw by torch's own functions")


def _cuda(trial: NetworkTrial) -> None:
    """It works on a GPU."""
    if not torch.cuda.is_available():
        raise Skipped("there is no CUDA device on this machine")
    for made in trial.made:
        network = trial.build(trial.spec(made)).to("cuda")
        if output_of(network, rows_for(made).to("cuda")).device.type != "cuda":
            raise Failed("its output is not on the GPU where its weights and its input are")


CHECKS: tuple[Check, ...] = (
    *DECLARED,
    Check("built", _built, ("settings",)),
    Check("shape", _shape, ("built",)),
    Check("range", _range, ("shape",)),
    Check("first weights", _start, ("built",)),
    Check("evaluation mode", _evaluation, ("shape",)),
    Check("rows apart", _rows_apart, ("shape",)),
    Check("gradients", _gradients, ("shape",)),
    Check("state_dict", _saved, ("shape",)),
    Check("float64", _double, ("shape",)),
    Check("no host synchronisation", _host, ("shape",)),
    Check("cuda", _cuda, ("shape",)),
)
