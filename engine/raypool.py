"""Tasks carried out on a Ray cluster: begun where there is room, begun again elsewhere when their node is lost."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ganglion.engine.raycarrier import Carrier
from ganglion.engine.rayconnection import last_line
from ganglion.engine.rayplaces import Need, Node, Placement, chosen, read_nodes, refuse_too_much

LOOKED = 1.0  # seconds for which what is known of the nodes is taken as true
URGENT = 5.0  # seconds that a task which is to end at once may take before it counts as ended
CALLS = 3  # methods of a carrier that may be under way at the same time


class Cluster:
    """A cluster that this process is connected to, with what one run needs and where runs may be."""

    def __init__(
        self, ray: Any, need: Need, placement: Placement, retries: int, notify: Callable[[str], None] = print
    ) -> None:
        self.ray, self.need, self.placement, self.retries, self.notify = ray, need, placement, retries, notify
        self.carrier = ray.remote(Carrier)
        self.used: set[str] = set()
        self._nodes: list[Node] = []
        self._looked = -LOOKED
        refuse_too_much(self.nodes(), placement, need)

    def nodes(self) -> list[Node]:
        """The nodes that are alive, as of a moment ago."""
        if time.monotonic() - self._looked >= LOOKED:
            self._nodes, self._looked = read_nodes(self.ray.nodes()), time.monotonic()
        return self._nodes

    def allowed(self) -> list[Node]:
        """The nodes that carry out runs now; where one of them is lost, another takes its place."""
        found = chosen(self.nodes(), self.placement, self.need, self.used)
        self.used = {node.identity for node in found}
        return found

    def fitting(self) -> int:
        """How many runs fit on the cluster at the same time."""
        return sum(node.fits(self.need) for node in self.allowed())

    def name_of(self, identity: str) -> str:
        """A node's name, as a person knows it."""
        return next((node.shown for node in self.nodes() if node.identity == identity), identity[:12])

    def start(self, name: str, task: Mapping[str, Any]) -> RayWorker:
        """Hand a task to the cluster."""
        return RayWorker(self, name, task)

    def look_again(self) -> None:
        """What is known of the nodes is not true any more."""
        self._looked = -LOOKED

    def among(self) -> tuple[str, ...]:
        """The identities of the nodes for one task; nothing where it may be any."""
        return tuple(node.identity for node in self.allowed()) if self.placement.restricts else ()

    def made(self, among: tuple[str, ...]) -> Any:
        """A carrier for one task, on whichever of these nodes has room for it first."""
        options: dict[str, Any] = {"num_cpus": self.need.cpus, "num_gpus": self.need.gpus, "max_concurrency": CALLS}
        if among:
            options["label_selector"] = {"ray.io/node-id": f"in({','.join(among)})"}
        return self.carrier.options(max_restarts=0, **options).remote()


class RayWorker:
    """One task on the cluster. It is begun again, and goes on from its last checkpoint, only when its node is lost."""

    def __init__(self, cluster: Cluster, name: str, task: Mapping[str, Any]) -> None:
        self.cluster, self.name = cluster, name
        kept = {key: value for key, value in os.environ.items() if key.startswith("GANGLION_")}
        self.order = json.dumps({"task": dict(task), "folder": os.getcwd(), "environment": kept})
        self.began = time.monotonic()
        self.node = ""  # nothing while it waits for one
        self.lost = 0
        self.told = False
        self.urged: float | None = None  # when it was told to end at once
        self.outcome: dict[str, Any] | None = None
        self._begin()

    def _begin(self) -> None:
        self.node = ""
        self.among = self.cluster.among()
        self.carrier = self.cluster.made(self.among)
        self.place = self.carrier.node.remote()
        self.answer = self.carrier.carry_out.remote(self.name, self.order)

    @property
    def seconds(self) -> float:
        """How long it has run, or waited for a node."""
        return time.monotonic() - self.began

    def ended(self) -> bool:
        """Whether it is over; what came of it is fetched then."""
        if self.outcome is None:
            if self._is_there(self.answer):
                self._fetch()
            elif self.urged is not None and time.monotonic() - self.urged > URGENT:  # its node is out of reach
                self._over({"status": "stopped"}, killed=True)
            elif not self.node:
                self._find()
        return self.outcome is not None

    def stop(self, at_once: bool = False) -> None:
        """Ask it to store and stop, or end it at once; one that waits for a node does not begin."""
        if self.outcome is not None or self.urged is not None:
            return
        self.told = True
        self.urged = time.monotonic() if at_once else None
        if self.node or self._is_there(self.place):
            self.carrier.stop.remote(at_once)
        else:
            self._over({"status": "stopped"}, killed=True)

    def wait(self, seconds: float) -> None:
        """Wait until it is over, no longer than so many seconds."""
        until = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < until:
            self.cluster.ray.wait([self.answer], timeout=min(LOOKED, max(0.0, until - time.monotonic())))

    def result(self) -> dict[str, Any]:
        """What came of the task, once it is over."""
        assert self.outcome is not None
        result: dict[str, Any] = self.outcome["result"]
        return result

    @property
    def killed(self) -> bool:
        """Whether it was ended from outside before it could say what came of the task."""
        return self.outcome is not None and bool(self.outcome["killed"])

    def _is_there(self, reference: Any) -> bool:
        return bool(self.cluster.ray.wait([reference], timeout=0, fetch_local=False)[0])

    def _find(self) -> None:
        """Where it is by now; failed where no node is left that could ever take it."""
        if self._is_there(self.place):
            with suppress(self.cluster.ray.exceptions.RayError):
                self.node = self.cluster.name_of(self.cluster.ray.get(self.place))
            return
        allowed = self.cluster.allowed()
        if not allowed:
            self._fail("no node is left that has room for it")
        elif self.among and not any(node.identity in self.among for node in allowed):
            self._end()  # all that it may be on were lost before it was: it would wait for ever
            self._begin()

    def _fetch(self) -> None:
        errors = self.cluster.ray.exceptions
        try:
            outcome = json.loads(self.cluster.ray.get(self.answer))
            self._over(outcome["result"], outcome["killed"])
        except errors.OutOfMemoryError:
            self._fail("its node ended it because memory was short")
        except errors.RayActorError as error:
            self._lose(error)
        except errors.RayError as error:
            self._fail(f"the cluster could not carry it out ({last_line(error)})")

    def _lose(self, error: Exception) -> None:
        """Its node, or what carried it out there, is gone: it goes on elsewhere, unless it was to stop anyhow."""
        where = f"node {self.node}" if self.node else "its node"
        self.cluster.look_again()
        if self.told:
            self._over({"status": "stopped"}, killed=True)
        elif "creation task" in str(error):
            self._fail(f"the node could not begin it ({last_line(error)})")
        elif self.lost >= self.cluster.retries:
            self._fail(f"{where} was lost{f', as {self.lost} others before' if self.lost else ''}")
        elif not self.cluster.allowed():
            self._fail(f"{where} was lost, and no node is left that has room for it")
        else:
            self.lost += 1
            self.cluster.notify(f"{self.name}: {where} was lost; it goes on elsewhere from its last checkpoint")
            self._end()
            self._begin()

    def _fail(self, reason: str) -> None:
        self._over({"status": "failed", "error": reason}, killed=False)

    def _over(self, result: dict[str, Any], killed: bool) -> None:
        self.outcome = {"result": result, "killed": killed}
        self._end()

    def _end(self) -> None:
        """Give back the place; what was not lost but only out of reach for a while must not go on either."""
        with suppress(self.cluster.ray.exceptions.RayError, ValueError):
            self.cluster.ray.kill(self.carrier)
