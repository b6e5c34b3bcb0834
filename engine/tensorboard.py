"""The TensorBoard trace: progress as scalars, samples as pictures, under the run's `tensorboard` folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from ganglion.engine.contracts import NoSettings, Trace
from ganglion.engine.errors import PluginError
from ganglion.engine.pictures import picture
from ganglion.engine.trace import (
    CheckpointStored,
    HealthRead,
    RunStarted,
    SamplesMade,
    TraceContext,
    TracePoint,
    Validated,
)


class TensorBoardTrace(Trace):
    """Writes TensorBoard event files; needs the extra: `pip install ganglion[tensorboard]`."""

    Settings = NoSettings

    def __init__(self, settings: NoSettings, context: TraceContext) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise PluginError(
                "traces=tensorboard needs the tensorboard package, which is not installed: "
                "pip install ganglion[tensorboard]"
            ) from None
        self.directory = context.directory / "tensorboard"
        self._writer_class = SummaryWriter
        self._writer: Any = None

    def receive(self, event: Any) -> None:
        if isinstance(event, RunStarted):
            # What an interrupted session wrote after the checkpoint from which the run goes on is hidden.
            self._open(event.iteration + 1 if event.iteration else None)
        elif isinstance(event, TracePoint):
            self._scalars(event.iteration, {**event.values, "iterationsPerSecond": event.rate})
        elif isinstance(event, Validated):
            self._scalars(event.iteration, {f"validation/{name}": value for name, value in event.values.items()})
        elif isinstance(event, HealthRead):
            self._scalars(event.iteration, {f"health/{name}": value for name, value in event.values.items()})
        elif isinstance(event, SamplesMade):
            image = np.asarray(picture(event.samples, event.spec, event.real).convert("RGB"))
            self._open().add_image("samples", image, event.iteration, dataformats="HWC")
        elif isinstance(event, CheckpointStored):
            self._open().flush()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _scalars(self, iteration: int, values: dict[str, float]) -> None:
        writer = self._open()
        for name, value in values.items():
            writer.add_scalar(name, float(value), iteration)

    def _open(self, purge_step: int | None = None) -> Any:
        if self._writer is None:
            self._writer = self._writer_class(log_dir=str(self.directory), purge_step=purge_step)
        return self._writer
