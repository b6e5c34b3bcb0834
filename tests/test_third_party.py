"""A package by somebody else, installed by pip into a fresh environment beside our own wheel, and run from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

CHECKOUT = Path(__file__).parent.parent
FOLDERS = ("engine", "strategies", "networks", "datasets")
PROJECT = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
PACKAGE = Path(__file__).parent / "third_party"
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
OFFLINE = ("--quiet", "--no-index", "--no-build-isolation")

KEYS = (
    "strategy=echo", "criterion=LOGCOSH", "discriminator.centralize=true", "sampling=EVERYSECOND", "objective=margin",
    "margin=0.9", "widths=16,8", "delay=2", "iterations=12", "traceInterval=4", "batchSize=16", "threads=1", "tag=echo",
    "sampleInterval=0",
)  # fmt: skip


TOGETHER = """
import sys
from ganglion.engine.cli import cli
for words in sys.argv[1:]:
    sys.stdout.write(chr(0))
    cli([*words.split(), '--json'], standalone_mode=False)
"""


class Environment(NamedTuple):
    """A virtual environment with Ganglion and the package in it."""

    folder: Path
    variables: dict[str, str]
    wheel: Path

    def run(self, script: str, *words: str) -> str:
        """What a script of the environment prints; it must succeed, and print no warning."""
        command = [str(self.folder / "bin" / script), *words]
        done = subprocess.run(command, cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Warning" not in done.stderr
        return done.stdout

    def python(self, text: str) -> str:
        return self.run("python", "-c", text).strip()

    def answers(self, *commands: str) -> list[Any]:
        """What commands of `ganglion` print with --json, one after the other in one process."""
        printed = self.run("python", "-c", TOGETHER, *commands)
        return [json.loads(each) for each in printed.split("\0")[1:]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Fresh, but for what Ganglion depends on: that is borrowed from the environment that runs the tests."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("third_party")
    wheel = build_wheel(folder)
    place = folder / "environment"
    venv.create(place, with_pip=False)
    python = str(place / "bin" / "python")
    # Before the others can be seen: pip would take the Ganglion that runs the tests for the one to install.
    checked([sys.executable, *PIP, "--python", python, "install", "--no-deps", *OFFLINE, str(wheel)])
    lend_packages(place)
    package = folder / "source"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    checked([sys.executable, *PIP, "--python", python, "install", *OFFLINE, str(package)])
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("GANGLION_", "PYTHON"))}
    variables |= {"GANGLION_RUNS": str(folder / "runs"), "GANGLION_CACHE": str(folder / "cache"), "COLUMNS": "100"}
    yield Environment(place, variables, wheel)
    shutil.rmtree(folder, ignore_errors=True)


def build_wheel(folder: Path) -> Path:
    """A wheel of this checkout, built from a copy, so that nothing is left in it."""
    copy = folder / "ganglion"
    copy.mkdir()
    for name in FOLDERS:
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "*~"))
    for name in PROJECT:
        shutil.copy(CHECKOUT / name, copy / name)
    checked([sys.executable, *PIP, "wheel", "--no-deps", *OFFLINE, "--wheel-dir", str(folder), str(copy)])
    (wheel,) = folder.glob("ganglion-*.whl")
    return wheel


def lend_packages(place: Path) -> None:
    """Make the packages of the environment that runs the tests importable in another one, after its own."""
    folders = {path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")}
    (site,) = place.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text("\n".join(sorted(folders)) + "\n")


def checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def learnt(environment: Environment) -> dict[str, Any]:
    """A run of the package's own strategy, networks, data set and parts."""
    result: dict[str, Any] = json.loads(environment.run("learn", "EchoNet,EchoNet", "EchoWaves", *KEYS, "--json"))
    return result


# --- the wheel ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_four_folders(environment: Environment) -> None:
    with zipfile.ZipFile(environment.wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("ganglion/")}
    copy = environment.wheel.parent / "ganglion"
    files = (path for folder in FOLDERS for path in (copy / folder).rglob("*") if path.is_file())
    assert packed == {f"ganglion/{path.relative_to(copy)}" for path in files}
    assert len(packed) > 100


@pytest.mark.slow
def test_the_installed_ganglion_is_used_and_no_bare_folder_can_be_imported(environment: Environment) -> None:
    found = environment.python(
        "import ganglion.engine.api, ganglion_thirdparty as t; print(t.__file__, ganglion.engine.api.__file__)"
    )
    assert all(Path(path).is_relative_to(environment.folder) for path in found.split())
    specs = f"[util.find_spec(name) is None for name in {FOLDERS}]"
    assert environment.python(f"from importlib import util; print(all({specs}))") == "True"


