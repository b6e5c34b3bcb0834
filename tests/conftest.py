"""One torch thread, the CPU, a fixed seed, and no run directory outside the test's own folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("GANGLION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """The folder with real data files; skips where there is none."""
    folder = Path(os.environ.get("GANGLION_DATA", "")).resolve()
    if not os.environ.get("GANGLION_DATA") or not (folder / "mnist").is_dir():
        pytest.skip("needs the real data: set GANGLION_DATA to a folder that holds mnist/")
    return folder
