"""What a command that carries out many runs tells others of them: which wait, which run and where, which are done."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from ganglion.engine.documents import read_json, write_json
from ganglion.engine.errors import StoreError

QUEUE = "queue.json"
FORMAT = 1
WAITING, RUNNING = "waiting", "running"


def this_node() -> str:
    """The name of this machine."""
    return platform.node() or "this machine"


class Queue:
    """The file `queue.json` beside the runs of one command: state, node and times of each task that was started."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self.document: dict[str, Any] = {
            "format": FORMAT,
            "engine": engine,
            "node": this_node(),
            "process": os.getpid(),
            "tasks": {  # what another command had under way is so no more
                name: task for name, task in read_queue(path).items() if task.get("state") not in (RUNNING, WAITING)
            },
        }
        self.changed = False

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What is known, by task."""
        found: dict[str, dict[str, Any]] = self.document["tasks"]
        return found

    def began(self, name: str, node: str) -> None:
        """A task was handed over; without a node it waits for one."""
        self._set(name, state=RUNNING if node else WAITING, node=node, began=round(time.time(), 3), seconds=None)

    def at(self, name: str, node: str) -> None:
        """Where a task is now."""
        self._set(name, state=RUNNING if node else WAITING, node=node)

    def ended(self, name: str, state: str, node: str, seconds: float) -> None:
        """A task is over."""
        self._set(name, state=state, node=node, seconds=round(seconds, 3))

    def _set(self, name: str, **values: Any) -> None:
        before = self.tasks.get(name, {})
        self.tasks[name] = {**before, **values}
        self.changed = self.changed or self.tasks[name] != before

    def save(self) -> None:
        """Write the file, where something has changed. Raises StoreError."""
        if self.changed:
            write_json(self.path, self.document)
            self.changed = False


def read_queue(path: Path) -> dict[str, dict[str, Any]]:
    """What a queue's file says of each task; nothing where there is none that can be read."""
    try:
        document = read_json(path)
    except StoreError:
        return {}
    tasks = document.get("tasks")
    if document.get("format") != FORMAT or not isinstance(tasks, dict):
        return {}
    return {str(name): task for name, task in tasks.items() if isinstance(task, dict)}
