"""What an export holds: a module with named inputs, around one network or around all that makes samples."""

from __future__ import annotations

import inspect
import keyword
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganglion.engine.contracts import DataSpec, NoisePart, Port, Range
from ganglion.engine.errors import ConfigError, PluginError, suggestion
from ganglion.engine.opening import Opened
from ganglion.engine.session import make_samples
from ganglion.engine.streams import RandomStream
from ganglion.engine.transforms import unscale

SAMPLE = "sample"  # in the place of a role: the whole way from noise to samples
PARAMETER = inspect.Parameter.POSITIONAL_OR_KEYWORD


class Value(NamedTuple):
    """One named input or output: the `shape` of one sample's, in front of which the batch stands."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    content: str
    drawn: str = ""  # of random numbers: normal, uniform (in -1..1) or unit (in 0..1)
    scale: str = ""  # of values of the data: data or network
    classes: tuple[str, ...] = ()


class Scaling(NamedTuple):
    """The two intervals that values of the data are mapped between; nothing is done where one is unknown."""

    network: Range | None
    data: Range | None

    def inward(self, values: Tensor) -> Tensor:
        """From the data's own scale to that of the networks."""
        return unscale(values, self.data, self.network)

    def outward(self, values: Tensor) -> Tensor:
        """From the scale of the networks to the data's own."""
        return unscale(values, self.network, self.data)


class Graph(nn.Module):
    """Named inputs, in the order of `inputs`, to one output, or to a tuple of several."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    def __init__(self, role: str, networks: Mapping[str, nn.Module], scaling: Scaling) -> None:
        super().__init__()
        self.role, self.scaling = role, scaling
        self.networks = nn.ModuleDict(networks)

    @abstractmethod
    def made(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs for inputs by name."""

    @abstractmethod
    def example(self, count: int, stream: RandomStream) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Inputs for `count` samples and, not by way of `made` where there is another, the outputs."""

    def name_inputs(self) -> None:
        """Give `forward` the inputs as its parameters, by which torch.export and its callers name them."""

        def forward(**given: Tensor) -> Tensor | tuple[Tensor, ...]:
            made = self.made(given)
            return made[0] if len(made) == 1 else made

        parameters = [inspect.Parameter(value.name, PARAMETER) for value in self.inputs]
        vars(forward)["__signature__"] = inspect.Signature(parameters)
        self.forward = forward


class SampleGraph(Graph):
    """All that makes samples: `generate`, fed the parts that noise consists of, and the way to the data's scale."""

    def __init__(self, opened: Opened, role: str, roles: Sequence[str], scale: str) -> None:
        super().__init__(role, {name: opened.networks[name] for name in roles}, scaling_of(opened, scale))
        self.strategy, spec = opened.strategy, opened.spec
        noise = _noise_of(opened, 2, RandomStream(0, "sample", opened.device))
        self.between = tuple(noise.shape[1:-1])
        self.parts = {_plain(part.name): part for part in _parts_of(opened, noise)}
        self.inputs = tuple(self._input(name, part, scale, spec) for name, part in self.parts.items())
        self.outputs = (Value("samples", spec.shape, "float32", f"samples ({spec.kind})", scale=scale),)
        self.name_inputs()

    def made(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        columns = [self._columns(part, given[name]) for name, part in self.parts.items()]
        return (self.scaling.outward(self.strategy.generate(torch.cat(columns, -1)).float()),)

    def example(self, count: int, stream: RandomStream) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        noise = self.strategy.noise(count, stream)
        assert noise is not None
        return self.given(noise), (self.scaling.outward(make_samples(self.strategy, noise)),)

    def given(self, noise: Tensor) -> dict[str, Tensor]:
        """The inputs of which `noise` consists."""
        pieces = noise.split([part.width for part in self.parts.values()], -1)
        return {name: self._taken(part, piece) for (name, part), piece in zip(self.parts.items(), pieces, strict=True)}

    def _columns(self, part: NoisePart, value: Tensor) -> Tensor:
        """What of the noise (batch, ..., width) an input stands for."""
        if part.form == "values":
            return self.scaling.inward(value) if part.rows else value
        if part.form == "class":
            value = (value.unsqueeze(1) == torch.arange(part.width, device=value.device)).float()
        elif part.form == "count":
            value = value.unsqueeze(1).float()
        for place, length in enumerate(self.between, start=1):
            value = value.unsqueeze(place).expand(*[-1] * place, length, *[-1] * (value.dim() - place))
        return value

    def _taken(self, part: NoisePart, piece: Tensor) -> Tensor:
        """The input that a piece of the noise is made from."""
        if part.form == "values":
            return self.scaling.outward(piece).contiguous() if part.rows else piece.contiguous()
        row = piece.flatten(1, -2)[:, 0] if self.between else piece
        if part.form == "row":
            return row.contiguous()
        return row.argmax(1) if part.form == "class" else row[:, 0].round().to(torch.int64)

    def _input(self, name: str, part: NoisePart, scale: str, spec: DataSpec) -> Value:
        whole = part.form in ("count", "class")
        shape = () if whole else (*(self.between if part.form == "values" else ()), part.width)
        classes = spec.classes if part.form == "class" and part.width == len(spec.classes) else ()
        dtype = "int64" if whole else "float32"
        return Value(name, shape, dtype, part.content, part.drawn, scale if part.rows else "", classes)


class NetworkGraph(Graph):
    """The network of one role alone; rows and samples of the data are in the scale that was asked for."""

    def __init__(self, opened: Opened, role: str, scale: str) -> None:
        super().__init__(role, {role: opened.networks[role]}, scaling_of(opened, scale))
        taken, made = type(opened.strategy).shapes(opened.strategy.context.settings, opened.spec)[role]
        self.reads, self.makes = (_is_data(port, opened.spec) for port in (taken, made))
        name, content = "input", f"what the strategy gives this network ({taken.kind})"
        if self.reads:
            name, content = "rows", f"rows of the data ({taken.kind})"
        self.inputs = (Value(name, taken.shape, "float32", content, scale=scale if self.reads else ""),)
        self.called = _called(made, opened.spec)
        self.outputs = tuple(self._told(opened, made, scale))
        self.name_inputs()

    def _told(self, opened: Opened, port: Port, scale: str) -> Iterator[Value]:
        """The outputs, seen by giving the network two rows."""
        given = RandomStream(0, "export", opened.device).normal(2, *self.inputs[0].shape)
        with torch.no_grad():
            found = _outputs(self.networks[self.role](given), self.called)
        for name, value in found.items():
            classes = opened.spec.classes if name == "classes" else ()
            own = scale if self.makes else ""
            yield Value(name, tuple(value.shape[1:]), "float32", str(port.kind), scale=own, classes=classes)

    def made(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        rows = given[self.inputs[0].name]
        output = self.networks[self.role](self.scaling.inward(rows) if self.reads else rows)
        values = _outputs(output, self.called).values()
        return tuple(self.scaling.outward(value.float()) if self.makes else value.float() for value in values)

    def example(self, count: int, stream: RandomStream) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        rows = stream.normal(count, *self.inputs[0].shape)
        given = {self.inputs[0].name: self.scaling.outward(rows) if self.reads else rows}
        return given, self.made(given)


def graph_of(opened: Opened, role: str | None, scale: str) -> Graph:
    """What is exported as `role`: the whole way to samples where that is one network's. Raises ConfigError."""
    sampling = sampling_roles(opened)
    role = _role_of(opened, role, sampling)
    if role == SAMPLE or sampling == (role,):
        graph: Graph = SampleGraph(opened, role, sampling, scale)
    else:
        graph = NetworkGraph(opened, role, scale)
    graph.train(False)
    return graph


def sampling_roles(opened: Opened) -> tuple[str, ...]:
    """The roles whose networks samples go through, in command-line order."""
    if not type(opened.strategy).generates():
        return ()
    called: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda *_, role=role: called.add(role))
        for role, network in opened.networks.items()
        for module in network.modules()
    ]
    try:
        with torch.no_grad():
            opened.strategy.generate(_noise_of(opened, 1, RandomStream(0, "sample", opened.device)))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(role for role in opened.networks if role in called)


