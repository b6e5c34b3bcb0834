"""What the tests of traps share: a check of their tables, and jobs that are ready to learn on a few rows."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganglion.engine.assembly import assemble
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.registry import Registry
from ganglion.engine.session import Session

REGISTRY = Registry().load()
ROOT = Path(__file__).parent.parent
OF_THE_TABLE = {"test_every_trap_has_a_test_that_exists", "test_every_test_here_is_in_the_table"}
LOOSE = "Recurrent,Recurrent"
SMALL = {"size": 40, "testSize": 12, "length": 8, "hidden": 5}
SHORT = {"batchSize": 6, "iterations": 9}

Table = Mapping[str, Sequence[str]]  # FILE::TEST, by what they guard against


@cache
def functions(path: Path) -> frozenset[str]:
    """The functions that a file defines; nothing of it is run."""
    return frozenset(node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))


def missing(traps: Table) -> list[str]:
    """What a table names and no file has."""
    named = (entry.partition("::") for entry in itertools.chain(*traps.values()))
    return [f"{file}::{name}" for file, _, name in named if name not in functions(ROOT / file)]


def unlisted(traps: Table, file: str) -> set[str]:
    """The tests of the table's own file that it does not name."""
    named = {entry.partition("::")[2] for entry in itertools.chain(*traps.values())}
    return {name for name in functions(Path(file)) if name.startswith("test_")} - named - OF_THE_TABLE


def assembled(networks: str, dataset: str, **keys: Any) -> Session:
    """A job ready to learn; nothing is said."""
    return assemble(REGISTRY, request(networks, dataset, keys), data_context(lambda sentence: None))


def published(strategy: str, networks: str, dataset: str = "AR", **keys: Any) -> tuple[Any, Session]:
    """A strategy for series, with the batches and iterations of its preset."""
    data = {**SMALL, **({"channels": 2} if dataset == "AR" else {}), **({"classes": 2} if strategy == "RCGAN" else {})}
    made = assembled(networks, dataset, **{**data, "strategy": strategy, **keys})
    return made.strategy, made


def live(strategy: str, networks: str = LOOSE, dataset: str = "AR", **keys: Any) -> tuple[Any, Session]:
    """A strategy for series, with few rows in a batch and few iterations."""
    return published(strategy, networks, dataset, **{**SHORT, **keys})


def inputs_of(network: nn.Module) -> list[Tensor]:
    """What a network is given from now on."""
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    return seen
