"""A connection to a Ray cluster, or to a Ray of one node that is started for one command and keeps to this machine."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ganglion.engine import files
from ganglion.engine.errors import ConfigError

PATIENCE = 5.0  # seconds that an address may take to answer
SMALL = 80 * 2**20  # bytes of memory for objects that tasks share: ours share none
MISSING = "--engine ray needs the ray package, which is not installed: pip install ganglion[ray]"
VARIABLES = {  # read by Ray, and by the processes that it starts
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # messages of nodes, which would be printed among this command's results
    "RAY_NUM_REDIS_GET_RETRIES": "2",  # how often an address is tried: twenty times would take a quarter of an hour
    "RAY_py_gcs_connect_timeout_s": "5",
}
# With this one Ray keeps to the loopback, where it would listen on, and ask at, the machine's own address.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at `address`, else the one that RAY_ADDRESS names, else one for this command alone.

    Raises ConfigError where Ray is not installed and where no cluster answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address not in (None, "auto", "local"):
        refuse_silent(str(address))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with _environment(address) as folder:
        ray = _import()
        if ray.is_initialized():  # by the caller, whose it stays
            yield ray
            return
        try:
            _initialise(ray, address, folder)
            _restore(before)
            yield ray
        finally:
            ray.shutdown()
            _restore(before)


def _import() -> Any:
    logging.getLogger("ray").setLevel(logging.ERROR)  # what it has to say stands in its own files
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ConfigError(MISSING) from None
    return ray


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    """Ray takes SIGTERM for itself."""
    with suppress(ValueError):  # not in the main thread: it could not take any
        for number, handler in handlers.items():
            signal.signal(number, handler)


def refuse_silent(address: str) -> None:
    """Something listens at HOST:PORT. Raises ConfigError within seconds: Ray itself would try for long."""
    match = re.fullmatch(r"(?P<host>[^:/\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})", address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ConfigError(f"--address {address}: expected HOST:PORT, e.g. 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), PATIENCE).close()
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else files.cause(error)
        raise ConfigError(f"--address {address}: no cluster answers there ({reason})") from None


def _initialise(ray: Any, address: str | None, folder: str) -> None:
    asked: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if folder:
        own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "_temp_dir": folder}
        asked |= {**own, "address": "local", "object_store_memory": SMALL}
    else:
        asked["address"] = address
    try:
        with _hushed():
            ray.init(**asked)
    except (ConnectionError, RuntimeError, ValueError, AssertionError, TimeoutError, ray.exceptions.RayError) as error:
        where = "Ray did not start" if folder else f"--address {address}: no cluster could be joined from this machine"
        raise ConfigError(f"{where} ({last_line(error)})") from None


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what Ray's own libraries write to the standard error while they connect; what is wrong is raised, too."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _environment(address: str | None) -> Iterator[str]:
    """Variables that Ray reads, and the folder of a Ray of our own, which has a token of its own."""
    values, folder = dict(VARIABLES), ""
    if address in (None, "local"):
        folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if len(tempfile.gettempdir()) > 30 else None)
        values |= {**LOOPBACK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    elif str(address).startswith(("127.", "localhost:", "[::1]:")):
        values |= LOOPBACK
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield folder
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if folder:
            files.discard(Path(folder))


def last_line(error: Exception) -> str:
    """The last line of what Ray says of an error, which names its cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
