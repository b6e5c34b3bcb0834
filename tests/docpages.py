"""Reading the documentation as a person does: its pages, the blocks on them, and the commands in the blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
FENCED = re.compile(r"(?:^<!-- (?P<note>long: .*?) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
NOTE = re.compile(r"long: run by hand \d{4}-\d\d-\d\d")
INLINE = re.compile(r"`((?:learn|ganglion)\s[^`]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block of a page; `note` is the comment above one that is too long for a test to carry out."""

    page: Path
    language: str
    text: str
    note: str

    @property
    def long(self) -> bool:
        return bool(self.note)


def pages() -> list[Path]:
    """README.md and all that people wrote below docs."""
    written = [path for path in DOCS.rglob("*.md") if path.parent.name != "reference"]
    return [ROOT / "README.md", *sorted(written), DOCS / "reference" / "index.md"]


def label(page: Path) -> str:
    """A page's name, for people."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, those of some languages."""
    found = FENCED.finditer(page.read_text(encoding="utf-8"))
    made = [Block(page, match["language"], match["text"], match["note"] or "") for match in found]
    return [block for block in made if not languages or block.language in languages]


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a block, split into words, without comments and what sets up the environment before them."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] != "export":
            start = len(words) - words[::-1].index("&&") if "&&" in words else 0
            if words[0] == "torchrun":  # what several processes carry out
                start = words.index("ganglion.engine") + 1
            yield [words[start].removeprefix(".venv/bin/"), *words[start + 1 :]]


def inline_commands(page: Path) -> Iterator[list[str]]:
    """The complete `learn` and `ganglion` commands in a page's running text."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for found in INLINE.findall(text):
        words = shlex.split(found)
        if len(words) > 1 and "..." not in found and "|" not in found:
            yield words


def anchors(page: Path) -> set[str]:
    """The headings of a page in the form in which links name them."""
    lines = FENCED.sub("", page.read_text(encoding="utf-8")).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
