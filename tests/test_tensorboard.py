"""The TensorBoard trace: what reaches the writer, and the sentence where the package is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganglion.engine.contracts import DataSpec, NoSettings
from ganglion.engine.errors import PluginError
from ganglion.engine.tensorboard import TensorBoardTrace
from ganglion.engine.trace import CheckpointStored, RunStarted, SamplesMade, TraceContext, TracePoint, Validated

IMAGE = DataSpec("image", (1, 2, 2), (0.0, 1.0))


class FakeWriter:
    made: list[FakeWriter] = []

    def __init__(self, log_dir: str, purge_step: int | None = None) -> None:
        self.log_dir, self.purge_step = log_dir, purge_step
        self.scalars: list[tuple[str, float, int]] = []
        self.images: list[tuple[str, np.ndarray, int, str]] = []
        self.flushed = self.closed = 0
        FakeWriter.made.append(self)

    def add_scalar(self, name: str, value: float, iteration: int) -> None:
        self.scalars.append((name, value, iteration))

    def add_image(self, name: str, image: np.ndarray, iteration: int, dataformats: str) -> None:
        self.images.append((name, image, iteration, dataformats))

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWriter]:
    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(FakeWriter, "made", [])
    return FakeWriter.made


def started(directory: Path, iteration: int) -> RunStarted:
    return RunStarted("tag", directory, iteration, 100, {}, [], lambda: iteration, True)


def test_scalars_images_and_validation_reach_the_writer(tmp_path: Path, writers: list[FakeWriter]) -> None:
    trace = TensorBoardTrace(NoSettings(), TraceContext(tmp_path))
    trace.receive(started(tmp_path, 0))
    trace.receive(TracePoint(10, 1.0, 9.5, {"generator": 0.5}))
    trace.receive(Validated(10, {"accuracy": 0.75}, best=True))
    trace.receive(SamplesMade(10, torch.ones(4, 1, 2, 2), None, IMAGE))
    trace.receive(CheckpointStored(10, tmp_path))
    trace.close()
    trace.close()
    (writer,) = writers
    assert writer.log_dir == str(tmp_path / "tensorboard")
    assert writer.purge_step is None
    assert writer.scalars == [
        ("generator", 0.5, 10),
        ("iterationsPerSecond", 9.5, 10),
        ("validation/accuracy", 0.75, 10),
    ]
    ((name, image, iteration, formats),) = writer.images
    assert (name, iteration, formats, image.dtype, image.shape[2]) == ("samples", 10, "HWC", np.uint8, 3)
    assert tuple(image[5, 5]) == (255, 255, 255)
    assert (writer.flushed, writer.closed) == (1, 1)


def test_a_run_that_goes_on_hides_what_was_written_after_its_checkpoint(
    tmp_path: Path, writers: list[FakeWriter]
) -> None:
    trace = TensorBoardTrace(NoSettings(), TraceContext(tmp_path))
    trace.receive(started(tmp_path, 50))
    assert writers[0].purge_step == 51


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PluginError, match=r"pip install ganglion\[tensorboard\]"):
        TensorBoardTrace(NoSettings(), TraceContext(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_real_event_files_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra: pip install ganglion[tensorboard]")
    trace = TensorBoardTrace(NoSettings(), TraceContext(tmp_path))
    trace.receive(started(tmp_path, 0))
    trace.receive(TracePoint(10, 1.0, 9.5, {"generator": 0.5}))
    trace.receive(SamplesMade(10, torch.ones(4, 1, 2, 2), None, IMAGE))
    trace.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"generator" in file.read_bytes()
