"""Where the runs of a comparison or a search are carried out: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganglion.engine.errors import ConfigError, fold, suggestion
from ganglion.engine.settings import Settings, describe, setting
from ganglion.engine.taskpool import Child, Start, Worker, run_tasks
from ganglion.engine.taskqueue import QUEUE, Queue, this_node

__all__ = ["ENGINES", "QUEUE", "EngineSettings", "Pool", "task_pool"]

ENGINES = ("local", "ray")


class EngineSettings(Settings):
    """Keys of commands that carry out many runs (with `--engine ray`): what one needs, which nodes it may use."""

    cpus: float | None = setting(None, "cores that a run takes of a node (--engine ray); none: one per thread", gt=0)
    gpus: float | None = setting(None, "GPUs that a run takes of a node, also a part of one (--engine ray)", ge=0)
    targets: tuple[str, ...] = setting((), "nodes that may be used, by name or address (--engine ray); none: all")
    target_count: int | None = setting(None, "how many nodes are used at most (--engine ray); none: all", ge=1)
    target_filter: tuple[str, ...] = setting((), "label=value that nodes must have to be used (--engine ray)")
    retries: int = setting(3, "how often a run goes on elsewhere when its node is lost (--engine ray)", ge=0)


@dataclass(frozen=True)
class Pool:
    """What carries out tasks: how one is started, and how many fit at the same time (None: one per core)."""

    engine: str
    start: Start
    fitting: int | None = None

    def run(
        self,
        folder: Path,
        tasks: Iterable[tuple[str, Mapping[str, Any]] | None],
        workers: int,
        started: Callable[[str], None],
        ended: Callable[[str, dict[str, Any], float], None],
        watch: Callable[[], Iterable[str]] = tuple,
    ) -> int:
        """Carry out tasks as `run_tasks` does, and keep in `folder` what `ganglion runs --all` shows of them."""
        queue = Queue(folder / QUEUE, self.engine)
        working: dict[str, Worker] = {}

        def start(name: str, task: Mapping[str, Any]) -> Worker:
            working[name] = self.start(name, task)
            return working[name]

        def told_started(name: str) -> None:
            queue.began(name, _node(working[name]))
            queue.save()
            started(name)

        def told_ended(name: str, result: dict[str, Any], seconds: float) -> None:
            ended(name, result, seconds)
            queue.ended(name, str(result["status"]), _node(working.pop(name)), seconds)
            queue.save()

        def looked() -> Iterable[str]:
            for name, worker in working.items():
                queue.at(name, _node(worker))
            queue.save()
            return watch()

        return run_tasks(tasks, workers, told_started, told_ended, start, looked)


def _node(worker: Worker) -> str:
    """Where a task is carried out; nothing while it waits for a node."""
    return str(getattr(worker, "node", this_node()))


@contextmanager
def task_pool(
    engine: str,
    address: str | None,
    settings: EngineSettings,
    threads: int = 1,
    device: str = "auto",
    notify: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Pool]:
    """The pool that `--engine` and `--address` name, with what the command's keys ask of it.

    `threads` is how many a run has, `device` where it learns. Raises ConfigError, at once and before anything is
    written, for an engine that is not there, an address where none answers, and runs that no node has room for.
    """
    name = fold(engine)
    if name not in ENGINES:
        raise ConfigError(f"--engine {engine}: there is no such engine{suggestion(engine, ENGINES)}")
    if name == "local":
        _refuse_cluster_keys(address, settings)
        yield Pool("local", Child)
        return
    if settings.gpus is not None and settings.gpus > 1 and settings.gpus % 1:
        raise ConfigError(f"gpus={settings.gpus:g}: a run takes a part of one GPU, or a whole number of them")
    from ganglion.engine.rayconnection import connected
    from ganglion.engine.rayplaces import Need, Placement
    from ganglion.engine.raypool import Cluster

    default = 1.0 if device.startswith("cuda") else 0.0
    need = Need(settings.cpus or float(threads), default if settings.gpus is None else settings.gpus)
    placement = Placement.of(settings.targets, settings.target_count, settings.target_filter)
    with connected(address) as ray:
        cluster = Cluster(ray, need, placement, settings.retries, notify)
        yield Pool("ray", cluster.start, cluster.fitting())


def _refuse_cluster_keys(address: str | None, settings: EngineSettings) -> None:
    """Keys of a cluster would do nothing here. Raises ConfigError."""
    if address is not None:
        raise ConfigError(f"--address {address} is a cluster's: add --engine ray")
    for info in describe(EngineSettings):
        if info.name in settings.model_fields_set:
            raise ConfigError(f"the key '{info.key}' is about nodes of a cluster: add --engine ray")
