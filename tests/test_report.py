"""`ganglion report`: what it reads, what it writes, and what it answers to what is missing, damaged or hostile."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import call, refused, runs_folder, tiny
from madeup import JOB, RECORD, SETTINGS, make_run, png, points

from ganglion.engine.pages import assets
from ganglion.engine.pages.lines import Alarm, Line, TraceReader
from ganglion.engine.pages.markup import data_script, element, safe_script
from ganglion.engine.pages.series import History, thinned
from ganglion.engine.report.reading import read_run
from ganglion.engine.report.results import side_by_side
from ganglion.engine.report.settings import changed, commands, differences
from ganglion.engine.repository import Repository
from ganglion.engine.runs import Run

pytest.importorskip("bokeh", reason="needs the extra report: pip install ganglion[report]")

MIB = 2**20


def report(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The page that the command writes."""
    said = call(capsys, "ganglion", "report", *words)
    assert said.code == 0, said
    return Path(said.out.strip()).read_text(encoding="utf-8")


def without_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def held(page: str) -> list[dict[str, Any]]:
    """The data that the page gives its scripts."""
    found = re.search(r'<script type="application/json" id="runs">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    runs: list[dict[str, Any]] = json.loads(found[1])
    return runs


# --- reading a trace ----------------------------------------------------------------------------------------------


def test_a_reader_goes_on_where_it_was_and_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    reader = TraceReader(path)
    assert reader.read().lines == []
    path.write_text('{"iteration": 1, "loss": 2.0}\n{"iteration": 2, "lo')
    assert [line.values for line in reader.read().lines] == [{"loss": 2.0}]
    with open(path, "a") as file:
        file.write('ss": 3.0}\n')
    again = reader.read()
    assert [(line.iteration, line.values) for line in again.lines] == [(2, {"loss": 3.0})]
    assert not again.restarted and reader.offset == path.stat().st_size and reader.damaged == 0


@pytest.mark.parametrize("longer", [False, True])
def test_a_reader_begins_again_when_the_trace_was_cut_or_replaced(tmp_path: Path, longer: bool) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(f'{{"iteration": {number}, "loss": 1.0}}\n' for number in range(1, 9)))
    reader = TraceReader(path)
    assert len(reader.read().lines) == 8
    path.write_text("".join(f'{{"iteration": {number}, "loss": 7.0}}\n' for number in range(1, 20 if longer else 4)))
    batch = reader.read()
    assert batch.restarted and len(batch.lines) == (19 if longer else 3)


def test_lines_that_no_run_writes_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    wrong = [b"{", b"[1]", b'{"iteration": -1}', b'{"iteration": true}', b'{"iteration": 1e3}', b"[" * 100_000, b"\xff"]
    path.write_bytes(
        b"\n".join(wrong) + b'\n\n{"iteration": 5, "a": 1, "b": "x", "c": null, "d": true, "e": 1' + b"0" * 400
    )
    with open(path, "ab") as file:
        file.write(b"}\n")
    reader = TraceReader(path)
    (line,) = reader.read().lines
    assert reader.damaged == len(wrong)
    assert set(line.values) == {"a", "c", "e"} and math.isnan(line.values["c"]) and math.isinf(line.values["e"])


def test_thinning_keeps_every_extreme_and_the_ends() -> None:
    count = 200_000
    x = [10.0 * (index + 1) for index in range(count)]
    y = [math.sin(index / 5000) for index in range(count)]
    y[123_456], y[50_001], y[77_777] = 9.0, -9.0, math.nan
    chosen = thinned(x, y, 1500)
    assert len(chosen) <= 1500 and chosen == sorted(set(chosen))
    assert {0, 50_001, 77_777, 123_456, count - 1} <= set(chosen)


def test_a_history_stays_small_however_long_the_run_is() -> None:
    history = History()
    history.add(Line("progress", number, {"loss": 5.0 if number == 70_000 else 1.0}) for number in range(1, 100_001))
    (group,) = history.document()["groups"]
    (curve,) = group["curves"]
    assert len(history.groups["losses"]["loss"].x) <= 20_000
    assert len(curve["x"]) <= 1500 and curve["x"][0] == 1 and curve["x"][-1] == 100_000
    assert curve["y"][curve["x"].index(70_000)] == 5.0


