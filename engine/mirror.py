"""A run that is worked on in a local folder and kept at a URL, for nodes that share no file system (fsspec)."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ganglion.engine import files
from ganglion.engine.checkpoints import ITERATION
from ganglion.engine.errors import ConfigError, StoreError

CHECKPOINTS, MANIFEST, OWNER = "checkpoints", "manifest.json", "owner"
NAMING = (f"{CHECKPOINTS}/best", f"{CHECKPOINTS}/latest", "record.json")  # written after all that they speak of
PAUSE = 0.5  # seconds between looks at what is new
GROWN = 1.25  # a file that only grows is uploaded again when it is so many times as long: few times in all,
LATE = 60.0  # or after so many seconds


def is_url(text: object) -> bool:
    """Whether this is a place that fsspec reaches, and no folder."""
    return "://" in str(text)


class Remote:
    """A folder at a URL. What goes wrong there is a StoreError in one sentence."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            import fsspec
        except ImportError:
            raise ConfigError(f"{url}: a URL needs fsspec, which is not installed: pip install ganglion[ray]") from None
        try:
            self.system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # no such protocol, or one whose driver is not installed
            raise ConfigError(f"{url}: {str(error).splitlines()[0]}") from None
        self.root = str(root).rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    @contextmanager
    def _explained(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every driver has errors of its own
            if isinstance(error, FileNotFoundError) and action != "write":
                raise  # there is none, which is no failure
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StoreError(f"cannot {action} {self.url}/{name}: {text}") from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file, and its folders where the place has such."""
        with self._explained("write", name):
            self.system.makedirs(self._path(str(PurePosixPath(name).parent)), exist_ok=True)
            self.system.pipe_file(self._path(name), data)

    def read(self, name: str) -> bytes | None:
        """The contents of a file; None where there is none."""
        try:
            with self._explained("read", name):
                return bytes(self.system.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def names(self, folder: str = "") -> list[str]:
        """All files below a folder."""
        with self._explained("list", folder):
            self.system.invalidate_cache()
            try:
                found = self.system.find(self._path(folder))
            except FileNotFoundError:
                return []
        return sorted(str(path)[len(self.root) :].lstrip("/") for path in found)

    def remove(self, folder: str) -> None:
        """Remove a folder with all it holds, where it is there."""
        with suppress(FileNotFoundError), self._explained("remove", folder):
            self.system.rm(self._path(folder), recursive=True)


class Gone(Exception):
    """A file of a checkpoint here cannot be read, e.g. for the checkpoint was removed in this moment."""


def _read(path: Path) -> bytes:
    try:
        return files.read_bytes(path)
    except StoreError as error:
        raise Gone(str(error)) from error


class Kept(NamedTuple):
    """A file as it is at the URL."""

    digest: bytes
    size: int
    since: float  # seconds of a clock

    def is_of(self, data: bytes) -> bool:
        """Whether it holds this."""
        return len(data) == self.size and hashlib.sha256(data).digest() == self.digest

    def may_wait(self, data: bytes) -> bool:
        """Whether this is the same file with some more at its end, which need not be there yet."""
        soon = time.monotonic() - self.since < LATE and self.size < len(data) < GROWN * self.size
        return soon and self.is_of(data[: self.size])


class Mirror:
    """Keeps a run's folder at a URL: a checkpoint is there, whole, before anything that names it.

    Whoever fetched the run last owns it; one that was taken for lost, and is not, keeps nothing there any more.
    """

    def __init__(self, url: str, folder: Path, without: str = "") -> None:
        """`without` is a part of the folder that is left alone."""
        self.remote, self.folder, self.without = Remote(url), folder, without
        self.mark = secrets.token_hex(8).encode()
        self.kept: dict[str, Kept] = {}  # documents, and each checkpoint's manifest

    def take(self) -> None:
        """Own the run, and fetch what there is of it. Raises StoreError."""
        self.remote.write(OWNER, self.mark)
        self.fetch()

    def fetch(self) -> None:
        """Fetch what there is, but for checkpoints of which only a part arrived there. Raises StoreError."""
        names = self.remote.names()
        for name in names:
            parts = PurePosixPath(name).parts
            if name == OWNER or ".." in parts or parts[0] == self.without:
                continue
            if parts[0] == CHECKPOINTS and len(parts) > 2 and f"{CHECKPOINTS}/{parts[1]}/{MANIFEST}" not in names:
                continue
            data = self.remote.read(name)
            if data is not None:
                files.make_folder((self.folder / name).parent)
                files.write_atomic(self.folder / name, data)
                self._note(name, data)

    def _note(self, name: str, data: bytes) -> None:
        path = PurePosixPath(name)
        if path.parts[0] != CHECKPOINTS or path.name == MANIFEST or len(path.parts) == 2:
            self.kept[name] = Kept(hashlib.sha256(data).digest(), len(data), time.monotonic())

    def _is_new(self, name: str, data: bytes) -> bool:
        return name not in self.kept or not self.kept[name].is_of(data)

    def _may_wait(self, name: str, data: bytes) -> bool:
        return name in self.kept and self.kept[name].may_wait(data)

    def keep(self, patient: bool = False) -> bool:
        """Upload what is new; False where this was not possible now, for a checkpoint went while it was read.

        A file is always uploaded as a whole, so a `patient` one waits while files only grow a little; with whatever
        else is new go these, too: a checkpoint speaks of their last lines. Raises StoreError where the place does
        not take it, or the run has another owner by now.
        """
        documents = self._documents()  # read first: what they name is there now
        new = [name for name, data in documents.items() if self._is_new(name, data)]
        if all(patient and self._may_wait(name, documents[name]) for name in new):
            return True
        self._require_mine()
        try:
            there = self._checkpoints()
        except Gone:
            return False
        self._write({name: data for name, data in documents.items() if name not in NAMING})
        self._require_mine()  # asked again: the checkpoints may have taken minutes
        self._write({name: documents[name] for name in NAMING if name in documents})
        self._forget(there)
        return True

    def _require_mine(self) -> None:
        if self.remote.read(OWNER) != self.mark:
            raise StoreError(f"{self.remote.url} is kept by another process by now")

    def _write(self, documents: Mapping[str, bytes]) -> None:
        """Upload those that are new."""
        for name, data in documents.items():
            if self._is_new(name, data):
                self.remote.write(name, data)
                self._note(name, data)

    def _documents(self) -> dict[str, bytes]:
        """The contents of all files but the checkpoints', by their names."""
        found: dict[str, bytes] = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            hidden = any(part.startswith(".") for part in name.parts) or name.name == "lock"
            hidden = hidden or name.parts[0] == self.without
            if not hidden and path.is_file() and not (name.parts[0] == CHECKPOINTS and len(name.parts) > 2):
                with suppress(StoreError):
                    found[name.as_posix()] = files.read_bytes(path)
        return found

    def _checkpoints(self) -> set[str]:
        """Upload the checkpoints that are new, the manifest of each last; the names of all there are here."""
        there = {name for name in files.names(self.folder / CHECKPOINTS) if ITERATION.fullmatch(name)}
        for iteration in sorted(there, key=int):
            folder, place = self.folder / CHECKPOINTS / iteration, f"{CHECKPOINTS}/{iteration}"
            manifest = _read(folder / MANIFEST)
            if self._is_new(f"{place}/{MANIFEST}", manifest):
                for name in sorted(set(files.names(folder)) - {MANIFEST}):
                    self.remote.write(f"{place}/{name}", _read(folder / name))
                self.remote.write(f"{place}/{MANIFEST}", manifest)
                self._note(f"{place}/{MANIFEST}", manifest)
        return there

    def _forget(self, there: set[str]) -> None:
        """Remove checkpoints that are no longer here."""
        manifests = [PurePosixPath(name) for name in self.kept if name.endswith(f"/{MANIFEST}")]
        gone = [manifest for manifest in manifests if manifest.parent.name not in there]
        if gone:
            self._require_mine()
        for manifest in gone:
            self.remote.remove(str(manifest.parent))
            del self.kept[str(manifest)]


@contextmanager
def mirrored(url: str, folder: Path, without: str = "") -> Iterator[None]:
    """Fetch a run into a folder, and keep what is stored there while it is worked on; all of it at the end.

    What only grows is uploaded now and then. A place that does not answer for a while is tried again; only at the end
    it is an error. Raises StoreError.
    """
    mirror = Mirror(url, folder, without)
    mirror.take()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(PAUSE):
            with suppress(StoreError, OSError):  # also a folder that went while it was listed
                mirror.keep(patient=True)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if not mirror.keep() and not mirror.keep():
            raise StoreError(f"{folder}: a checkpoint cannot be read, so {url} does not have all of the run")
