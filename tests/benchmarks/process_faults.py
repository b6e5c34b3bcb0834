"""What a job of several processes and hosts survives: each fault some times at random moments. Prints a Markdown table.

    python tests/benchmarks/process_faults.py [--only TEXT] [--times 3] [--seed 0] [--folder FOLDER]

Hosts are network namespaces of this machine (hosts.py): Linux and root are needed. A row says how often a run ended
byte for byte as one that nothing happened to, how long the fault kept it from going on, and what a person read.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import safetensors.torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hosts import Host, Wire, refuse_others, workers

ITERATIONS = 2000
PATIENCE = 10  # seconds that a process waits for another here
STARTS = 20.0  # seconds that a launcher may take to be there
LIMIT = 400.0  # seconds after which something counts as hung
TOLERANCE = 2e-2  # of a tensor's largest number, in single precision and with another number of processes
PORT = 29411
FRESH = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # without it, torchrun 2.13 never lets a host come back
JOB = (
    "Generator,Discriminator", "Circle", "strategy=NSGAN", "size=256", "batchSize=12", "generator.ema=0.9",
    f"iterations={ITERATIONS}", "traceInterval=100", "traces=lines", "sampleInterval=0", "threads=1",
    "execution=eager", "storeSeconds=0.3", f"patience={PATIENCE}",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A fault: on how many hosts, of which some may go missing, and what is done to them."""

    name: str
    strike: Callable[[Course], None]
    hosts: int = 2
    each: int = 1  # processes per host
    least: int | None = None  # hosts that are enough to go on
    restarts: int = 0  # that torchrun is allowed
    again: bool = False  # whether a person gives the same command again afterwards
    close: bool = False  # whether fewer processes go on, so that the last bits differ (and masks of Dropout would)

    @property
    def words(self) -> tuple[str, ...]:
        """What its job says besides."""
        return ("Dropout.p=0",) if self.close else ()


@dataclass
class Course:
    """One run of a job, and what is done to it."""

    case: Case
    wire: Wire
    folder: Path
    chance: random.Random
    tag: str
    launchers: dict[int, int] = field(default_factory=dict)
    attempt: int = 0

    def start(self, hosts: Sequence[Host] | None = None) -> None:
        """Give the command, on all hosts or on some."""
        self.attempt += hosts is None
        for host in self.wire.hosts[: self.case.hosts] if hosts is None else hosts:
            log = self.folder / f"{self.tag}.{host.number}.log"
            environment = {"OMP_NUM_THREADS": "1", **({FRESH: "1"} if self.case.least else {})}
            process = host.start(*self._command(host), log=log, environment=environment)
            self.launchers[host.number] = process.pid

    def _command(self, host: Host) -> list[str]:
        case, first = self.case, self.wire.hosts[0]
        nodes = f"{case.least}:{case.hosts}" if case.least else str(case.hosts)
        settings = f"is_host={str(host is first).lower()},join_timeout=120,last_call_timeout=4,read_timeout=10"
        return [
            sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", f"--nproc-per-node={case.each}",
            f"--max-restarts={case.restarts}", "--rdzv-backend=c10d", f"--rdzv-endpoint={first.address}:{PORT}",
            f"--rdzv-id={self.tag}-{self.attempt}", f"--rdzv-conf={settings}", f"--local-addr={host.address}",
            "-m", "ganglion.engine", "learn", *JOB, *case.words, f"tag={self.tag}", "--runs", str(self.folder / "runs"),
        ]  # fmt: skip

    # --- what became of it

    @property
    def stored(self) -> int:
        """The newest checkpoint."""
        latest = self.folder / "runs" / self.tag / "checkpoints" / "latest"
        return int(latest.read_text()) if latest.exists() else -1

    @property
    def finished(self) -> bool:
        """Whether the run has all its iterations."""
        record = self.folder / "runs" / self.tag / "record.json"
        return record.exists() and json.loads(record.read_text())["status"] == "finished"

    @property
    def sessions(self) -> int:
        """How often it was begun or gone on with."""
        record = self.folder / "runs" / self.tag / "record.json"
        return int(json.loads(record.read_text())["sessions"]) if record.exists() else 0

    @property
    def running(self) -> bool:
        """Whether any process of it still runs."""
        return any(host.processes() for host in self.wire.hosts)

    @property
    def learning(self) -> bool:
        """Whether any process of Ganglion still runs."""
        return any(workers(host) for host in self.wire.hosts)

    def end_launchers(self) -> None:
        """End what is left of torchrun: it may wait for a lost host as long as the kernel does, some 15 minutes."""
        for host in self.wire.hosts:
            host.signal(signal.SIGKILL)
        self.wait("the end of torchrun", lambda: not self.running)

    def wait(self, what: str, true: Callable[[], bool]) -> float:
        """Wait until something is true; how many seconds it took."""
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > LIMIT:
                raise TimeoutError(f"{what}: not within {LIMIT:g} s")
            time.sleep(0.1)
        return time.monotonic() - began

    def weights(self) -> dict[str, bytes]:
        """The bytes of all tensors of the last checkpoint, optimisers and averages with them."""
        folder = self.folder / "runs" / self.tag / "checkpoints" / str(ITERATIONS)
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}

    def told(self) -> list[str]:
        """What Ganglion said, in all processes."""
        texts = [path.read_text() for path in sorted(self.folder.glob(f"{self.tag}.*.log"))]
        return [line for text in texts for line in text.splitlines() if line.startswith(("learn: ", "ganglion: "))]

    # --- faults

    def worker(self, host: int) -> int:
        """One of the processes of a host."""
        return self.chance.choice(workers(self.wire.hosts[host]))

    def lose(self, host: int) -> None:
        """A host without power: nothing comes from it any more, not even the end of a connection."""
        self.wire.cut.add(host)
        time.sleep(0.2)
        self.wire.hosts[host].signal(signal.SIGKILL)

    def stop(self, host: int, seconds: float) -> None:
        """A host that stands still."""
        self.wire.hosts[host].signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.wire.hosts[host].signal(signal.SIGCONT)


