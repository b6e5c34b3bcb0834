"""Looking at a generator: samples of a run's newest checkpoint, also between two seeds, while the run goes on."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ganglion.engine.contracts import DataSpec, EvaluationContext, LearningStrategy
from ganglion.engine.errors import EngineError
from ganglion.engine.evaluation import evaluation_context
from ganglion.engine.opening import Opened, draw_between, draw_samples, named_classes, open_run
from ganglion.engine.pictures import picture
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import REAL_ROWS, spread_rows
from ganglion.engine.settings import Level, Owner, Settings, refuse_unknown, resolve, setting

Identity = tuple[Path, Path, tuple[int, int] | None]
MOST_CLASSES = 200  # that a page lists
REAL_POINTS = 100  # a picture shows as many rows of the data as it would beside so many samples, or more


class DrawSettings(Settings):
    """What the page asks of a generator."""

    count: int = setting(16, "how many samples", ge=1, le=1000)
    seed: int = setting(0, "seed of the noise", ge=0)
    towards: int | None = setting(None, "another seed: the noise moves on straight lines to that of it", ge=0)
    share: float = setting(0.0, "how much of the way to the other seed", ge=0, le=1)
    classes: str | None = setting(None, "classes to make, by name or number from 0; none: all of them in turn")


class Drawing:
    """Opens runs and draws; the last stays open until it has another checkpoint, its data until it has another job."""

    def __init__(self, root: str, plugins: Sequence[str]) -> None:
        self.repository = Repository(root)
        self.plugins = plugins
        self._registry: Registry | None = None
        self._opened: tuple[Identity, Opened] | None = None
        self._data: tuple[Identity, EvaluationContext] | None = None

    def describe(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """What can be asked of a run's generator."""
        opened = self._open(str(question["tag"]))
        takes = type(opened.strategy).requested is not LearningStrategy.requested
        return {
            "draws": opened.strategy.generates(),
            "kind": opened.spec.kind,
            "text": bool(opened.spec.text),
            "classes": list(opened.spec.classes[:MOST_CLASSES]) if takes else [],
            "iteration": opened.iteration,
        }

    def draw(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """A picture of samples, or their texts. Raises an InputError."""
        asked = _checked(question.get("asked"))
        opened = self._open(str(question["tag"]))
        spec = replace(opened.spec, value_range=opened.data_range)
        samples = _samples(opened, asked)
        answer = {"iteration": opened.iteration, "count": len(samples), "notices": list(opened.notices)}
        if spec.text:
            return {**answer, "texts": spec.texts(samples)}
        real = self._real(opened, asked.count)
        frame = spec if real is not None else _framed(opened, asked, spec, samples)
        buffer = io.BytesIO()
        picture(samples, frame, real).save(buffer, format="PNG")
        return {**answer, "picture": base64.b64encode(buffer.getvalue()).decode("ascii")}

    def _real(self, opened: Opened, count: int) -> Tensor | None:
        """Rows of the data, which the run's own pictures show beside points and series; none where they are gone."""
        if opened.spec.kind == "image" or self._registry is None:
            return None
        identity = _identity(opened.run.directory, opened.run.directory / "job.yaml")
        if self._data is None or self._data[0] != identity:
            context = evaluation_context(self._registry, opened, 0, {}, lambda sentence: None)
            self._data = (identity, context)
        context = self._data[1]
        try:
            train = context.splits().train
        except EngineError:
            return None
        return context.own_scale(spread_rows(train, REAL_ROWS * max(count, REAL_POINTS)))

    def _open(self, tag: str) -> Opened:
        run = self.repository.find(tag)
        identity = _identity(run.directory, run.directory / "checkpoints" / str(run.checkpoints().latest()))
        if self._opened is None or self._opened[0] != identity:
            if self._registry is None:
                self._registry = Registry().load(self.plugins)
            self._opened = identity, open_run(self._registry, run)
        return self._opened[1]


def _identity(directory: Path, part: Path) -> Identity:
    """Which run, and which state of one of its files: a run that is begun anew under its tag has others."""
    found = part.stat() if part.exists() else None
    return directory, part, None if found is None else (found.st_ino, found.st_mtime_ns)


def _checked(asked: Any) -> DrawSettings:
    """What the page asks, by the settings' own declarations. Raises ConfigError."""
    owners, levels = (
        [Owner("the page", DrawSettings)],
        [Level("command line", asked if isinstance(asked, dict) else {})],
    )
    result = resolve(owners, levels, ())
    refuse_unknown(result.unknown, owners, levels, ())
    found: DrawSettings = result.settings[0]
    return found


def _samples(opened: Opened, asked: DrawSettings) -> Tensor:
    classes = named_classes(opened, asked.classes) if asked.classes is not None else ()
    if asked.towards is None:
        return draw_samples(opened, asked.count, asked.seed, classes)
    return draw_between(opened, asked.count, (asked.seed, asked.towards), asked.share, classes)


def _framed(opened: Opened, asked: DrawSettings, spec: DataSpec, samples: Tensor) -> DataSpec:
    """On the way between two seeds all pictures have the limits of the first, so that what moves is the samples."""
    if spec.kind == "image" or spec.value_range is not None or asked.towards is None:
        return spec
    first = _samples(opened, asked.model_copy(update={"share": 0.0}))
    low, high = float(first.min()), float(first.max())
    return replace(spec, value_range=(low, high)) if low < high else spec
