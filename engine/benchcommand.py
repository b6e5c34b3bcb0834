"""What the command `bench` does: measures task after task and prints tables, or one document for programs."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from ganglion.engine.bench.driving import variants
from ganglion.engine.bench.loops.tasks import STYLES, WRITTEN
from ganglion.engine.bench.measuring import Against, How, Measured, measure, threads
from ganglion.engine.bench.overhead import TASK, Overhead, measure_overhead
from ganglion.engine.bench.processes import Process, engine_process, loop_process
from ganglion.engine.bench.timing import Spread
from ganglion.engine.commands import say
from ganglion.engine.device import find_device
from ganglion.engine.errors import ConfigError, fold, suggestion
from ganglion.engine.tables import format_duration, format_number, print_json, print_pairs, print_table

NAMES = (*WRITTEN, TASK)
HEADS = {"loader": "DataLoader", "gather": "one gather", "tutorial": "tutorial"}


class Started(NamedTuple):
    """The processes of one task: the engine's, and the loop's."""

    task: str
    engine: Process
    loop: Process


def bench_command(words: Sequence[str], how: How, processes: bool, as_json: bool) -> None:
    """The command `bench`. Raises ConfigError for a task that there is not, or a device."""
    tasks = _named(words)
    how = how._replace(device=str(find_device(how.device, "--device")))
    contenders = len(STYLES) + len(variants())
    least = sum(how.pairs * how.seconds * (2 if task == TASK else contenders) for task in tasks)
    say(f"{', '.join(tasks)}: at least {format_duration(least)}; let the machine do nothing else")
    measured, overhead = _measured(tasks, how)
    started = _started([task for task in tasks if task != TASK], how) if processes else []
    if as_json:
        print_json(document(how, measured, started, overhead))
    else:
        _print(measured, started, overhead)


def _named(words: Sequence[str]) -> list[str]:
    known = {fold(name): name for name in NAMES}
    for word in words:
        if fold(word) not in known:
            raise ConfigError(f"bench: unknown task '{word}'{suggestion(word, NAMES)}")
    return list(dict.fromkeys(known[fold(word)] for word in words)) or list(NAMES)


def _measured(tasks: Iterable[str], how: How) -> tuple[list[Measured], Overhead | None]:
    measured, overhead = [], None
    with threads(how.threads):
        for task in tasks:
            if task == TASK:
                overhead = measure_overhead(how.pairs, how.seconds, how.threads, how.device)
                continue
            say(f"{task} ...")
            measured.append(measure(task, how, say))
    return measured, overhead


def _started(tasks: Iterable[str], how: How) -> list[Started]:
    found = []
    for task in tasks:
        say(f"{task}: two processes ...")
        both = (start(task, how.threads, how.device) for start in (engine_process, loop_process))
        found.append(Started(task, *both))
    return found


# --- what is shown ------------------------------------------------------------------------------------------------


def _print(measured: Sequence[Measured], started: Sequence[Started], overhead: Overhead | None) -> None:
    if measured:
        rows = [(each.task, found) for each in measured for found in each.engine]
        print_table(["task", "engine", "it/s", *HEADS.values()], [_times_row(*row) for row in rows])
        print("\nTimes of loops written by hand over the engine's: median, lowest..highest; above 1 it is faster.\n")
        print_table(["task", "engine", "matrix products", "optimisers' memory"], [_limits_row(*row) for row in rows])
        print("\nShares of the engine's time that these would take alone on this machine.")
    if started:
        print()
        columns = ["task", "engine starts in", "loop in", "engine's peak memory", "loop's"]
        print_table(columns, [_started_row(each) for each in started])
    if overhead is not None:
        print()
        print_pairs(_overhead_pairs(overhead))


def _times_row(task: str, found: Against) -> list[str]:
    return [task, _variant(found), format_number(found.rate), *(_ranged(found.ratios[style]) for style in HEADS)]


def _limits_row(task: str, found: Against) -> list[str]:
    return [task, _variant(found), *(f"{100 * share:.1f} %" for share in (found.products, found.optimisers))]


def _variant(found: Against) -> str:
    return found.variant if found.variant == found.execution else f"{found.variant} ({found.execution})"


def _ranged(value: Spread, digits: int = 2) -> str:
    return f"{value.median:.{digits}f} {value.low:.{digits}f}..{value.high:.{digits}f}"


def _started_row(found: Started) -> list[str]:
    times = [f"{each.seconds:.1f} s" for each in (found.engine, found.loop)]
    peaks = ["-" if each.mebibytes is None else f"{each.mebibytes:.0f} MiB" for each in (found.engine, found.loop)]
    return [found.task, *times, *peaks]


def _overhead_pairs(overhead: Overhead) -> dict[str, str]:
    return {
        "overhead": f"{_ranged(overhead.overhead, 0)} us per iteration (networks of one layer)",
        "engine": f"{_ranged(overhead.engine, 0)} us",
        "the same torch calls bare": f"{_ranged(overhead.bare, 0)} us",
    }


def document(
    how: How, measured: Sequence[Measured], started: Sequence[Started], overhead: Overhead | None
) -> Mapping[str, Any]:
    """The same for programs; times in seconds but those of `overhead`, which are microseconds."""
    machine = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
    }
    return {
        "machine": machine,
        "how": how._asdict(),
        "tasks": [each._asdict() for each in measured],
        "processes": [each._asdict() for each in started],
        "overhead": overhead,
    }