def test_figures_are_grouped_and_what_is_not_finite_is_null() -> None:
    history = History()
    history.add(
        [
            Line("progress", 100, {"generatorLoss": 1.0, "R1": math.nan}, 1.5, 66.6),
            Line("health", 100, {"generator.gradient": 1.0, "discriminator.gradient": 2.0, "accuracyReal": 0.5}),
            Line("validation", 100, {"error": 0.25}, best=True),
        ]
    )
    document = history.document()
    names = {group["key"]: [curve["name"] for curve in group["curves"]] for group in document["groups"]}
    assert list(names) == ["losses", "parts", "validation", "health.gradient", "health.accuracy", "speed"]
    assert names["health.gradient"] == ["generator.gradient", "discriminator.gradient"]
    assert document["groups"][1]["curves"][0]["y"] == [None]
    assert (document["last"], document["seconds"], document["rate"], history.best) == (100, 1.5, 66.6, 100)


def test_what_is_new_is_a_document_of_its_own_and_a_run_that_went_back_takes_its_points_along() -> None:
    history = History()
    history.add(Line("progress", number, {"loss": 1.0}) for number in (100, 200, 300))
    new = [Line("progress", 200, {"loss": 2.0})]
    history.add(new)
    assert history.document()["groups"][0]["curves"] == [{"name": "loss", "x": [100, 200], "y": [1.0, 2.0]}]
    assert history.document(new)["groups"][0]["curves"] == [{"name": "loss", "x": [200], "y": [2.0]}]


def test_alarms_have_a_beginning_and_an_end() -> None:
    first, other = Alarm("collapse", "alike"), Alarm("divergence", "grows")
    told = {100: (), 200: (first,), 300: (first, other), 400: (other,), 500: (), 600: (first,)}
    history = History()
    history.add(Line("health", iteration, {}, alarms=alarms) for iteration, alarms in told.items())
    spans = [(alarm["kind"], alarm["first"], alarm["last"], alarm["over"]) for alarm in history.document()["alarms"]]
    assert spans == [("collapse", 200, 300, True), ("divergence", 300, 400, True), ("collapse", 600, 600, False)]


# --- markup -------------------------------------------------------------------------------------------------------


def test_only_elements_are_markup() -> None:
    assert element("b", "<i>", element("br"), class_='"x"') == '<b class="&quot;x&quot;">&lt;i&gt;<br></b>'
    assert element("p", "a\u202eb\x1b[31m", hidden=True, id=None) == "<p hidden>ab</p>"
    data = data_script("d", {"a": "</script><!--&\u2028"})
    assert data.count("<") == 2 and json.loads(re.sub("<.*?>", "", data)) == {"a": "</script><!--&\u2028"}
    assert "</script" not in safe_script("'</script>'")


# --- what is on the page ------------------------------------------------------------------------------------------


def test_the_page_tells_what_was_run_and_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_run(runs_folder(), "gan-1", samples=(0, 1000, 2000))
    said = call(capsys, "ganglion", "report", "gan-1", "--json")
    told = json.loads(said.out)
    path = directory / "report.html"
    assert told == {"tags": ["gan-1"], "file": str(path), "bytes": path.stat().st_size} and said.err == ""
    page = without_scripts(path.read_text(encoding="utf-8"))
    assert "Finished after 2,000 iterations in 20.0 s: all iterations done." in page
    assert "learn Generator,Discriminator Circle strategy=GAN batchSize=16 penalty=R1,R2" in page
    assert f"learn --job {directory / 'job.yaml'}" in page
    assert "Not judged yet: ganglion evaluate gan-1" in page and "2.13.0" in page
    (run,) = held(path.read_text(encoding="utf-8"))
    assert [frame["iteration"] for frame in run["frames"]] == [0, 1000, 2000]
    assert run["frames"][0]["alt"] == "Samples of run gan-1 after 0 iterations"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            {"status": "stopped", "iteration": 700, "reason": "Ctrl-C"},
            "Stopped after 2,000 of 2,000 iterations in 20.0 s",
        ),
        ({"status": "failed", "reason": "loss is nan"}, "Failed after 2,000 of 2,000 iterations: loss is nan."),
        ({"status": "running"}, "Interrupted after 2,000 of 2,000 iterations: its process ended without a word."),
    ],
)
def test_every_ending_is_a_sentence(capsys: pytest.CaptureFixture[str], record: dict[str, Any], expected: str) -> None:
    make_run(runs_folder(), "gan-1", record={**RECORD, **record})
    assert expected in report(capsys, "gan-1")


