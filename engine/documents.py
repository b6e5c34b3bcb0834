"""YAML and JSON files of a run: read with one sentence for what is wrong, written atomically."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ganglion.engine.errors import StoreError
from ganglion.engine.files import read_text, write_atomic

LIMIT = 64 * 1024 * 1024  # bytes that a YAML or JSON file of a run may have
DEPTH_LIMIT = 40  # of a YAML file
GROWTH_LIMIT = 100_000  # values that its aliases may repeat


class PlainLoader(yaml.SafeLoader):
    """YAML in which only null, true/false, decimal integers and decimal fractions are more than text.

    So `no`, `1:30`, `0123` and dates stay the text that was written, for the declared type of a setting to read.
    A key that is given twice is an error, and so are aliases that would grow beyond all measure.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def get_single_node(self) -> yaml.Node | None:
        """The document, of which nothing has been made yet, once its size is known to be harmless."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            known: dict[int, tuple[int, int]] = {}
            size, _ = _written_out(node, 1, known)
            if size - len(known) > GROWTH_LIMIT:
                what = f"more than {GROWTH_LIMIT} values are repeated by aliases"
                raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of `node`, refusing a key that is there already."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _written_out(node: yaml.Node, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node has, and how deep it is, with its aliases written out; `known` is by the node's identity.

    Raises ConstructorError where it is too deep: what holds itself is.
    """
    if id(node) in known:
        size, height = known[id(node)]
    elif not isinstance(node, yaml.CollectionNode) or depth > DEPTH_LIMIT:
        size, height = known[id(node)] = 1, 1
    else:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        found = [_written_out(part, depth + 1, known) for part in parts]
        size, height = 1 + sum(each for each, _ in found), 1 + max((each for _, each in found), default=0)
        known[id(node)] = size, height
    if depth + height > DEPTH_LIMIT + 1:
        what = f"nested more than {DEPTH_LIMIT} deep with its aliases written out"
        raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
    return size, height


for _tag, _pattern, _first in (
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
):
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), _first)


class TextLoader(PlainLoader):
    """Reads every scalar as text: settings are parsed by their declared type, never by YAML's rules."""


TextLoader.yaml_implicit_resolvers = {}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises StoreError naming file, line and problem."""
    text = read_text(path, LIMIT)
    try:
        value = yaml.load(text, PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        words = " ".join(text for text in (error.context, error.problem) if text)
        raise StoreError(f"{path}{where}: {words}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not YAML ({_first_line(error)})") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise StoreError(f"{path}: expected lines of 'key: value', got {_kind(value)}")
    return value


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping of plain values as YAML, in its order. Raises StoreError."""
    try:
        text = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    except yaml.YAMLError as error:
        raise StoreError(
            f"cannot write {path}: a value is not plain text, number, list or mapping ({error})"
        ) from error
    write_atomic(path, text.encode("utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises StoreError naming file, line and problem."""
    try:
        value = json.loads(read_text(path, LIMIT))
    except json.JSONDecodeError as error:
        raise StoreError(f"{path}, line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not JSON ({_first_line(error)})") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path}: expected a JSON object, got {_kind(value)}")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON: tensors as lists, numbers that are not finite as null. Raises StoreError."""
    try:
        text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(path, f"{text}\n".encode())
    except (ValueError, RecursionError) as error:
        raise StoreError(f"cannot write {path}: a value has no form in JSON ({_first_line(error)})") from error


def plain(value: Any) -> Any:
    """The nearest value that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__


def _kind(value: Any) -> str:
    return (
        "nothing"
        if value is None
        else {"list": "a list", "dict": "keys that are not text", "str": "text"}.get(
            type(value).__name__, f"the value {value!r}"[:60]
        )
    )