def scaling_of(opened: Opened, scale: str) -> Scaling:
    """The mapping to the data's own scale, or none for scale=network."""
    return Scaling(opened.spec.value_range, opened.data_range) if scale == "data" else Scaling(None, None)


def _role_of(opened: Opened, role: str | None, sampling: Sequence[str]) -> str:
    roles = list(opened.networks)
    if role is None:
        return roles[0] if not sampling else sampling[0] if len(sampling) == 1 else SAMPLE
    if role not in (roles if not sampling else [*roles, SAMPLE]):
        strategy = type(opened.strategy).__name__
        if role == SAMPLE:
            raise ConfigError(f"role={role}: run '{opened.run.tag}': strategy {strategy} makes no samples")
        raise ConfigError(
            f"role={role}: run '{opened.run.tag}' has no such role"
            f"{suggestion(role, roles if not sampling else [*roles, SAMPLE])}"
        )
    return sampling[0] if role == SAMPLE and len(sampling) == 1 else role


def _noise_of(opened: Opened, count: int, stream: RandomStream) -> Tensor:
    noise = opened.strategy.noise(count, stream)
    if noise is None:
        name = type(opened.strategy).__name__
        raise ConfigError(f"run '{opened.run.tag}': strategy {name} makes no samples")
    return noise


def _parts_of(opened: Opened, noise: Tensor) -> list[NoisePart]:
    """What noise consists of, without parts of no width. Raises PluginError where that is not what there is."""
    width = noise.shape[-1]
    declared = opened.strategy.noise_parts() or (NoisePart("noise", width, "what the strategy's `noise` gives"),)
    parts = [part for part in declared if part.width]
    names, name = [_plain(part.name) for part in parts], type(opened.strategy).__name__
    if sum(part.width for part in parts) != width or len(set(names)) < len(names):
        told = ", ".join(f"{part.name} ({part.width})" for part in parts)
        raise PluginError(f"strategy {name}: its noise has {width} numbers, and noise_parts names {told}")
    return parts


def _plain(name: str) -> str:
    """A name that Python and ONNX take."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    return f"_{text}" if text[0].isdigit() or keyword.iskeyword(text) else text


def _is_data(port: Port, spec: DataSpec) -> bool:
    return (port.kind, tuple(port.shape)) == (spec.kind, tuple(spec.shape))


def _called(port: Port, spec: DataSpec) -> str:
    """The name of what a network gives as one tensor."""
    if _is_data(port, spec):
        return "samples"
    if port.kind == "classes" and port.shape == (len(spec.classes),):
        return "classes"
    return "scores" if port.kind == "score" else "output"


def _outputs(output: Any, called: str) -> dict[str, Tensor]:
    """What a network gives, by name: one tensor, or the tensors of a named tuple."""
    if isinstance(output, Tensor):
        return {called: output}
    named = output._asdict() if hasattr(output, "_asdict") else {f"output{n}": each for n, each in enumerate(output)}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}
