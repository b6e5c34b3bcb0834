"""The formats of an export: what a graph becomes as bytes, and how such bytes are run to check them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from ganglion.engine.errors import ConfigError, EngineError, RunError
from ganglion.engine.exportgraphs import Graph
from ganglion.engine.memory import is_out_of_memory
from ganglion.engine.tables import one_line

NOTE = "ganglion"  # under this name the description stands in the file
ONNX_LIMIT = 2**31 - 2**20  # bytes of weights: one protobuf message holds less than 2 GB
# The first warns that torchvision is not installed, of which nothing is used, the other of what is an error next.
TALKATIVE = ("torch.onnx._internal.exporter._registration", "torch.fx.experimental.symbolic_shapes")
ROWS = 3  # of the example: neither 1, which is a special case to torch, nor a size of anything else that is usual

Run = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]


class Format(NamedTuple):
    """How a graph is written, how the bytes are run (None: they hold weights alone), and the ending of the file."""

    suffix: str
    write: Callable[[Graph, Mapping[str, Tensor], str], bytes]
    run: Callable[[bytes, Graph], Run] | None = None


# --- weights ------------------------------------------------------------------------------------------------------


def weights_of(graph: Graph) -> dict[str, Tensor]:
    """Weights and buffers of one network by their names in it, of several with the role in front."""
    several = len(graph.networks) > 1
    return {
        f"{role}.{name}" if several else name: value.detach().clone().contiguous()
        for role, network in graph.networks.items()
        for name, value in network.state_dict().items()
    }


def to_safetensors(graph: Graph, example: Mapping[str, Tensor], note: str) -> bytes:
    """The weights alone."""
    return safetensors.torch.save(weights_of(graph), {"format": "pt", NOTE: note})


# --- torch --------------------------------------------------------------------------------------------------------


def to_torch(graph: Graph, example: Mapping[str, Tensor], note: str) -> bytes:
    """An archive of torch.export, which torch runs without anything else. Raises RunError."""
    program = traced(graph, example)
    program.example_inputs = None  # they would be pickled, and nobody needs them
    buffer = io.BytesIO()
    with told("torch cannot export this"):
        torch.export.save(program, buffer, extra_files={f"{NOTE}.json": note})
    return buffer.getvalue()


def run_torch(data: bytes, graph: Graph) -> Run:
    """What an archive gives, read back. Raises RunError."""
    with told("torch cannot read the export"):
        module = torch.export.load(io.BytesIO(data)).module()

    def run(given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        with told("torch cannot run the export"), torch.no_grad():
            made = module(**given)
        return made if isinstance(made, tuple) else (made,)

    return run


def traced(graph: Graph, example: Mapping[str, Tensor]) -> ExportedProgram:
    """The graph as torch.export sees it, for any number of rows, without the paths of this machine. Raises RunError."""
    batch = Dim("batch")
    shapes = {name: {0: batch} for name in example}
    silence = contextlib.redirect_stderr(io.StringIO())  # torch prints the whole of what it cannot export
    with told("torch cannot export this"), torch.no_grad(), silence:
        program = torch.export.export(graph, (), dict(example), dynamic_shapes=shapes, strict=False)
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)
    return program


# --- onnx ---------------------------------------------------------------------------------------------------------


def need_onnx() -> None:
    """Raise ConfigError where a library that ONNX needs is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"format=onnx needs onnx, onnxscript and onnxruntime, and {error.name or 'one of them'} is not installed: "
            "pip install ganglion[onnx]"
        ) from None


def to_onnx(graph: Graph, example: Mapping[str, Tensor], note: str) -> bytes:
    """An ONNX model. Raises RunError, and ConfigError where the weights are too many for one file."""
    size = sum(value.nbytes for value in weights_of(graph).values())
    if size > ONNX_LIMIT:
        raise ConfigError(
            f"format=onnx: the weights take {size / 1e9:.1f} GB, and one ONNX file holds at most 2; use format=torch"
        )
    program = traced(graph, example)
    with told("torch cannot make an ONNX model of this"):
        exported = torch.onnx.export(
            program,
            kwargs=dict(example),
            input_names=[value.name for value in graph.inputs],
            output_names=[value.name for value in graph.outputs],
            dynamo=True,
            verbose=False,
        )
        assert exported is not None
        model = exported.model_proto
        tidy(model)
        model.metadata_props.add(key=NOTE, value=note)
        data: bytes = model.SerializeToString(deterministic=True)
    return data


def tidy(model: Any) -> None:
    """Call the first dimension of what goes in and out `batch`, and leave out what only tells how the model arose."""
    ends = [*model.graph.input, *model.graph.output]
    batch = {end.type.tensor_type.shape.dim[0].dim_param for end in ends} - {""}
    for value in [*ends, *model.graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in batch:
                dimension.dim_param = "batch"
    functions = [node for function in model.functions for node in function.node]
    for part in [*model.graph.node, *model.graph.value_info, *ends, *model.graph.initializer, *functions]:
        del part.metadata_props[:]
    del model.graph.metadata_props[:]


def run_onnx(data: bytes, graph: Graph) -> Run:
    """What onnxruntime makes of a model. Raises RunError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    with told("onnxruntime cannot run the export"):
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        taken = {each.name for each in session.get_inputs()}

    def run(given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        with told("onnxruntime cannot run the export"):
            made = session.run(None, {name: value.numpy() for name, value in given.items() if name in taken})
        return tuple(torch.from_numpy(value) for value in made)

    return run


# --- what goes wrong ----------------------------------------------------------------------------------------------


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever a library raises into a RunError of one sentence, and silence what is no news to anybody."""
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # A recurrent layer lists its weights in an attribute while it is traced, and they are exported as weights.
            warnings.filterwarnings("ignore", "The tensor attributes? .*_flat_weights", UserWarning)
            # torch copies its own tree specs in a way that it calls deprecated itself.
            warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated", FutureWarning)
            yield
    except (EngineError, Warning):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise RunError(f"{what}, so nothing was written: {reason(error)}") from error
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def reason(error: BaseException) -> str:
    """The line of an error's text that says most; the causes of an error of torch.onnx say more than it does."""
    while type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, 400)


FORMATS = {
    "safetensors": Format(".safetensors", to_safetensors),
    "torch": Format(".pt2", to_torch, run_torch),
    "onnx": Format(".onnx", to_onnx, run_onnx),
}


def described(note: Mapping[str, Any]) -> str:
    """A description as it stands in a file."""
    return json.dumps(note, ensure_ascii=True, allow_nan=False, sort_keys=False)
