"""A lock that one process holds on a run, and that the kernel releases when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from ganglion.engine import files
from ganglion.engine.errors import StoreError

ATTEMPTS = 10
PAUSE = 0.02  # seconds: a listing holds the lock for an instant, to see whether it is free

_open: set[int] = set()


def _close_inherited() -> None:
    # A forked worker that outlives its killed parent would otherwise keep the lock.
    for handle in _open:
        with contextlib.suppress(OSError):
            os.close(handle)
    _open.clear()


os.register_at_fork(after_in_child=_close_inherited)


class FileLock:
    """An exclusive lock on the file at `path`; released by `release`, at the end of a `with`, or with the process."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle: int | None = handle
        _open.add(handle)

    @classmethod
    def acquire(cls, path: Path, name: str) -> FileLock:
        """Take the lock at once. Raises StoreError, naming `name` and the other process, when it is taken."""
        for _ in range(ATTEMPTS):
            with files.explained("open", path):
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if _try(path, handle, name):
                return cls(path, handle)
            os.close(handle)
            time.sleep(PAUSE)
        raise StoreError(
            f"{name} is in use by another process ({holder(path)}); wait for it, stop it, or use another tag"
        )

    @property
    def held(self) -> bool:
        """Whether this object still holds the lock."""
        return self._handle is not None

    def release(self) -> None:
        """Let go; a second time does nothing."""
        if self._handle is not None:
            _open.discard(self._handle)
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _try(path: Path, handle: int, name: str) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, `clean` may have moved the file away: then this is the lock of an old run.
        here = path.stat()
        if (here.st_dev, here.st_ino) != (os.fstat(handle).st_dev, os.fstat(handle).st_ino):
            return False
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        os.close(handle)
        if error.errno in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}:
            raise StoreError(f"cannot lock {name}: the file system of {path.parent} has no locks") from error
        raise StoreError(f"cannot lock {name} with {path}: {files.cause(error)}") from error
    return True


def holder(path: Path) -> str:
    """Who wrote the lock file last: "pid 123"."""
    try:
        text = path.read_text("ascii", "replace").strip()
    except OSError:
        text = ""
    return f"pid {text}" if text.isdigit() else "pid unknown"


def is_held(path: Path) -> bool:
    """Whether any process holds the lock at `path`; never waits."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
