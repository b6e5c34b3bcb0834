"""What torchrun, or whatever sets its variables, has started this process as, and what happens when it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ganglion.engine.errors import ConfigError

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOOKS = 1.0  # seconds between two looks at whether the launcher is still there
LAST_WORDS = 3.0  # seconds that a process which has something to say is left, when another has ended already
GRACE = 30.0  # seconds that a process without its launcher may take to store and stop


@dataclass(frozen=True)
class Launch:
    """Which of how many processes this was started as, and where they meet."""

    rank: int = 0
    count: int = 1
    address: str = ""
    port: int = 0


def launched() -> Launch:
    """How this process was started; alone where no launcher says otherwise. Raises ConfigError for half of a launch."""
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if not given.keys() & {"RANK", "WORLD_SIZE"}:  # an address alone says nothing: it may stand in somebody's profile
        return Launch()
    missing = [name for name in VARIABLES if name not in given]
    if missing:
        verb = "is" if len(given) == 1 else "are"
        raise ConfigError(
            f"{', '.join(given)} {verb} set and {', '.join(missing)} not; "
            "torchrun sets all of them, and one process needs none"
        )
    count = _number("WORLD_SIZE", 1, 2**31 - 1)
    return Launch(_number("RANK", 0, count - 1), count, given["MASTER_ADDR"], _number("MASTER_PORT", 1, 2**16 - 1))


def _number(name: str, least: int, most: int) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise ConfigError(f"{name}={text}: expected a whole number from {least} to {most}, as torchrun sets it")
    return int(text)


def quieten() -> None:
    """Let torch leave out its warnings of each attempt to connect, a page each; before torch is imported."""
    if os.environ.get("WORLD_SIZE"):
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def by_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def restarts() -> int:
    """How often torchrun has started the processes of this host anew after one failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def restarts_left() -> int:
    """How often it would do so again."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) - restarts()


def refuse_several(command: str) -> None:
    """Only `learn` is shared by several processes. Raises ConfigError for another command, which the first tells."""
    try:
        launch = launched()
    except ConfigError:  # half of a launch is no launch
        return
    if launch.count == 1:
        return
    error = ConfigError(
        f"'{command}' is the work of one process, and {launch.count} were started (WORLD_SIZE); "
        "only 'learn' is shared, so give this command without torchrun"
    )
    error.told = launch.rank > 0
    if error.told:
        time.sleep(LAST_WORDS)  # torchrun ends the first process, with what it has to say, as soon as another has ended
    raise error


def undisturbed() -> None:
    """Let this process say its last words: torchrun tells all others to end as soon as one has."""
    if by_torchrun():
        with suppress(ValueError):  # not in the main thread: the caller's signals are its own
            signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(number: int, frame: object) -> None:
    end = threading.Timer(LAST_WORDS, os._exit, (128 + number,))
    end.daemon = True
    end.start()


@contextmanager
def watched() -> Iterator[None]:
    """Store and stop when torchrun ends without a word: nobody else would ever end this process."""
    if not by_torchrun():
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(os.getppid(), over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(parent: int, over: threading.Event) -> None:
    while os.getppid() == parent:
        if over.wait(LOOKS):
            return
    if os.environ.get("LOCAL_RANK", "0") == "0":
        with suppress(OSError, ValueError):
            print("learn: torchrun, which started this, has ended; storing and stopping", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    if not over.wait(GRACE):
        time.sleep(LOOKS)
        os._exit(1)  # stuck in a message that never comes
