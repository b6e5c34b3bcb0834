"""Faults: each kind is a function that injects it and counts, on a bench, what became of the runs.

`tests/test_faults.py` carries them out with few injections, `scripts/faults` with all.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from commandline import tiny
from faultbench import JOB, SECONDS, Bench, Ended, System, become, in_child, kill, refuse

from ganglion.engine import files
from ganglion.engine.repository import Repository

# --- the process, the disk, the clock -----------------------------------------------------------------------------


def _count_calls(bench: Bench) -> int:
    """How many calls that change the disk a run of six iterations makes; it is the straight run to compare with."""
    file = bench.folder / "calls"
    bench.runs.mkdir()  # so that every run makes the same calls

    def watch() -> None:
        system = System()
        system.install()
        # The last call of the process: nothing is written after it.
        original = os._exit
        os._exit = lambda code: (file.write_text(str(system.count)), original(code))  # type: ignore[assignment]

    ended = bench.learn("tag=straight", "iterations=6", before=watch)
    bench.check(ended.code == 0, f"the straight run: {ended}")
    return int(file.read_text())


def _killed_at(bench: Bench, call: int, tag: str = "killed") -> Ended:
    return bench.learn(f"tag={tag}", "iterations=6", before=lambda: System(call, kill).install())


def killed_at_every_call(bench: Bench) -> None:
    """SIGKILL at each call that changes the disk, from the first folder to the last record; the command is repeated."""
    reached = 0
    for call in range(0, _count_calls(bench), bench.every):
        ended = _killed_at(bench, call)
        what = f"killed at call {call}"
        bench.note(what, ended, [-signal.SIGKILL])
        reached = max(reached, bench.intact("killed", what, at_least=reached) or 0)
        again = bench.learn("tag=killed", "iterations=6")
        done = again.code == 2 and "has all its 6 iterations" in again.err
        bench.check(again.code == 0 or done, f"{what}: {again}")
        bench.same("killed", "straight", 6, what)
        bench.forget("killed")


def _refused_at_every_call(bench: Bench, number: int, words: str) -> None:
    for call in range(0, _count_calls(bench), bench.every):
        ended = bench.learn("tag=refused", "iterations=6", before=lambda: System(call, refuse(number)).install())  # noqa: B023
        what = f"errno {number} at call {call}"
        bench.note(what, ended, [0, 1, 2], words)  # 0: a file that was to be removed is left
        bench.intact("refused", what)
        bench.check(not list(bench.runs.rglob(f"{files.TEMPORARY}*")), f"{what}: a temporary file is left")
        again = bench.learn("tag=refused", "iterations=6")
        done = again.code == 2 and "has all its 6 iterations" in again.err
        bench.check(again.code == 0 or done, f"{what}: {again}")
        bench.same("refused", "straight", 6, what)
        bench.forget("refused")


def disk_full(bench: Bench) -> None:
    """ENOSPC at each call that changes the disk; then there is room, and the command is repeated."""
    _refused_at_every_call(bench, errno.ENOSPC, "the disk is full")


def read_only(bench: Bench) -> None:
    """EROFS at each call that changes the disk."""
    _refused_at_every_call(bench, errno.EROFS, "the file system is read-only")


def mounted_read_only(bench: Bench) -> None:
    """A real file system that becomes read-only between two starts, where one can be mounted."""
    place = bench.folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        return
    try:
        words = tiny(*JOB, "tag=mine", "iterations=4")
        runs = ["--runs", str(place / "runs")]
        bench.check(in_child(words[0], *runs, *words[1:]).code == 0, "before")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        for more in (["tag=mine"], ["tag=other"], []):
            words = tiny(*JOB, *more, "iterations=6")
            bench.note("read-only", in_child(words[0], *runs, *words[1:]), [2], "read-only")
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        bench.check(Repository(place / "runs").run("mine").checkpoints().load().iteration == 4, "the state before")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def clock_jumps(bench: Bench) -> None:
    """The wall clock jumps back by a day, forward by a year, and to 1970, while a run learns, stores and goes on."""
    bench.learn("tag=straight", "iterations=6")
    for number, shift in enumerate((-86400.0, 3.2e7, -1.7e9)):
        real = time.time

        def jump(real: Callable[[], float] = real, shift: float = shift) -> None:
            calls = iter(range(10**9))
            time.time = lambda: real() + (shift if next(calls) % 3 else 0.0)

        for iterations in (4, 6):
            ended = bench.learn(f"tag=clock{number}", f"iterations={iterations}", "decayIterations=6", before=jump)
            bench.note(f"clock {shift}", ended, [0])
            bench.intact(f"clock{number}", f"clock {shift}", iterations)
        bench.same(f"clock{number}", "straight", 6, f"clock {shift}")
        listed = in_child("ganglion", "runs", "--runs", str(bench.runs), before=jump)
        bench.check(listed.code == 0 and f"clock{number}" in listed.out, f"clock {shift}: {listed}")


# --- what lies on the disk ----------------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :],
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "missing": lambda data: b"\0gone",
}


def damaged_checkpoints(bench: Bench) -> None:
    """Each file of the last checkpoint cut, flipped, emptied, zeroed or removed: the one before is used, and said."""
    bench.learn("tag=straight", "iterations=6")
    bench.learn("tag=kept", "iterations=4", "decayIterations=6")
    names = [path.name for path in sorted((bench.runs / "kept" / "checkpoints" / "4").iterdir())]
    cases = [(name, how) for name in names for how in DAMAGES][:: bench.every]
    for name, how in cases:
        what = f"{name} {how}"
        shutil.copytree(bench.runs / "kept", bench.runs / "damaged")
        path = bench.runs / "damaged" / "checkpoints" / "4" / name
        content = DAMAGES[how](path.read_bytes())
        if content == b"\0gone":
            path.unlink()
        else:
            path.write_bytes(content)
        ended = bench.learn("tag=damaged", "iterations=6", "decayIterations=6")
        bench.note(what, ended, [0])
        bench.check("checkpoint 4 is damaged" in ended.err and "checkpoint 2 is used" in ended.err, f"{what}: {ended}")
        bench.same("damaged", "straight", 6, what)
        bench.forget("damaged")


def two_processes(bench: Bench) -> None:
    """A second process on a tag is refused while the first learns; once that one is killed, the next goes on."""
    bench.learn("tag=straight", "iterations=6")
    ready = bench.folder / "ready"

    def wait_inside() -> None:  # the first process stops in the middle of its third checkpoint, holding the lock
        System(60, lambda: (ready.write_text(""), time.sleep(SECONDS))).install()

    first = os.fork()
    if first == 0:
        words = tiny(*JOB, "tag=shared", "iterations=6")
        become([words[0], "--runs", str(bench.runs), *words[1:]], wait_inside, 1, 2)
    try:
        until = time.monotonic() + SECONDS
        while not ready.exists() and time.monotonic() < until:
            time.sleep(0.01)
        for more in ([], ["clean=true"]):
            second = bench.learn("tag=shared", "iterations=6", *more)
            bench.note("second process", second, [2], f"in use by another process (pid {first})")
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    bench.intact("shared", "after the first was killed")
    third = bench.learn("tag=shared", "iterations=6")
    bench.check(third.code == 0, f"third process: {third}")
    bench.same("shared", "straight", 6, "third process")


def changed_data(bench: Bench) -> None:
    """The data file is changed, cut, or gone between two starts; with the old one back, the run goes on."""
    file = bench.folder / "table.csv"
    rows = [f"{row},{row * row}\n" for row in range(40)]
    table = dict(names=("Generator,Discriminator", "Table"), keys={"strategy": "GAN", "batchSize": 8, "threads": 1})

    def learn(tag: str, iterations: int) -> Ended:
        common = (f"path={file}", f"tag={tag}", f"iterations={iterations}", "sampleInterval=0", "traces=lines")
        words = tiny(*common, "decayIterations=6", **table)  # type: ignore[arg-type]
        return in_child(words[0], "--runs", str(bench.runs), *words[1:])

    file.write_text("".join(rows))
    for tag, iterations in (("straight", 6), ("data", 4)):
        bench.check(learn(tag, iterations).code == 0, tag)
    for what, content in (
        ("a number changed", "".join(["9,9\n", *rows[1:]])), ("a row less", "".join(rows[:-1])),
        ("cut in the middle of a row", "".join(rows)[:-3] + "\n7\n"), ("nan", "".join([*rows[:-1], "1,nan\n"])),
        ("another order", "".join(rows[::-1])), ("empty", ""), ("gone", None),
    ):  # fmt: skip
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
        bench.note(what, learn("data", 6), [2])
        bench.intact("data", what, 4)
    file.write_text("".join(rows))
    bench.check(learn("data", 6).code == 0, "with the old data")
    bench.same("data", "straight", 6, "with the old data")


# --- plugins ------------------------------------------------------------------------------------------------------

PLUGIN = Path(__file__).with_name("frail.py")


def frail_words(bench: Bench, tag: str, iterations: int, *more: str) -> list[str]:
    """The job of the frail plugin."""
    keys = (
        "strategy=Frail", "sampling=FrailOrder", "method=FrailMethod", "traces=frail,lines", "batchSize=8",
        "threads=1", "validationSet=0,8", "validationInterval=2", "traceInterval=1", "storeInterval=2", "keep=0",
        "sampleInterval=2", "samples=4", "decayIterations=8", "processors=FrailLink,FrailMethod",
    )  # fmt: skip
    words = ["--runs", str(bench.runs), "--plugin", str(PLUGIN), "FrailNet", "FrailData", *keys]
    words = [word for word in words if word.partition("=")[0] not in {token.partition("=")[0] for token in more}]
    return ["learn", *words, f"tag={tag}", f"iterations={iterations}", *more]


def _failing(place: str, how: str = "raise", seconds: float | None = None) -> Callable[[], None]:
    def before() -> None:
        from ganglion.engine import fetching

        os.environ.update(FRAIL=place, FRAIL_HOW=how)
        fetching.SECONDS = seconds or fetching.SECONDS

    return before


def _break(
    bench: Bench, what: str, before: Callable[[], None], codes: Sequence[int], words: str, kept: int = 4
) -> None:
    """Go on from iteration 4 with a fault, look, and go on without it: it ends as the run without faults."""
    if not (bench.runs / "whole").exists():
        for tag, iterations in (("whole", 8), ("half", 4)):
            ended = in_child(*frail_words(bench, tag, iterations))
            bench.check(ended.code == 0, f"{tag}: {ended.err[-800:]}")
    shutil.copytree(bench.runs / "half", bench.runs / "frail")
    bench.note(what, in_child(*frail_words(bench, "frail", 8), before=before, seconds=60), codes, words)
    bench.intact("frail", what, kept)
    again = in_child(*frail_words(bench, "frail", 8))
    done = again.code == 2 and "has all its 8 iterations" in again.err
    bench.check(again.code == 0 or done, f"{what}: {again.err[-800:]}")
    bench.same("frail", "whole", 8, what)
    bench.forget("frail")


def failing_hooks(bench: Bench) -> None:
    """A plugin raises in each of its methods, at the first call and again at a later one."""
    sys.path.insert(0, str(PLUGIN.parent))
    from frail import PLACES

    late = {"forward@4", "worker@4", "update@3", "process_iteration@3", "validate@2", "generate@2", "noise@2"}
    for place in [*PLACES, *sorted(late)][:: bench.every]:
        _break(bench, place, _failing(place), [1, 2], f"boom in {place.partition('@')[0]}")


def failing_parts(bench: Bench) -> None:
    """A plugin's metric raises while a run is judged: the run is as it was."""
    ended = in_child(*frail_words(bench, "whole", 8))
    bench.check(ended.code == 0, ended.err[-500:])
    for place in ("applies", "evaluate", "generate", "factory"):
        words = ["ganglion", "evaluate", "--runs", str(bench.runs), "--plugin", str(PLUGIN), "whole"]
        more = ["metric=points-v1"] if place == "generate" else ["metric=frail-v1"] if place == "evaluate" else []
        bench.note(f"metric: {place}", in_child(*words, *more, before=_failing(place)), [1, 2], f"boom in {place}")
        bench.intact("whole", place, 8)


