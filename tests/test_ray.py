"""Runs on a Ray cluster: where they may be, what a lost node means, a queue to look at, runs kept at a URL."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commandline import call, refused, runs_folder

from ganglion.engine import raycarrier, taskpool
from ganglion.engine.checkpoints import Checkpoints
from ganglion.engine.engines import EngineSettings, Pool, task_pool
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.launch import learn
from ganglion.engine.locks import FileLock
from ganglion.engine.queueview import queued
from ganglion.engine.raycarrier import Carrier
from ganglion.engine.rayconnection import refuse_silent
from ganglion.engine.rayplaces import Need, Placement, chosen, read_nodes, refuse_too_much
from ganglion.engine.raypool import Cluster, RayWorker
from ganglion.engine.taskqueue import QUEUE, Queue, read_queue

ray_there = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: pip install ganglion[ray]")
fsspec_there = pytest.mark.skipif(importlib.util.find_spec("fsspec") is None, reason="needs fsspec")
WORDS = ["GAN", "Circle", "networks=Generator,Discriminator", "size=64", "testSize=8", "batchSize=8"]


def described(name: str, cpus: float = 2, gpus: float = 0, alive: bool = True, **labels: str) -> dict[str, Any]:
    """A node as Ray describes it."""
    address = f"10.0.0.{sum(map(ord, name)) % 250}"
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    return {
        "NodeID": f"id-{name}", "Alive": alive, "NodeName": name, "NodeManagerAddress": address,
        "NodeManagerHostname": f"{name}.lan", "Resources": resources, "Labels": labels,
    }  # fmt: skip


NODES = read_nodes(
    [
        described("north1", 4, zone="north"),
        described("north2", 8, 2, zone="north"),
        described("south", 2, 1, zone="south"),
        described("gone", 64, 8, alive=False, zone="east"),
    ]
)


# --- where runs may be --------------------------------------------------------------------------------------------


ONE = Need(1, 0)


def names(*targets: str, count: int | None = None, labels: tuple[str, ...] = (), need: Need = ONE) -> list[str]:
    return [node.name for node in chosen(NODES, Placement.of(targets, count, labels), need)]


def test_nodes_are_named_counted_and_filtered_by_label() -> None:
    assert names() == ["north2", "north1", "south"]
    assert names("south", "NORTH1.lan") == ["north1", "south"]
    assert names(NODES[0].address) == ["north1"]
    assert names(count=2) == ["north2", "north1"]
    assert names(labels=("zone=north",), count=1) == ["north2"]
    assert names(labels=("zone=south",)) == ["south"]
    assert names(need=Need(1, 0.5)) == ["north2", "south"]
    assert names(need=Need(4, 0)) == ["north2", "north1"]


def test_a_lost_node_is_replaced_and_those_in_use_stay() -> None:
    placement = Placement.of((), 1, ())
    assert [node.name for node in chosen(NODES, placement, Need(1, 0), {"id-south"})] == ["south"]
    assert [node.name for node in chosen(NODES, placement, Need(1, 0), {"id-gone"})] == ["north2"]


def test_as_many_runs_fit_as_shares_of_cores_and_gpus() -> None:
    assert [node.fits(Need(1, 0)) for node in NODES] == [4, 8, 2]
    assert [node.fits(Need(3, 0)) for node in NODES] == [1, 2, 0]
    assert [node.fits(Need(0.1, 1 / 3)) for node in NODES] == [0, 6, 3]
    assert read_nodes([described("small", 0.3)])[0].fits(Need(0.1, 0)) == 3  # 0.3 / 0.1 is a little less


@pytest.mark.parametrize(
    ("need", "placement", "sentence"),
    [
        (Need(1, 3), ((), None, ()), "cpus=1 gpus=3: no node has so much for one run; the most is 8 and 2, in 3"),
        (Need(4, 0), (("south",), None, ()), "no node that may be used has so much for one run; the most is 2 and 1"),
        (Need(1, 0), (("sout",), None, ()), "targets=sout: no node is called so; did you mean 'south'?"),
        (Need(1, 0), ((), None, ("zon=north",)), "no node has a label 'zon'; did you mean 'zone'?"),
        (Need(1, 0), ((), None, ("zone=east",)), "targetFilter=zone=east: no node has that; there are: north, south"),
        (Need(1, 0), (("south",), None, ("zone=north",)), "targets= and targetFilter= hold for none together"),
    ],
)
def test_what_no_node_can_do_is_refused_at_once(need: Need, placement: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        refuse_too_much(NODES, Placement.of(*placement), need)
    assert sentence in str(error.value)


def test_a_filter_that_is_no_label_and_value_is_refused() -> None:
    for text in ("zone", "zone=", "=north"):
        with pytest.raises(ConfigError, match="expected label=value"):
            Placement.of((), None, (text,))


# --- wrong commands -----------------------------------------------------------------------------------------------


def test_keys_of_a_cluster_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ganglion", "compare", *WORDS]
    refused(capsys, [*command, "gpus=1"], "the key 'gpus' is about nodes of a cluster: add --engine ray")
    refused(capsys, [*command, "--address", "auto"], "--address auto is a cluster's: add --engine ray")
    refused(capsys, [*command, "--engine", "rai"], "there is no such engine; did you mean 'ray'?")
    refused(capsys, [*command, "--engine", "ray", "cpus=0"], "cpus=0", "> 0")
    with (
        pytest.raises(ConfigError, match=r"gpus=1\.5: a run takes a part of one GPU, or"),
        task_pool("ray", None, EngineSettings(gpus=1.5)),
    ):
        pass


def test_an_address_where_nothing_answers_is_refused_within_seconds() -> None:
    for address in ("somewhere", "127.0.0.1:99999", "ray://127.0.0.1:10001"):
        with pytest.raises(ConfigError, match="expected HOST:PORT"):
            refuse_silent(address)
    began = time.monotonic()
    with pytest.raises(ConfigError, match="no cluster answers there"):
        refuse_silent("127.0.0.1:9")
    assert time.monotonic() - began < 10


def test_without_ray_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    missing = pytest.raises(ConfigError, match=r"needs the ray package, .*pip install ganglion\[ray\]")
    with missing, task_pool("ray", None, EngineSettings()):
        raise AssertionError
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


def test_runs_at_a_url_are_a_comparisons_alone(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["ganglion", "runs", "--runs", "s3://bucket/runs"], "expected a folder; only 'ganglion compare'")
    if importlib.util.find_spec("fsspec"):
        refused(capsys, ["ganglion", "compare", *WORDS, "--runs", "memory://runs"], "a process's own memory")
        refused(capsys, ["ganglion", "compare", *WORDS, "--runs", "nosuch://runs"], "nosuch://runs", "nosuch")


# --- what a lost node means ---------------------------------------------------------------------------------------


class RayError(Exception):
    """As Ray's own."""


