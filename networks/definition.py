"""Network definitions: read from YAML or from plain values, checked, and called with a context to make a network.

A definition holds `name`, `doc`, optionally `aliases`, `roles` (those it is made for), `constants`, `blocks`,
`output_range`, `outputs: probability`, and either `layers` or `variants` by the kind of the data. A variant has layers,
or is another `network`, whose settings the definition then has. Layers are torch.nn names; input sizes are inferred.
Two rules spare words: a Linear flattens an image (three dimensions or more) and acts on the last dimension of anything
else; a network that ends flat is given the shape that its role wants when the number of values is right.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from ganglion.engine.api import (
    ConfigError,
    NetworkContext,
    NetworkError,
    NetworkFactory,
    NoSettings,
    Port,
    Settings,
    suggestion,
)
from ganglion.networks.building import Builder, Built
from ganglion.networks.catalogue import ACTIVATIONS_LIMIT, BRANCHING, layer_type
from ganglion.networks.declaration import DeclarationReader, Variant
from ganglion.networks.expressions import substitute
from ganglion.networks.layered import LayeredNetwork, to_yaml
from ganglion.networks.layers import walk
from ganglion.networks.modules import Reshape
from ganglion.networks.reading import read_mapping, read_text
from ganglion.networks.series.recurrent import RecurrentDiscriminator, RecurrentGenerator
from ganglion.networks.single import Account, Override, Plain

__all__ = ["NetworkDefinition", "context_values", "load_definition", "parse_definition", "to_yaml"]

# What a variant may be instead of layers. A definition cannot ask the registry, which has read it before it is done.
OTHERS: Mapping[str, NetworkFactory] = {
    "RecurrentGenerator": RecurrentGenerator(),
    "RecurrentDiscriminator": RecurrentDiscriminator(),
}


class NetworkDefinition:
    """A network factory read from a definition; its values may be overridden as `Layer.argument`."""

    def __init__(self, content: Mapping[Any, Any], origin: str) -> None:
        self.origin = origin
        self.declaration = DeclarationReader(origin).read(content)
        self.name, self.doc, self.aliases = self.declaration.name, self.declaration.doc, self.declaration.aliases
        self.roles = self.declaration.roles
        self.blocks, self.variants = self.declaration.blocks, self.declaration.variants
        self.__doc__ = self.doc
        self.Settings = self._settings()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NetworkDefinition:
        """The definition in a file. Raises NetworkError."""
        origin = os.fspath(path)
        return cls.parse(read_text(Path(path), origin), origin)

    @classmethod
    def parse(cls, text: str, origin: str) -> NetworkDefinition:
        """The definition in a text; `origin` names it in messages. Raises NetworkError."""
        return cls(read_mapping(text, origin), origin)

    def __call__(self, context: NetworkContext) -> nn.Module:
        """The network for a context. Raises NetworkError where it does not fit, ConfigError for a wrong override."""
        variant = self._variant(context.data.kind)
        if variant.network is not None:
            return self._other(variant.network, context)
        account = Account(_overrides(context.overrides))
        builder = Builder(self.origin, self.blocks, account)
        body = variant.layers[:-1] if variant.outputs else variant.layers
        rows = _rows_of_zeros(context.input)
        built = self._fitted(builder.sequence(body, rows, self._names(context)), context)
        for override in account.overrides:
            if override.key not in account.used:
                self._refuse_override(override, context)
        if context.output.kind == "score" and not variant.outputs and _ends_in_sigmoid(built.modules.values()):
            raise NetworkError(
                f"{self.origin}: ends in a Sigmoid, but scores are logits; declare 'outputs: probability'"
            )
        plain = [*built.plain, "Sigmoid"] if variant.outputs else built.plain
        return LayeredNetwork(built.sequential(), self._resolved(variant, plain), variant.output_range, variant.outputs)

    def layer_arguments(self, context: NetworkContext | None = None) -> dict[str, tuple[str, ...]]:
        """What may be overridden, by layer type and layer name; without a context, over all variants."""
        variants = self.variants.values() if context is None else (self._variant(context.data.kind),)
        found: dict[str, dict[str, None]] = {}
        for variant in variants:
            for layer in walk(variant.layers, self.blocks):
                names = self._settable(layer.kind)
                for target in filter(None, (layer.kind, layer.name)):
                    found.setdefault(target, {}).update(
                        dict.fromkeys(spelt for name in names for spelt in (name, _camel(name)))
                    )
        return {target: tuple(names) for target, names in found.items() if names}

    def _refuse(self, what: str) -> NoReturn:
        raise NetworkError(f"{self.origin}: {what}")

    def _settings(self) -> type[Settings]:
        """The settings of the network that a variant is. Raises NetworkError for an unknown one, or several."""
        names = list(dict.fromkeys(variant.network for variant in self.variants.values() if variant.network))
        for name in names:
            if name not in OTHERS:
                self._refuse(f"network: a variant cannot be '{name}'{suggestion(name, OTHERS)}")
        if len(names) > 1:
            self._refuse(f"variants: they are several networks ({', '.join(names)}), and settings are those of one")
        return getattr(OTHERS[names[0]], "Settings", NoSettings) if names else NoSettings

    def settings_for(self, kind: str) -> type[Settings]:
        """The settings for data of that kind: those of the network that the variant is, if it is one."""
        variant = self.variants.get(kind, self.variants.get(""))
        return self.Settings if variant is not None and variant.network else NoSettings

    def _other(self, name: str, context: NetworkContext) -> nn.Module:
        """The network that stands in for layers."""
        for override in _overrides(context.overrides):
            self._refuse_override(override, context)
        return OTHERS[name](context)

    def _variant(self, kind: str) -> Variant:
        variant = self.variants.get(kind, self.variants.get(""))
        if variant is None:
            self._refuse(f"no variant for {kind} data; there are: {', '.join(self.variants)}")
        return variant

    def _names(self, context: NetworkContext) -> dict[str, Any]:
        """What `${...}` may name: the context's values, then the constants, in their order."""
        names = context_values(context)
        for name, raw in self.declaration.constants.items():
            try:
                names[name] = substitute(raw, names)
            except ValueError as error:
                self._refuse(f"constants.{name}: {error}")
        return names

    def _fitted(self, built: Built, context: NetworkContext) -> Built:
        """The network with the shape its role wants, given by a Reshape where it ends flat or in a single value."""
        shape, wanted = tuple(built.value.shape[1:]), tuple(context.output.shape)
        if shape == wanted:
            return built
        if built.value[0].numel() != context.output.size or (len(shape) > 1 and context.output.size > 1):
            self._refuse(f"gives rows of shape {shape}, but the role '{context.role}' wants {wanted}")
        modules = {**built.modules, str(len(built.modules)): Reshape(wanted)}
        return Built(modules, [*built.plain, {"Reshape": {"shape": list(wanted)}}], built.value.reshape(2, *wanted))

    def _refuse_override(self, override: Override, context: NetworkContext) -> NoReturn:
        known = [f"{layer}.{name}" for layer, names in self.layer_arguments(context).items() for name in names]
        place = f"{self.name} for {context.data.kind} data"
        raise ConfigError(f"{override.key}: no layer of {place} takes it{suggestion(override.key, known)}")

    def _settable(self, kind: str) -> tuple[str, ...]:
        if kind in self.blocks:
            return tuple(self.blocks[kind].parameters)
        if kind in BRANCHING:
            return ("dim",) if kind == "Concat" else ()
        return layer_type(kind).settable

    def _resolved(self, variant: Variant, plain: list[Plain]) -> dict[str, Any]:
        optional = {
            "output_range": list(variant.output_range) if variant.output_range else None,
            "outputs": variant.outputs,
        }
        present = {key: value for key, value in optional.items() if value is not None}
        return {"name": self.name, "doc": self.doc, **present, "layers": plain}


