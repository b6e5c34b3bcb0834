"""Downloads a file over HTTPS: from several mirrors, resumable, size-limited, checked by sha256, placed atomically."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte
LENGTH = re.compile(r"[0-9]{1,18}")
ATTEMPTS = 3  # per mirror, as long as each brings some bytes

Opener = Callable[[urllib.request.Request], Any]


class FetchError(Exception):
    """The file could not be had from any mirror; the text says why."""


class Download(NamedTuple):
    """What to fetch: where from, in order of preference, the digest that it must have, and how large it may be."""

    urls: Sequence[str]
    sha256: str
    limit: int = 1 << 26


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def require_https(url: str) -> None:
    """Raises FetchError for any scheme but https."""
    if not url.lower().startswith("https://"):
        raise FetchError(f"{url} is not an https address")


def open_url(request: urllib.request.Request) -> Any:
    """Open an https address; there are no handlers for other schemes."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _SecureRedirects,
        urllib.request.HTTPErrorProcessor,
    ):
        director.add_handler(handler())
    return director.open(request, timeout=TIMEOUT)


def fetch(download: Download, destination: Path, notify: Callable[[str], None], opener: Opener = open_url) -> None:
    """Place the file at `destination`. What has arrived when a transfer breaks off is kept beside it, and used again.

    Raises FetchError, naming the last reason, when no mirror delivers the right bytes.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with _own_part(destination) as part:
        for url in download.urls:
            try:
                _fetch_from(url, download, part, Progress(destination.name, notify), opener)
                os.replace(part, destination)
                return
            except (OSError, http.client.HTTPException, FetchError) as error:
                reasons.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
    raise FetchError("; ".join(reasons))


@contextmanager
def _own_part(destination: Path) -> Iterator[Path]:
    """The `.part` file, for one process at a time: another one that comes meanwhile gets a file of its own."""
    part = destination.with_name(f"{destination.name}.part")
    try:
        import fcntl

        folder = os.open(destination.parent, os.O_RDONLY)
    except (
        ImportError,
        OSError,
    ):  # no locks here: two processes at once would end in a wrong digest, not in a wrong file
        yield part
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield part
    except BlockingIOError:
        private = part.with_name(f"{part.name}-{os.getpid()}")
        try:
            yield private
        finally:
            private.unlink(missing_ok=True)
    finally:
        os.close(folder)


class Progress:
    """Tells how far a transfer is: in steps of ten percent, and at most once a second."""

    def __init__(self, name: str, notify: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.notify = notify
        self.clock = clock
        self.told_at = clock()
        self.told_step = 0

    def __call__(self, done: int, total: int | None) -> None:
        now = self.clock()
        step = 10 * done // total if total else self.told_step + 1
        if step > self.told_step and now - self.told_at >= 1.0:
            self.told_at, self.told_step = now, step
            size = f"{10 * step} % of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
            self.notify(f"downloading {self.name}: {size}")


def _fetch_from(url: str, download: Download, part: Path, progress: Progress, opener: Opener) -> None:
    require_https(url)
    resumed = part.exists()
    _transfer_all(url, download, part, progress, opener)
    if resumed and _digest(part) != download.sha256:  # what was left from an earlier time may be of another file
        part.unlink()
        _transfer_all(url, download, part, progress, opener)
    digest = _digest(part)
    if digest != download.sha256:
        part.unlink()
        raise FetchError(f"wrong bytes arrived: their sha256 is {digest[:12]}..., expected {download.sha256[:12]}...")


def _digest(part: Path) -> str:
    with part.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _transfer_all(url: str, download: Download, part: Path, progress: Progress, opener: Opener) -> None:
    """Transfer, and go on where it broke off, as long as every attempt brings some bytes."""
    for attempt in range(1, ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _transfer(url, download, part, progress, opener)
        except (OSError, http.client.HTTPException):
            grown = part.exists() and part.stat().st_size > before
            if attempt == ATTEMPTS or not grown:
                raise
    raise AssertionError("the last attempt returns or raises")


def _transfer(url: str, download: Download, part: Path, progress: Progress, opener: Opener) -> None:
    """Append what is missing to `part`, or begin anew where the server does not go on at the right byte."""
    present = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "ganglion", "Accept-Encoding": "identity"})
    if present:
        request.add_header("Range", f"bytes={present}-")
    try:
        response = opener(request)
    except urllib.error.HTTPError as error:
        if error.code == 416 and present:  # nothing is missing, or the part is not of this file: the digest will tell
            error.close()
            return
        raise
    with response:
        require_https(response.geturl())
        resumed = response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(
            f"bytes {present}-"
        )
        if response.status == 206 and not resumed:
            raise FetchError("the server answered with another range than the one asked for")
        length = response.headers.get("Content-Length")
        start = present if resumed else 0
        total = start + int(length) if LENGTH.fullmatch(str(length)) else None
        _receive(response, part, start, total, download.limit, progress)


def _receive(response: Any, part: Path, start: int, total: int | None, limit: int, progress: Progress) -> None:
    done = start
    with part.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        while True:
            if max(done, total or 0) > limit:
                raise FetchError(f"the file is larger than the {limit} bytes expected at most")
            chunk = response.read(CHUNK)
            if not chunk:
                break
            stream.write(chunk)
            done += len(chunk)
            progress(done, total)
        stream.flush()
        os.fsync(stream.fileno())
    if total is not None and done < total:
        raise ConnectionError(f"the transfer broke off after {done} of {total} bytes")
