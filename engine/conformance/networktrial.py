"""The networks that the checks of one network factory look at: one for each kind of data that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganglion.engine.assembly import build_network, main_output
from ganglion.engine.conformance.results import Failed, Unusable
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.contracts import DataSpec, NetworkContext, Port, RoleShape
from ganglion.engine.errors import ConfigError, NetworkError, suggestion
from ganglion.engine.job import RoleSettings
from ganglion.engine.resolution import layer_arguments, settings_of
from ganglion.engine.settings import Level, Owner, refuse_unknown, resolve
from ganglion.engine.streams import Streams

ROWS = 4
LATENT, CLASSES = 6, 3
DATA: dict[str, DataSpec] = {
    "points": DataSpec("vector", (2,)),
    "image": DataSpec("image", (1, 8, 8), value_range=(0.0, 1.0)),
    "colour": DataSpec("image", (3, 16, 20), value_range=(0.0, 1.0)),
    "series": DataSpec("sequence", (7, 3)),
}
ROLES = ("generator", "decoder", "discriminator", "encoder", "classifier", "autoencoder")
OTHER_NAMES = {"critic": "discriminator", "gen": "generator"}


class Made(NamedTuple):
    """A network that was built, and what it was built for."""

    data: str
    shape: RoleShape
    network: nn.Module


def shape_of(role: str, spec: DataSpec) -> RoleShape:
    """What a network of that role is given and gives."""
    own = Port(spec.kind, spec.shape)
    noise = Port("noise", (LATENT,))
    shapes = {
        "generator": RoleShape(noise, own),
        "decoder": RoleShape(noise, own),
        "discriminator": RoleShape(own, Port("score", (1,))),
        "encoder": RoleShape(own, Port("vector", (2 * LATENT,))),
        "autoencoder": RoleShape(own, own),
    }
    return shapes.get(role, RoleShape(own, Port("classes", (CLASSES,))))


def role_of(name: str, thing: Any) -> str:
    """The role that a network is made for: what it declares, or what its name says; else it tells classes apart."""
    declared = tuple(getattr(thing, "roles", ()))
    words = {role: role for role in ROLES} | OTHER_NAMES
    named = next((role for word, role in words.items() if word in name.lower()), "classifier")
    return named if named == "autoencoder" or named in declared or not declared else str(declared[0])


@dataclass
class NetworkTrial:
    """One network factory, the role that it plays here, and its keys."""

    subject: Subject
    role: str | None = None
    data: DataSpec | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.role is not None and self.role not in ROLES:
            raise ConfigError(f"role={self.role}: the kit knows these{suggestion(self.role, ROLES)}")

    @cached_property
    def made(self) -> list[Made]:
        """One network for each kind of data; kinds that the factory refuses by a NetworkError are left out."""
        found, refusals = [], list[str]()
        for name, spec in self._specs().items():
            try:
                found.append(Made(name, self.shape(spec), self.build(spec)))
            except NetworkError as error:
                refusals.append(str(error))
            except ConfigError as error:
                raise Unusable from error
        if not found:
            raise Failed(f"it can be built for no kind of data as {self.as_role()}: {refusals[0]}")
        return found

    def as_role(self) -> str:
        """The role that it plays here."""
        return self.role or role_of(self.subject.name, self.subject.thing)

    def shape(self, spec: DataSpec) -> RoleShape:
        """What it is given and gives."""
        return shape_of(self.as_role(), spec)

    def spec(self, made: Made) -> DataSpec:
        """The data for which a network was made."""
        return self._specs()[made.data]

    def build(self, spec: DataSpec, seed: int = 1) -> nn.Module:
        """A network for such data, as a job builds it. Raises NetworkError where it does not fit."""
        entry, shape = self.subject.entry, self.shape(spec)
        role = "discriminator" if self.as_role() == "autoencoder" else self.as_role()
        arguments = layer_arguments(entry, NetworkContext(role, *shape, spec))
        owner = Owner(f"network {entry.name}", settings_of(entry.thing), prefix=entry.name, layer_arguments=arguments)
        levels = [Level("keys", self.keys)]
        result = resolve([owner], levels, ())
        refuse_unknown(result.unknown, [owner], levels, ())
        streams = Streams(seed, torch.device("cpu"))
        return build_network(
            role, entry, result.settings[0], result.layer_arguments[0], shape, spec, streams, RoleSettings()
        )

    def _specs(self) -> Mapping[str, DataSpec]:
        return DATA if self.data is None else {self.data.kind: self.data}


def rows_for(made: Made, count: int = ROWS, scale: float = 1.0) -> Tensor:
    """Rows that such a network may be given, always the same."""
    generator = torch.Generator().manual_seed(11)
    rows = torch.randn(count, *made.shape.input.shape, generator=generator)
    return rows * scale if made.shape.input.kind in ("noise", "vector", "sequence") else rows.sigmoid() * scale


def output_of(network: nn.Module, rows: Tensor) -> Tensor:
    """The tensor that a network gives: its score where it gives several things."""
    tensor: Tensor = main_output(network(rows))
    return tensor