def test_a_run_that_is_learning_has_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_run(runs_folder(), "gan-1", points(7), record={**RECORD, "status": "running", "iteration": 0})
    run = Run(directory)
    run.lock()
    try:
        assert "Still learning when this page was written: 700 of 2,000 iterations." in report(capsys)
    finally:
        run.release()


def test_what_is_damaged_or_missing_is_told_and_the_rest_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_run(runs_folder(), "gan-1", samples=(5,))
    (directory / "record.json").write_text("{")
    (directory / "job.yaml").write_text("a: [")
    (directory / "samples" / "7.png").write_bytes(b"not a picture")
    (directory / "samples" / "8.png").symlink_to("/dev/zero")
    (directory / "samples" / "old.png").write_bytes(png(4, 1))
    (directory / "evaluation").mkdir()
    (directory / "evaluation" / "a.json").write_text("[]")
    with open(directory / "trace.jsonl", "a") as file:
        file.write("what\n")
    said = call(capsys, "ganglion", "report", "gan-1")
    assert said.code == 0 and all(name in said.err for name in ("record.json", "job.yaml", "a.json", "1 damaged line"))
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert "Its record cannot be read." in page and "Its job cannot be read." in page
    (run,) = held(page)
    assert [frame["iteration"] for frame in run["frames"]] == [5] and run["document"]["last"] == 2000


def test_a_run_without_anything_has_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_run(runs_folder(), "gan-1", [])
    (directory / "trace.jsonl").unlink()
    page = report(capsys, "gan-1")
    assert "There are no trace points." in page and "There are no pictures of samples." in page


