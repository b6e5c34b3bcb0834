"""Work that needs torch, in processes of its own: asked in lines of JSON, with a time limit, the newest wish first."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import Any

from ganglion.engine.errors import InputError

STARTING = 120.0  # seconds that a worker may take to begin: it imports torch on a machine that learns
LONGEST = 64 * 2**20  # bytes of an answer
IDLE = 600.0  # seconds without a question after which its memory is given back
WAITING = 32  # questions that may wait for a worker


class Superseded(Exception):
    """The same page has asked something newer."""


class Worker:
    """A process that answers one question at a time; one that takes too long is ended, and the next starts afresh."""

    def __init__(self, name: str, root: str, plugins: Sequence[str], seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        self._command = [sys.executable, "-P", "-m", "ganglion.engine.dashboard.worker", root, *plugins]
        self._process: Process | None = None
        self._lock = asyncio.Lock()
        self._newest: dict[str, object] = {}
        self._waiting = 0
        self._ending: asyncio.Task[None] | None = None

    async def ask(self, question: Mapping[str, Any], page: str = "") -> dict[str, Any]:
        """The answer. Raises InputError with the engine's own sentence, Superseded where `page` asked again since."""
        if self._waiting >= WAITING:
            raise InputError(f"too many questions wait for the {self.name}; try again in a moment")
        mine = self._newest[page] = object()
        self._waiting += 1
        try:
            async with self._lock:
                self._end_later()
                if page and self._newest.get(page) is not mine:
                    raise Superseded
                answer = await self._asked(question)
        finally:
            self._waiting -= 1
            if self._newest.get(page) is mine:
                del self._newest[page]
        if "error" in answer:
            raise InputError(str(answer["error"]))
        return answer

    async def _asked(self, question: Mapping[str, Any]) -> dict[str, Any]:
        try:
            process = await self._started()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(question).encode() + b"\n")
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), self.seconds)
            answer = json.loads(line)
        except TimeoutError:
            await self.end()
            raise InputError(f"the {self.name} gave no answer within {self.seconds:g} seconds and was ended") from None
        except (OSError, ValueError, EOFError):
            await self.end()
            raise InputError(f"the {self.name} ended without an answer; the server's terminal says more") from None
        except BaseException:
            await self.end()  # an answer that nobody waits for any more would be taken for that of the next question
            raise
        return answer if isinstance(answer, dict) else {}

    def _end_later(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.create_task(self._end_idle())

    async def _end_idle(self) -> None:
        await asyncio.sleep(IDLE)
        async with self._lock:
            await self.end()

    async def _started(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                limit=LONGEST,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            assert self._process.stdout is not None
            await asyncio.wait_for(self._process.stdout.readline(), STARTING)
        return self._process

    async def end(self) -> None:
        """End the process, whatever it is at."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