# --- the package --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_with_names_of_its_own(environment: Environment, learnt: dict[str, Any]) -> None:
    assert (learnt["tag"], learnt["status"], learnt["iteration"]) == ("echo", "finished", 12)
    assert {"discriminatorLoss", "generatorLoss", "echo"} <= set(learnt["values"])
    directory = Path(learnt["directory"])
    points = [json.loads(line) for line in (directory / "trace.jsonl").read_text().splitlines()]
    assert [point["iteration"] for point in points] == [4, 8, 12]
    record = json.loads((directory / "record.json").read_text())
    named = [(plugin["name"], plugin["origin"], plugin["version"]) for plugin in record["plugins"]]
    assert named == [("thirdparty", "package ganglion-thirdparty", "1.2.3")]
    job = (directory / "job.yaml").read_text()
    for line in ("margin: 0.9", "discriminator.centralize: true", "generator.centralize: false", "delay: 2"):
        assert line in job


@pytest.mark.slow
def test_it_is_listed_and_shown(environment: Environment) -> None:
    rows, shown, (plugin,) = environment.answers("list", "show strategy echo-gan", "plugins")
    own = {(row["kind"], row["name"]) for row in rows if row["origin"] == "package ganglion-thirdparty"}
    assert own == {
        ("strategy", "EchoGAN"), ("network", "EchoNet"), ("dataset", "EchoWaves"), ("sampling", "EVERYSECOND"),
        ("criterion", "LOGCOSH"), ("processor", "Centralize"), ("objective", "margin"), ("metric", "echo-spectrum-v1"),
    }  # fmt: skip
    assert all(row["about"] for row in rows)
    assert shown["about"].startswith("A GAN whose generator is drawn")
    assert {"criterion", "echo", "objective"} <= {setting["key"] for setting in shown["settings"]}
    assert (plugin["name"], plugin["version"], plugin["error"]) == ("thirdparty", "1.2.3", None)


@pytest.mark.slow
def test_its_metric_judges_the_run(environment: Environment, learnt: dict[str, Any]) -> None:
    words = ("evaluate", learnt["tag"], "metric=echo-spectrum-v1", "spectra=32", "--json")
    (evaluation,) = json.loads(environment.run("ganglion", *words))["evaluations"]
    assert evaluation["metric"] == "echo-spectrum-v1"
    assert evaluation["values"]["difference"] > 0
    assert len(evaluation["details"]["spectrum"]["rows"]) == 9
    assert (Path(learnt["directory"]) / "evaluation" / "echo-spectrum-v1.json").is_file()


@pytest.mark.slow
def test_what_was_learnt_continues_and_gives_samples(environment: Environment, learnt: dict[str, Any]) -> None:
    out = environment.folder / "samples.csv"
    sample, go_on = f"sample {learnt['tag']} count=5 out={out}", f"learn tag={learnt['tag']} iterations=14"
    drawn, more = environment.answers(sample, go_on)
    assert (drawn["iteration"], drawn["count"]) == (12, 5)
    assert len(out.read_text().splitlines()) == 6
    assert (more["iteration"], more["status"]) == (14, "finished")


# --- its formulas, in this process --------------------------------------------------------------------------------


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    import importlib

    monkeypatch.syspath_prepend(str(PACKAGE))
    return importlib.import_module("ganglion_thirdparty.parts")


def test_its_criterion(parts: Any) -> None:
    import torch

    criterion = parts.LogCosh()
    loss = criterion.loss(torch.tensor([[0.0, 1.0], [30.0, 0.0]]), torch.zeros(2, 2))
    expected = torch.tensor([0.4337808 / 2, (30 - 0.6931472) / 2])
    torch.testing.assert_close(loss, expected)
    masked = criterion.loss(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(masked, torch.tensor([0.4337808]))


def test_its_link(parts: Any) -> None:
    import torch

    layer = torch.nn.Linear(2, 2)
    layer.weight.grad, layer.bias.grad = torch.tensor([[1.0, 3.0], [5.0, 5.0]]), torch.tensor([1.0, 2.0])
    parts.Centralize(None, layer, list(layer.parameters())).before(0)
    assert layer.weight.grad.tolist() == [[-1.0, 1.0], [0.0, 0.0]]
    assert layer.bias.grad.tolist() == [1.0, 2.0]


def test_its_sampling_gives_every_row_once(parts: Any) -> None:
    import torch

    order = parts.EverySecond(None, range(7)).order(torch.Generator().manual_seed(1)).tolist()
    assert sorted(order[:4]) == [0, 2, 4, 6]
    assert sorted(order[4:]) == [1, 3, 5]


def test_it_imports_public_names_only() -> None:
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines()]
    imported = {
        line.split()[1] for line in lines if line.startswith("from ganglion.") or line.startswith("import ganglion")
    }
    assert imported == {"ganglion.engine.api", "ganglion.strategies.api"}