class RayActorError(RayError):
    """As Ray's own."""


class OutOfMemoryError(RayError):
    """As Ray's own."""


class FakeRay:
    """Answers as Ray does, with what a test has put into `answers`: one for each time that the task was begun."""

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError, OutOfMemoryError=OutOfMemoryError)

    def __init__(self, *answers: Any) -> None:
        self.answers, self.described = list(answers), [described("a"), described("b")]
        self.begun: list[dict[str, Any]] = []
        self.stopped: list[bool] = []
        self.ended = 0
        self.placed = True

    def nodes(self) -> list[dict[str, Any]]:
        return self.described

    def remote(self, made: type) -> Any:
        assert made is Carrier
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda: self._begin(options)))

    def _begin(self, options: dict[str, Any]) -> Any:
        number = len(self.begun)
        self.begun.append(options)
        methods = {"node": ("node", number), "carry_out": ("answer", number)}
        handle = SimpleNamespace(stop=SimpleNamespace(remote=self.stopped.append))
        for name, reference in methods.items():
            setattr(handle, name, SimpleNamespace(remote=lambda *given, reference=reference: reference))
        return handle

    def wait(self, references: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        kind, number = references[0]
        ready = self.placed if kind == "node" else self.answers[number] is not None
        return (references, []) if ready else ([], references)

    def get(self, reference: Any) -> Any:
        kind, number = reference
        if kind == "node":
            return "id-a"
        if isinstance(self.answers[number], Exception):
            raise self.answers[number]
        return json.dumps({"result": self.answers[number], "killed": self.answers[number]["status"] == "stopped"})

    def kill(self, handle: Any) -> None:
        self.ended += 1


DONE = {"status": "finished", "iteration": 3, "seconds": 1.0}


def worker_on(ray: FakeRay, retries: int = 1) -> tuple[RayWorker, list[str]]:
    said: list[str] = []
    cluster = Cluster(ray, Need(1, 0), Placement(), retries, said.append)
    return cluster.start("GAN-0", {"tag": "GAN-0"}), said


def test_a_task_whose_node_is_lost_is_begun_again_and_answers_once() -> None:
    ray = FakeRay(RayActorError("the node died"), DONE)
    worker, said = worker_on(ray)
    assert any(worker.ended() for _ in range(100))
    assert worker.result() == DONE and not worker.killed
    assert len(ray.begun) == ray.ended == 2  # the lost one is ended for certain before the other begins
    assert said == ["GAN-0: its node was lost; it goes on elsewhere from its last checkpoint"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": "failed", "error": "iteration 3: the loss is not finite"}, "iteration 3: the loss is not finite"),
        (OutOfMemoryError("killed"), "its node ended it because memory was short"),
        (RayError("first\nno such module"), "the cluster could not carry it out (no such module)"),
        (
            RayActorError("an error raised in its creation task\nno ganglion"),
            "the node could not begin it (no ganglion)",
        ),
    ],
)
def test_a_task_that_fails_by_itself_is_not_begun_again(answer: Any, reason: str) -> None:
    ray = FakeRay(answer, DONE)
    worker, said = worker_on(ray)
    assert worker.ended() and worker.result() == {"status": "failed", "error": reason}
    assert len(ray.begun) == 1 and not said


