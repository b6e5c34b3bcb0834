"""Workers that fetch rows ahead of use: what goes wrong in one reaches the caller, and none keeps a process alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from ganglion.engine.contracts import Batch
from ganglion.engine.errors import RunError

SECONDS = 600.0  # a fetch that takes longer is an error: nothing ever hangs

Task = tuple[Future[Batch], Callable[[Any], Batch], Any]


class Fetcher:
    """`count` threads. Python waits for those of its own pools when it ends; these are daemons: a stuck one is left."""

    def __init__(self, count: int) -> None:
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"fetch-{i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[Any], Batch], argument: Any) -> Future[Batch]:
        """Call `function(argument)` in a worker, soon."""
        future: Future[Batch] = Future()
        self._tasks.put((future, function, argument))
        return future

    def close(self) -> None:
        """Let the workers end once they have done what they are at; it is not waited for."""
        for _ in self._threads:
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, function, argument = task
            try:
                future.set_result(function(argument))
            except Exception as error:
                future.set_exception(error)
            except BaseException as error:  # sys.exit() in a data set must not look like the end of the program
                future.set_exception(RunError(f"fetching rows ended with {type(error).__name__}: {error}"))
            del task, future, function, argument  # a worker that waits holds no rows


def result(future: Future[Batch]) -> Batch:
    """The rows, once they are there. Raises RunError where they do not come, and whatever fetching them raised."""
    try:
        return future.result(timeout=SECONDS)
    except TimeoutError as error:
        if future.done():  # the data set's own
            raise
        raise RunError(f"the data set has not given the rows it was asked for within {SECONDS:g} seconds") from error
