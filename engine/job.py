"""A job: the complete description of one piece of work, from the command line, a job file, or Python."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from ganglion.engine.documents import TextLoader
from ganglion.engine.errors import ConfigError, fold, suggestion
from ganglion.engine.health.kinds import AlarmKind
from ganglion.engine.registry import BUILTIN_PACKAGES, PYTHON
from ganglion.engine.settings import Settings, setting

JOB_FORMAT = 1
BYTES_LIMIT = 2**20
LIFE_CYCLE = ("tag", "initTag", "clean")  # belong to one start of a run, not to the job
NAMES = ("networks", "dataset", "strategy")
ENTRIES = ("format", *NAMES, "settings", "plugins", "doc")


class JobSettings(Settings):
    """The keys that every job has, whatever it names."""

    tag: str | None = setting(None, "name of the run; none: a fresh one; an existing one goes on where it stopped")
    init_tag: str | None = setting(None, "start from the weights of another run")
    clean: bool = setting(False, "start the tag anew, its old run is removed")
    seed: int = setting(0, "where all random streams start", ge=0)
    iterations: int = setting(
        10_000, "total number of iterations; -1: endless", unit="iterations", also=("maxIterations",), ge=-1
    )
    epochs: float | None = setting(
        None, "another way to give iterations: passes over the training rows", unit="epochs", gt=0
    )
    seconds: float | None = setting(
        None, "stop after so many seconds of learning, all starts together", unit="seconds", gt=0
    )
    batch_size: int = setting(64, "rows per batch", unit="rows", ge=1)
    sampling: str = setting("UNIFORM", "which rows come next ('ganglion list sampling')")
    fetch_threads: int = setting(2, "workers that read data which do not fit in memory", ge=1)
    trace: bool = setting(True, "show progress; false: start, end and problems only")
    traces: tuple[str, ...] = setting(
        ("terminal", "lines", "pictures"), "who is told of progress ('ganglion list trace')"
    )
    trace_interval: int = setting(100, "iterations between trace points", unit="iterations", ge=1)
    health_interval: int | None = setting(
        None,
        "trace points between readings of the run's health; 0: none; none: so many that 500 iterations lie between",
        unit="trace points",
        ge=0,
    )
    stop_on: tuple[AlarmKind, ...] = setting((), "the alarms of the run's health that stop the run")
    sample_interval: int | None = setting(
        None, "iterations between pictures; 0: none; none: ten moments of the run", unit="iterations", ge=0
    )
    samples: int | None = setting(None, "samples in a picture; none: 64, or 500 points", ge=1)
    store_interval: int = setting(
        0, "iterations between checkpoints that are kept for good; 0: none", unit="iterations", ge=0
    )
    store_seconds: float = setting(60.0, "seconds between checkpoints; the end is always stored", unit="seconds", ge=0)
    keep: int = setting(3, "newest checkpoints that are kept; 0: all", ge=0)
    fixed: tuple[str, ...] = setting(
        (),
        "roles, or the beginnings of parameter names (role.layers.0), that do not learn; running statistics do",
    )
    decay_iterations: int | None = setting(
        None, "length of learning-rate decay; none: the iterations of the first start", unit="iterations", ge=1
    )
    decay_start: int = setting(
        0, "iterations before learning rates and weights of penalties begin to fall", unit="iterations", ge=0
    )
    validation_interval: int = setting(1000, "iterations between validations", unit="iterations", ge=1)
    loss_threshold: float | None = setting(
        None,
        "stop when the loss has fallen by less than this over thresholdWindow trace points",
        also=("minibatchLossThreshold",),
    )
    validation_loss_threshold: float | None = setting(
        None, "stop when the validation loss has fallen by less than this over thresholdWindow validations"
    )
    threshold_window: int = setting(10, "how many trace points or validations back a threshold looks", ge=1)
    nan_retry: int = setting(
        0, "times that a run which is no longer finite goes back to its last good checkpoint", also=("NaNretry",), ge=0
    )
    nan_factor: float = setting(0.5, "factor on all learning rates at each such retry", gt=0, le=1)
    execution: Literal["auto", "eager", "compile", "graph"] = setting(
        "auto",
        "updates as they are written (eager), as compiled graphs, or as CUDA graphs (graph); auto: the faster, where "
        "the run is long enough to pay for compiling",
    )
    batch_statistics: Literal["whole", "process"] = setting(
        "whole", "where several processes share a job, BatchNorm counts the whole batch or the part of its process"
    )
    patience: float = setting(
        300.0, "where several processes share a job, how long one waits for another while they learn",
        unit="seconds", ge=1, le=1e6,
    )  # fmt: skip
    precision: Literal["fp32", "bf16"] = setting(
        "fp32", "what networks compute in; with bf16 weights, losses and updates stay float32"
    )
    tf32: bool = setting(False, "NVIDIA GPUs may round the factors of float32 products to 10 bits")
    channels_last: bool = setting(
        False, "networks with 2-d convolutions keep weights and pictures with the channels last in memory, for speed"
    )
    threads: int | None = setting(None, "processor threads of torch; none: the faster of one and all, measured", ge=1)

    def without_effect(self) -> Mapping[str, str]:
        idle = {} if self.nan_retry else {"nan_factor": "it has no effect without nanRetry"}
        return idle if self.health_interval != 0 else {**idle, "stop_on": "healthInterval=0 reads no health"}


class RoleSettings(Settings):
    """The keys that every role has."""

    device: str = setting("auto", "where the role's network lives: auto, cpu, cuda, cuda:1, mps")
    shard: bool = setting(
        False, "the processes that share the job divide the role's weights, gradients and optimiser among themselves"
    )
    spectral_norm: bool = setting(
        False, "every Linear and convolutional weight is divided by its largest singular value (arXiv:1802.05957)"
    )
    init: Literal["normal", "xavier", "he", "orthogonal"] | None = setting(
        None, "initial weights of Linear and convolutional layers, biases 0; none: as the network makes them"
    )
    init_gain: float | None = setting(
        None, "normal: the standard deviation (none: 0.02); otherwise a factor (none: 1)", gt=0, lt=math.inf
    )

    def without_effect(self) -> Mapping[str, str]:
        return {} if self.init else {"init_gain": "it has no effect without init"}


@dataclass(frozen=True)
class JobRequest:
    """What was asked for, before anything is resolved: names, and keys by level of precedence."""

    networks: tuple[str, ...]
    dataset: str
    strategy: str
    given: Mapping[str, Any] = field(default_factory=dict)
    from_file: Mapping[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    chosen: bool = True  # whether the strategy was named, or is the one for when none is
    # What the job file names and something else replaced: networks, dataset, strategy.
    former: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse_tokens(tokens: Sequence[str]) -> dict[str, str]:
    """`key=value` tokens, split at the first `=`. Raises ConfigError for a token without one and for a repeated key."""
    keys: dict[str, str] = {}
    seen: dict[str, str] = {}
    for token in tokens:
        key, equals, value = token.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"'{token}': expected key=value after the data set, e.g. batchSize=64")
        if fold(key) in seen:
            raise ConfigError(f"'{token}': the key '{key.strip()}' is given twice, first as '{seen[fold(key)]}'")
        seen[fold(key)] = token
        keys[key.strip()] = value
    return keys


def request(
    networks: Sequence[str] | str | None,
    dataset: str | None,
    given: Mapping[str, Any],
    job: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
) -> JobRequest:
    """Bring together names and keys from a job file and from the command line (which wins). Raises ConfigError."""
    job = job or {}
    named = {fold(key): value for key, value in given.items() if fold(key) in NAMES}
    given = {key: value for key, value in given.items() if fold(key) not in NAMES}
    _check_names({"networks": networks, "dataset": dataset}, named)
    names = networks or named.get("networks") or job.get("networks") or ()
    split = _listed(names)
    data = dataset or named.get("dataset") or job.get("dataset")
    if not split:
        raise ConfigError("no networks: name one per role, e.g. Generator,Discriminator")
    if not all(split):
        raise ConfigError(f"networks '{','.join(split)}': a name is missing beside a comma")
    if not data:
        raise ConfigError("no data set: name one after the networks, e.g. Digits ('ganglion list dataset')")
    named_strategy = named.get("strategy") or job.get("strategy")
    strategy = named_strategy or "FeedForward"
    typed = {*_listed(networks), *_listed(named.get("networks")), dataset, *named.values()}
    refuse_code([name for name in (*split, str(data), str(strategy)) if name not in typed], plugins)
    settings = dict(job.get("settings") or {})
    _refuse_prefixed({**settings, **given})
    return JobRequest(
        tuple(split),
        str(data),
        str(strategy),
        given,
        settings,
        tuple(plugins),
        chosen=bool(named_strategy),
        former=_former(job, {"networks": split, "dataset": [str(data)], "strategy": [str(strategy)]}),
    )


def _former(job: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The names of the job file that are not the names asked for."""
    named = {kind: _listed(job.get(kind)) if kind == "networks" else [str(job.get(kind) or "")] for kind in names}
    return {
        kind: tuple(before)
        for kind, before in named.items()
        if any(before) and [fold(name) for name in before] != [fold(name) for name in names[kind]]
    }