def leaving_plugins(bench: Bench) -> None:
    """A plugin calls sys.exit(0) in the middle: the run failed, and the exit code says so."""
    for place in ("process_iteration@2", "load", "rows", "worker@2", "generate", "update@2")[:: bench.every]:
        _break(bench, f"exit in {place}", _failing(place, "exit"), [1, 2], "")


def not_finite(bench: Bench) -> None:
    """NaN in a loss, and infinity in a weight whose loss is not looked at, at a chosen iteration."""
    for call in (1, 2, 4)[:: bench.every]:
        _break(bench, f"nan@{call}", _failing(f"process_iteration@{call}", "nan"), [1], "is nan")
    for call in (4, 5)[:: bench.every]:
        _break(bench, f"inf@{call}", _failing(f"forward@{call}", "nan"), [1], "last good state is kept")


def stuck_workers(bench: Bench) -> None:
    """A worker that fetches rows raises, ends, or never comes back: one sentence, and the process ends."""
    for how, words in (("raise", "boom in worker"), ("exit", "SystemExit"), ("hang", "within 1 seconds")):
        _break(bench, f"worker: {how}", _failing("worker@3", how, seconds=1.0), [1], words)


@dataclass(frozen=True)
class Fault:
    """One row of the table: what it is, what is done, and how many injections are left out in a quick round."""

    name: str
    inject: Callable[[Bench], None]
    every: int = 1


