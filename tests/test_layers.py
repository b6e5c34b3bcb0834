"""Imports point one way, help does not import torch, and the engine branches on no plugin's name."""

from __future__ import annotations

import ast
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganglion.engine import hookspecs
from ganglion.engine.registry import BUILTIN_PACKAGES, Registry

ROOT = Path(__file__).resolve().parent.parent
PLUGIN_FOLDERS = ("strategies", "networks", "datasets")
PUBLIC = ("ganglion.engine.api", "ganglion.strategies.api")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path, inside: str) -> Iterator[str]:
    """Every module that a file imports; a relative import under the name that it stands for."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == inside.partition(".")[0]:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ".".join(part for part in (inside if node.level else "", node.module or "") if part)


def strings(path: Path) -> Iterator[str]:
    """Every string of a file but docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS)
def test_plugin_folders_import_the_public_names_and_their_own_folder(folder: str) -> None:
    own = f"ganglion.{folder}"
    found = [
        (str(path.relative_to(ROOT)), module)
        for path in sources(folder)
        for module in imported(path, own)
        if within(module, "ganglion") or module in (*PLUGIN_FOLDERS, "engine")
    ]
    assert found
    assert [pair for pair in found if not within(pair[1], own) and pair[1] not in PUBLIC] == []


def test_the_engine_imports_nothing_of_the_plugin_folders() -> None:
    found = [(path.name, module) for path in sources("engine") for module in imported(path, "ganglion.engine")]
    assert ("learner.py", "ganglion.engine.store") in found
    bare = [pair for pair in found if pair[1].partition(".")[0] in ("engine", *PLUGIN_FOLDERS)]
    assert bare == []
    assert [pair for pair in found if within(pair[1], "ganglion") and not within(pair[1], "ganglion.engine")] == []


def test_the_engine_names_the_plugin_folders_in_one_tuple() -> None:
    named = re.compile(rf"ganglion\.({'|'.join(PLUGIN_FOLDERS)})\b(?!\.api)")
    found = [(path.name, text) for path in sources("engine") for text in strings(path) if named.search(text)]
    assert found == [("registry.py", f"ganglion.{folder}") for folder in PLUGIN_FOLDERS]
    assert BUILTIN_PACKAGES[1:] == tuple(f"ganglion.{folder}" for folder in PLUGIN_FOLDERS)


def test_only_the_settings_of_a_job_name_a_strategy() -> None:
    """No comparison, look-up or `match` in the engine or in the shared loop is with a strategy's or data set's name."""
    registry = Registry().load()
    names = {entry.name for kind in ("strategy", "dataset") for entry in registry.all(kind)}
    assert {"GAN", "WGAN", "MNIST"} <= names
    found = []
    for path in [*sources("engine"), ROOT / "strategies" / "adversarial.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Compare, ast.MatchValue, ast.Dict)):
                found += [
                    (path.name, leaf.lineno, leaf.value)
                    for leaf in ast.walk(node)
                    if isinstance(leaf, ast.Constant) and leaf.value in names
                ]
    assert found == []


def test_no_registered_strategy_subclasses_another() -> None:
    classes = [entry.thing for entry in Registry().load().all("strategy") if entry.origin == "built-in"]
    pairs = [(one, other) for one in classes for other in classes if one is not other and issubclass(one, other)]
    assert classes and pairs == []


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.parametrize("module", ["ganglion.engine.cli", "ganglion.engine", "ganglion.engine.hookspecs"])
def test_importing_for_help_leaves_torch_out(module: str) -> None:
    done = run(f"import sys, {module}; print(sorted({{'torch', 'numpy', 'pydantic', 'sklearn'}} & set(sys.modules)))")
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["learn_main", "main"])
def test_help_answers_in_under_a_second(name: str) -> None:
    """Processor seconds of the child: the wall clock of a busy machine says little."""
    code = f"from ganglion.engine.cli import {name}; {name}(['--help'])"

    def seconds() -> float:
        before = os.times()
        assert run(code).stdout.startswith("Usage: ")
        after = os.times()
        return (after.children_user - before.children_user) + (after.children_system - before.children_system)

    assert statistics.median(seconds() for _ in range(3)) < 1.0


def test_hook_names_are_one_verb_per_kind() -> None:
    specified = {name for name in vars(hookspecs) if name.startswith("register_")}
    assert specified == set(hookspecs.KINDS.values())