def _refuse_prefixed(keys: Mapping[str, Any]) -> None:
    """What belongs to one start of a run is read before the job is, so it takes no prefix. Raises ConfigError."""
    for key, value in keys.items():
        head, _, name = key.rpartition(".")
        if fold(head) == "job" and fold(name) in {fold(each) for each in LIFE_CYCLE}:
            raise ConfigError(f"{key}={value}: this key takes no prefix; write {name}={value}")


def _check_names(positional: Mapping[str, Any], named: Mapping[str, Any]) -> None:
    for key, value in named.items():
        if not value or not str(value).strip():
            raise ConfigError(f"{key}=: a name is missing; 'ganglion list {key.removesuffix('s')}' shows what there is")
        if positional.get(key):
            before = ",".join(_listed(positional[key]))
            raise ConfigError(f"{key}={value}: {before} is named already, before the keys")


def _listed(names: Sequence[str] | str | None) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names or ())


def refuse_code(names: Sequence[str], plugins: Sequence[str]) -> None:
    """Names from a file run code in a local file only where the user names that file too. Raises ConfigError."""
    for name in names:
        location, colon, thing = name.rpartition(":")
        if location == PYTHON and PYTHON not in plugins:
            raise ConfigError(
                f"the job names {thing}, an object of the Python program that began it; only learn() with that object "
                "again, in Python, goes on"
            )
        if colon and location not in plugins:
            raise ConfigError(f"the job names {name}, code in a local file; give --plugin {location} too to run it")


