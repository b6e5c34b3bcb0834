"""A network definition as it was written, checked as far as that is possible without knowing any shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from torch import nn

from ganglion.engine.api import NetworkError, suggestion
from ganglion.networks.catalogue import BRANCHING, LAYERS, OWN, layer_type

BESIDE = ("name", "spectral_norm")  # keys that stand beside a layer's own key


@dataclass(frozen=True)
class Layer:
    """One entry of a list of layers; `arguments` hold raw values, `path` says where it stands in the file."""

    path: str
    kind: str
    arguments: Mapping[str, Any]
    branches: tuple[tuple[Layer, ...], ...] = ()
    name: str | None = None
    spectral_norm: bool = False


@dataclass(frozen=True)
class Block:
    """A named list of layers with parameters; a parameter whose value is None must be given."""

    parameters: Mapping[str, Any]
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Reader:
    """Turns lists of layers into `Layer` tuples; `blocks` are the parameters of the blocks that they may name."""

    origin: str
    blocks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def refuse(self, path: str, what: str) -> NoReturn:
        """Raise NetworkError about the place `path`."""
        raise NetworkError(f"{self.origin}: {path}: {what}")

    def layers(self, raw: Any, path: str) -> tuple[Layer, ...]:
        """A list of layers, each name in it used once."""
        if not isinstance(raw, (list, tuple)):
            self.refuse(path, f"expects a list of layers, not {_shown(raw)}")
        layers = tuple(self.layer(entry, f"{path}[{index}]") for index, entry in enumerate(raw))
        names = [layer.name for layer in layers if layer.name is not None]
        for layer in layers:
            if names.count(layer.name or "") > 1:
                self.refuse(layer.path, f"the name '{layer.name}' is used twice")
        return layers

    def layer(self, raw: Any, path: str) -> Layer:
        """One layer: `ReLU`, `{Linear: 512}`, `{Conv2d: {out_channels: 64, kernel_size: 4}, name: first}`."""
        entry = {raw: None} if isinstance(raw, str) else raw
        if not isinstance(entry, Mapping):
            self.refuse(path, f"expects the name of a layer, not {_shown(raw)}")
        kinds = [key for key in entry if key not in BESIDE]
        if len(kinds) != 1 or not isinstance(kinds[0], str):
            beside = " and ".join(f"'{key}'" for key in BESIDE)
            self.refuse(path, f"expects one layer, beside which only {beside} stand, not {_shown(kinds)}")
        kind = kinds[0]
        path = f"{path} ({kind})"
        name, spectral_norm = self._beside(entry, path)
        if kind in self.blocks:
            return Layer(path, kind, self._arguments(kind, entry[kind], path), (), name, spectral_norm)
        if kind in BRANCHING:
            arguments, branches = self._branches(kind, entry[kind], path)
            return Layer(path, kind, arguments, branches, name, spectral_norm)
        if kind not in LAYERS:
            self.refuse(path, f"unknown layer '{kind}'{self._nearest_layer(kind)}")
        return Layer(path, kind, self._arguments(kind, entry[kind], path), (), name, spectral_norm)

    def _nearest_layer(self, kind: str) -> str:
        hint = suggestion(kind, [*LAYERS, *BRANCHING, *self.blocks])
        if hint.startswith("; did"):
            return hint
        return (
            f"; there are torch.nn's, such as Linear, Conv2d, ReLU, and {', '.join([*OWN, *BRANCHING, *self.blocks])}"
        )

    def _beside(self, entry: Mapping[str, Any], path: str) -> tuple[str | None, bool]:
        name = entry.get("name")
        if name is not None and not (isinstance(name, str) and name.isidentifier()):
            self.refuse(path, f"name: expects one word, not {_shown(name)}")
        if name is not None and (hasattr(nn.Sequential, name) or name in (*LAYERS, *BRANCHING, *self.blocks)):
            self.refuse(path, f"name: '{name}' has a meaning already")
        spectral_norm = entry.get("spectral_norm", False)
        if not isinstance(spectral_norm, bool):
            self.refuse(path, f"spectral_norm: expects true or false, not {_shown(spectral_norm)}")
        return name, spectral_norm

    def _arguments(self, kind: str, raw: Any, path: str) -> dict[str, Any]:
        """The arguments by their own names; a value by itself is the main one."""
        known, main = argument_names(kind, self.blocks)
        if raw is None:
            return {}
        if not isinstance(raw, Mapping):
            if main is None:
                self.refuse(path, f"takes no value, not {_shown(raw)}")
            return {main: raw}
        arguments: dict[str, Any] = {}
        for key, value in raw.items():
            name = next((name for name in known if squeezed(name) == squeezed(str(key))), None)
            if name is None and key in BESIDE:
                self.refuse(path, f"'{key}' stands beside the layer's name, not among its arguments")
            if name is None or name in arguments:
                self.refuse(path, f"unknown argument '{key}'{suggestion(str(key), known) or '; it takes none'}")
            arguments[name] = value
        return arguments

    def _branches(self, kind: str, raw: Any, path: str) -> tuple[dict[str, Any], tuple[tuple[Layer, ...], ...]]:
        parts: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {_first_part(kind): raw}
        known = _PARTS[kind]
        for key in parts:
            if key not in known:
                self.refuse(path, f"unknown argument '{key}'{suggestion(str(key), known)}")
        if kind in ("Residual", "Sequential"):
            present = [part for part in ("layers", "projection") if parts.get(part) is not None or part == "layers"]
            return {}, tuple(self.layers(parts.get(part), f"{path}.{part}") for part in present)
        branches = parts.get("branches")
        if not isinstance(branches, (list, tuple)) or not branches:
            self.refuse(path, f"expects a list of branches, each a list of layers, not {_shown(branches)}")
        arguments = {key: value for key, value in parts.items() if key != "branches"}
        return arguments, tuple(
            self.layers(branch, f"{path}.branches[{index}]") for index, branch in enumerate(branches)
        )


_PARTS = {
    "Add": ("branches",),
    "Multiply": ("branches",),
    "Concat": ("branches", "dim"),
    "Residual": ("layers", "projection"),
    "Sequential": ("layers",),
}


def _first_part(kind: str) -> str:
    return _PARTS[kind][0]


def squeezed(name: str) -> str:
    """The form in which argument names are compared: `out_channels` and `outChannels` are the same."""
    return name.replace("_", "").lower()


def argument_names(kind: str, blocks: Mapping[str, Mapping[str, Any]]) -> tuple[Sequence[str], str | None]:
    """The arguments of a layer or block, and which of them a value by itself is."""
    if kind in blocks:
        return tuple(blocks[kind]), next(iter(blocks[kind]), None)
    if kind in BRANCHING:
        return ("dim",) if kind == "Concat" else (), None
    layer = layer_type(kind)
    return tuple(layer.arguments), layer.main


def walk(layers: Sequence[Layer], blocks: Mapping[str, Block]) -> Iterator[Layer]:
    """Every layer that is reached from `layers`, branches and the blocks they name included; each block once."""
    waiting, seen = list(layers), set()
    while waiting:
        layer = waiting.pop(0)
        yield layer
        waiting.extend(inner for branch in layer.branches for inner in branch)
        if layer.kind in blocks and layer.kind not in seen:
            seen.add(layer.kind)
            waiting.extend(blocks[layer.kind].layers)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
