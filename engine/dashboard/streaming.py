"""Server-sent events: bounded queues, and streams that end by themselves where nobody reads them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from ganglion.engine.tables import to_plain

QUEUED = 64  # events that may wait for one browser
BEAT = 4.0  # seconds of silence after which a stream says that it is alive
PATIENCE = 20.0  # seconds that a browser may take to accept an event
RETRY = 1000  # milliseconds after which a browser asks again


def encode(event: str, data: Any, number: str | None = None) -> bytes:
    """One event as it is sent. JSON has no line ends, so nothing in the data can end the event early."""
    text = json.dumps(to_plain(data), separators=(",", ":"), allow_nan=False)
    mark = f"id: {number}\n" if number is not None else ""
    return f"{mark}event: {event}\ndata: {text}\n\n".encode()


class Subscriber:
    """The events that wait for one browser; one that lets too many wait is dropped, and asks again by itself."""

    def __init__(self, limit: int = QUEUED) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(limit)
        self.dropped = False

    def offer(self, event: bytes) -> None:
        """Add an event; never waits."""
        if self.dropped:
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.drop()

    def drop(self) -> None:
        """Give this browser up, with all that waits for it."""
        self.dropped = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def next(self, seconds: float) -> bytes | None:
        """The next event, a sign of life where there is none for so long, None at the end."""
        try:
            return await asyncio.wait_for(self._queue.get(), seconds)
        except TimeoutError:
            return encode("beat", {})


class EventStream:
    """An answer that is a stream of events; `joined` fills the subscriber, `left` is called at the end."""

    def __init__(
        self,
        subscriber: Subscriber,
        joined: Callable[[], Awaitable[None]],
        left: Callable[[], None],
        beat: float = BEAT,
        patience: float = PATIENCE,
    ) -> None:
        self.subscriber = subscriber
        self.joined = joined
        self.left = left
        self.beat = beat
        self.patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        tasks = {
            asyncio.create_task(self._write(headers, send)),
            asyncio.create_task(_until_gone(receive)),
        }
        joining = asyncio.create_task(self._join())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.left()
            for task in (*tasks, joining):
                task.cancel()
            await asyncio.gather(*tasks, joining, return_exceptions=True)

    async def _join(self) -> None:
        try:
            await self.joined()
        except Exception:
            self.subscriber.drop()
            raise

    async def _write(self, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        """Send until the subscriber is dropped; a browser that accepts nothing for long is given up."""

        async def sent(message: dict[str, Any]) -> None:
            async with asyncio.timeout(self.patience):
                await send(message)

        with contextlib.suppress(TimeoutError, OSError):
            await sent({"type": "http.response.start", "status": 200, "headers": headers})
            event: bytes | None = f"retry: {RETRY}\n\n".encode()
            while event is not None:
                await sent({"type": "http.response.body", "body": event, "more_body": True})
                event = await self.subscriber.next(self.beat)
            await sent({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
