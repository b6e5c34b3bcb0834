"""HTML as values: whatever is put between or into elements is text, unless it was made here."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from typing import Any

from ganglion.engine.tables import clean_text, to_plain

EMPTY = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any value as text on a page: nothing in it is markup, control or direction characters are gone."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape("\n".join(map(clean_text, str(value).split("\n"))), quote=True))


def element(kind: str, /, *children: object, **attributes: object) -> Markup:
    """`element("td", 3, class_="number")`; an attribute of None or False is left out, one of True has no value."""
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inside = joined(children)
    return Markup(f"<{kind}{shown}>" if kind in EMPTY else f"<{kind}{shown}>{inside}</{kind}>")


def joined(parts: Iterable[object]) -> Markup:
    """Parts one after the other; None is left out."""
    return Markup("".join(text(part) for part in parts if part is not None))


def table(columns: Iterable[object], rows: Iterable[Iterable[object]], caption: str | None = None) -> Markup:
    """A table that scrolls by itself where it is too wide; the first cell of a row is its head."""
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    body = [
        element("tr", *(element("td" if index else "th", cell, scope=None if index else "row") for index, cell in row))
        for row in map(enumerate, rows)
    ]
    named = element("caption", caption) if caption else None
    return element("div", element("table", named, element("thead", head), element("tbody", *body)), class_="wide")


def data_script(name: str, value: Any) -> Markup:
    """JSON for a script to read by the element's id; nothing in it can end the element."""
    content = json.dumps(to_plain(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        content = content.replace(character, f"\\u{ord(character):04x}")
    return element("script", Markup(content), type="application/json", id=name)


def script(code: str) -> Markup:
    """A script in the page itself."""
    return element("script", Markup(safe_script(code)))


def safe_script(code: str) -> str:
    """Code in which nothing ends its element."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def script_hash(code: str) -> str:
    """What a content security policy calls this script of a page."""
    digest = hashlib.sha256(safe_script(code).encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """A file as an address that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
