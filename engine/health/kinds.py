"""The kinds of alarms, under the names that `stopOn` takes."""

from __future__ import annotations

from typing import Literal

AlarmKind = Literal[
    "collapse", "coverage", "overpowering", "blind", "vanishing", "divergence", "clipping", "range", "stalled"
]