def test_a_task_is_begun_again_only_so_often_and_only_where_there_is_room() -> None:
    ray = FakeRay(RayActorError("x"), RayActorError("y"), DONE)
    worker, _ = worker_on(ray)
    assert any(worker.ended() for _ in range(100))
    assert worker.result() == {"status": "failed", "error": "its node was lost, as 1 others before"}
    alone = FakeRay(RayActorError("x"), DONE)
    worker, _ = worker_on(alone)
    alone.described = []
    assert worker.ended() and "no node is left that has room for it" in worker.result()["error"]


def test_what_waits_for_a_node_is_stopped_at_once_and_what_runs_is_told_to_store() -> None:
    ray = FakeRay(None)
    ray.placed = False
    worker, _ = worker_on(ray)
    assert not worker.ended() and worker.node == ""
    worker.stop()
    assert worker.ended() and worker.killed and worker.result() == {"status": "stopped"} and ray.stopped == []
    ray = FakeRay(None)
    worker, _ = worker_on(ray)
    assert not worker.ended() and worker.node == "a"
    worker.stop()
    worker.stop(at_once=True)
    worker.stop(at_once=True)
    assert ray.stopped == [False, True] and not worker.ended() and worker.urged is not None
    worker.urged -= 9.0
    assert worker.ended() and worker.killed and worker.result() == {"status": "stopped"} and ray.ended == 1
    ray = FakeRay(None)
    worker, _ = worker_on(ray)
    assert not worker.ended()
    worker.stop()
    ray.answers[0] = RayActorError("lost in this moment")
    assert worker.ended() and worker.result() == {"status": "stopped"} and len(ray.begun) == 1


def test_only_where_nodes_are_chosen_ray_is_told_which() -> None:
    ray = FakeRay(None, None)
    worker_on(ray)
    Cluster(ray, Need(0.5, 0), Placement.of(("a", "b"), 1, ()), 1).start("GAN-1", {})
    assert "label_selector" not in ray.begun[0] and ray.begun[0]["num_cpus"] == 1
    assert ray.begun[1]["label_selector"] == {"ray.io/node-id": "in(id-a)"} and ray.begun[1]["num_cpus"] == 0.5


