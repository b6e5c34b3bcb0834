"""A run as a Python object: what it showed, what it makes, how good it is; read from its directory when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from ganglion.engine.contracts import DataSpec, Evaluation
from ganglion.engine.keywords import python_keys
from ganglion.engine.learner import Outcome
from ganglion.engine.notebook import run_block
from ganglion.engine.opening import Opened, draw_samples, named_classes
from ganglion.engine.opening import open_run as open_networks
from ganglion.engine.pages.lines import Line, TraceReader
from ganglion.engine.pages.series import History
from ganglion.engine.registry import PYTHON, Registry
from ganglion.engine.repository import Repository
from ganglion.engine.runs import Run, RunInfo
from ganglion.engine.settings import format_value
from ganglion.engine.tables import clean_text
from ganglion.engine.tracetable import TraceTable, trace_table

if TYPE_CHECKING:
    from ganglion.engine.commands import EvaluateSettings, SampleSettings
    from ganglion.engine.exporting import Exported


class AlarmSpan(NamedTuple):
    """What the run's health told of: from the `first` to the `last` reading with it; `over` when a later had it not."""

    kind: str
    sentence: str
    first: int
    last: int
    over: bool


class Learnt:
    """A run: `learn` gives it, and `open_run` for one that is there, also while it is still learning elsewhere.

    Everything is read from the run's directory when it is asked for, and is what the commands show. In a notebook it
    shows itself: how it ended, its figures as curves, its newest picture.
    """

    def __init__(self, run: Run, outcome: Outcome | None = None, registry: Registry | None = None) -> None:
        self._run = run
        self._outcome = outcome
        self._registry = registry
        self._read: tuple[tuple[int, int], list[Line]] = ((-1, -1), [])

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def tag(self) -> str:
        """Its name."""
        return self._run.tag

    @property
    def directory(self) -> Path:
        """Where all of it is."""
        return self._run.directory

    @property
    def status(self) -> str:
        """As `ganglion runs` has it now: running, finished, stopped, failed, interrupted."""
        return self._run.info().status

    @property
    def outcome(self) -> Outcome:
        """How the call that gave this object ended, or what the run's record says. Raises StoreError."""
        if self._outcome is not None:
            return self._outcome
        info, record = self._run.info(), self._run.read_record()
        result = record.get("result")
        values = {name: float(value) for name, value in result.items() if value is not None} if result else {}
        return Outcome(info.iteration or 0, info.seconds or 0.0, info.status, str(record.get("reason", "")), values)

    @property
    def record(self) -> Mapping[str, Any]:
        """Versions, devices, times, result: `record.json`. Raises StoreError."""
        return self._run.read_record()

    @property
    def job(self) -> Mapping[str, Any]:
        """Networks, data set, strategy, and all settings: `job.yaml`. Raises StoreError."""
        return self._run.read_whole_job()

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every key with its value, defaults included. Raises StoreError."""
        settings: Mapping[str, Any] = self.job["settings"]
        return settings

    @property
    def spec(self) -> DataSpec:
        """What one sample is, in the data's own scale. Raises StoreError."""
        spec, scalers = self._run.read_data()
        found = scalers.get("data_range")
        return replace(spec, value_range=(float(found[0]), float(found[1])) if found else None)

    @property
    def pictures(self) -> list[Path]:
        """The pictures of its samples, the newest last."""
        found = [path for path in (self.directory / "samples").glob("*.png") if path.stem.isdecimal()]
        return sorted(found, key=lambda path: int(path.stem))

    # --- what it showed -------------------------------------------------------------------------------------------

    @property
    def trace(self) -> TraceTable:
        """Its trace points: iteration, seconds, iterationsPerSecond, and the losses and what else the strategy says."""
        return trace_table(self._lines(), "progress", "trace")

    @property
    def validation(self) -> TraceTable:
        """Its validations, with `best` where one was the best so far."""
        return trace_table(self._lines(), "validation", "validation")

    @property
    def health(self) -> TraceTable:
        """The figures of its health."""
        return trace_table(self._lines(), "health", "health")

    @property
    def alarms(self) -> list[AlarmSpan]:
        """What was wrong with it, in words."""
        history = History()
        history.add(line for line in self._lines() if line.kind == "health")
        return [AlarmSpan(**alarm) for alarm in history.alarms]

    def _lines(self) -> list[Line]:
        """The lines of its trace; read again when the file has changed."""
        try:
            found = self._run.trace_path.stat()
        except OSError:
            return []
        state = (found.st_mtime_ns, found.st_size)
        if self._read[0] != state:
            self._read = (state, TraceReader(self._run.trace_path).read().lines)
        return self._read[1]

    # --- what it makes --------------------------------------------------------------------------------------------

    def sample(
        self,
        count: int = 64,
        *,
        seed: int = 0,
        classes: str | int | Sequence[str | int] | None = None,
        checkpoint: str | int = "latest",
        device: str = "cpu",
        out: Path | str | None = None,
    ) -> Tensor:
        """Samples (count, *spec.shape) in the data's own scale, on the CPU; the same as `ganglion sample` draws.

        `classes` are asked for in turn; `out` also writes them to a file. Raises InputError.
        """
        from ganglion.engine.commands import SampleSettings, own_settings

        asked = {"count": count, "seed": seed, "checkpoint": checkpoint, "device": device, "out": out}
        settings: SampleSettings = own_settings(SampleSettings, python_keys(asked, {}), "sample()")
        opened = self._open(settings.checkpoint, settings.device)
        samples = draw_samples(opened, settings.count, settings.seed, _classes(opened, classes))
        if settings.out is not None:
            from ganglion.engine.pictures import save_samples

            save_samples(samples, replace(opened.spec, value_range=opened.data_range), Path(settings.out))
        return samples

    def networks(self, checkpoint: str | int = "latest", device: str = "cpu") -> Mapping[str, nn.Module]:
        """Its networks by role, in evaluation mode: averaged weights where there are some. Raises InputError."""
        return self._open(checkpoint, device).networks

    def evaluate(
        self,
        metric: str | None = None,
        keys: Mapping[str, Any] | None = None,
        *,
        checkpoint: str | int = "latest",
        device: str = "cpu",
        seed: int = 0,
        **settings: Any,
    ) -> dict[str, Evaluation]:
        """Judge it by one metric, or every one that fits: evaluations by the metric's name, kept in its directory.

        Further keys are the metric's or the data set's, as for `ganglion evaluate`. Raises InputError.
        """
        from ganglion.engine.commands import EvaluateSettings, own_settings, say, which_checkpoint
        from ganglion.engine.evaluation import evaluate_run

        asked = {"metric": metric, "checkpoint": checkpoint, "device": device, "seed": seed}
        own: EvaluateSettings = own_settings(EvaluateSettings, python_keys(asked, {}), "evaluate()")
        which, others = which_checkpoint(own.checkpoint), _texts(python_keys(keys, settings))
        found = evaluate_run(self.registry, self._run, own.metric, which, own.device, own.seed, others, say)
        return {evaluation.metric: evaluation for evaluation in found}

    def forecast(self, keys: Mapping[str, Any] | None = None, **settings: Any) -> Evaluation:
        """How well it continues unseen series (`steps=200`, ...), as `ganglion forecast` does. Raises InputError."""
        from ganglion.engine.forecastcommand import forecast_run

        return forecast_run(self.registry, self._run, _texts(python_keys(keys, settings)))[0]

    def report(self, out: Path | str | None = None, better: Sequence[str] = ()) -> Path:
        """Write its page, as `ganglion report` does; where it is. Raises InputError."""
        from ganglion.engine.reportcommand import write_report

        return write_report([self.tag], None if out is None else str(out), better, self.directory.parent)[1]

    def export(self, keys: Mapping[str, Any] | None = None, **settings: Any) -> Exported:
        """Write its networks for use without Ganglion (`format="onnx"`, `role=`, `scale=`, `out=`, ...), checked.

        As `ganglion export` does. Raises InputError, and RunError where what is written gives something else.
        """
        from ganglion.engine.commands import own_settings
        from ganglion.engine.exportcommand import ExportSettings
        from ganglion.engine.exporting import chosen_format, export

        asked: ExportSettings = own_settings(ExportSettings, python_keys(keys, settings), "export()")
        kind, opened = chosen_format(asked.format, asked.out), self._open(asked.checkpoint, "cpu")
        return export(opened, kind, asked.role, asked.scale, asked.out, asked.tolerance)

    # --- going on -------------------------------------------------------------------------------------------------

    def resume(self, keys: Mapping[str, Any] | None = None, *, quiet: bool = False, **settings: Any) -> Learnt:
        """Go on where it stopped: `run.resume(iterations=6000)`. Raises as `learn` does."""
        from ganglion.engine.launch import learn

        given = self._given()
        names = (given.pop("networks", None), given.pop("dataset", None))
        files = [file for file in self.registry.files if file != PYTHON]
        asked = {**python_keys(keys, settings), **given, "tag": self.tag}
        return learn(*names, asked, plugins=files, runs=self.directory.parent, quiet=quiet)

    @cached_property
    def registry(self) -> Registry:
        """What can be named in its job."""
        return self._registry if self._registry is not None else Registry().load()

    def _given(self) -> dict[str, Any]:
        """The objects that stand in its job for names, to be given once more; nothing where there are none."""
        job = self.job
        things = {
            "networks": [self.registry.given("network", name) for name in job["networks"]],
            "dataset": self.registry.given("dataset", job["dataset"]),
            "strategy": self.registry.given("strategy", job["strategy"]),
        }
        names = {"networks": job["networks"], "dataset": job["dataset"], "strategy": job["strategy"]}
        return {} if things == names else things

    def _open(self, checkpoint: str | int, device: str) -> Opened:
        from ganglion.engine.commands import say, which_checkpoint

        opened = open_networks(self.registry, self._run, which_checkpoint(str(checkpoint)), device)
        for notice in opened.notices:
            say(notice)
        return opened

    def __repr__(self) -> str:
        info = self._run.info()
        where = f" at iteration {info.iteration:,}" if info.iteration is not None else ""
        return clean_text(f"<run '{self.tag}': {info.status}{where}, in {self.directory}>")

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return run_block(self)


def open_run(tag: str | None = None, *, runs: Path | str | None = None, plugins: Sequence[str] | str = ()) -> Learnt:
    """The run `tag`, also while it is still learning; without a tag the run that was used last. Raises StoreError."""
    run = Repository(runs).find(tag)
    return Learnt(run, registry=Registry().load([plugins] if isinstance(plugins, str) else plugins))


def runs(folder: Path | str | None = None) -> list[RunInfo]:
    """The runs in a folder (GANGLION_RUNS, or ./runs), the one that was used last first: what `ganglion runs` lists."""
    return Repository(folder).list_runs()


def _classes(opened: Opened, asked: str | int | Sequence[str | int] | None) -> tuple[int, ...]:
    if asked is None:
        return ()
    several = [asked] if isinstance(asked, (str, int)) else asked
    return tuple(number for each in several for number in named_classes(opened, str(each)))


def _texts(keys: Mapping[str, Any]) -> dict[str, str]:
    return {key: format_value(value) for key, value in keys.items()}
