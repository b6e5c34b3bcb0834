"""What a person sees of a mistake in the program or in a plugin: the whole traceback, and one sentence at its end."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import TracebackType


def watch(command: str) -> None:
    """From now on, tell what escapes from this process in this way; a plugin's text reaches no terminal unread."""
    sys.excepthook = partial(_tell, command)


def _tell(command: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    import traceback  # here, as most commands need neither

    from ganglion.engine.tables import clean_lines, one_line

    last = traceback.extract_tb(trace)[-1:]
    place = f" ({Path(last[0].filename).name}, line {last[0].lineno})" if last else ""
    text = "".join(traceback.format_exception(kind, error, trace))
    reason = f"a mistake in a plugin or in Ganglion itself: {kind.__name__}: {error}{place}"
    print(clean_lines(text), one_line(f"{command}: {reason}"), sep="\n", file=sys.stderr)
