"""Verifies that every strategy of tests/tiny.py resumes bit for bit, and prints a table in Markdown.

python scripts/verify_resume.py [--kills 5] [--only GAN,VAE] [key=value...]

Keys are laid over each strategy's own. Every strategy has a seed of its own, so that the kills fall elsewhere.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganglion.engine.errors import EngineError, fold, suggestion
from ganglion.engine.job import parse_tokens
from ganglion.engine.verifying import Templates, Verified, two_templates, verify_resume

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from tiny import TINY

COLUMNS = [
    "strategy",
    "result",
    "iterations",
    "kills at iteration",
    "checkpoints",
    "tensors",
    "trace points",
    "seconds",
]


def main() -> int:
    """Verify one strategy after the other; 1 where one is not identical."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--only", default="", metavar="A,B", help="some strategies instead of all")
    parser.add_argument("keys", nargs="*", metavar="key=value")
    options = parser.parse_args()
    try:
        keys, names = parse_tokens(options.keys), chosen(options.only)
    except EngineError as error:
        parser.error(str(error))
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n", flush=True)
    with two_templates() as pair:
        results = [told(name, options.kills, pair, {"seed": list(TINY).index(name), **keys}) for name in names]
    good = sum(results)
    print(f"\n{good} of {len(results)} identical", flush=True)
    return int(good < len(results))


def chosen(only: str) -> list[str]:
    """The strategies to verify. Raises EngineError."""
    known = {fold(name): name for name in TINY}
    names = [name for name in only.split(",") if name]
    for name in names:
        if fold(name) not in known:
            raise EngineError(f"there is no row '{name}' in tests/tiny.py{suggestion(name, TINY)}")
    return [known[fold(name)] for name in names] or list(TINY)


def told(name: str, kills: int, pair: Templates, keys: Mapping[str, Any]) -> bool:
    """Verify a strategy and print its line; whether it was identical."""
    row, began = TINY[name], time.monotonic()
    try:
        keys = {"threads": 1, **row.keys, "strategy": name, **keys}
        found = verify_resume(row.networks, row.dataset, keys, kills=kills, templates=pair)
    except EngineError as error:
        print(line([name, f"failed: {error}", *["-"] * 5, seconds(began)]), flush=True)
        return False
    print(line([name, *cells(found), seconds(began)]), flush=True)
    return found.identical


def cells(found: Verified) -> list[str]:
    """Everything but the name and the time."""
    compared = found.compared
    result = "identical" if found.identical else f"different: {compared.difference}; the runs are in {found.folder}"
    at = ", ".join(f"{kill.iteration} ({kill.during})" for kill in found.kills)
    return [
        result,
        f"{found.iterations:,}",
        at,
        *(f"{n:,}" for n in (len(compared.checkpoints), compared.tensors, compared.points)),
    ]


def seconds(began: float) -> str:
    """How long it took."""
    return f"{time.monotonic() - began:.0f}"


def line(texts: Sequence[str]) -> str:
    """One line of the table."""
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"


if __name__ == "__main__":
    sys.exit(main())
