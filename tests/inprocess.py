"""Tasks of comparisons and the like carried out in this process: most tests are about what comes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from ganglion.engine.comparetask import carry_out
from ganglion.engine.documents import plain
from ganglion.engine.errors import EngineError
from ganglion.engine.taskpool import Child


def carry_out_here(patch: pytest.MonkeyPatch) -> None:
    """Let no task have a process of its own: each is carried out when it is started, and is over then."""

    def begin(self: Any, name: str, task: Mapping[str, Any], *more: Any, **named: Any) -> None:
        self.name, self.began = name, time.monotonic()
        try:
            self.came = json.loads(json.dumps(plain(carry_out(json.loads(json.dumps(task)))), allow_nan=False))
        except EngineError as error:
            self.came = {"status": "failed", "error": str(error)}

    patch.setattr(Child, "__init__", begin)
    patch.setattr(Child, "ended", lambda self: True)
    patch.setattr(Child, "result", lambda self: self.came)
