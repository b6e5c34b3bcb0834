"""Finds the files of sharded data, on this machine or wherever fsspec reaches, and reads bytes of them."""

from __future__ import annotations

import glob
import io
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from ganglion.engine.api import ConfigError, DataContext, DataError

T = TypeVar("T")
ENDINGS = (".parquet", ".pq", ".npz", ".npy", ".idx", ".gz", "-ubyte")
NUMBERED = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_SHARDS = 1 << 20
FIRST_PAUSE = 0.5  # seconds; each pause is twice as long as the one before
LONGEST_PAUSE = 30.0
STAMPS = ("ETag", "etag", "LastModified", "Last-Modified", "last_modified", "mtime", "created")
FAR = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*(://|::)")


class Source(NamedTuple):
    """One file. `stamp` is what changes when it is written anew: its time of change, or what a server says of it."""

    name: str
    size: int
    stamp: str
    far: bool = False  # read through fsspec

    def __str__(self) -> str:
        return self.name

    def check(self) -> None:
        """Raises DataError for a file of this machine that has been written anew since it was found."""
        if not self.far and self.stamp != "missing" and _near(self.name) != self and Path(self.name).exists():
            raise DataError(f"{self.name}: the shard has changed since the run began")

    def open(self) -> BinaryIO:
        """The file, to be closed by the caller. Raises OSError, or whatever its fsspec driver raises."""
        if not self.far:
            return Path(self.name).open("rb")
        system, path = _system(self.name)
        return cast("BinaryIO", system.open(path, "rb", size=self.size))

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes `start` to `stop`, or to the end: of a far file no others are fetched."""
        if self.far:
            system, path = _system(self.name)
            return bytes(system.cat_file(path, start=start, end=self.size if stop is None else stop))
        with Path(self.name).open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if stop is None else stop - start)

    def whole(self) -> Any:
        """What readers that take a path can read: the path, or all bytes of a far file under its name."""
        return _Named(self.read(), self.name) if self.far else Path(self.name)


class _Named(io.BytesIO):
    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


class Patience(NamedTuple):
    """How often something that fails is tried, and who is told."""

    attempts: int
    notify: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep

    def keep_trying(self, source: object, action: Callable[[], T]) -> T:
        """What `action` gives. Raises DataError, naming the file, for what goes wrong in every attempt."""
        for attempt in range(1, self.attempts + 1):
            try:
                return action()
            except ConfigError:  # a library that is not there does not come by waiting
                raise
            except Exception as error:  # each driver of fsspec has errors of its own
                if attempt == self.attempts:
                    tries = f" (tried {attempt} times)" if attempt > 1 else ""
                    raise DataError(f"{_sentence(source, error)}{tries}") from None
                if attempt == 1:
                    self.notify(f"{_sentence(source, error)}; it is tried up to {self.attempts} times")
                self.pause(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)))
        raise AssertionError("there is at least one attempt")


def _sentence(source: object, error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"{source}: the shard is missing"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
    return f"{source}: the shard cannot be read ({' '.join(str(reason).split())[:200]})"


def find_shards(owner: str, key: str, given: Sequence[str], context: DataContext, patience: Patience) -> list[Source]:
    """The files that patterns, folders and addresses name, in the order of their names. Raises InputError for none."""
    found: dict[str, Source] = {}
    for pattern in given:
        far = FAR.match(pattern) is not None and not pattern.startswith("file://")
        listed = (
            _far_files(pattern, patience) if far else _near_files(owner, key, pattern.removeprefix("file://"), context)
        )
        if not listed:
            below = "" if far else "".join(f", nor in {root}" for root in context.folders)
            raise DataError(f"{owner}: {key}={pattern} names no file{' there' if far else f' here{below}'}")
        found |= {source.name: source for source in listed}
        if len(found) > MOST_SHARDS:
            raise ConfigError(f"{owner}: {key}={pattern} names more than {MOST_SHARDS} files")
    return [found[name] for name in sorted(found)]


def _expanded(pattern: str) -> list[str]:
    """`part-{000..023}.npz` as all the names it means: a server need not list what it has."""
    match = NUMBERED.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    if not 0 <= int(last) - int(first) < MOST_SHARDS:
        raise ConfigError(f"{pattern}: expected {{FIRST..LAST}} with FIRST up to LAST, at most {MOST_SHARDS} files")
    numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [pattern[: match.start()] + number + pattern[match.end() :] for number in numbers]


def _near_files(owner: str, key: str, pattern: str, context: DataContext) -> list[Source]:
    try:
        for root in ("", *(str(folder) for folder in context.folders)):
            place = str(Path(root) / Path(pattern).expanduser())
            named = _expanded(place)
            names = _listed(place) if named == [place] else named
            if any(Path(name).is_file() for name in names):
                return [_near(name) for name in names]
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{owner}: {key}={pattern[:100]} cannot be looked up ({reason})") from None
    return []


def _listed(place: str) -> list[str]:
    if Path(place).is_dir():
        return [str(path) for path in sorted(Path(place).iterdir()) if path.name.endswith(ENDINGS) and path.is_file()]
    return [place] if Path(place).is_file() else sorted(name for name in glob.glob(place) if Path(name).is_file())


def _near(name: str) -> Source:
    """A file as it stands; one that is not there is found missing when it is read, by the policy for damaged ones."""
    try:
        state = os.stat(name)
    except FileNotFoundError:
        return Source(name, 0, "missing")
    return Source(name, state.st_size, str(state.st_mtime_ns))


def _system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ConfigError(f"{url}: data that are elsewhere need fsspec: pip install ganglion[shards]") from None
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise ConfigError(f"{url}: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ConfigError(f"{url}: {' '.join(str(error).split())[:200]}") from None
    return system, path


def _far_files(pattern: str, patience: Patience) -> list[Source]:
    names = _expanded(pattern)
    system, path = _system(names[0])
    if len(names) == 1 and any(sign in path for sign in "*?["):
        details = patience.keep_trying(pattern, lambda: system.glob(path, detail=True))
        listed = [(name, info) for name, info in sorted(details.items()) if info.get("type") != "directory"]
    elif len(names) == 1 and not path.endswith(ENDINGS):
        details = patience.keep_trying(pattern, lambda: system.ls(path, detail=True))
        listed = [(info["name"], info) for info in details if str(info["name"]).endswith(ENDINGS)]
    else:
        listed = [(_system(name)[1], {}) for name in names]
    chain = pattern[: pattern.rfind("::") + 2] if "::" in pattern else ""
    return [_far(system, chain, str(name), info, patience) for name, info in listed]


def _far(system: Any, chain: str, path: str, info: dict[str, Any], patience: Patience) -> Source:
    name = chain + (path if FAR.match(path) else str(system.unstrip_protocol(path)))
    if not isinstance(info.get("size"), int) or not any(info.get(key) for key in STAMPS):
        try:
            info = patience.keep_trying(name, lambda: system.info(path))
        except DataError:
            return Source(name, 0, "missing", far=True)  # said, or left out, when it is read
    stamp = next((str(info[key]) for key in STAMPS if info.get(key)), "")
    return Source(name, int(info.get("size") or 0), stamp, far=True)
