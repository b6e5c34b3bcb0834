"""Files that a crash cannot leave half written: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganglion.engine.errors import StoreError

# Every call that changes the disk goes through this name, so that a test can make each of them fail in turn.
SYSTEM: Any = os

TEMPORARY = ".tmp-"

CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOENT: "it does not exist",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.EEXIST: "it exists already",
    errno.ENOTEMPTY: "it exists already and is not empty",
    errno.EIO: "the disk reported an error",
    errno.ELOOP: "a link points to itself",
    errno.EMFILE: "too many files are open",
}

# Some network file systems cannot sync a folder and say so with these; the rename itself has happened by then.
UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def cause(error: OSError) -> str:
    """Why a file operation failed, as the end of a sentence."""
    text = error.strerror or str(error) or type(error).__name__
    return CAUSES.get(error.errno or 0, text[:1].lower() + text[1:])


@contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside into a StoreError: "cannot `action` PATH: cause"."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {action} {path}: {cause(error)}") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`: afterwards, and after a crash, it holds all of the new or all of the old.

    Raises StoreError, with the old file in place and no temporary left, when the disk does not take it.
    """
    # The temporary name does not contain the target's, which may be as long as the system allows.
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(6)}"
    with explained("write", path):
        try:
            _write_synced(temporary, data)
            SYSTEM.replace(temporary, path)
        except BaseException:
            discard(temporary)
            raise
        sync_folder(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, and sync it; the folder is left to the caller. Raises StoreError."""
    with explained("write", path):
        _write_synced(path, data)


def _write_synced(path: Path, data: bytes) -> None:
    handle = SYSTEM.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[SYSTEM.write(handle, left) :]
        SYSTEM.fsync(handle)
    finally:
        SYSTEM.close(handle)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power failure. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        SYSTEM.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> Path:
    """Make `folder` and its parents where they are missing. Raises StoreError."""
    with explained("make the folder", folder):
        if not folder.is_dir():
            if folder.parent != folder:
                make_folder(folder.parent)
            with contextlib.suppress(FileExistsError):
                SYSTEM.mkdir(folder)
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return folder


def truncate(path: Path, size: int) -> None:
    """Cut the file at `path` to `size` bytes; a shorter or missing one stays as it is. Raises StoreError."""
    with explained("shorten", path):
        try:
            handle = SYSTEM.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if os.fstat(handle).st_size > size:
                SYSTEM.ftruncate(handle, size)
                SYSTEM.fsync(handle)
        finally:
            SYSTEM.close(handle)


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """All of a regular file of at most `limit` bytes. Raises StoreError."""
    with explained("read", path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"cannot read {path}: it is not a regular file")
        if limit is not None and status.st_size > limit:
            raise StoreError(f"cannot read {path}: {status.st_size} bytes are more than the {limit} that it may have")
        return path.read_bytes()


def read_text(path: Path, limit: int | None = None) -> str:
    """All of a UTF-8 text file. Raises StoreError."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise StoreError(f"cannot read {path}: byte {error.start} is not UTF-8 text") from error


def discard(path: Path) -> None:
    """Remove a file, a link, or a folder with all it holds, as far as that is possible; never raises."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a path with a zero byte is nowhere
        if path.is_symlink() or not path.is_dir():
            SYSTEM.unlink(path)
        else:
            shutil.rmtree(path, ignore_errors=True)


def names(folder: Path) -> list[str]:
    """What is in a folder; nothing where it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def sweep(folder: Path, unwanted: Callable[[str], bool] = lambda name: name.startswith(TEMPORARY)) -> None:
    """Remove what an earlier process left in `folder`: the entries whose names are `unwanted`."""
    for name in names(folder):
        if unwanted(name):
            discard(folder / name)
