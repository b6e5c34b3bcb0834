"""Reading the YAML text of a network definition, which may come from anybody: bounded, without tags, each key once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ganglion.engine.api import NetworkError

BYTES_LIMIT = 2**20
DEPTH_LIMIT = 40
VALUES_LIMIT = 50_000  # counted with every alias written out


def read_text(path: Path, origin: str) -> str:
    """The text of a definition file. Raises NetworkError when there is none, or more than a definition can need."""
    try:
        if not path.is_file():
            raise NetworkError(f"{origin}: there is no such file")
        with path.open("rb") as file:
            content = file.read(BYTES_LIMIT + 1)
    except OSError as error:
        raise NetworkError(f"{origin}: cannot be read: {error.strerror}") from None
    if len(content) > BYTES_LIMIT:
        raise NetworkError(f"{origin}: larger than 1 MiB, which is no network definition")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise NetworkError(f"{origin}: byte {error.start} is not UTF-8 text") from None


def read_mapping(text: str, origin: str) -> dict[Any, Any]:
    """The mapping that a YAML text holds. Raises NetworkError naming the line where it is not plain, bounded YAML."""
    if len(text.encode(errors="replace")) > BYTES_LIMIT:
        raise NetworkError(f"{origin}: larger than 1 MiB, which is no network definition")
    try:
        scan = _Scan(origin)
        for event in _events(text):
            scan.receive(event)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise NetworkError(f"{origin}: {_syntax(error, text)}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise NetworkError(f"{origin}: not readable as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise NetworkError(f"{origin}: a definition is a mapping with 'name', 'doc' and 'layers' or 'variants'")
    return content


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=yaml.SafeLoader)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "not YAML"
    if problem.startswith("but") and error.context:
        problem = f"{error.context}, {problem}"
    if mark is None:
        return problem
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\\t" in problem or "\t" in line[: mark.column + 1]:
        problem = "a tab; YAML is indented with blanks"
    elif "${" in line:
        problem += '; inside { } and [ ] write "${...}" in quotation marks'
    return f"line {mark.line + 1}: {problem}"


@dataclass
class _Open:
    """A sequence or mapping whose end has not come yet; `size` counts the values in it."""

    anchor: str | None
    mapping: bool
    size: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)


class _Scan:
    """Checks a stream of YAML events before anything is built from it: depth, expanded size, tags, repeated keys."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.open: list[_Open] = []
        self.sizes: dict[str, int] = {}

    def receive(self, event: Any) -> None:
        """Check one event."""
        if isinstance(event, yaml.NodeEvent) and not isinstance(event, yaml.AliasEvent):
            self._check_tag(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self.open.append(_Open(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(self.open) > DEPTH_LIMIT:
                self._refuse(event, f"nested more than {DEPTH_LIMIT} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = self.open.pop()
            self._complete(event, closed.anchor, closed.size)
        elif isinstance(event, yaml.ScalarEvent):
            self._check_key(event)
            self._complete(event, event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.sizes:
                self._refuse(event, f"the alias *{event.anchor} stands inside what it means, or before it")
            self._complete(event, None, self.sizes[event.anchor])

    def _complete(self, event: Any, anchor: str | None, size: int) -> None:
        if anchor is not None:
            self.sizes[anchor] = size
        if not self.open:
            return
        parent = self.open[-1]
        parent.children += 1
        parent.size += size
        if parent.size > VALUES_LIMIT:
            self._refuse(event, f"more than {VALUES_LIMIT} values once its aliases are written out")

    def _check_key(self, event: Any) -> None:
        if not self.open or not self.open[-1].mapping or self.open[-1].children % 2:
            return
        if event.value in self.open[-1].keys:
            self._refuse(event, f"the key '{event.value}' is there twice")
        self.open[-1].keys.add(event.value)

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(event, f"the tag {tag} is refused: a definition holds plain values only")

    def _refuse(self, event: Any, what: str) -> NoReturn:
        raise NetworkError(f"{self.origin}: line {event.start_mark.line + 1}: {what}")