def test_pictures_are_left_out_evenly_before_the_page_gets_too_large(capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_run(runs_folder(), "gan-1")
    for iteration in range(0, 2100, 100):
        (directory / "samples" / f"{iteration}.png").write_bytes(png(8, 3, b"x" * (MIB // 2)))
    page = report(capsys, "gan-1")
    (run,) = held(page)
    shown = [frame["iteration"] for frame in run["frames"]]
    assert len(page) < 10 * MIB and 5 <= len(shown) < 21 and shown[0] == 0 and shown[-1] == 2000
    assert f"{21 - len(shown)} pictures in between are left out" in page


def test_nothing_that_a_run_holds_becomes_markup(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    trace = [{**points(1)[0], evil: 1.0}, {"iteration": 100, "health": {evil: 1.0}}]
    trace[1]["alarms"] = [{"kind": evil, "sentence": evil}]
    job = {**JOB, "dataset": evil, "settings": {**SETTINGS, evil: evil}}
    record = {**RECORD, "reason": evil, "versions": {evil: evil}, "defaults": {evil: evil}, "status": "failed"}
    directory = make_run(runs_folder(), "gan-1", trace, job, record)
    (directory / "evaluation").mkdir()
    document = {"metric": evil, "values": {evil: 1.0}, "details": {evil: {"columns": [evil], "rows": [[evil]]}}}
    (directory / "evaluation" / "x.json").write_text(json.dumps(document))
    page = report(capsys, "gan-1")
    assert "<img src=x" not in page and "alert(2)</script>" not in page
    scripts = 3 + len(assets.SCRIPTS)  # the data, Bokeh's, the report's own start
    assert page.count("<script") == page.count("</script") == scripts
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


# --- settings and commands ----------------------------------------------------------------------------------------


def test_the_readable_command_gives_the_same_job(capsys: pytest.CaptureFixture[str]) -> None:
    keys = ("penalty=R1", "R1.weight=5", "generator.learningRate=3e-4", "discriminator.method=SGD", "trace=false")
    assert call(capsys, *tiny("tag=a", *keys)).code == 0
    reading = read_run(Repository().run("a"))
    found = dict((key, (value, default)) for key, value, default in changed(reading))
    assert found["weight"][0] == "5" and found["penalty"] == ("R1", "none")
    assert "seed" not in found and "execution" not in found and "decayIterations" not in found
    command = shlex.split(commands(reading).readable)
    assert call(capsys, *command, "tag=b").code == 0
    jobs = [yaml.safe_load((runs_folder() / tag / "job.yaml").read_text()) for tag in "ab"]
    assert jobs[0] == jobs[1]
    # Going on asks for what it names, and for nothing that the engine had settled.
    assert call(capsys, "learn", "tag=a", "iterations=3", "keep=7").code == 0
    assert {key for key, _, _ in changed(read_run(Repository().run("a")))} == {*found, "keep"}


def test_runs_that_differ(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(runs_folder(), "one")
    make_run(
        runs_folder(), "two", job={**JOB, "strategy": "WGAN", "settings": {**SETTINGS, "batchSize": 32, "clip": 1.0}}
    )
    readings = [read_run(Repository().run(tag)) for tag in ("one", "two")]
    rows = [["strategy", "GAN", "WGAN"], ["batchSize", "16", "32"], ["clip", "not there", "1"]]
    assert differences(readings) == rows
    page = report(capsys, "one", "two", "one")
    assert "2 runs side by side" in page and (runs_folder() / "one" / "report-compared.html").is_file()
    assert [run["label"] for run in held(page)] == ["one", "two"]


def test_the_better_run_is_marked_only_where_that_is_said_and_clear(capsys: pytest.CaptureFixture[str]) -> None:
    for tag, close, clear in (("one", 0.5, 0.9), ("two", 0.6, 0.2)):
        folder = make_run(runs_folder(), tag) / "evaluation"
        folder.mkdir()
        values = {"close": close, "closeLow": close - 0.2, "closeHigh": close + 0.2, "clear": clear, "clearStd": 0.1}
        (folder / "m.json").write_text(json.dumps({"metric": "m", "values": values, "seed": 0, "keys": {}}))
    readings = [read_run(Repository().run(tag)) for tag in ("one", "two")]
    rows = {row.name: row for row in side_by_side(readings, {"m.close": "higher", "m.clear": "lower"})}
    assert rows["m.close (higher is better)"].best == (False, False)
    assert rows["m.clear (lower is better)"].best == (False, True)
    assert rows["m.close (higher is better)"].cells[0] == "0.5000 (95 %: 0.3000 to 0.7000)"
    assert rows["m.clear (lower is better)"].cells == ["0.9000 ± 0.1000", "0.2000 ± 0.1000"]
    assert not any(any(row.best) for row in side_by_side(readings, {}))
    assert "★ 0.2000 ± 0.1000" in report(capsys, "one", "two", "better=m.close:higher,m.clear:lower")


# --- wrong input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["gan-2"], ["there is no run 'gan-2'", "did you mean 'gan-1'?"]),
        (["gan-1", "../x"], ["tag='../x'"]),
        (["gan-1", "out=page.pdf"], ["out=page.pdf", ".html"]),
        (["gan-1", "out=/nowhere/page.html"], ["there is no folder /nowhere"]),
        (["gan-1", "ouput=x.html"], ["did you mean 'out' of ganglion report?"]),
        (["gan-1", "better=m.x:up"], ["expected metric.figure:higher or metric.figure:lower"]),
        (["gan-1", "better=m.x:lower"], ["no run has been judged by 'm.x'"]),
    ],
)
def test_wrong_words_are_answered_with_one_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]
) -> None:
    make_run(runs_folder(), "gan-1")
    refused(capsys, ["ganglion", "report", *words], *parts)


def test_without_bokeh_one_sentence_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(runs_folder(), "gan-1")
    monkeypatch.setattr(assets, "find_spec", lambda name: None)
    refused(capsys, ["ganglion", "report"], "needs the bokeh package", "pip install ganglion[report]")


def test_a_report_needs_no_torch() -> None:
    make_run(runs_folder(), "gan-1")
    code = (
        "import sys; from ganglion.engine.reportcommand import write_report; write_report(['gan-1'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'bokeh', 'matplotlib')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
