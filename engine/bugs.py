"""What a person sees of a mistake in the program or in a plugin: the whole traceback, and one sentence at its end."""

from __future__ import annotations

import re
import sys
import sysconfig
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType

LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
CALLED = re.compile(r"([\w.]+)\(\) (?:takes|missing|got)\b")  # how Python begins what is wrong with a call


def watch(command: str) -> None:
    """From now on, tell what escapes from this process in this way; a plugin's text reaches no terminal unread."""
    sys.excepthook = partial(_tell, command)


def _tell(command: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    import traceback  # here, as most commands need neither

    from ganglion.engine.tables import clean_lines, one_line

    text = "".join(traceback.format_exception(kind, error, trace))
    reason = f"a mistake in a plugin or in Ganglion itself: {kind.__name__}: {error}{place(error, trace)}"
    print(clean_lines(text), one_line(f"{command}: {reason}"), sep="\n", file=sys.stderr)


def place(error: BaseException, trace: TracebackType | None) -> str:
    """` (my.py, line 3)`: the plugin's own line that led to an error; without one, the last line of all."""
    import traceback

    frames = list(traceback.walk_tb(trace))
    if not frames:
        return ""
    last = _line(frames[-1][0].f_code.co_filename, frames[-1][1])
    if _is_ours(_module(frames[-1][0])):
        declared = _declared(error)
        if declared:
            return f" ({declared}, called in {last})"
    own = [_line(frame.f_code.co_filename, line) for frame, line in frames if _is_plugin(frame)]
    return f" ({own[-1] if own else last})"


def _declared(error: BaseException) -> str:
    """Where a plugin declares the function that an error says was called with other arguments than it takes."""
    said = CALLED.match(str(error)) if isinstance(error, TypeError) else None
    if said is None:
        return ""
    for module in reversed(list(sys.modules.values())):  # plugins come last
        code = getattr(_named(module, said[1]), "__code__", None)
        if code is not None and not _is_ours(module.__name__):
            return _line(code.co_filename, code.co_firstlineno)
    return ""


def _named(module: object, path: str) -> object:
    """What a module itself declares by a dotted name, without what decorates it; None for what it does not declare."""
    thing: object = module
    for name in path.split("."):
        thing = getattr(thing, "__dict__", {}).get(name)
    thing = getattr(thing, "__func__", thing)
    thing = getattr(thing, "__wrapped__", thing)
    return thing if getattr(thing, "__module__", None) == getattr(module, "__name__", "") else None


def _is_plugin(frame: FrameType) -> bool:
    """Whether a frame is in code that is neither a library nor how this process was begun."""
    file, module = frame.f_code.co_filename, _module(frame)
    return not (file.startswith((*LIBRARIES, "<")) or module == "__main__" or _is_ours(module))


def _is_ours(module: str) -> bool:
    return module.startswith("ganglion.")


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _line(file: str, number: int | None) -> str:
    return f"{Path(file).name}, line {number}"
