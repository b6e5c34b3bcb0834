"""One run of a comparison, in a process of its own: learns, judges, and answers with one line of JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganglion.engine.errors import EngineError, RunError, fold

if TYPE_CHECKING:
    from ganglion.engine.learner import Outcome
    from ganglion.engine.registry import Registry
    from ganglion.engine.repository import Run

PATIENCE = 120.0  # seconds that a process of a comparison that was killed may take to store its run and end


def main() -> int:
    """Read a task from the standard input, carry it out, write what came of it. The exit code is the task's."""
    answer = sys.stdout
    sys.stdout = sys.stderr  # whatever a plugin prints, the answer is one line
    task = json.loads(_read_line())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = carry_out(task)
        code = 0
    except EngineError as error:
        result, code = {"status": "failed", "error": str(error)}, error.exit_code
    except Exception as error:
        text = traceback.format_exc()
        result, code = {"status": "failed", "error": f"{type(error).__name__}: {error}", "traceback": text}, 1
    from ganglion.engine.documents import plain

    answer.write(json.dumps(plain(result), allow_nan=False) + "\n")
    answer.flush()
    return code


def _read_line() -> bytes:
    """The first line of the standard input, without Python's buffer, whose lock a waiting thread would keep."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            raise SystemExit(143)
        line += part
    return bytes(line)


def _end_with_parent() -> None:
    """The standard input ends when the comparison does, however it does: then store, and stop."""
    while os.read(0, 65536):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def carry_out(task: Mapping[str, Any]) -> dict[str, Any]:
    """Learn, or go on learning, and judge; in a folder of this machine where runs are kept at a URL.

    Raises EngineError.
    """
    if not task.get("mirror"):
        return _carry_out(task)
    import tempfile

    from ganglion.engine.mirror import mirrored

    tag = task["tag"]
    with (
        tempfile.TemporaryDirectory(prefix="ganglion-", ignore_cleanup_errors=True) as folder,
        mirrored(f"{task['mirror']}/{tag}", Path(folder) / tag),
    ):
        return _carry_out({**task, "runs": folder})


def _carry_out(task: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    from ganglion.engine.registry import Registry
    from ganglion.engine.repository import Repository

    if task["threads"]:
        torch.set_num_threads(int(task["threads"]))
    repository = Repository(task["runs"])
    run = repository.run(task["tag"])
    until = time.monotonic() + PATIENCE
    while run.locked and time.monotonic() < until:
        time.sleep(0.1)
    notices: list[str] = []
    learnt = _learnt(run, task, notices.append)
    if learnt["status"] == "stopped":
        return learnt
    registry = Registry().load(task["plugins"])
    evaluations, problems = {}, {}
    for judging in task["judging"]:
        try:
            evaluations[judging["name"]] = _judged(registry, run, judging, task)
        except EngineError as error:  # what was learnt, and what others find, is kept
            problems[judging["name"]] = str(error).removeprefix(f"run '{run.tag}': ")
        except Exception as error:
            traceback.print_exc()
            problems[judging["name"]] = f"{type(error).__name__}: {error}"
        if judging["name"] in problems and judging["metric"] is None:
            evaluations[judging["name"]] = _stored(run, judging, learnt["iteration"])
    return {**learnt, "evaluations": evaluations, "problems": problems, "notices": notices}


def _stored(run: Run, judging: Mapping[str, Any], iteration: int) -> dict[str, Any]:
    """What the metrics found that came before the one that failed."""
    from ganglion.engine.documents import read_json

    documents = [read_json(path) for path in sorted(run.evaluation().glob("*.json"))]
    same = [each for each in documents if each["iteration"] == iteration and each["keys"] == judging["keys"]]
    return {each["metric"]: each["values"] for each in same}


def _judged(registry: Registry, run: Run, judging: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one evaluation, by metric."""
    from ganglion.engine.evaluation import evaluate_run

    drawing = {fold(key): value for key, value in judging["keys"].items() if fold(key) in ("checkpoint", "seed")}
    keys = {key: value for key, value in judging["keys"].items() if fold(key) not in drawing}
    checkpoint, seed = drawing.get("checkpoint", "latest"), int(drawing.get("seed", 0))
    others = Path(task["others"])
    found = evaluate_run(registry, run, judging["metric"], checkpoint, task["device"], seed, keys, _say, others)
    return {each.metric: dict(each.values) for each in found}


def _learnt(run: Run, task: Mapping[str, Any], notify: Callable[[str], None]) -> dict[str, Any]:
    """How far the run came and in how many seconds; it learns unless it is finished."""
    from ganglion.engine.launch import learn

    common: dict[str, Any] = {"plugins": task["plugins"], "runs": task["runs"], "notify": notify, "quiet": True}
    if not run.checkpoints().iterations():
        clean = {"clean": "true"} if run.exists else {}  # it ended before it had stored anything
        keys = {**task["given"], "strategy": task["strategy"], "tag": task["tag"], "seed": str(task["seed"]), **clean}
        job = {"settings": task["settings"]}
        outcome = _whole(learn(task["networks"], task["dataset"], keys, job=job, **common).outcome)
        return {"status": outcome.status, "iteration": outcome.iteration, "seconds": outcome.seconds}
    done = _finished(run, task["budget"])
    if done is None:
        outcome = _whole(learn(None, None, {"tag": task["tag"]}, **common).outcome)
        done = {"status": outcome.status, "iteration": outcome.iteration, "seconds": outcome.seconds}
    return done


def _whole(outcome: Outcome) -> Outcome:
    """Raises RunError for a run that an alarm of its health stopped: it would be stopped again."""
    if outcome.status == "stopped" and not outcome.signal:
        raise RunError(outcome.reason)
    return outcome


def _finished(run: Any, budget: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a run came to that has nothing left to learn, also where it was killed before it could say so."""
    record = run.read_record()
    if record.get("status") == "finished":
        return {"status": "finished", "iteration": record["iteration"], "seconds": record["seconds"]}
    own = run.checkpoints().load().state["learner"]
    used = own["iteration"] if budget["kind"] == "iterations" else own["seconds"]
    if used < budget["amount"]:
        return None
    run.update_record(status="finished", iteration=own["iteration"], seconds=round(own["seconds"], 3))
    return {"status": "finished", "iteration": own["iteration"], "seconds": own["seconds"]}


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
