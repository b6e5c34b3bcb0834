"""The wheel holds every tracked file of the four folders, under `ganglion` and nowhere else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("engine", "strategies", "networks", "datasets")
pytestmark = pytest.mark.slow


def git(*words: str) -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs the git checkout")
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files alone, by the tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in git("ls-files"):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), "source"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    return built


def test_every_tracked_file_is_in_it(wheel: Path) -> None:
    tracked = {f"ganglion/{name}" for name in git("ls-files", *FOLDERS) if (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert "ganglion/networks/definitions/generator.yaml" in packed
    assert {f"ganglion/{folder}/py.typed" for folder in FOLDERS} <= packed
    assert packed == tracked


def test_nothing_bare_becomes_importable(wheel: Path, tmp_path: Path) -> None:
    """`find_spec` in an isolated interpreter that has nothing but the unpacked wheel on its path."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys, importlib.util as u; sys.path.insert(0, sys.argv[1]);"
        f"folders = {FOLDERS};"
        "print([f for f in folders if u.find_spec(f)], [f for f in folders if u.find_spec('ganglion.' + f)])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"[] {list(FOLDERS)}\n"
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".dist-info")) == ["ganglion"]


def test_it_brings_the_two_commands_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entries,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        lines = archive.read(entries).decode().split("\n")
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    scripts = lines[lines.index("[console_scripts]") + 1 :]
    assert {"learn = ganglion.engine.cli:learn_main", "ganglion = ganglion.engine.cli:main"} <= set(scripts)
    assert len(licences) == 1
