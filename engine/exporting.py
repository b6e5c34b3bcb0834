"""Exports of a run: weights, an archive that torch runs alone, or an ONNX model, checked, with a description beside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from ganglion.engine import files
from ganglion.engine.contracts import Port
from ganglion.engine.documents import plain, write_json
from ganglion.engine.errors import ConfigError, RunError
from ganglion.engine.exportformats import FORMATS, ROWS, Format, described, need_onnx
from ganglion.engine.exportgraphs import Graph, Value, graph_of
from ganglion.engine.memory import enough_memory
from ganglion.engine.opening import Opened
from ganglion.engine.recording import versions
from ganglion.engine.streams import RandomStream, undisturbed

FORMAT = 1
COUNTS = (1, 2, 7)
DRAWS = {
    "normal": {"distribution": "normal", "mean": 0.0, "deviation": 1.0},
    "uniform": {"distribution": "uniform", "low": -1.0, "high": 1.0},
    "unit": {"distribution": "uniform", "low": 0.0, "high": 1.0},
}


class Check(NamedTuple):
    """The largest difference from what the networks themselves give, and its share of the largest value."""

    counts: tuple[int, ...]
    difference: float
    share: float
    tolerance: float


class Exported(NamedTuple):
    """The files of an export, the weights or the model first, what is in it, and how it was checked."""

    paths: tuple[Path, ...]
    description: Mapping[str, Any]
    check: Check | None


def chosen_format(name: str | None, out: str | None) -> str:
    """The format that is named, else that of the ending of `out`, else safetensors. Raises ConfigError."""
    ending = Path(out).suffix.lower() if out else ""
    by_ending = {entry.suffix: each for each, entry in FORMATS.items()}
    found = name or by_ending.get(ending, "safetensors")
    if found == "onnx":
        need_onnx()
    if out and not _is_folder(out) and ending != FORMATS[found].suffix:
        told = f"format={found} writes {FORMATS[found].suffix}" if name else f"it must be one of {', '.join(by_ending)}"
        raise ConfigError(f"out={out}: the extension says what to write: {told}; or name a folder, with / at its end")
    return found


@enough_memory(ConfigError, "a smaller network")
def export(
    opened: Opened, kind: str, role: str | None, scale: str, out: str | None, tolerance: float = 1e-4
) -> Exported:
    """Write what a run has learnt for use without Ganglion, and check it. Raises ConfigError, RunError, StoreError."""
    form = FORMATS[kind]
    graph = graph_of(opened, role, scale if form.run else "network")
    with undisturbed(), torch.no_grad(), frozen(graph):
        description = describe(opened, graph, kind)
        example, _ = graph.example(ROWS, RandomStream(0, "export", opened.device))
        data = form.write(graph, example, described(description))
        check = checked(form, data, graph, opened, tolerance) if form.run else None
    path = _path(opened, graph.role, form, out)
    definitions = _definitions(opened, graph, path) if not form.run else {}
    for place, text in definitions.items():
        files.write_atomic(place, text.encode())
    files.write_atomic(path, data)
    beside = path.with_name(f"{path.name}.json")
    own = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "definitions": [p.name for p in definitions]}
    description = {**description, **own, "check": check._asdict() if check else None}
    write_json(beside, description)
    return Exported((path, beside, *definitions), description, check)


@contextmanager
def frozen(graph: Graph) -> Iterator[None]:
    """Parameters that want no gradient, so that what is exported gives plain numbers wherever it runs."""
    wanting = [parameter for parameter in graph.parameters() if parameter.requires_grad]
    graph.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


def checked(form: Format, data: bytes, graph: Graph, opened: Opened, tolerance: float) -> Check:
    """Run the bytes with several numbers of rows, and compare. Raises RunError where they give something else."""
    assert form.run is not None
    run, stream = form.run(data, graph), RandomStream(0, "sample", opened.device)
    difference = share = 0.0
    for count in COUNTS:
        given, expected = graph.example(count, stream)
        for value, made, wanted in zip(graph.outputs, run(given), expected, strict=True):
            here = compared(value, made, wanted)
            difference = max(difference, here)
            share = max(share, here / (float(wanted.abs().max()) or 1.0))
    if share > tolerance:
        raise RunError(
            f"the export is not what the networks give: the largest difference is {difference:.3g}, {share:.3g} of the "
            f"largest value, and tolerance={tolerance:g} allows no more; nothing was written"
        )
    return Check(COUNTS, difference, share, tolerance)


def compared(value: Value, made: Tensor, wanted: Tensor) -> float:
    """The largest difference of one output. Raises RunError for another shape, and for what is not finite."""
    if made.shape != wanted.shape:
        raise RunError(
            f"the export gives {value.name} of shape {tuple(made.shape)}, the networks {tuple(wanted.shape)}; nothing "
            "was written"
        )
    if not bool(wanted.isfinite().all()):
        raise RunError(f"the networks give {value.name} that are not finite, so an export cannot be checked")
    difference = (made.double() - wanted.double()).abs().max()
    return float(difference) if bool(difference.isfinite()) else float("inf")


# --- description --------------------------------------------------------------------------------------------------


def describe(opened: Opened, graph: Graph, kind: str) -> dict[str, Any]:
    """What goes in, what comes out, and where it is from."""
    spec, job = opened.spec, opened.job
    names = dict(zip(opened.networks, job["networks"], strict=True))
    shapes = type(opened.strategy).shapes(opened.strategy.context.settings, spec)
    networks = {
        role: {
            "network": Path(names[role]).name,
            "input": _port(shapes[role].input),
            "output": _port(shapes[role].output),
            "layers": str(network).splitlines(),
        }
        for role, network in graph.networks.items()
    }
    description: dict[str, Any] = plain(
        {
            "format": FORMAT,
            "kind": kind,
            "role": graph.role,
            "inputs": [_value(value) for value in graph.inputs],
            "outputs": [_value(value) for value in graph.outputs],
            "data": {
                "kind": spec.kind,
                "shape": spec.shape,
                "networkRange": _ends(spec.value_range),
                "dataRange": _ends(opened.data_range),
                "classes": spec.classes,
                "features": spec.features,
                "samplingRate": spec.sampling_rate,
                "text": spec.text,
            },
            "networks": networks,
            "source": source(opened, graph),
            "versions": {name: versions()[name] for name in ("ganglion", "torch")},
        }
    )
    return description


def source(opened: Opened, graph: Graph) -> dict[str, Any]:
    """The run, the iteration, and for each role whether its weights are averaged ones, and their file's sha256."""
    folder = opened.run.directory / "checkpoints" / str(opened.iteration)
    averaged = [role for role in graph.networks if (folder / f"{role}.ema.safetensors").exists()]
    digests = {role: _digest(network) for role, network in graph.networks.items()}
    told = {"run": opened.run.tag, "strategy": opened.job["strategy"], "dataset": opened.job["dataset"]}
    return {**told, "iteration": opened.iteration, "averaged": averaged, "sha256": digests}


