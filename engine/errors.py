"""Every error that the engine raises on purpose: one sentence each, shown without a traceback.

EngineError
├── InputError           exit code 2: the command, or something it names, is wrong
│   ├── ConfigError      a key, value, name or combination of them
│   ├── DataError        a data file, a range, the contents of a dataset
│   ├── NetworkError     a network definition, or a network that does not fit
│   ├── PluginError      a plugin that cannot be loaded, or two that clash
│   └── StoreError       a run directory that cannot be used as asked
└── RunError             exit code 1: a run that had begun and failed
    └── DivergedError    a loss or a weight is no longer finite
Anything else that escapes is a bug, and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EngineError(Exception):
    """Base of all errors that are answered with one sentence."""

    exit_code = 2
    told = False  # whether a trace has shown it to a person already


class InputError(EngineError):
    """The command or its input is wrong."""


class ConfigError(InputError):
    """A key, a value, a name, or a combination of them, is wrong."""


class DataError(InputError):
    """A data file, or what it holds, is wrong."""


class NetworkError(InputError):
    """A network definition is wrong, or the network does not fit its role."""


class PluginError(InputError):
    """A plugin cannot be loaded, or two plugins claim one name."""


class StoreError(InputError):
    """A run directory cannot be read or written as asked."""


class RunError(EngineError):
    """A run that had begun failed; its last good state is kept."""

    exit_code = 1


class DivergedError(RunError):
    """A loss or a weight is no longer finite."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name` without regard to case, `-` and `_`; None when none is close."""
    folded = {fold(candidate): candidate for candidate in known}
    matches = get_close_matches(fold(name), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def fold(name: str) -> str:
    """The form in which names are compared: lower case, without `-`, `_`, blanks."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def suggestion(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'X'?" where something is near, otherwise "; there are: A, B, C"."""
    names = sorted(set(known), key=str.lower)
    near = nearest(name, names)
    if near is not None:
        return f"; did you mean '{near}'?"
    return f"; there are: {', '.join(names)}" if names else ""
