"""Which nodes of a cluster may carry out runs, and how many runs fit on them: targets, their number, their labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ganglion.engine.errors import ConfigError, fold, suggestion
from ganglion.engine.settings import format_value

ROUNDING = 1e-9  # shares such as a third of a GPU add up to a little more or less than a whole


class Need(NamedTuple):
    """What one run takes of a node."""

    cpus: float
    gpus: float


class Node(NamedTuple):
    """A node of the cluster that is alive."""

    identity: str
    name: str
    address: str
    host: str
    cpus: float
    gpus: float
    labels: Mapping[str, str]

    @property
    def shown(self) -> str:
        """Its name, and its address where that is another."""
        return self.name if self.name != self.address else self.host or self.address

    def is_called(self, target: str) -> bool:
        """Whether `target` names it."""
        names = {fold(self.name), fold(self.address), fold(self.host), fold(self.identity)}
        return fold(target) in names

    def fits(self, need: Need) -> int:
        """How many runs it can carry out at the same time."""
        counts = [self.cpus / need.cpus if need.cpus else math.inf, self.gpus / need.gpus if need.gpus else math.inf]
        return int(min(*counts, 1e6) + ROUNDING)


class Placement(NamedTuple):
    """Which nodes may be used."""

    targets: tuple[str, ...] = ()
    most: int | None = None
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, targets: Sequence[str], most: int | None, conditions: Iterable[str]) -> Placement:
        """From the text of the keys. Raises ConfigError."""
        labels = []
        for condition in conditions:
            label, equals, value = (part.strip() for part in condition.partition("="))
            if not equals or not label or not value:
                raise ConfigError(f"targetFilter={condition}: expected label=value, e.g. targetFilter=zone=north")
            labels.append((label, value))
        return cls(tuple(targets), most, tuple(labels))

    @property
    def restricts(self) -> bool:
        """Whether some nodes may not be used."""
        return bool(self.targets or self.most or self.labels)


def read_nodes(described: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The nodes that are alive, from what Ray says of all of them."""
    return [
        Node(
            identity=str(each["NodeID"]),
            name=str(each.get("NodeName") or each["NodeManagerAddress"]),
            address=str(each["NodeManagerAddress"]),
            host=str(each.get("NodeManagerHostname", "")),
            cpus=float(each.get("Resources", {}).get("CPU", 0.0)),
            gpus=float(each.get("Resources", {}).get("GPU", 0.0)),
            labels=dict(each.get("Labels") or {}),
        )
        for each in described
        if each.get("Alive")
    ]


def refuse_unknown(nodes: Sequence[Node], placement: Placement) -> None:
    """Every target names a node and every condition holds for one. Raises ConfigError."""
    for target in placement.targets:
        if not any(node.is_called(target) for node in nodes):
            raise ConfigError(f"targets={target}: no node is called so{suggestion(target, {n.shown for n in nodes})}")
    for label, value in placement.labels:
        values = {node.labels[label] for node in nodes if label in node.labels}
        if not values:
            known = {name for node in nodes for name in node.labels if not name.startswith("ray.io/")}
            there = suggestion(label, known) or "; 'ray start --labels' gives nodes their labels"
            raise ConfigError(f"targetFilter={label}={value}: no node has a label '{label}'{there}")
        if value not in values:
            there = ", ".join(sorted(values))
            raise ConfigError(f"targetFilter={label}={value}: no node has that; there are: {there}")


def chosen(nodes: Sequence[Node], placement: Placement, need: Need, before: Collection[str] = ()) -> list[Node]:
    """The nodes that carry out runs: those used `before`, then those with most room; none where no run fits on any."""
    fitting = [
        node
        for node in nodes
        if node.fits(need)
        and (not placement.targets or any(node.is_called(target) for target in placement.targets))
        and all(node.labels.get(label) == value for label, value in placement.labels)
    ]
    order = sorted(fitting, key=lambda node: (node.identity not in before, -node.fits(need), node.name, node.identity))
    return order[: placement.most]


def refuse_too_much(nodes: Sequence[Node], placement: Placement, need: Need) -> None:
    """Some node that may be used has room for a run. Raises ConfigError, instead of waiting for ever."""
    refuse_unknown(nodes, placement)
    if chosen(nodes, placement, need):
        return
    allowed = chosen(nodes, placement, Need(0.0, 0.0))
    if not allowed:
        raise ConfigError("no node is left: targets= and targetFilter= hold for none together")
    where = "no node that may be used" if placement.restricts else "no node"
    most = f"the most is {max(node.cpus for node in allowed):g} and {max(node.gpus for node in allowed):g}"
    asked = f"cpus={format_value(need.cpus)} gpus={format_value(need.gpus)}"
    raise ConfigError(f"{asked}: {where} has so much for one run; {most}, in {_counted(len(allowed))}")


def _counted(count: int) -> str:
    return f"{count} node{'s' if count != 1 else ''}"
