"""The directory of one run: its lock, its documents and folders; everything but the checkpoints' contents."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganglion.engine import files
from ganglion.engine.documents import plain, read_json, read_yaml, write_json, write_yaml
from ganglion.engine.errors import StoreError
from ganglion.engine.locks import FileLock, is_held

if TYPE_CHECKING:
    from ganglion.engine.checkpoints import Checkpoints
    from ganglion.engine.contracts import DataSpec

FORMAT = 1
VALUES_LIMIT = 2**27  # that one row of data may have


@dataclass(frozen=True)
class RunInfo:
    """One line of `ganglion runs`. `status` is the record's, or "interrupted", or "damaged" with the `problem`."""

    tag: str
    status: str
    iteration: int | None = None
    strategy: str = ""
    dataset: str = ""
    networks: tuple[str, ...] = ()
    started: str = ""
    seconds: float | None = None
    problem: str = ""
    changed: int = 0  # when the record was last written, in nanoseconds


class Run:
    """The directory of one run. Nothing is made before `create` or `lock`; whoever writes holds the lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tag = directory.name
        self.held: FileLock | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.directory)!r})"

    @property
    def exists(self) -> bool:
        """Whether something was begun here; an empty reserved directory is not a run yet."""
        return any(os.path.exists(self.directory / name) for name in ("record.json", "job.yaml", "checkpoints"))

    @property
    def locked(self) -> bool:
        """Whether any process holds the lock."""
        return is_held(self.directory / "lock")

    def create(self) -> Run:
        """Make the directory where it is missing. Raises StoreError."""
        files.make_folder(self.directory)
        return self

    def lock(self) -> FileLock:
        """Take the run for this process, and remove what a crash left. Raises StoreError when another has it."""
        self.create()
        self.held = FileLock.acquire(self.directory / "lock", f"run '{self.tag}'")
        files.sweep(self.directory)
        files.sweep(self.directory.parent, self._is_leftover)
        return self.held

    def _is_leftover(self, name: str) -> bool:
        # A new directory that another process prepares at this moment is locked.
        mine = name.startswith((f".{self.tag}.old-", f".{self.tag}.new-"))
        return mine and not is_held(self.directory.parent / name / "lock")

    def release(self) -> None:
        """Let go of the lock; a directory in which nothing was begun is removed."""
        if self.held is not None:
            if not self.exists and set(files.names(self.directory)) == {"lock"}:
                files.discard(self.directory)
            self.held.release()
            self.held = None

    def forget(self) -> None:
        """Remove what was begun here, but not the lock."""
        for entry in self.directory.iterdir():
            if entry.name != "lock":
                files.discard(entry)

    # --- documents ---

    def write_job(self, job: Mapping[str, Any]) -> None:
        """Write `job.yaml`. Raises StoreError."""
        write_yaml(self.directory / "job.yaml", plain_job(job))

    def read_job(self) -> dict[str, Any]:
        """The keys of `job.yaml`. Raises StoreError."""
        return read_yaml(self.directory / "job.yaml")

    def read_whole_job(self) -> dict[str, Any]:
        """The same, with all that a job needs: networks, dataset, strategy, settings. Raises StoreError."""
        job = self.read_job()
        networks, settings = job.get("networks"), job.get("settings")
        texts = [job.get("dataset"), job.get("strategy"), *(networks if isinstance(networks, list) else [None])]
        if not all(isinstance(text, str) and text for text in texts) or not isinstance(settings, dict):
            raise StoreError(f"{self.directory / 'job.yaml'}: networks, dataset, strategy or settings are missing")
        return job

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write `record.json`, with its format version. Raises StoreError."""
        write_json(self.directory / "record.json", {"format": FORMAT, **record})

    def read_record(self) -> dict[str, Any]:
        """What `record.json` says. Raises StoreError when it is missing, damaged, or of a newer format."""
        return _read_versioned(self.directory / "record.json")

    def update_record(self, **changes: Any) -> None:
        """Change some entries of `record.json` and keep the others. Raises StoreError."""
        self.write_record({**self.read_record(), **changes, "format": FORMAT})

    def write_data(self, spec: DataSpec, scalers: Mapping[str, Any]) -> None:
        """Write `data.json`: the data's spec, and statistics of scalers (numbers, text, lists and mappings of them)."""
        described = asdict(spec)
        if spec.value_range is not None:  # JSON has no infinity
            described["value_range"] = [repr(float(bound)) for bound in spec.value_range]
        write_json(self.directory / "data.json", {"format": FORMAT, "spec": described, "scalers": plain(scalers)})

    def read_data(self) -> tuple[DataSpec, dict[str, Any]]:
        """The data's spec and the scalers' statistics. Raises StoreError."""
        from ganglion.engine.contracts import DataSpec

        path = self.directory / "data.json"
        document = _read_versioned(path)
        try:
            known = {field.name for field in fields(DataSpec)}
            values = {name: _tuples(value) for name, value in document["spec"].items() if name in known}
            if values.get("value_range") is not None:
                values["value_range"] = tuple(float(bound) for bound in values["value_range"])
            _check_shape(values["shape"])
            spec = DataSpec(**values)
            _check_text(spec)
            return spec, dict(document["scalers"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{path}: not the description of data that this version writes ({error})") from error

    def write_network(self, role: str, definition: str) -> Path:
        """Keep the resolved YAML definition of a role's network. Raises StoreError."""
        path = files.make_folder(self.directory / "networks") / f"{role}.yaml"
        files.write_atomic(path, definition.encode("utf-8"))
        return path

    def read_networks(self) -> dict[str, str]:
        """The kept network definitions by role. Raises StoreError."""
        return {path.stem: files.read_text(path) for path in sorted((self.directory / "networks").glob("*.yaml"))}

    # --- other contents ---

    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        from ganglion.engine.checkpoints import Checkpoints

        return Checkpoints(self.directory / "checkpoints")

    def samples(self) -> Path:
        """The folder of pictures, made where it is missing. Raises StoreError."""
        return files.make_folder(self.directory / "samples")

    def evaluation(self) -> Path:
        """The folder of evaluations, made where it is missing. Raises StoreError."""
        return files.make_folder(self.directory / "evaluation")

    @property
    def trace_path(self) -> Path:
        """The file of trace points."""
        return self.directory / "trace.jsonl"

    def trace_offset(self) -> int:
        """How many bytes of trace there are: what a checkpoint records."""
        try:
            return self.trace_path.stat().st_size
        except OSError:
            return 0

    def truncate_trace(self, offset: int) -> None:
        """Forget the trace points after a checkpoint that recorded `offset`. Raises StoreError."""
        files.truncate(self.trace_path, max(0, int(offset)))

    def info(self) -> RunInfo:
        """What a listing shows; never raises for what is damaged."""
        try:
            record = self.read_record()
            changed = (self.directory / "record.json").stat().st_mtime_ns
            status = str(record.get("status", "unknown"))
            return RunInfo(
                tag=self.tag,
                status="interrupted" if status == "running" and not self.locked else status,
                iteration=_iteration(record.get("iteration"), self.directory / "checkpoints" / "latest"),
                strategy=str(record.get("strategy", "")),
                dataset=str(record.get("dataset", "")),
                networks=_names(record.get("networks")),
                started=str(record.get("started", "")),
                seconds=_number(record.get("seconds")),
                changed=changed,
            )
        except (StoreError, OSError) as error:
            if self.locked:
                return RunInfo(self.tag, "starting")
            return RunInfo(self.tag, "damaged", problem=str(error))


def plain_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """The job's keys with tuples as lists, so that YAML needs no tags; floats keep their value, infinities too."""
    return {key: _lists(value) for key, value in job.items()}


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _check_shape(shape: Any) -> None:
    """A network would be made for whatever stands there. Raises ValueError for what no data can have."""
    lengths = shape if isinstance(shape, tuple) else ()
    if not lengths or not all(type(length) is int and length > 0 for length in lengths):
        raise ValueError(f"shape: {str(shape)[:60]}")
    if math.prod(lengths) > VALUES_LIMIT:
        raise ValueError(f"shape: more than {VALUES_LIMIT} values in a row")


def _check_text(spec: DataSpec) -> None:
    """Samples would be read by these characters. Raises ValueError where there is not one for every number."""
    if spec.text and not (len(spec.shape) == 2 and [type(name) for name in spec.features] == [str] * spec.shape[1]):
        raise ValueError("text: there is not one character for every feature")


def _read_versioned(path: Path) -> dict[str, Any]:
    document = read_json(path)
    version = document.get("format")
    if not isinstance(version, int) or version < 1:
        raise StoreError(f"{path}: 'format' should be a version number, got {version!r}")
    if version > FORMAT:
        raise StoreError(f"{path}: format {version} was written by a newer version; this one reads up to {FORMAT}")
    return document


def _iteration(value: Any, latest: Path) -> int | None:
    """The later of what the record and the latest checkpoint say: a running process writes the record rarely."""
    known = [value] if isinstance(value, int) else []
    with contextlib.suppress(OSError, ValueError):
        known.append(int(latest.read_text("ascii")[:20]))
    return max(known, default=None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _names(value: Any) -> tuple[str, ...]:
    items = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value] if value else []
    )
    return tuple(str(item) for item in items)
