"""`ganglion doctor`: what is found, and that every bad finding says what to do."""

from __future__ import annotations

import collections
import importlib.metadata
import json
import shutil
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from ganglion.engine import doctor
from ganglion.engine.cli import cli
from ganglion.engine.doctor import Finding, examine


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GANGLION_DATA", raising=False)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **selection: [])


def findings(runs: str | None = None) -> dict[str, Finding]:
    found = examine(runs)
    assert len({finding.what for finding in found}) == len(found)
    return {finding.what: finding for finding in found}


def test_what_is_looked_at(tmp_path: Path) -> None:
    found = findings()
    expected = "Python, Ganglion, torch, devices, processor, C++ compiler, data, cache, runs, plugins, terminal"
    assert ", ".join(found) == expected
    assert found["torch"].found == torch.__version__
    assert found["devices"].found.startswith("cpu (")
    assert found["processor"].found.endswith("torch uses 1 thread")
    assert str(tmp_path / "runs") in found["runs"].found
    assert "(not made yet)" in found["runs"].found
    assert str(tmp_path / "cache") in found["cache"].found
    assert not (tmp_path / "runs").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_tested_versions_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    first, beyond = doctor.TESTED_TORCH
    assert f"torch>={first},<{beyond}" in project["dependencies"]
    assert project["requires-python"] == f">={'.'.join(map(str, doctor.OLDEST_PYTHON))}"


@pytest.mark.parametrize(
    ("version", "good"), [("2.13.0+cpu", True), ("2.13.2", True), ("2.14.0a0+git1", False), ("2.9.1", False)]
)
def test_versions_of_torch(monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    finding = findings()["torch"]
    assert finding.good is good
    assert good or finding.found == f"{version} is not tested: pip install 'torch>=2.13,<2.14'"


def test_without_torch_the_rest_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = findings()
    assert list(found) == ["Python", "Ganglion", "torch"]
    assert not found["torch"].good
    assert "pip install 'torch>=2.13,<2.14'" in found["torch"].found


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (99, 1))
    finding = findings()["Python"]
    assert not finding.good
    assert finding.found.endswith("too old; make an environment with Python 99.1 or later")


def test_a_compiler_is_information_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert findings()["C++ compiler"] == Finding("C++ compiler", "none (not needed)", True)


def test_data_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mnist", "Fashion-MNIST", "images", "notes"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    folders = [tmp_path / name for name in ("data", "empty", "missing")]
    monkeypatch.setenv("GANGLION_DATA", ":".join(map(str, folders)))
    found = findings()
    assert found[f"data {folders[0]}"].found == "FashionMNIST, MNIST"
    assert found[f"data {folders[1]}"] == Finding(f"data {folders[1]}", "no folder of a known data set in it", True)
    missing = found[f"data {folders[2]}"]
    assert not missing.good
    assert missing.found == "there is no such folder; make it, or correct GANGLION_DATA"


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("GANGLION_CACHE", str(file / "below"))
    found = findings(str(file))
    assert not found["runs"].good
    assert found["runs"].found.startswith(
        f"{file} cannot be written: it is not a folder; name another folder with --runs"
    )
    assert not found["cache"].good
    assert f"({file}): it is not a folder; name another folder with GANGLION_CACHE" in found["cache"].found


def test_a_read_only_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    finding = findings()["runs"]
    assert not finding.good
    assert "Permission denied; name another folder with --runs or GANGLION_RUNS" in finding.found


def test_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 << 30, 9 << 30, 1 << 29))
    runs = tmp_path / "mine"
    runs.mkdir()
    finding = findings(str(runs))["runs"]
    assert not finding.good
    assert (
        finding.found
        == f"{runs}: only 0.5 GiB free; remove something, or name another folder with --runs or GANGLION_RUNS"
    )
    assert list(runs.iterdir()) == []


def test_quarantined_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="gone", value="no_such_module_at_all", group="ganglion")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **selection: [entry])
    finding = findings()["plugin gone"]
    assert not finding.good
    assert "ModuleNotFoundError: No module named 'no_such_module_at_all'" in finding.found
    assert finding.found.endswith("; update it, or pip uninstall unknown")


def test_the_command_and_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["good"] for row in rows] == [True] * len(rows)
    assert set(rows[0]) == {"what", "found", "good"}
    monkeypatch.setenv("GANGLION_DATA", str(tmp_path / "missing"))
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "there is no such folder" in " ".join(result.stdout.split())