def test_what_waits_for_nodes_that_are_gone_waits_for_another() -> None:
    ray = FakeRay(None, None)
    ray.placed = False
    worker = Cluster(ray, Need(1, 0), Placement.of(("a", "b"), 1, ()), 1).start("GAN-0", {})
    assert not worker.ended() and len(ray.begun) == 1
    ray.described = [described("b")]
    worker.cluster.look_again()
    assert not worker.ended() and not worker.ended() and ray.ended == 1
    assert [each["label_selector"]["ray.io/node-id"] for each in ray.begun] == ["in(id-a)", "in(id-b)"]


def test_the_nodes_that_were_chosen_stay_when_a_larger_one_joins() -> None:
    ray = FakeRay(None)
    cluster = Cluster(ray, Need(1, 0), Placement.of((), 1, ()), 1)
    assert [node.name for node in cluster.allowed()] == ["a"]
    ray.described = [described("large", 64), *ray.described]
    cluster._looked = -9.0
    assert [node.name for node in cluster.allowed()] == ["a"]


class FakeChild:
    """A process that ends when it is told to."""

    def __init__(self, name: str, task: Any, environment: Any, folder: Any) -> None:
        self.told: list[bool] = []

    def ended(self) -> bool:
        return bool(self.told)

    def stop(self, at_once: bool = False) -> None:
        self.told.append(at_once)

    def result(self) -> dict[str, Any]:
        return {"status": "stopped", "told": self.told}

    killed = False


def test_a_node_carries_out_a_task_until_it_is_told_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raycarrier, "Child", FakeChild)
    order = {"task": {"runs": str(tmp_path)}, "folder": "/nowhere", "environment": {}}
    carrier, answers = Carrier(), []
    thread = threading.Thread(target=lambda: answers.append(carrier.carry_out("GAN-0", json.dumps(order))))
    thread.start()
    until = time.monotonic() + 10
    while carrier.child is None and time.monotonic() < until:
        time.sleep(0.01)
    carrier.stop(False)
    thread.join(10)
    assert json.loads(answers[0])["result"] == {"status": "stopped", "told": [False]}
    early = Carrier()
    early.stop(False)
    assert json.loads(early.carry_out("GAN-0", json.dumps(order)))["result"] == {"status": "stopped"}
    order["task"]["runs"] = str(tmp_path / "elsewhere")
    answer = json.loads(Carrier().carry_out("GAN-0", json.dumps(order)))
    assert "must be a folder that all nodes share" in answer["result"]["error"]


# --- the queue ----------------------------------------------------------------------------------------------------


class Judged:
    """A worker that is being judged: what it is told ends it, with no answer."""

    seconds, killed = 2.0, True
    told = 0

    def __init__(self, name: str, task: Any) -> None:
        self.looks = 0

    def ended(self) -> bool:
        self.looks += bool(Judged.told)
        return self.looks > 3

    def stop(self, at_once: bool = False) -> None:
        Judged.told += 1

    def wait(self, seconds: float) -> None:
        pass

    def result(self) -> dict[str, Any]:
        return {"status": "failed", "error": "its process was ended by SIGTERM"}


def test_a_task_that_is_named_is_told_once_to_stop_and_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskpool, "WATCHED", 0.0)
    said: list[Any] = []
    taskpool.run_tasks(
        [("trial-0", {})], 1, said.append, lambda *given: said.append(given), Judged, lambda: ["trial-0"]
    )
    assert said == ["trial-0", ("trial-0", {"status": "stopped"}, 2.0)] and Judged.told == 1


class Instant:
    """A worker that is done as soon as it is looked at."""

    seconds, killed, node = 2.0, False, "far"

    def __init__(self, name: str, task: Any) -> None:
        pass

    def ended(self) -> bool:
        return True

    def stop(self, at_once: bool = False) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass

    def result(self) -> dict[str, Any]:
        return dict(DONE)


