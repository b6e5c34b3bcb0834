"""`ganglion new strategy`: a package whose own test passes, that pip installs, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from ganglion.engine import scaffold
from ganglion.engine.cli import cli
from ganglion.engine.errors import ConfigError
from ganglion.engine.launch import learn
from ganglion.engine.registry import Registry
from ganglion.engine.scaffold import new_strategy, snake_case


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("MyGAN", "my_gan"),
        ("MyWGANTwo", "my_wgan_two"),
        ("WGAN2", "wgan2"),
        ("wgan_gp", "wgan_gp"),
        ("WGAN_GP", "wgan_gp"),
        ("Calm", "calm"),
    ],
)
def test_names_of_modules(name: str, module: str) -> None:
    assert snake_case(name) == module


def test_what_is_written(tmp_path: Path) -> None:
    lines = new_strategy("MyCalmGAN", str(tmp_path))
    package = tmp_path / "ganglion-my-calm-gan"
    names = {"README.md", "my_calm_gan.py", "pyproject.toml", "test_my_calm_gan.py"}
    assert {path.name for path in package.iterdir()} == names
    assert [entry.name for entry in tmp_path.iterdir()] == [package.name]
    project = tomllib.loads((package / "pyproject.toml").read_text())
    assert project["project"]["name"] == package.name
    assert project["project"]["entry-points"]["ganglion"] == {"my_calm_gan": "my_calm_gan"}
    text = "\n".join(path.read_text() for path in package.iterdir())
    assert "${" not in text
    printed = "\n".join(lines)
    for word in (*names, f"pip install -e {package}", f"pytest {package}", "strategy=MyCalmGAN"):
        assert word in printed


def test_the_module_imports_public_names_only_and_is_short(tmp_path: Path) -> None:
    new_strategy("MyCalmGAN", str(tmp_path))
    lines = (tmp_path / "ganglion-my-calm-gan" / "my_calm_gan.py").read_text().splitlines()
    imported = [line for line in lines if line.startswith(("import ", "from "))]
    names = "AdversarialSettings, AdversarialStrategy"
    assert imported == ["from ganglion.engine import api", f"from ganglion.strategies.api import {names}"]
    assert len(lines) <= 50


def test_the_written_test_passes_without_installation(tmp_path: Path) -> None:
    new_strategy("MyCalmGAN", str(tmp_path))
    package = tmp_path / "ganglion-my-calm-gan"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(package)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_written_test_notices_a_strategy_that_does_not_learn(tmp_path: Path) -> None:
    new_strategy("MyCalmGAN", str(tmp_path))
    package = tmp_path / "ganglion-my-calm-gan"
    module = package / "my_calm_gan.py"
    module.write_text(module.read_text().replace("batch) + calm,", "batch) * 0,"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "kit", str(package)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "learning: the weights of the generator are the same after 5 updates" in done.stdout


def test_the_new_strategy_learns_by_plugin_file_and_its_settings_are_keys(tmp_path: Path) -> None:
    new_strategy("MyCalmGAN", str(tmp_path))
    file = str(tmp_path / "ganglion-my-calm-gan" / "my_calm_gan.py")
    keys = {"strategy": "my-calm-gan", "size": 64, "batchSize": 16, "iterations": 3, "threads": 1, "calm": 0}
    learnt = learn(
        "Generator,Discriminator", "Circle", {**keys, "generatorScore": 0.9, "sampleInterval": 0}, plugins=[file]
    )
    assert learnt.outcome.values["calm"] == 0
    assert "generatorScore: 0.9" in (learnt.directory / "job.yaml").read_text()
    others = {"objective": "relativisticPaired", "instanceNoise": 0.1, "iterations": 1}  # what every game may be given
    assert learn("Generator,Discriminator", "Circle", {**keys, **others}, plugins=[file]).outcome.status == "finished"


@pytest.mark.slow
def test_pip_installs_it(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    new_strategy("MyCalmGAN", str(tmp_path))
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--target", str(site), str(tmp_path / "ganglion-my-calm-gan")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site / "my_calm_gan.py").is_file()
    (information,) = site.glob("ganglion_my_calm_gan-*.dist-info")
    assert "[ganglion]\nmy_calm_gan = my_calm_gan" in (information / "entry_points.txt").read_text()
    assert not (site / "test_my_calm_gan.py").exists()


# --- refusals -----------------------------------------------------------------------------------------------------


def refusal(name: str, folder: Path) -> str:
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        new_strategy(name, str(folder))
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["", "My GAN", "my-gan", "2GAN", "_GAN", "GAN_", "a__b", "class", "Class", "gän", "a.b", "../x", "a\nb"]
)
def test_names_that_cannot_name_a_class_are_refused(tmp_path: Path, name: str) -> None:
    assert "cannot name a strategy's class" in refusal(name, tmp_path)


@pytest.mark.parametrize("name", ["GAN", "nsgan", "WGAN", "Feed_Forward", "GANLearningStrategy"])
def test_names_of_registered_strategies_are_refused(tmp_path: Path, name: str) -> None:
    assert "there is a strategy '" in refusal(name, tmp_path)
    assert "(from: built-in)" in refusal(name, tmp_path)


@pytest.mark.parametrize("name", ["Settings", "Objective", "api", "scores"])
def test_names_that_the_module_uses_are_refused(tmp_path: Path, name: str) -> None:
    assert "stands for something else" in refusal(name, tmp_path)


@pytest.mark.parametrize(("name", "module"), [("Torch", "torch"), ("Json", "json"), ("Wave", "wave"), ("Yaml", "yaml")])
def test_names_that_would_hide_a_module_are_refused(tmp_path: Path, name: str, module: str) -> None:
    assert f"would hide the module '{module}'" in refusal(name, tmp_path)


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    new_strategy("MyCalmGAN", str(tmp_path))
    assert "exists already" in refusal("MyCalmGAN", tmp_path)
    (tmp_path / "ganglion-other").write_text("a file")
    assert "exists already" in refusal("Other", tmp_path)
    (tmp_path / "ganglion-dangling").symlink_to(tmp_path / "nowhere")
    assert "exists already" in refusal("Dangling", tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        new_strategy("MyCalmGAN", str(tmp_path / "nowhere"))


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.write_text

    def failing(path: Path, text: str, encoding: str | None = None) -> int:
        if path.name.startswith("test_"):
            raise OSError(28, "No space left on device")
        return original(path, text, encoding)

    monkeypatch.setattr(scaffold.Path, "write_text", failing)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        new_strategy("MyCalmGAN", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["new", "strategy", "MyCalmGAN", "--into", str(tmp_path)])
    assert result.exit_code == 0
    assert "learn with it:   learn Generator,Discriminator Circle strategy=MyCalmGAN" in result.stdout
    registry = Registry().load([str(tmp_path / "ganglion-my-calm-gan" / "my_calm_gan.py")])
    assert registry.get("strategy", "mycalmgan").name == "MyCalmGAN"