def _digest(network: nn.Module) -> str:
    weights = {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(weights)).hexdigest()


def _value(value: Value) -> dict[str, Any]:
    told = {"name": value.name, "shape": ["batch", *value.shape], "dtype": value.dtype, "content": value.content}
    more = {"drawn": DRAWS.get(value.drawn), "scale": value.scale, "classes": value.classes}
    return {**told, **{key: each for key, each in more.items() if each}}


def _port(port: Port) -> dict[str, Any]:
    return {"kind": port.kind, "shape": port.shape}


def _ends(ends: tuple[float, float] | None) -> list[float] | None:
    return None if ends is None else [float(end) for end in ends]


# --- where it goes ------------------------------------------------------------------------------------------------


def _is_folder(out: str) -> bool:
    return out.endswith("/") or Path(out).is_dir()


def _path(opened: Opened, role: str, form: Format, out: str | None) -> Path:
    if out is not None and not _is_folder(out):
        return Path(out)
    folder = opened.run.directory / "export" if out is None else Path(out)
    return files.make_folder(folder) / f"{role}{form.suffix}"


def _definitions(opened: Opened, graph: Graph, path: Path) -> dict[Path, str]:
    """The definitions in YAML of the exported networks that have one, by where they are written."""
    several = len(graph.networks) > 1
    return {
        path.with_name(f"{path.name}.{role}.yaml" if several else f"{path.name}.yaml"): text
        for role, text in opened.run.read_networks().items()
        if role in graph.networks
    }
