"""The pluggy hooks: one verb per kind, each receiving `register(name, thing, aliases=())`."""

from __future__ import annotations

from typing import Any

import pluggy

PROJECT = "ganglion"
API_VERSION = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

KINDS: dict[str, str] = {
    "strategy": "register_strategies",
    "network": "register_networks",
    "dataset": "register_datasets",
    "sampling": "register_samplers",
    "criterion": "register_criteria",
    "processor": "register_processors",
    "objective": "register_objectives",
    "penalty": "register_penalties",
    "metric": "register_metrics",
    "trace": "register_traces",
}


@hookspec
def register_strategies(register: Any) -> None:
    """Register LearningStrategy classes."""


@hookspec
def register_networks(register: Any) -> None:
    """Register network factories: callables from a NetworkContext to an nn.Module."""


@hookspec
def register_datasets(register: Any) -> None:
    """Register DatasetFactory classes."""


@hookspec
def register_samplers(register: Any) -> None:
    """Register Sampling classes."""


@hookspec
def register_criteria(register: Any) -> None:
    """Register Criterion classes."""


@hookspec
def register_processors(register: Any) -> None:
    """Register GradientProcessor classes: methods (optimisers) and other links of the chain."""


@hookspec
def register_objectives(register: Any) -> None:
    """Register Objective classes."""


@hookspec
def register_penalties(register: Any) -> None:
    """Register Penalty classes."""


@hookspec
def register_metrics(register: Any) -> None:
    """Register Metric classes."""


@hookspec
def register_traces(register: Any) -> None:
    """Register Trace classes."""
