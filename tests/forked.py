"""A command line in a forked process: as in one of its own, without the seconds that importing torch takes."""

from __future__ import annotations

import os
import signal
import tempfile
import time

import torch.optim  # noqa: F401 - imported before the first fork, not after each
from faultbench import become

from ganglion.engine import launch, opening  # noqa: F401


class Forked:
    """The process, with those methods of `subprocess.Popen` that tests use."""

    def __init__(self, *words: str, onto: int | None = None, **environment: str) -> None:
        """`onto` is what both outputs are, in place of what `communicate` gives: a terminal, say."""
        self.returncode: int | None = None
        self._said: list[str] = []
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            out, err = (self._out.fileno(), self._err.fileno()) if onto is None else (onto, onto)
            become(words, lambda: os.environ.update(environment), out, err)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it, unless the process is gone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """What it wrote to its two outputs, once it is over."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < until, f"process {self.pid} has not ended for {timeout:g} seconds"
            time.sleep(0.01)
        for file in (self._out, self._err) if not self._said else ():
            with file:
                file.seek(0)
                self._said.append(file.read().decode())
        return self._said[0], self._said[1]