FAULTS = (
    Fault("SIGKILL at every call that changes the disk", killed_at_every_call, 29),
    Fault("disk full (ENOSPC) at every such call", disk_full, 37),
    Fault("read-only disk (EROFS) at every such call", read_only, 61),
    Fault("a file system that is remounted read-only", mounted_read_only),
    Fault("wall clock jumps back, forward, to 1970", clock_jumps, 1),
    Fault("checkpoint files cut, flipped, empty, zeroed, missing", damaged_checkpoints, 7),
    Fault("two processes on one tag, the first killed", two_processes),
    Fault("data file changed between stop and resume", changed_data),
    Fault("NaN or infinity at a chosen iteration", not_finite, 2),
    Fault("prefetch worker raises, ends, hangs", stuck_workers),
    Fault("a plugin raises in each hook", failing_hooks, 6),
    Fault("a plugin raises while a run is judged", failing_parts),
    Fault("a plugin calls sys.exit(0)", leaving_plugins, 3),
)


def carry_out(fault: Fault, folder: Path, quick: bool) -> Bench:
    """Inject one kind of fault in a folder of its own."""
    torch.set_num_threads(1)
    os.environ.pop("FRAIL", None)
    bench = Bench(folder, fault.every if quick else 1)
    try:
        fault.inject(bench)
    except Exception:
        bench.wrong.append(traceback.format_exc())
    return bench