def load_definition(path: str | os.PathLike[str]) -> NetworkDefinition:
    """The definition in a YAML file. Raises NetworkError."""
    return NetworkDefinition.load(path)


def parse_definition(text: str, origin: str = "definition") -> NetworkDefinition:
    """The definition in a YAML text. Raises NetworkError."""
    return NetworkDefinition.parse(text, origin)


def context_values(context: NetworkContext) -> dict[str, Any]:
    """The values that `${...}` may name in every definition."""
    values: dict[str, Any] = {}
    ports = {"input": context.input.shape, "output": context.output.shape, "data": context.data.shape}
    for name, shape in ports.items():
        values[f"{name}.shape"] = tuple(shape)
        values[f"{name}.size"] = int(torch.Size(shape).numel())
        if len(shape) == 3:
            values.update(zip((f"{name}.channels", f"{name}.height", f"{name}.width"), shape, strict=True))
    return {**values, "data.classes": len(context.data.classes)}


def _rows_of_zeros(port: Port) -> torch.Tensor:
    """Two rows to build for; those that are too long for any layer are one zero, seen often: they will be refused."""
    one = torch.zeros(1)
    return one.expand(2, *port.shape) if port.size > ACTIVATIONS_LIMIT else one.new_zeros(2, *port.shape)


def _overrides(given: Mapping[str, Any]) -> list[Override]:
    split = [(key, *key.rpartition(".")[::2], value) for key, value in given.items()]
    return [Override(key, layer, argument, value) for key, layer, argument, value in split]


def _ends_in_sigmoid(modules: Iterable[nn.Module]) -> bool:
    """Whether the last layer that changes values is a Sigmoid."""
    bearing = [module for module in modules if not isinstance(module, (Reshape, nn.Flatten, nn.Identity))]
    if bearing and isinstance(bearing[-1], nn.Sequential):
        return _ends_in_sigmoid(bearing[-1])
    return bool(bearing) and isinstance(bearing[-1], nn.Sigmoid)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
