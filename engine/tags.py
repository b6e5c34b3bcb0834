"""Names of runs: which are allowed, and how a fresh one is made from what a job names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ganglion.engine.errors import ConfigError

MAXIMUM = 100
PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Names that Windows keeps for devices, with any ending: a run folder may be copied there.
RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(10))}


def check_tag(tag: str) -> str:
    """The tag itself, where it can name a run. Raises ConfigError otherwise."""
    problem = _problem(tag)
    if problem:
        shown = repr(tag) if len(repr(tag)) <= 60 else f"{repr(tag)[:56]}...'"
        raise ConfigError(
            f"tag={shown} {problem}: a tag is 1 to {MAXIMUM} letters, digits, '.', '_' or '-', "
            "not starting with '.' or '-'"
        )
    return tag


def is_tag(name: str) -> bool:
    """Whether `name` can name a run."""
    return not _problem(name)


def _problem(tag: str) -> str:
    if not isinstance(tag, str) or not tag:
        return "is empty" if tag == "" else "is not text"
    if len(tag) > MAXIMUM:
        return f"has {len(tag)} characters"
    if not PATTERN.fullmatch(tag):
        return f"starts with {tag[0]!r}" if tag[0] in ".-" else "contains other characters"
    if ".." in tag or tag.endswith("."):
        return "contains '..'" if ".." in tag else "ends with '.'"
    return "is a device name on Windows" if tag.split(".", maxsplit=1)[0].lower() in RESERVED else ""


def base_tag(networks: Sequence[str], dataset: str, strategy: str) -> str:
    """What a fresh tag says before its number: `gan-mnist`, and the network too where there is only one."""
    names = [_slug(strategy).removesuffix("learningstrategy").strip("-") or "run"]
    names += [_slug(networks[0])] if len(networks) == 1 else []
    names.append(_slug(dataset))
    return "-".join(name for name in names if name)[: MAXIMUM - 20].rstrip("-")


def _slug(name: str) -> str:
    # `folder/my_file.py:MyNet` says most in its last part; so does `folder/net.yaml` in its stem.
    last = re.split(r"[:/\\]", name)[-1]
    stem = re.sub(r"\.(py|yaml|yml|csv|npz|parquet|txt)$", "", last, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:30].strip("-")


def next_number(base: str, taken: Iterable[str]) -> int:
    """One more than the largest number that a tag of this base carries, so that numbers tell the order."""
    pattern = re.compile(re.escape(base) + r"-([0-9]{1,9})", re.IGNORECASE)
    numbers = [int(match[1]) for name in taken if (match := pattern.fullmatch(name))]
    return max(numbers, default=0) + 1
