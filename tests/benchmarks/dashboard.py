"""What watching costs a run: its speed and its own processor time with and without browsers, in turn.

python tests/benchmarks/dashboard.py [--pairs 6] [--seconds 8]     prints Markdown; needs the extra and a browser

One endless run learns in a process of its own. Windows without anyone watching alternate with windows in which two
streams are read, one client asks for a stream and never reads it, and (the second row) two headless browsers show the
run as well. Processor time per iteration is the run's own: it says whether the run has more to do; the speed whether
others take the processor from it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser import Browser, browsing

TOKEN = "a-token-of-the-benchmark"
JOB = (
    "Generator,Discriminator Digits strategy=NSGAN batchSize=16 iterations=-1 threads=1 execution=eager tag=watched "
    "traceInterval=20 storeSeconds=5 sampleInterval=1000 healthInterval=0"
)


class Window(NamedTuple):
    """What was read in one window: iterations per second, and milliseconds of the run's processor per iteration."""

    speed: float
    cost: float


def processor_seconds(number: int) -> float:
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def last_iteration(trace: Path) -> int:
    """The newest trace point."""
    return int(json.loads(trace.read_bytes().splitlines()[-1])["iteration"])


def window(trace: Path, number: int, seconds: float) -> Window:
    """Read one window: from one trace point to another, so that the time is that of whole iterations."""

    def tick() -> tuple[int, float, float]:
        before = last_iteration(trace)
        while (now := last_iteration(trace)) == before:
            time.sleep(0.01)
        return now, time.monotonic(), processor_seconds(number)

    first = tick()
    time.sleep(seconds)
    last = tick()
    done = last[0] - first[0]
    return Window(done / (last[1] - first[1]), 1000 * (last[2] - first[2]) / done)


@contextmanager
def watching(port: int, browsers: Sequence[Browser]) -> Iterator[None]:
    """Two streams that are read, one that is not, and these browsers."""
    with ExitStack() as stack:
        for reads in (True, True, False):
            stack.enter_context(stream(port, reads))
        for shown in browsers:
            shown.open(f"http://127.0.0.1:{port}/?token={TOKEN}")
            shown.run("location.hash = 'run/watched'")
            shown.wait("document.querySelector('#curves .legend')")
            stack.callback(shown.open, "about:blank")
        yield


@contextmanager
def stream(port: int, reads: bool) -> Iterator[None]:
    """A client of the events; one that does not read leaves everything where it is."""
    client = socket.create_connection(("127.0.0.1", port))
    cookie = f"ganglion-{port}={TOKEN}"
    client.sendall(
        f"GET /api/events?run=watched HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n".encode()
    )

    def drain() -> None:
        with suppress(OSError):
            while client.recv(65536):
                pass

    if reads:
        threading.Thread(target=drain, daemon=True).start()
    try:
        yield
    finally:
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()


def wait_for(ready: Callable[[], object]) -> None:
    """Wait until something is there; two minutes at most."""
    end = time.monotonic() + 120
    while not ready():
        if time.monotonic() > end:
            raise SystemExit("it did not begin within two minutes")
        time.sleep(0.2)


def measure(
    pairs: int, seconds: float, browsers: Sequence[Browser], run: subprocess.Popen[bytes], trace: Path, port: int
) -> str:
    """One row of the table."""
    alone, watched = [], []
    for _ in range(pairs):
        alone.append(window(trace, run.pid, seconds))
        with watching(port, browsers):
            watched.append(window(trace, run.pid, seconds))
    ratios = [[after[place] / before[place] for before, after in zip(alone, watched, strict=True)] for place in (0, 1)]
    speed, cost = (f"{statistics.median(each):.3f} ({min(each):.3f} to {max(each):.3f})" for each in ratios)
    typical = statistics.median(each.speed for each in alone)
    who = f"{2 + len(browsers)} and one that hangs; {len(browsers)} of them are browsers on this machine"
    return f"| {who} | {typical:.1f} | {speed} | {cost} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port, trace = int(free.getsockname()[1]), Path(folder) / "watched" / "trace.jsonl"
        free.close()
        command = [sys.executable, "-m", "ganglion.engine"]
        environment = {**os.environ, "GANGLION_DASHBOARD_TOKEN": TOKEN, "GANGLION_RUNS": folder, "OMP_NUM_THREADS": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
        run = subprocess.Popen([*command, "learn", *JOB.split()], **quiet)  # type: ignore[call-overload]
        server = subprocess.Popen([*command, "dashboard", "--port", str(port)], **quiet)  # type: ignore[call-overload]
        try:
            wait_for(lambda: trace.exists() and trace.stat().st_size)
            print(
                f"learn {JOB}\n{asked.pairs} pairs of windows of {asked.seconds:g} s, load {os.getloadavg()[0]:.1f}\n"
            )
            print(
                "| who watches | it/s alone | speed, watched / alone | processor time per iteration, watched / alone |"
            )
            print("| --- | --- | --- | --- |")
            with browsing() as first, browsing() as second:
                for browsers in ((), (first, second)):
                    print(measure(asked.pairs, asked.seconds, browsers, run, trace, port), flush=True)
            used = processor_seconds(server.pid)
            print(f"\nprocessor time of the server in all: {used:.1f} s")
        finally:
            for process in (run, server):
                process.send_signal(signal.SIGKILL)
                process.wait()


if __name__ == "__main__":
    main()
