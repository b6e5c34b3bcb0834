"""The process behind the page that imports torch: reads questions in lines of JSON, answers each in one line.

It takes part in nobody's learning: one thread, and no more of the processor than nothing else wants.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

NICE = 10


def main(root: str, plugins: Sequence[str]) -> None:
    """Answer until the standard input ends, which it does with the server, however that ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a plugin prints is no answer
    with contextlib.suppress(OSError):
        os.nice(NICE)
    import torch

    from ganglion.engine.tables import to_plain

    torch.set_num_threads(1)
    answer = _answering(root, plugins)
    _write(answers, {"ready": True})
    for line in sys.stdin:
        _write(answers, to_plain(answer(json.loads(line))))


def _write(answers: IO[str], answer: Any) -> None:
    answers.write(json.dumps(answer, allow_nan=False) + "\n")
    answers.flush()


def _answering(root: str, plugins: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    from ganglion.engine.dashboard.drawing import Drawing
    from ganglion.engine.dashboard.forms import Forms
    from ganglion.engine.errors import EngineError

    forms, drawing = Forms(plugins), Drawing(root, plugins)
    tasks: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "catalogue": forms.catalogue,
        "check": forms.check,
        "describe": drawing.describe,
        "draw": drawing.draw,
    }

    def answer(question: Mapping[str, Any]) -> Any:
        try:
            return tasks[question["do"]](question)
        except EngineError as error:
            return {"error": str(error)}
        except (Exception, SystemExit) as error:
            return {"error": f"a mistake in a plugin or in Ganglion itself: {type(error).__name__}: {error}"}

    return answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
