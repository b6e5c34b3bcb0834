"""What a check finds, and how a list of checks is carried out: one sentence each, nothing stops the others."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ganglion.engine.errors import ConfigError, EngineError, fold, suggestion

Result = Literal["passed", "failed", "skipped"]

LEFT_OUT = "left out, as asked"

_ENGINE = tuple({str(file.parent.parent) for file in (Path(__file__), Path(__file__).resolve())})
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OUTSIDE_LIBRARIES = ("site-packages", "dist-packages")  # a plugin that pip installed is the author's code all the same


class Finding(NamedTuple):
    """What one check found, in one sentence."""

    check: str
    result: Result
    sentence: str


class Failed(Exception):
    """What is checked is not so: the sentence says what is wrong and what to do."""


class Skipped(Exception):
    """The check does not apply here: the sentence says why."""


class Unusable(Exception):
    """Not what is checked is wrong, but what it is checked with; the cause is an InputError for who asked."""


class ConformanceError(AssertionError):
    """A plugin does not do what every plugin of its kind must; `findings` are those of all checks."""

    def __init__(self, subject: str, findings: Sequence[Finding]) -> None:
        self.subject = subject
        self.findings = tuple(findings)
        failed = [f"  {found.check}: {found.sentence}" for found in findings if found.result == "failed"]
        count = f"{len(failed)} of {len(findings)} checks failed" if len(failed) > 1 else "1 check failed"
        super().__init__("\n".join([f"{subject}: {count}", *failed]))


class Check(NamedTuple):
    """A named check: `run` returns, or raises Failed, Skipped or anything else; `needs` must have passed before."""

    name: str
    run: Callable[[Any], None]
    needs: tuple[str, ...] = ()


def carry_out(checks: Iterable[Check], subject: Any, skip: Sequence[str] = ()) -> list[Finding]:
    """The findings of all checks in their order.

    Raises ConfigError where `skip` names a check that there is not, and the InputError behind Unusable.
    """
    checks = list(checks)
    skipped = {fold(name) for name in skip}
    for name in skip:
        if fold(name) not in {fold(check.name) for check in checks}:
            raise ConfigError(f"skip: there is no check '{name}'{suggestion(name, (check.name for check in checks))}")
    found: dict[str, Finding] = {}
    for check in checks:
        wanted = next((found[name] for name in check.needs if not _allows(found[name])), None)
        if fold(check.name) in skipped:
            found[check.name] = Finding(check.name, "skipped", LEFT_OUT)
        elif wanted is not None:
            sentence = "has to pass first" if wanted.result == "failed" else "does not apply here"
            found[check.name] = Finding(check.name, "skipped", f"'{wanted.check}' {sentence}")
        else:
            found[check.name] = _carried_out(check, subject)
    return list(found.values())


def _allows(finding: Finding) -> bool:
    """Whether checks that need another one may follow it."""
    return finding.result == "passed" or finding.sentence == LEFT_OUT


def _carried_out(check: Check, subject: Any) -> Finding:
    try:
        check.run(subject)
    except Skipped as reason:
        return Finding(check.name, "skipped", str(reason))
    except Unusable as error:
        raise (error.__cause__ or error) from None
    except (Failed, EngineError) as error:
        return Finding(check.name, "failed", str(error))
    except SystemExit as ended:
        return Finding(
            check.name, "failed", f"it calls sys.exit({ended.code!r}): raise an error that says what is wrong"
        )
    except Exception as error:
        return Finding(check.name, "failed", _surprise(error))
    return Finding(check.name, "passed", " ".join((check.run.__doc__ or "").strip().split("\n\n")[0].split()))


def _surprise(error: Exception) -> str:
    """An error that nobody raised on purpose, with the author's own line that led to it."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400].removesuffix(":")
    return f"{text}{place(traceback.extract_tb(error.__traceback__))}"


def place(frames: Sequence[traceback.FrameSummary]) -> str:
    """` at my.py, line 3 ('x = y')`: the innermost line outside of torch, the engine and Python's own modules."""
    for frame in reversed(frames):
        if _is_author(frame.filename):
            line = f" ('{frame.line.strip()[:100]}')" if frame.line else ""
            return f" at {Path(frame.filename).name}, line {frame.lineno}{line}"
    return ""


def current_place() -> str:
    """`place` of what is being carried out now."""
    return place(traceback.extract_stack(sys._getframe(1)))


def _is_author(filename: str) -> bool:
    if filename.startswith((*_ENGINE, "<")):
        return False
    parts = Path(filename).parts
    installed = next((parts[n + 1] for n, part in enumerate(parts[:-1]) if part in _OUTSIDE_LIBRARIES), None)
    if installed is not None:
        return installed not in ("torch", "numpy", "pydantic", "pluggy", "_pytest", "pytest")
    return not filename.startswith(_LIBRARIES)


def several(problems: Sequence[str]) -> None:
    """Raise Failed with the first problem, and how many more there are."""
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise Failed(f"{problems[0]}{more}")
