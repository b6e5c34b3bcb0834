"""The lines trace: valid JSON, one object per event, buffered, with an exact offset."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ganglion.engine.errors import StoreError
from ganglion.engine.lines import LinesSettings, LinesTrace
from ganglion.engine.trace import CheckpointStored, Notice, TraceContext, TracePoint, Validated

NAN, INFINITY = float("nan"), float("inf")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(directory: Path, clock: Clock | None = None) -> LinesTrace:
    return LinesTrace(LinesSettings(), TraceContext(directory), clock or Clock())


def read(directory: Path) -> list[dict[str, Any]]:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (directory / "trace.jsonl").read_text().splitlines()]


def test_one_object_per_trace_point(tmp_path: Path) -> None:
    trace = make(tmp_path)
    trace.receive(TracePoint(100, 1.23456, 81.0000001, {"generator": 0.5, "discriminator": 1.25}))
    trace.receive(Validated(100, {"accuracy": 0.75}, best=True))
    trace.receive(Notice("not for programs"))
    trace.close()
    assert read(tmp_path) == [
        {"iteration": 100, "seconds": 1.235, "iterationsPerSecond": 81.0, "generator": 0.5, "discriminator": 1.25},
        {"iteration": 100, "validation": {"accuracy": 0.75}, "best": True},
    ]


def test_numbers_that_are_not_finite_are_null_and_named(tmp_path: Path) -> None:
    trace = make(tmp_path)
    trace.receive(TracePoint(1, 0.0, INFINITY, {"a": NAN, "b": 1.0, "c": -INFINITY}))
    trace.receive(Validated(1, {"d": NAN, "e": 2.0}, best=False))
    trace.close()
    point, validated = read(tmp_path)
    assert (point["a"], point["b"], point["c"]) == (None, 1.0, None)
    assert point["nonFinite"] == ["iterationsPerSecond", "a", "c"]
    assert validated == {"iteration": 1, "validation": {"d": None, "e": 2.0}, "best": False, "nonFinite": ["d"]}


def test_a_value_cannot_take_the_place_of_a_fixed_key(tmp_path: Path) -> None:
    trace = make(tmp_path)
    trace.receive(TracePoint(7, 1.0, 2.0, {"iteration": 0.25, "nonFinite": 0.5}))
    trace.close()
    assert read(tmp_path)[0] == {
        "iteration": 7,
        "seconds": 1.0,
        "iterationsPerSecond": 2.0,
        "progress.iteration": 0.25,
        "progress.nonFinite": 0.5,
    }


def test_lines_reach_the_disk_at_most_every_second_and_at_checkpoints(tmp_path: Path) -> None:
    clock = Clock()
    trace = make(tmp_path, clock)
    seen = []
    for iteration, now in ((1, 100.0), (2, 100.5), (3, 100.9), (4, 101.1), (5, 101.2)):
        clock.now = now
        trace.receive(TracePoint(iteration, 0.0, 1.0, {}))
        seen.append(len(read(tmp_path)))
    assert seen == [1, 1, 1, 4, 4]
    trace.receive(CheckpointStored(5, tmp_path))
    assert len(read(tmp_path)) == 5
    trace.close()


def test_the_offset_is_the_length_of_the_file(tmp_path: Path) -> None:
    clock = Clock()
    trace = make(tmp_path, clock)
    assert trace.offset() == 0
    for iteration in range(3):
        trace.receive(TracePoint(iteration, 0.0, 1.0, {"ü": 1.0}))
    offset = trace.offset()
    assert offset == (tmp_path / "trace.jsonl").stat().st_size > 0
    trace.receive(TracePoint(3, 0.0, 1.0, {}))
    trace.close()
    os.truncate(tmp_path / "trace.jsonl", offset)  # what resuming does
    again = make(tmp_path)
    again.receive(TracePoint(3, 0.0, 1.0, {"b": 1.0}))
    again.close()
    assert [line["iteration"] for line in read(tmp_path)] == [0, 1, 2, 3]


def test_a_trace_without_events_leaves_no_file(tmp_path: Path) -> None:
    make(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence_and_closing_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").symlink_to("/dev/full")
    trace = make(tmp_path)
    with pytest.raises(StoreError, match=r"trace\.jsonl: cannot be written \(No space left on device\)"):
        trace.receive(TracePoint(1, 0.0, 1.0, {}))
    trace.close()


def test_a_partial_write_is_completed_without_repeating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = make(tmp_path)

    class Slow:
        def __init__(self) -> None:
            self.content = b""

        def write(self, data: bytearray) -> int:
            self.content += bytes(data[:7])
            return len(data[:7])

        def close(self) -> None:
            pass

    slow = Slow()
    monkeypatch.setattr(trace, "_open", lambda: slow)
    trace.receive(TracePoint(1, 0.0, 1.0, {"a": 1.0}))
    assert json.loads(slow.content) == {"iteration": 1, "seconds": 0.0, "iterationsPerSecond": 1.0, "a": 1.0}
    trace.close()