def test_a_pool_keeps_what_has_become_of_its_tasks(tmp_path: Path) -> None:
    said: list[Any] = []
    pool = Pool("ray", Instant)
    pool.run(tmp_path, [("GAN-0", {}), ("GAN-1", {})], 1, said.append, lambda *given: said.append(given))
    assert [each if isinstance(each, str) else each[0] for each in said] == ["GAN-0", "GAN-0", "GAN-1", "GAN-1"]
    tasks = read_queue(tmp_path / QUEUE)
    assert {name: (task["state"], task["node"], task["seconds"]) for name, task in tasks.items()} == {
        "GAN-0": ("finished", "far", 2.0),
        "GAN-1": ("finished", "far", 2.0),
    }


def test_the_queue_shows_what_waits_runs_and_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs_folder() / "compare-x"
    (folder / "runs").mkdir(parents=True)
    tasks = {"GAN-0": {"status": "finished", "iteration": 7, "seconds": 3.0}}
    asked = {"entries": {"GAN": {}, "NSGAN": {}}, "seeds": [0, 1]}
    (folder / "comparison.json").write_text(json.dumps({"format": 1, "tasks": tasks, "asked": asked}))
    queue = Queue(folder / QUEUE, "ray")
    queue.began("GAN-0", "two")
    queue.ended("GAN-0", "finished", "two", 4.0)
    queue.began("NSGAN-0", "\x1b[31mone")
    queue.began("GAN-1", "")
    queue.began("../GAN-1", "")  # as a file that was written by hand may have
    queue.save()
    assert list(Queue(folder / QUEUE, "ray").tasks) == ["GAN-0"]  # the next command has none of these under way
    with FileLock.acquire(folder / "lock", "it"):
        found = {each.tag: each for each in queued()}
        assert [each.tag for each in queued()][:1] == ["NSGAN-0"]
        said = call(capsys, "ganglion", "runs", "--all")
    assert {tag: each.state for tag, each in found.items()} == {
        "GAN-0": "finished", "NSGAN-0": "running", "GAN-1": "waiting", "NSGAN-1": "waiting",
    }  # fmt: skip
    assert (found["GAN-0"].iteration, found["GAN-0"].seconds, found["GAN-0"].node) == (7, 3.0, "two")
    assert found["NSGAN-0"].seconds is not None and found["GAN-1"].node == ""
    assert said.code == 0 and "\x1b" not in said.out and "compare-x" in said.out
    states = {
        each["tag"]: each["state"] for each in json.loads(call(capsys, "ganglion", "runs", "--all", "--json").out)
    }
    assert states == {"GAN-0": "finished", "NSGAN-0": "not begun", "GAN-1": "not begun", "NSGAN-1": "not begun"}


# --- runs at a URL ------------------------------------------------------------------------------------------------


def stored(folder: Path, iteration: int) -> None:
    weights = {"generator": {"w": torch.tensor([float(iteration)])}}
    Checkpoints(folder / "checkpoints").store(iteration, weights, {}, {"at": iteration}, keep=2)


@fsspec_there
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_run_is_kept_at_a_url_and_goes_on_from_there(kind: str, tmp_path: Path) -> None:
    from ganglion.engine.mirror import Mirror

    url = f"memory://{tmp_path.name}/run" if kind == "memory" else f"file://{tmp_path}/there/run"
    here = tmp_path / "here"
    mirror = Mirror(url, here)
    mirror.take()
    here.mkdir(exist_ok=True)
    (here / "lock").write_text("1")
    order: list[str] = []
    write = mirror.remote.write
    mirror.remote.write = lambda name, data: (order.append(name), write(name, data))[0]  # type: ignore[method-assign]
    for iteration in (1, 2, 3):
        (here / "trace.jsonl").write_text("line\n" * iteration)
        (here / "record.json").write_text(json.dumps({"iteration": iteration}))
        stored(here, iteration)
        assert mirror.keep()
    assert order[-3:] == ["trace.jsonl", "checkpoints/latest", "record.json"]
    assert order.index("checkpoints/1/manifest.json") < order.index("checkpoints/latest")
    of_one = [name for name in order if name.startswith("checkpoints/1/")]
    assert len(of_one) == 4 and of_one[-1] == "checkpoints/1/manifest.json"  # it says what must be there
    assert "lock" not in order and mirror.keep() and order[-1] == "record.json"
    other = Mirror(url, tmp_path / "other")
    other.take()
    found = Checkpoints(tmp_path / "other" / "checkpoints")
    assert found.iterations() == [2, 3] and found.load().networks["generator"]["w"].tolist() == [3.0]
    assert (tmp_path / "other" / "trace.jsonl").read_text() == "line\n" * 3
    stored(here, 4)
    with pytest.raises(StoreError, match="kept by another process by now"):
        mirror.keep()
    assert not any("checkpoints/4/" in name for name in other.remote.names())