@contextmanager
def naming_plugins(job: Mapping[str, Any], plugins: Sequence[str]) -> Iterator[None]:
    """Let an unknown name in a job say which `--plugin` it was made with, where that is not given now."""
    try:
        yield
    except ConfigError as error:
        missing = [str(file) for file in job.get("plugins") or () if file not in plugins]
        if missing and "unknown" in str(error):
            made_with = f"it was made with --plugin {' --plugin '.join(missing)}: give that too"
            raise ConfigError(f"{_without_guess(str(error), job)}; {made_with}") from None
        raise


def _without_guess(sentence: str, job: Mapping[str, Any]) -> str:
    """The sentence without what may have been meant, where a name of the job itself is unknown: that was meant."""
    settings = dict(job.get("settings") or {})
    values = [value for value in settings.values() if isinstance(value, (str, list))]
    own = [job.get("dataset"), job.get("strategy"), *settings]
    own += [name for value in (job.get("networks"), *values) for name in _listed(value)]
    if not any(f"'{name}'" in sentence.partition(";")[0] for name in own):
        return sentence
    return sentence.partition("; did you mean")[0].partition("; there are")[0]


def read_job(path: Path) -> dict[str, Any]:
    """A job file: networks, dataset, strategy, settings. Raises ConfigError with the line that is wrong."""
    try:
        if path.stat().st_size > BYTES_LIMIT:
            raise ConfigError(f"job file {path}: larger than 1 MiB, which is no job file")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"job file {path}: byte {error.start} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"job file {path}: it cannot be read ({error.strerror or error})") from None
    return parse_job(text, str(path))


def parse_job(text: str, origin: str) -> dict[str, Any]:
    """The mapping that a job file's text holds. Raises ConfigError."""
    try:
        job = yaml.load(text, Loader=TextLoader)  # a SafeLoader without implicit types
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"job file {origin}: {_syntax(error)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"job file {origin}: it is not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(job, dict) or not isinstance(job.get("settings") or {}, dict):
        raise ConfigError(f"job file {origin}: expected networks, dataset, strategy and a mapping of settings")
    try:
        _check_entries(job)
    except ValueError as error:
        raise ConfigError(f"job file {origin}: {error}") from None
    return job


def _syntax(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = " ".join(text for text in (error.context, error.problem) if text)
    if "'\\t'" in problem:
        problem = "a tab; YAML is indented with blanks"
    return f"line {mark.line + 1}: {problem}" if mark else problem


def _check_entries(job: Mapping[str, Any]) -> None:
    """Raises ValueError for what no job file of this version holds."""
    for key in job:
        if key not in ENTRIES:
            raise ValueError(f"unknown entry '{key}'{suggestion(str(key), ENTRIES)}")
    if str(job.get("format", JOB_FORMAT)) != str(JOB_FORMAT):
        raise ValueError(f"format {job['format']} is not one that this version reads ({JOB_FORMAT})")
    for key in ("dataset", "strategy", "networks", "plugins"):
        several = key in ("networks", "plugins")
        if not _is_text(job.get(key, ""), several):
            raise ValueError(f"{key}: expected {'a list of names' if several else 'one name'}")
    for key, value in (job.get("settings") or {}).items():
        if isinstance(value, dict):
            raise ValueError(
                f"settings: '{key}' is not a key with a value; for one role write 'generator.method: ADAM'"
            )
        if fold(key).removeprefix("job.") in {fold(name) for name in (*LIFE_CYCLE, *NAMES)}:
            raise ValueError(f"settings: '{key}' is no setting of a job; give it on the command line")


def _is_text(value: Any, several: bool) -> bool:
    return isinstance(value, str) or (
        several and isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def job_folders() -> list[Path]:
    """Where job files that ship with Ganglion lie."""
    folders = [Path(str(files(package) / "jobs")) for package in BUILTIN_PACKAGES[1:]]
    return [folder for folder in folders if folder.is_dir()]


def named_job(name: str, folders: Sequence[Path]) -> Path:
    """A job file by path, or by the name of one that ships with Ganglion. Raises ConfigError."""
    path = Path(name)
    with suppress(OSError):  # a name that is too long, or a folder that may not be looked into
        if path.is_file():
            return path
        if path.is_dir():
            raise ConfigError(f"job file {name}: it is a folder, expected a file such as {path / 'job.yaml'}")
    shipped = {file.stem: file for folder in reversed(folders) for file in folder.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    hint = suggestion(name, shipped)
    raise ConfigError(f"there is no job file '{name}', and none of that name ships with Ganglion{hint}")
