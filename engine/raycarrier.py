"""What runs on a node of a cluster: one task, in a process of its own, as on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganglion.engine.taskpool import PAUSE, Child


class Carrier:
    """Carries out one task; what it is told, and what it answers, is JSON. Its methods are called beside each other."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.told: bool | None = None  # to end at once, or to store and stop; None: neither

    def node(self) -> str:
        """The identity of the node that this is on; it answers as soon as there is a place for the task."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def carry_out(self, name: str, document: str) -> str:
        """Carry out a task: what came of it, and whether its process was ended from outside."""
        order = json.loads(document)
        task: dict[str, Any] = order["task"]
        problem = _unseen(task)
        if problem:
            return json.dumps({"result": {"status": "failed", "error": problem}, "killed": False})
        if self._stopped():
            return json.dumps({"result": {"status": "stopped"}, "killed": True})
        folder = order["folder"] if Path(order["folder"]).is_dir() else None
        self.child = child = Child(name, task, order["environment"], folder)
        if self._stopped():  # told so in this very moment
            child.stop(bool(self.told))
        while not child.ended():
            time.sleep(PAUSE)
        result = child.result()
        return json.dumps({"result": result, "killed": child.killed})

    def _stopped(self) -> bool:
        return self.told is not None

    def stop(self, at_once: bool) -> None:
        """Have the task store and stop, or end it at once."""
        self.told = at_once
        if self.child is not None and not self.child.ended():
            self.child.stop(at_once)


def _unseen(task: Mapping[str, Any]) -> str:
    """Why this node cannot carry out a task: what it would learn must be seen from all others."""
    runs = task.get("runs")
    if task.get("mirror") or runs is None or Path(runs).is_dir():
        return ""
    return f"this node does not see the folder {runs}: --runs must be a folder that all nodes share, or a URL"
