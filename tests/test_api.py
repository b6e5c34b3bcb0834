"""The public modules list every name that they import, in order."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["ganglion.engine.api", "ganglion.strategies.api"])
def test_all_is_sorted_and_complete(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    public = sorted(alias for alias in imported if not alias.startswith("_"))
    assert len(public) > 5
    assert module.__all__ == public == sorted(set(module.__all__))


@pytest.mark.parametrize("name", ["ganglion.engine.api", "ganglion.strategies.api"])
def test_everything_public_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    silent = [each for each in module.__all__ if not (getattr(module, each).__doc__ or "").strip()]
    assert silent == []


def test_contracts_of_all_kinds_are_public() -> None:
    from ganglion.engine import api, contracts

    kinds = {
        "Adapter", "Criterion", "DatasetFactory", "GradientProcessor", "LearningStrategy", "Method", "Metric",
        "NetworkFactory", "Objective", "Penalty", "PenaltySettings", "Sampling", "Trace",
    }  # fmt: skip
    assert kinds <= set(api.__all__)
    assert all(getattr(api, kind) is getattr(contracts, kind) for kind in kinds)