@fsspec_there
def test_a_file_that_grows_is_uploaded_few_times_and_whole_with_a_checkpoint_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganglion.engine import mirror
    from ganglion.engine.mirror import Mirror, mirrored

    url, here = f"memory://{tmp_path.name}/grows", tmp_path / "here"
    own, written = Mirror(url, here), list[tuple[str, int]]()
    own.take()
    here.mkdir(exist_ok=True)
    write, trace, line = own.remote.write, here / "trace.jsonl", "a line of it\n"
    own.remote.write = lambda name, data: (written.append((name, len(data))), write(name, data))[0]  # type: ignore[method-assign]
    for lines in range(1, 1001):
        trace.write_text(line * lines)
        assert own.keep(patient=True)
    sizes = [size for _, size in written]  # of 1, 2, 3, 4, 5, 7 lines and so on: each is a quarter longer
    assert {name for name, _ in written} == {"trace.jsonl"} and len(sizes) < 35
    assert [size // len(line) for size in sizes[:7]] == [1, 2, 3, 4, 5, 7, 9]
    assert sum(sizes) < 5 * 1000 * len(line) and sizes[-1] < 1000 * len(line)
    stored(here, 1)
    assert own.keep(patient=True) and [name for name, _ in written[-2:]] == ["trace.jsonl", "checkpoints/latest"]
    assert own.remote.read("trace.jsonl") == trace.read_bytes()
    trace.write_text(line.upper() * 1001)  # begun anew: it has not only grown
    assert own.keep(patient=True) and own.remote.read("trace.jsonl") == trace.read_bytes()
    with trace.open("a") as file:
        file.write(line)
    assert own.keep(patient=True) and own.remote.read("trace.jsonl") != trace.read_bytes()
    monkeypatch.setattr(mirror, "LATE", 0.0)
    assert own.keep(patient=True) and own.remote.read("trace.jsonl") == trace.read_bytes()
    monkeypatch.undo()
    with mirrored(url, tmp_path / "again"), (tmp_path / "again" / "trace.jsonl").open("a") as file:
        file.write("the last line\n")
    assert (own.remote.read("trace.jsonl") or b"").endswith(b"the last line\n")


@fsspec_there
def test_a_checkpoint_that_was_half_uploaded_is_passed_over(tmp_path: Path) -> None:
    from ganglion.engine.mirror import Mirror, mirrored

    url = f"file://{tmp_path}/there"
    with mirrored(url, tmp_path / "here"):
        stored(tmp_path / "here", 1)
    (tmp_path / "there" / "checkpoints" / "5").mkdir()
    (tmp_path / "there" / "checkpoints" / "5" / "generator.safetensors").write_bytes(b"half")
    Mirror(url, tmp_path / "other").take()
    assert Checkpoints(tmp_path / "other" / "checkpoints").load().iteration == 1
    with mirrored(url, tmp_path / "again"):
        (tmp_path / "again" / "record.json").write_text("{}")
    assert (tmp_path / "there" / "record.json").exists()  # the half one does not keep the rest from being kept


@fsspec_there
def test_a_run_that_could_not_be_kept_in_the_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganglion.engine.mirror import Remote, mirrored

    def refusing(self: Remote, path: str, data: bytes) -> None:
        raise FileNotFoundError(path)

    url, here = f"file://{tmp_path}/there", tmp_path / "here"
    with pytest.raises(StoreError, match="a checkpoint cannot be read"), mirrored(url, here):
        stored(here, 1)
        (here / "checkpoints" / "2").mkdir()
    url, here = f"file://{tmp_path}/full", tmp_path / "other"
    with pytest.raises(StoreError, match=r"cannot write .*/checkpoints/1/"), mirrored(url, here):
        monkeypatch.setattr(type(Remote(url).system), "pipe_file", refusing)
        stored(here, 1)


@fsspec_there
def test_who_lost_a_run_while_it_uploads_names_and_removes_nothing_there(tmp_path: Path) -> None:
    from ganglion.engine.mirror import OWNER, Mirror

    mirror = Mirror(f"memory://{tmp_path.name}/owned", tmp_path)
    mirror.take()
    stored(tmp_path, 1)
    assert mirror.keep()
    write = mirror.remote.write

    def overtaken(name: str, data: bytes) -> None:
        write(name, data)
        write(OWNER, b"another")

    mirror.remote.write = overtaken  # type: ignore[method-assign]
    stored(tmp_path, 2)
    stored(tmp_path, 3)
    with pytest.raises(StoreError, match="kept by another process by now"):
        mirror.keep()
    assert mirror.remote.read("checkpoints/latest") == b"1\n" and mirror.remote.read("checkpoints/1/manifest.json")


# --- a cluster ----------------------------------------------------------------------------------------------------


class Nodes:
    """A cluster in a process of its own."""

    def __init__(self, folder: str, *nodes: str) -> None:
        script = Path(__file__).parent / "raycluster.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script), folder, *nodes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.address = json.loads(self._line())["address"]

    def _line(self) -> str:
        """What it says next; nothing, and it is ended, where that takes too long."""
        assert self.process.stdout is not None
        timer = threading.Timer(180, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline()
        finally:
            timer.cancel()

    def kill(self, name: str) -> None:
        """End a node as a power failure does."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"kill {name}\n")
        self.process.stdin.flush()
        assert self._line() == "killed\n"

    def close(self) -> None:
        """End all of them."""
        self.process.communicate(timeout=120)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with tempfile.TemporaryDirectory(prefix="gr", ignore_cleanup_errors=True) as folder:  # sockets need short names
        made = Nodes(folder, "one:south", "two:north")
        try:
            yield made
        finally:
            made.close()


@ray_there
def test_a_run_whose_node_dies_goes_on_elsewhere_and_ends_as_if_nothing_had_been(nodes: Nodes, tmp_path: Path) -> None:
    keys = ["seeds=2", "budget=iterations:2500", "metrics=points-v1", "evaluate.count=100", "tag=x", "storeSeconds=0.2"]
    command = [sys.executable, "-m", "ganglion.engine", "compare", *WORDS, *keys, "--engine", "ray", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--address", nodes.address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    folder = runs_folder() / "compare-x"
    until = time.monotonic() + 300
    lost = None
    while lost is None and time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
        for name, task in read_queue(folder / QUEUE).items():
            latest = Checkpoints(folder / "runs" / name / "checkpoints").latest()
            if task["node"] == "two" and latest:
                lost = name
    assert lost is not None, process.communicate()
    nodes.kill("two")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"{lost}: node two was lost; it goes on elsewhere from its last checkpoint" in err
    assert "raylet" not in err and err.count(": finished in") == 2
    found = json.loads(out)
    assert {task["status"] for task in found["runs"].values()} == {"finished"}
    assert {name: task["node"] for name, task in read_queue(folder / QUEUE).items()} == {"GAN-0": "one", "GAN-1": "one"}
    lines = (folder / "runs" / lost / "trace.jsonl").read_text().splitlines()
    points = [json.loads(line)["iteration"] for line in lines if "iterationsPerSecond" in line]
    assert points == sorted(set(points)) and points[-1] == 2500  # none twice, none left out
    keys_of_run = {"size": 64, "testSize": 8, "batchSize": 8, "seed": int(lost[-1]), "iterations": 2500}
    quiet = {"traces": "lines", "sampleInterval": 0, "threads": 1, "execution": "eager", "keep": 1}
    straight = learn(
        "Generator,Discriminator", "Circle", {**keys_of_run, **quiet, "strategy": "GAN"},
        runs=tmp_path / "straight", notify=lambda sentence: None, quiet=True,
    )  # fmt: skip
    weights = [
        Checkpoints(run / "checkpoints").load().networks["generator"]
        for run in (folder / "runs" / lost, straight.directory)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
