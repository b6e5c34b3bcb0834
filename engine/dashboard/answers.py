"""Questions and answers of the live page in the form that they have on the wire: JSON, files, sentences on errors."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ganglion.engine.pages.assets import SCRIPTS, bokeh_path
from ganglion.engine.tables import clean_lines, one_line, to_plain

BODY = 64 * 1024  # bytes that a page may send
KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
SHARED = (*SCRIPTS, "page.css")  # of engine/pages


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that a page sent."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > BODY:
            raise HTTPException(413, f"more than {BODY} bytes")
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "expected a JSON object")
    return body


def as_json(value: Any) -> JSONResponse:
    """A value as JSON; what is not finite is null."""
    return JSONResponse(to_plain(value))


def told(status: int, sentence: str = "") -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answers an error by its own sentence, or by this one."""

    async def answer(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": sentence or str(error)}, status)

    return answer


async def refused(_: Request, error: Exception) -> Response:
    """Answers what the application itself refused."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def failed(_: Request, error: Exception) -> Response:
    """A mistake in the program: the whole traceback for the person at the server, one sentence for the page."""
    print(clean_lines("".join(traceback.format_exception(error))), file=sys.stderr)
    return JSONResponse({"error": f"a mistake in Ganglion itself: {one_line(error, 300)}"}, 500)


def own_file(name: str) -> Path:
    """A file of the page."""
    return Path(str(files("ganglion.engine.dashboard") / "static" / name))


def assets() -> dict[str, Path]:
    """Every file that the page may ask for."""
    pages = Path(str(files("ganglion.engine.pages")))
    own = {path.name: path for path in own_file("").iterdir() if path.suffix in KINDS}
    return {**own, **{name: pages / name for name in SHARED}, "bokeh.min.js": bokeh_path("dashboard")}


def file_answer(path: Path) -> Response:
    """A file as an answer."""
    return Response(path.read_bytes(), media_type=KINDS[path.suffix])
