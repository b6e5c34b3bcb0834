"""One look at each run for all browsers: what changed is made into events once and offered to everyone who watches."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import time
import traceback
from collections import deque
from typing import Any, NamedTuple

from ganglion.engine.dashboard.looking import Listing, details
from ganglion.engine.dashboard.processes import Jobs
from ganglion.engine.dashboard.streaming import Subscriber, encode
from ganglion.engine.pages.lines import CHUNK, Line, TraceReader
from ganglion.engine.pages.series import History
from ganglion.engine.repository import Repository, Run

INTERVAL = 0.5  # seconds between looks
PACE = 2.0  # seconds between new points: drawing curves is what costs a browser most
KEPT = 60.0  # seconds that what was read of a run is kept without anyone who watches
REMEMBERED = 200  # events of a trace that a browser which asks again can be given
REMEMBERED_BYTES = 2**20


class News(NamedTuple):
    """Something to tell; a numbered event is one that changes the curves."""

    event: str
    data: Any
    numbered: bool = False


class Channel:
    """Those who watch one thing, and what they are told of it."""

    every = 1  # of so many looks one is at this

    def __init__(self) -> None:
        self.subscribers: set[Subscriber] = set()
        self.lock = asyncio.Lock()
        self.left = time.monotonic()

    def look(self) -> list[News]:
        """What is new; called in a thread."""
        raise NotImplementedError

    def everything(self) -> list[News]:
        """What someone who comes now has to know; called in a thread."""
        raise NotImplementedError

    async def update(self) -> None:
        """Tell everyone what is new."""
        async with self.lock:
            if self.subscribers:
                self._tell(await asyncio.to_thread(self.look))

    async def join(self, subscriber: Subscriber, after: str = "") -> None:
        """Tell a new one everything, then what is new."""
        async with self.lock:
            self._tell(await asyncio.to_thread(self.look))
            for event in self._missed(after, await asyncio.to_thread(self.everything)):
                subscriber.offer(event)
            self.subscribers.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Forget one."""
        self.subscribers.discard(subscriber)
        self.left = time.monotonic()

    def _tell(self, news: list[News]) -> None:
        for event in map(self._encoded, news):
            for subscriber in tuple(self.subscribers):
                subscriber.offer(event)

    def _encoded(self, news: News) -> bytes:
        return encode(news.event, news.data)

    def _missed(self, after: str, everything: list[News]) -> list[bytes]:
        return [encode(news.event, news.data) for news in everything]


class AllRuns(Channel):
    """The list of runs."""

    every = 2

    def __init__(self, listing: Listing) -> None:
        super().__init__()
        self.listing = listing
        self.rows: list[dict[str, Any]] | None = None

    def look(self) -> list[News]:
        rows = self.listing.rows()
        if rows == self.rows:
            return []
        self.rows = rows
        return self.everything()

    def everything(self) -> list[News]:
        return [News("runs", self.rows or [])]


class OneRun(Channel):
    """One run: its details, and its curves; these are numbered, so that who asks again is told only what was missed."""

    def __init__(self, run: Run, jobs: Jobs) -> None:
        super().__init__()
        self.run = run
        self.jobs = jobs
        self.name = secrets.token_hex(6)  # numbers of another channel, or of another server, mean nothing
        self.reader = TraceReader(run.trace_path)
        self.history = History()
        self.details: dict[str, Any] | None = None
        self.pace = PACE
        self.number = 0
        self._drawn = -math.inf
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=REMEMBERED)

    def look(self) -> list[News]:
        return [*self._curves(), *self._details()]

    def _curves(self) -> list[News]:
        if time.monotonic() - self._drawn < self.pace:
            return []
        self._drawn = time.monotonic()
        new: list[Line] = []
        pieces, anew = 0, False
        while True:  # a long trace is read piece by piece
            batch = self.reader.read(CHUNK)
            if batch.restarted:
                self.history, anew = History(), True
            if not batch.lines:
                break
            self.history.add(batch.lines)
            new, pieces = batch.lines, pieces + 1
        if anew or pieces > 1:
            return [News("show", self.history.document(), numbered=True)]
        return [News("append", self.history.document(new), numbered=True)] if pieces else []

    def _details(self) -> list[News]:
        found = details(self.run, self.jobs)
        if found == self.details:
            return []
        self.details = found
        return [self._told()]

    def _told(self) -> News:
        return News("gone", {"tag": self.run.tag}) if self.details is None else News("run", self.details)

    def everything(self) -> list[News]:
        return [self._told(), News("show", self.history.document(), numbered=True)]

    def _encoded(self, news: News) -> bytes:
        if not news.numbered:
            return encode(news.event, news.data)
        self.number += 1
        event = encode(news.event, news.data, self._mark(self.number))
        self._recent.append((self.number, event))
        while sum(len(each) for _, each in self._recent) > REMEMBERED_BYTES and len(self._recent) > 1:
            self._recent.popleft()
        return event

    def _mark(self, number: int) -> str:
        return f"{self.name}-{number}"

    def _missed(self, after: str, everything: list[News]) -> list[bytes]:
        """The curves' events after the one named, where all of them are remembered; otherwise everything."""
        told, shown = everything
        first = encode(told.event, told.data)
        known = [number for number, _ in self._recent]
        start = next((number for number in (*known, self.number) if self._mark(number) == after), None)
        if start is not None:
            return [first, *(event for number, event in self._recent if number > start)]
        return [first, encode(shown.event, shown.data, self._mark(self.number))]


class Watcher:
    """Looks at what somebody watches, twice a second, in one thread; nobody watching, it looks at nothing."""

    def __init__(self, repository: Repository, jobs: Jobs, interval: float = INTERVAL) -> None:
        self.repository = repository
        self.jobs = jobs
        self.interval = interval
        self.all_runs = AllRuns(Listing(repository, jobs))
        self.runs: dict[str, OneRun] = {}
        self._told: set[str] = set()

    def channels(self, tag: str | None) -> list[Channel]:
        """What someone who looks at the run `tag` is told of. Raises ConfigError for a tag that cannot name a run."""
        if tag is None:
            return [self.all_runs]
        if tag not in self.runs:
            self.runs[tag] = OneRun(self.repository.run(tag), self.jobs)
        return [self.all_runs, self.runs[tag]]

    async def watch(self) -> None:
        """Look until this task is cancelled."""
        for looks in itertools.count():
            began = time.monotonic()
            for channel in (self.all_runs, *tuple(self.runs.values())):
                if looks % channel.every == 0:
                    await self._update(channel)
            self._forget()
            await asyncio.sleep(max(self.interval / 2, self.interval - (time.monotonic() - began)))

    async def _update(self, channel: Channel) -> None:
        """One look; whatever goes wrong with one run, the others are still looked at."""
        try:
            await channel.update()
        except Exception as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                traceback.print_exc()

    def _forget(self) -> None:
        now = time.monotonic()
        for tag, channel in tuple(self.runs.items()):
            if not channel.subscribers and now - channel.left > KEPT:
                del self.runs[tag]

    def drop_all(self) -> None:
        """End all streams: the server stops."""
        for channel in (self.all_runs, *self.runs.values()):
            for subscriber in tuple(channel.subscribers):
                subscriber.drop()
