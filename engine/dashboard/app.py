"""The addresses of the live page: what each of them answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ganglion.engine.dashboard.answers import as_json, assets, body_of, failed, file_answer, own_file, refused, told
from ganglion.engine.dashboard.guard import Guard
from ganglion.engine.dashboard.looking import details, read_picture, settings_text
from ganglion.engine.dashboard.processes import Jobs
from ganglion.engine.dashboard.streaming import EventStream, Subscriber
from ganglion.engine.dashboard.watching import Watcher
from ganglion.engine.dashboard.workers import Superseded, Worker
from ganglion.engine.errors import EngineError, fold
from ganglion.engine.repository import Repository, Run
from ganglion.engine.settings import parse_value
from ganglion.engine.tags import check_tag

STREAMS = 40  # that are open at one time


class Dashboard:
    """The parts of one server: runs, jobs, the watcher, the two workers."""

    def __init__(self, root: Path, plugins: tuple[str, ...] = ()) -> None:
        self.repository = Repository(root)
        self.jobs = Jobs(root, plugins)
        self.watcher = Watcher(self.repository, self.jobs)
        self.forms = Worker("form's worker", str(root), plugins, seconds=60)
        self.drawing = Worker("drawing worker", str(root), plugins, seconds=60)
        self.streams = 0

    def application(self, token: str, host: str, port: int) -> ASGIApp:
        """The guarded application."""
        routes = [
            Route("/", self.page),
            Route("/static/{name}", self.static),
            Route("/api/events", self.events),
            Route("/api/runs", self.runs),
            Route("/api/runs/{tag}", self.run),
            Route("/api/runs/{tag}/samples/{iteration:int}.png", self.sample),
            Route("/api/runs/{tag}/generator", self.describe),
            Route("/api/runs/{tag}/draw", self.draw, methods=["POST"]),
            Route("/api/runs/{tag}/stop", self.stop, methods=["POST"]),
            Route("/api/runs/{tag}/continue", self.go_on, methods=["POST"]),
            Route("/api/catalogue", self.catalogue),
            Route("/api/check", self.check, methods=["POST"]),
            Route("/api/jobs", self.start, methods=["POST"]),
        ]
        answers: Mapping[Any, Any] = {
            EngineError: told(400),
            Superseded: told(409, "something newer was asked"),
            HTTPException: refused,
            Exception: failed,
        }
        app = Starlette(routes=routes, exception_handlers=answers, lifespan=self._lifespan)
        return Guard(app, token, host, port)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(self.watcher.watch())
        try:
            yield
        finally:
            watching.cancel()
            await self.forms.end()
            await self.drawing.end()

    # --- pages ---

    async def page(self, _: Request) -> Response:
        """The page itself."""
        return file_answer(own_file("index.html"))

    async def static(self, request: Request) -> Response:
        """A script or a stylesheet, by a name from this list."""
        path = assets().get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "there is no such file")
        return file_answer(path)

    # --- reading ---

    async def events(self, request: Request) -> EventStream | JSONResponse:
        """A stream of what changes: the list of runs, and one run where `run` names it."""
        tag = request.query_params.get("run")
        after = request.headers.get("last-event-id") or request.query_params.get("after", "")
        if self.streams >= STREAMS:
            raise HTTPException(503, f"{STREAMS} pages are open already; close one")
        channels = self.watcher.channels(check_tag(tag) if tag else None)
        subscriber = Subscriber()

        async def join() -> None:
            for channel in channels:
                await channel.join(subscriber, after)

        def leave() -> None:
            self.streams -= 1
            for channel in channels:
                channel.leave(subscriber)

        self.streams += 1
        return EventStream(subscriber, join, leave)

    async def runs(self, _: Request) -> JSONResponse:
        """The list of runs."""
        return as_json(await asyncio.to_thread(self.watcher.all_runs.listing.rows))

    async def run(self, request: Request) -> JSONResponse:
        """One run: what it was asked to do, and how it is."""
        run = await self._find(request)
        return as_json(await asyncio.to_thread(lambda: {**(details(run, self.jobs) or {}), "job": _asked(run)}))

    async def sample(self, request: Request) -> Response:
        """A picture of samples."""
        run = await self._find(request)
        try:
            content = await asyncio.to_thread(read_picture, run, request.path_params["iteration"])
        except EngineError as error:
            raise HTTPException(404, str(error)) from None
        return Response(content, media_type="image/png", headers={"cache-control": "private, max-age=60"})

    async def describe(self, request: Request) -> JSONResponse:
        """What can be asked of the run's generator."""
        run = await self._find(request)
        return as_json(await self.drawing.ask({"do": "describe", "tag": run.tag}))

    async def catalogue(self, _: Request) -> JSONResponse:
        """What a job can name."""
        return as_json(await self.forms.ask({"do": "catalogue"}))

    # --- asking ---

    async def draw(self, request: Request) -> JSONResponse:
        """New samples of the run's newest checkpoint."""
        run, body = await self._find(request), await body_of(request)
        question = {"do": "draw", "tag": run.tag, "asked": body.get("asked")}
        return as_json(await self.drawing.ask(question, str(body.get("page", ""))[:40]))

    async def check(self, request: Request) -> JSONResponse:
        """The form's fields, the command line, and what is wrong with what was filled in."""
        body = await body_of(request)
        return as_json(await self.forms.ask({**body, "do": "check"}, str(body.get("page", ""))[:40]))

    # --- doing ---

    async def start(self, request: Request) -> JSONResponse:
        """Start a job, once it is valid."""
        body = await body_of(request)
        answer = await self.forms.ask({**body, "do": "check"})
        if "words" not in answer:
            raise HTTPException(400, str(answer.get("wrong", "the form is incomplete")))
        words = [str(word) for word in answer["words"]]
        tag = await asyncio.to_thread(self._reserved, words)
        await asyncio.to_thread(self.jobs.start, tag, [*(word for word in words if not _is_tag(word)), f"tag={tag}"])
        return as_json({"tag": tag})

    def _reserved(self, words: list[str]) -> str:
        """The tag that the form names, or a fresh one. Raises InputError for that of a run that exists."""
        given = next((word.partition("=")[2] for word in words if _is_tag(word)), "")
        if not given or given.lower() == "none":
            strategy = next((word.partition("=")[2] for word in words[2:] if _is_key(word, "strategy")), "run")
            return self.repository.fresh_tag(words[0].split(","), words[1], strategy)
        if self.repository.run(given).exists:
            raise HTTPException(400, f"run '{given}' exists already: take another tag, or none for a fresh one")
        return given

    async def stop(self, request: Request) -> JSONResponse:
        """Ask the process that learns to store a checkpoint and stop."""
        run = await self._find(request)
        return as_json({"said": await asyncio.to_thread(self.jobs.stop, run)})

    async def go_on(self, request: Request) -> JSONResponse:
        """Go on with a run that stopped, for more iterations where they are given."""
        run, body = await self._find(request), await body_of(request)
        if run.locked:
            raise HTTPException(400, f"run '{run.tag}' is learning")
        iterations = str(body.get("iterations") or "").strip()
        more = [f"iterations={_number(iterations)}"] if iterations else []
        await asyncio.to_thread(self.jobs.start, run.tag, [f"tag={run.tag}", *more])
        return as_json({"said": f"run '{run.tag}' goes on"})

    async def _find(self, request: Request) -> Run:
        """The run of that tag: looked up among those that are there, never a path that a browser made."""
        tag = request.path_params["tag"]
        if tag not in await asyncio.to_thread(self.repository.tags) and not self.jobs.knows(tag):
            raise HTTPException(404, "there is no run of that tag")
        return self.repository.run(tag)


def _is_tag(word: str) -> bool:
    return _is_key(word, "tag")


def _is_key(word: str, key: str) -> bool:
    return fold(word.partition("=")[0].strip()) == key


def _number(text: str) -> int:
    try:
        number: int = parse_value(int, text)
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise HTTPException(400, f"iterations={text[:40]}: expected int >= 1 (total number of iterations)")
    return number


def _asked(run: Run) -> dict[str, Any] | None:
    try:
        return settings_text(run)
    except EngineError:
        return None