def kill_worker(host: int) -> Callable[[Course], None]:
    return lambda course: os.kill(course.worker(host), signal.SIGKILL)


def kill_launcher(host: int) -> Callable[[Course], None]:
    return lambda course: os.kill(course.launchers[host], signal.SIGKILL)


def lose(host: int) -> Callable[[Course], None]:
    return lambda course: course.lose(host)


def cut(host: int, seconds: float | None) -> Callable[[Course], None]:
    """Cut a host off, for so many seconds or for good."""

    def strike(course: Course) -> None:
        course.wire.cut.add(host)
        if seconds is not None:
            time.sleep(seconds)
            course.wire.cut.discard(host)

    return strike


def stop(host: int, seconds: float) -> Callable[[Course], None]:
    return lambda course: course.stop(host, seconds)


def halt_by_turns(course: Course) -> None:
    """A host at half its speed."""
    for _ in range(40):
        course.stop(1, 0.1)
        time.sleep(0.1)


def delay(course: Course) -> None:
    course.wire.delay = 0.02
    time.sleep(10)
    course.wire.delay = 0.0


def come_back(course: Course) -> None:
    """A host is lost, the other goes on alone, and the lost one is started again."""
    before = course.stored
    course.lose(1)
    course.wait("going on alone", lambda: course.stored > before)
    for process in workers(course.wire.hosts[0]):  # it would have all its iterations before the other is back
        os.kill(process, signal.SIGSTOP)
    course.wire.cut.clear()
    course.start([course.wire.hosts[1]])
    time.sleep(STARTS)
    course.wire.hosts[0].signal(signal.SIGCONT)


CASES = (
    Case("a process is killed (SIGKILL), one host", kill_worker(0), hosts=1, each=2, restarts=2),
    Case("a process is killed and torchrun may not restart, one host", kill_worker(0), hosts=1, each=2, again=True),
    Case("torchrun is killed (SIGKILL), one host", kill_launcher(0), hosts=1, each=2, again=True),
    Case("a process of the first host is killed, two hosts", kill_worker(0), restarts=2),
    Case("a process of the second host is killed, two hosts", kill_worker(1), restarts=2),
    Case("a process of the third host is killed, three hosts", kill_worker(2), hosts=3, restarts=2),
    Case("torchrun of the second host is killed", kill_launcher(1), again=True),
    Case("the second host is lost", lose(1), again=True),
    Case("the second host is lost, one is enough", lose(1), least=1, restarts=2, close=True),
    Case("the third host is lost, two are enough", lose(2), hosts=3, least=2, restarts=2, close=True),
    Case("the second host is lost and comes back, one is enough", come_back, least=1, restarts=2, close=True),
    Case("the first host is lost", lose(0), again=True),
    Case("the second host is cut off for 3 s", cut(1, 3.0)),
    Case("the second host is cut off for good", cut(1, None), again=True),
    Case("packets take 20 ms for 10 s", delay),
    Case("the second host stands still for 5 s", stop(1, 5.0)),
    Case("the second host stands still for 30 s", stop(1, 30.0), again=True),
    Case("the second host runs at half its speed", halt_by_turns),
)


