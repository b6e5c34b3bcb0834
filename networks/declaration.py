"""A whole network definition as it was written: its names, constants, blocks and variants, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from ganglion.engine.api import NetworkError, suggestion
from ganglion.networks.catalogue import BRANCHING, LAYERS
from ganglion.networks.layers import Block, Layer, Reader, walk

KINDS = ("image", "vector", "sequence")
_KEYS = ("name", "doc", "aliases", "roles", "constants", "blocks", "variants")
_VARIANT_KEYS = ("layers", "output_range", "outputs")
_OTHER = "network"  # a variant that is a registered network holds this key and no other


class Variant(NamedTuple):
    """The layers for one kind of data, and what is known of their output; or the name of another network."""

    layers: tuple[Layer, ...] = ()
    output_range: tuple[float, float] | None = None
    outputs: str | None = None
    network: str | None = None


@dataclass(frozen=True)
class Declaration:
    """What a definition says; one set of layers for all kinds of data stands under the kind ''."""

    name: str
    doc: str
    aliases: tuple[str, ...]
    roles: tuple[str, ...]
    constants: Mapping[str, Any]
    blocks: Mapping[str, Block]
    variants: Mapping[str, Variant]


class DeclarationReader:
    """Reads one definition; `origin` names it in messages."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def read(self, content: Mapping[Any, Any]) -> Declaration:
        """The declaration. Raises NetworkError."""
        self._known(content, (*_KEYS, *_VARIANT_KEYS), "definition")
        parameters, bodies = self._split_blocks(content)
        reader = Reader(self.origin, parameters)
        blocks = {
            name: Block(parameters[name], reader.layers(raw, f"blocks.{name}.layers")) for name, raw in bodies.items()
        }
        self._check_cycles(blocks)
        return Declaration(
            name=self._text(content, "name"),
            doc=self._text(content, "doc"),
            aliases=self._listed(content, "aliases"),
            roles=self._listed(content, "roles"),
            constants=self._named(content.get("constants"), "constants"),
            blocks=blocks,
            variants=self._read_variants(content, reader),
        )

    def _refuse(self, what: str) -> NoReturn:
        raise NetworkError(f"{self.origin}: {what}")

    def _known(self, content: Mapping[Any, Any], keys: Sequence[str], where: str) -> None:
        for key in content:
            if key not in keys:
                self._refuse(f"unknown key '{key}' in the {where}{suggestion(str(key), keys)}")

    def _text(self, content: Mapping[Any, Any], key: str) -> str:
        value = content.get(key)
        if not isinstance(value, str) or not value.strip():
            self._refuse(f"{key}: expects a text, not {value!r} (put words like 'on' and numbers in quotation marks)")
        return " ".join(value.split())

    def _listed(self, content: Mapping[Any, Any], key: str) -> tuple[str, ...]:
        names = content.get(key) or ()
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            self._refuse(f"{key}: expects a list of names, not {names!r}")
        return tuple(names)

    def _named(self, raw: Any, where: str) -> dict[str, Any]:
        """A mapping from words to values; `max` and `min` are functions in `${...}`, so no names."""
        values = {} if raw is None else raw
        if not isinstance(values, Mapping):
            self._refuse(f"{where}: expects names with values, not {raw!r}")
        for key in values:
            if not isinstance(key, str) or not key.isidentifier() or key in ("max", "min"):
                self._refuse(f"{where}: '{key}' cannot be a name")
        return dict(values)

    def _split_blocks(self, content: Mapping[Any, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """The parameters and the raw layers of every block."""
        parameters, bodies = {}, {}
        for name, raw in self._named(content.get("blocks"), "blocks").items():
            if name in LAYERS or name in BRANCHING:
                self._refuse(f"blocks.{name}: there is a layer of that name")
            if not isinstance(raw, Mapping) or "layers" not in raw:
                self._refuse(f"blocks.{name}: expects 'layers' and, where it has some, 'parameters'")
            self._known(raw, ("parameters", "layers"), f"block {name}")
            parameters[name] = self._named(raw.get("parameters"), f"blocks.{name}.parameters")
            bodies[name] = raw["layers"]
        return parameters, bodies

    def _check_cycles(self, blocks: Mapping[str, Block]) -> None:
        inside = {name: {layer.kind for layer in walk(block.layers, blocks)} for name, block in blocks.items()}
        for name, kinds in inside.items():
            if name in kinds:
                self._refuse(f"blocks.{name}: the block holds itself")

    def _read_variants(self, content: Mapping[Any, Any], reader: Reader) -> dict[str, Variant]:
        """Variants by the kind of the data; one definition for all kinds stands under ''."""
        if ("layers" in content) == ("variants" in content):
            self._refuse("expects either 'layers' or 'variants'")
        if "layers" in content:
            return {"": self._read_variant(content, content, "layers", reader)}
        variants = content["variants"]
        if not isinstance(variants, Mapping) or not variants:
            self._refuse(f"variants: expects layers by the kind of the data ({', '.join(KINDS)})")
        self._known(variants, KINDS, "variants")
        found = {}
        for kind, raw in variants.items():
            if not isinstance(raw, Mapping):
                self._refuse(f"variants.{kind}: expects 'layers'")
            self._known(raw, (*_VARIANT_KEYS, _OTHER), f"variant {kind}")
            if _OTHER in raw:
                found[kind] = self._read_other(raw, kind)
            else:
                found[kind] = self._read_variant(raw, content, f"variants.{kind}.layers", reader)
        return found

    def _read_other(self, raw: Mapping[Any, Any], kind: str) -> Variant:
        """A variant that names another network."""
        name = raw[_OTHER]
        if not isinstance(name, str) or len(raw) > 1:
            self._refuse(f"variants.{kind}: 'network' names a registered network and stands alone, not {dict(raw)!r}")
        return Variant(network=name)

    def _read_variant(self, raw: Mapping[Any, Any], content: Mapping[Any, Any], path: str, reader: Reader) -> Variant:
        layers = reader.layers(raw.get("layers"), path)
        outputs = raw.get("outputs", content.get("outputs"))
        if outputs not in (None, "probability"):
            self._refuse(f"outputs: expects 'probability' or nothing, not {outputs!r}")
        if outputs and (not layers or layers[-1].kind != "Sigmoid"):
            self._refuse(f"{path}: outputs are a probability, so the last layer must be Sigmoid")
        return Variant(layers, self._range(raw.get("output_range", content.get("output_range"))), outputs)

    def _range(self, raw: Any) -> tuple[float, float] | None:
        if raw is None:
            return None
        numbers = isinstance(raw, (list, tuple)) and all(type(value) in (int, float) for value in raw)
        if not numbers or len(raw) != 2 or not raw[0] < raw[1]:
            self._refuse(f"output_range: expects two ascending numbers such as [-1, 1], not {raw!r}")
        return float(raw[0]), float(raw[1])