@dataclass
class Row:
    """What became of one case."""

    case: Case
    same: int = 0
    times: int = 0
    seconds: list[float] = field(default_factory=list)
    apart: list[float] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lost = f"{median(self.seconds):.1f} ({max(self.seconds):.1f})" if self.seconds else ""
        read = re.sub(r"^(learn|ganglion): ", "", self.sentences[0]) if self.sentences else ""
        how = f"within {max(self.apart, default=0.0):.0e}" if self.case.close else "identical"
        again = "the same command" if self.case.again else "by itself"
        cells = (self.case.name, self.times, f"{self.same} {how}", again, lost, read, "; ".join(self.wrong))
        return "| " + " | ".join(map(str, cells)) + " |"


class Bench:
    """Carries out cases, each against the undisturbed run of the same job."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self.chance = chance
        self.undisturbed: dict[tuple[int, bool], dict[str, bytes]] = {}

    @contextmanager
    def course(self, case: Case, tag: str) -> Iterator[Course]:
        """A run on hosts of its own."""
        with Wire(case.hosts) as wire:
            yield Course(case, wire, self.folder, self.chance, tag)

    def wanted(self, case: Case) -> dict[str, bytes]:
        """What a run of so many processes ends with when nothing happens."""
        key = (case.hosts * case.each, case.close)
        if key not in self.undisturbed:
            plain = Case("undisturbed", lambda course: None, case.hosts, case.each, close=case.close)
            with self.course(plain, f"plain{key[0]}-{ITERATIONS}{'-close' * key[1]}") as course:
                if not course.finished:  # a folder that was given may hold it
                    course.start()
                course.wait("the undisturbed run", lambda: course.finished and not course.running)
                self.undisturbed[key] = course.weights()
        return self.undisturbed[key]

    def carry_out(self, case: Case, number: int, row: Row) -> None:
        """Strike once, and see what becomes of it."""
        row.times += 1
        tag = f"case{CASES.index(case)}-{number}"
        wanted = self.wanted(case)
        with self.course(case, tag) as course:
            try:
                row.seconds.append(self._struck(course))
                self.compare(course.weights(), wanted, row)
                left = [str(path) for path in (self.folder / "runs" / tag).rglob("*.tmp*")]
                row.wrong += [f"half-written: {left}"] * bool(left)
            except TimeoutError as error:
                row.wrong.append(str(error))
            told = course.told()
            row.sentences += told
            row.wrong += [f"said {told.count(each)} times: {each}" for each in set(told) if told.count(each) > 1]

    def compare(self, found: dict[str, bytes], wanted: dict[str, bytes], row: Row) -> None:
        """Whether a run ended with the bytes of the undisturbed one, or with numbers that are close."""
        if not found or found.keys() != wanted.keys():
            row.wrong.append("there are other files than in the undisturbed run")
        elif row.case.close:
            row.apart.append(_apart(found, wanted))
            row.same += row.apart[-1] <= TOLERANCE
        else:
            row.same += found == wanted

    def _struck(self, course: Course) -> float:
        """How many seconds the fault kept the run from going on, or the processes from ending."""
        course.start()
        course.wait("the first checkpoints", lambda: course.stored > 0)
        time.sleep(self.chance.uniform(0.0, 2.0))
        before, sessions, began = course.stored, course.sessions, time.monotonic()
        course.case.strike(course)
        if course.case.again:
            course.wait("the end of all processes", lambda: not course.learning)
            took = time.monotonic() - began
            course.end_launchers()
            course.wire.cut.clear()
            course.start()
        else:
            again = sessions + (course.case.restarts > 0)
            course.wait("going on", lambda: course.sessions >= again and course.stored > before)
            took = time.monotonic() - began
        course.wait("all iterations", lambda: course.finished and not course.running)
        return took


def _apart(found: dict[str, bytes], wanted: dict[str, bytes]) -> float:
    """The largest difference of a weight, as a share of its tensor's largest number."""
    worst = 0.0
    for name, data in wanted.items():
        if name != "state.safetensors":
            own, other = safetensors.torch.load(found[name]), safetensors.torch.load(data)
            for key, value in other.items():
                difference = float((own[key].double() - value.double()).abs().max())
                worst = max(worst, difference / max(float(value.double().abs().max()), 1e-3))
    return worst


def main() -> None:
    """A row per fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name holds this")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where runs and logs are kept")
    given = parser.parse_args()
    refuse_others()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # hosts are removed then, too
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        folder = given.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, random.Random(given.seed))
        print("| fault | injected | resumed | goes on | seconds lost, median (most) | what the user reads | wrong |")
        print("| --- " * 7 + "|", flush=True)
        for case in CASES:
            if given.only in case.name:
                row = Row(case)
                for number in range(given.times):
                    bench.carry_out(case, number, row)
                print(row, flush=True)


if __name__ == "__main__":
    main()
