"""A run as Python sees it: keys as keywords, the trace as arrays, samples, figures, going on, notebooks, objects."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import signal
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from ganglion.engine import api
from ganglion.engine.api import (
    ConfigError,
    DataError,
    DataSpec,
    EngineError,
    Learnt,
    NetworkContext,
    Splits,
    TensorDataset,
    compare,
    learn,
    open_run,
    runs,
    verify_resume,
)
from ganglion.engine.cli import cli
from ganglion.engine.errors import InputError, PluginError, StoreError
from ganglion.engine.keywords import python_keys
from ganglion.engine.notebook import curve
from ganglion.engine.pages.lines import Line
from ganglion.engine.registry import Registry
from ganglion.engine.tracetable import trace_table

PAIR = "Generator,Discriminator"
TINY: dict[str, Any] = {"batch_size": 8, "threads": 1, "execution": "eager", "traceInterval": 2, "sampleInterval": 0}
CIRCLE: dict[str, Any] = {**TINY, "strategy": "GAN", "size": 64, "testSize": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run that most tests look at is."""
    return tmp_path_factory.mktemp("python") / "runs"


@pytest.fixture(scope="module")
def run(folder: Path) -> Learnt:
    """Ten iterations with five trace points and two pictures."""
    keys = {**CIRCLE, "sampleInterval": 5}
    return learn(PAIR.split(","), "Circle", iterations=10, tag="tiny", runs=folder, quiet=True, **keys)


def refused(kind: type[EngineError], words: str, *arguments: Any, **keys: Any) -> None:
    """The call is refused with one sentence, and no run is made."""
    before = runs(keys.get("runs"))
    with pytest.raises(kind, match=words) as caught:
        learn(*arguments, **keys)
    assert "\n" not in str(caught.value)
    assert runs(keys.get("runs")) == before


# --- keys ---------------------------------------------------------------------------------------------------------


def test_keys_as_keywords_in_both_spellings_as_a_mapping_and_by_role() -> None:
    keys = {"generator.learningRate": 1e-4}
    more = {"batch_size": 16, "beta1": None, "discriminator": {"method": "ADAM", "Dropout": {"p": 0}}, "traces": ["a"]}
    assert python_keys(keys, more) == {
        "generator.learningRate": 1e-4,
        "batch_size": 16,
        "beta1": None,
        "discriminator.method": "ADAM",
        "discriminator.Dropout.p": 0,
        "traces": ["a"],
    }
    assert python_keys(None, {}) == {}


def test_values_of_numpy_torch_and_paths_are_plain() -> None:
    values = {"a": np.float32(0.5), "b": np.int64(3), "c": torch.tensor(2), "d": Path("x/y.csv"), "e": np.bool_(True)}
    assert python_keys(values, {}) == {"a": 0.5, "b": 3, "c": 2, "d": "x/y.csv", "e": True}
    assert [type(value) for value in python_keys(values, {}).values()] == [float, int, int, str, bool]


def test_wrong_keys_are_refused_as_on_the_command_line(run: Learnt, folder: Path) -> None:
    refused(
        ConfigError, "'batchSize' is given twice, first as 'batch_size'", PAIR, "Circle", {"batch_size": 1}, batchSize=2
    )
    refused(ConfigError, "expected a mapping of keys", PAIR, "Circle", "GAN")
    refused(ConfigError, "did you mean 'batchSize'", PAIR, "Circle", strategy="GAN", batch_sise=2)
    refused(
        ConfigError,
        r"did you mean 'generator.learningRate'",
        PAIR,
        "Circle",
        strategy="GAN",
        generator={"learningrat": 1},
    )
    refused(ConfigError, "batch_size=0: the job expects int >= 1", PAIR, "Circle", strategy="GAN", batch_size=0)
    refused(ConfigError, "no networks", strategy="GAN")
    refused(ConfigError, "did you mean 'points'", job="pionts")
    refused(ConfigError, "did you mean 'GAN'", PAIR, "Circle", strategy="GAAN")
    refused(StoreError, "there is no run 'tinny'.*did you mean 'tiny'", tag="tinny", runs=folder)


def test_a_job_by_its_name_and_plugins_by_one_name(tmp_path: Path) -> None:
    keys = {"iterations": 2, "threads": 1, "batch_size": 8, "execution": "eager", "sampleInterval": 0, "decay_start": 0}
    found = learn(job="points", runs=tmp_path, quiet=True, **keys)
    assert found.job["strategy"] == "R3GAN" and found.settings["batchSize"] == 8
    refused(PluginError, "nothing.py does not exist", PAIR, "Circle", plugins="nothing.py")


def test_progress_goes_to_the_standard_error_alone_and_quiet_silences_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    learn(PAIR, "Circle", iterations=4, runs=tmp_path, **CIRCLE)
    said = capfd.readouterr()
    assert said.out == ""
    assert re.search(r"^ +4 .*\d", said.err, re.MULTILINE) and "\x1b" not in said.err
    learn(PAIR, "Circle", iterations=4, runs=tmp_path, quiet=True, **CIRCLE)
    assert capfd.readouterr() == ("", "")


# --- what a run shows ---------------------------------------------------------------------------------------------


def test_what_a_run_is(run: Learnt, folder: Path) -> None:
    assert (run.tag, run.directory, run.status) == ("tiny", folder / "tiny", "finished")
    assert run.outcome.iteration == 10 and set(run.outcome.values) >= {"generatorLoss", "discriminatorLoss"}
    assert run.job["networks"] == ["Generator", "Discriminator"] and run.settings["batchSize"] == 8
    assert run.record["dataset"] == "Circle" and run.spec.shape == (2,)
    assert [path.name for path in run.pictures] == ["0.png", "5.png", "10.png"]
    assert repr(run) == f"<run 'tiny': finished at iteration 10, in {folder / 'tiny'}>"


def test_the_trace_is_that_of_the_file(run: Learnt) -> None:
    lines = [json.loads(line) for line in (run.directory / "trace.jsonl").read_text().splitlines()]
    points = [line for line in lines if "generatorLoss" in line]
    trace = run.trace
    assert trace.columns[:3] == ("iteration", "seconds", "iterationsPerSecond")
    assert trace["iteration"].tolist() == [2, 4, 6, 8, 10] and trace["iteration"].dtype == np.int64
    for name in ("generatorLoss", "discriminatorLoss", "seconds"):
        assert trace[name].tolist() == [point[name] for point in points]
    assert len(trace) == len(trace.columns) and dict(trace).keys() == set(trace.columns) and trace.rows == 5


def test_a_trace_has_gaps_where_a_figure_is_missing_and_says_what_it_lacks() -> None:
    lines = [
        Line("progress", 1, {"loss": 2.0}, 0.5, 10.0),
        Line("validation", 1, {"loss": 3.0}, best=True),
        Line("progress", 2, {"loss": float("nan"), "gap": 1.0}, None, None),
    ]
    table = trace_table(lines, "progress", "trace")
    np.testing.assert_array_equal(table["gap"], [np.nan, 1.0])
    np.testing.assert_array_equal(table["seconds"], [0.5, np.nan])
    assert "los" not in table and table.get("los") is None
    with pytest.raises(ConfigError, match="the trace has no column 'los'; did you mean 'loss'"):
        table["los"]
    validation = trace_table(lines, "validation", "validation")
    assert validation["best"].tolist() == [True] and validation["loss"].tolist() == [3.0]
    assert repr(trace_table([], "health", "health")) == "TraceTable(no health yet)"
    assert repr(validation) == "TraceTable(1 row, the last: iteration 1, loss 3.000, best True)"


def test_the_trace_as_a_data_frame(run: Learnt, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    frame = run.trace.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(run.trace.columns) and frame["iteration"].tolist() == [2, 4, 6, 8, 10]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        run.trace.frame()


def test_alarms_of_the_health_and_lines_that_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "record.json").write_text('{"format": 1, "status": "stopped", "iteration": 4}')
    alarm = {"kind": "collapse", "sentence": "samples are alike"}
    lines = [
        {"iteration": 2, "health": {"spread": 0.1}, "alarms": [alarm]},
        {"iteration": 4, "health": {"spread": None}, "alarms": [alarm]},
        {"iteration": 6, "health": {"spread": 0.9}},
    ]
    (tmp_path / "r" / "trace.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "{half a li")
    found = open_run("r", runs=tmp_path)
    np.testing.assert_array_equal(found.health["spread"], [0.1, np.nan, 0.9])
    assert [tuple(each) for each in found.alarms] == [("collapse", "samples are alike", 2, 4, True)]


def test_a_trace_is_read_again_when_it_has_grown(tmp_path: Path, run: Learnt) -> None:
    found = open_run("tiny", runs=run.directory.parent)
    before = found.trace.rows
    text = (run.directory / "trace.jsonl").read_text()
    try:
        (run.directory / "trace.jsonl").write_text(text + '{"iteration": 12, "generatorLoss": 1.0}\n')
        assert found.trace.rows == before + 1
    finally:
        (run.directory / "trace.jsonl").write_text(text)


# --- what a run makes ---------------------------------------------------------------------------------------------


def test_samples_are_those_of_the_command(run: Learnt, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "command.npz"
    words = ["sample", "tiny", "count=5", "seed=3", f"out={file}", "--runs", str(folder)]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    samples = run.sample(5, seed=3, out=tmp_path / "python.npz")
    assert torch.equal(samples, torch.from_numpy(np.load(file)["input"]))
    assert (tmp_path / "python.npz").read_bytes() == file.read_bytes()
    assert not torch.equal(run.sample(5, seed=4), samples)
    assert not torch.equal(run.sample(5, seed=3, checkpoint=0), samples)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"count": 0}, r"count=0: sample\(\) expects int >= 1"),
        ({"checkpoint": "newest"}, "checkpoint=newest: expected latest, best, or an iteration"),
        ({"classes": [1]}, "takes no classes"),
        ({"out": "samples.jpg"}, "the extension says what to write"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_wrong_samples_are_refused(run: Learnt, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run.sample(**asked)


def test_classes_by_number_and_by_name(tmp_path: Path) -> None:
    keys = {**TINY, "size": 64, "testSize": 8, "iterations": 1}
    found = learn(PAIR, "Ring", strategy="CGAN", runs=tmp_path, quiet=True, **keys)
    several = [
        torch.equal(found.sample(4, classes=each), found.sample(4, classes="1,0")) for each in ([1, 0], ["1", 0])
    ]
    assert several == [True, True]
    assert not torch.equal(found.sample(4, classes=1), found.sample(4, classes=0))
    with pytest.raises(ConfigError, match="knows no class '9'"):
        found.sample(4, classes=[1, 9])


def test_figures_by_metric(run: Learnt) -> None:
    (found,) = run.evaluate("points-v1").values()
    assert found.metric == "points-v1" and "withinTenth" in found.values
    kept = json.loads((run.directory / "evaluation" / "points-v1.json").read_text())
    assert kept["values"] == pytest.approx(dict(found.values))
    with pytest.raises(ConfigError, match="did you mean 'points-v1'"):
        run.evaluate("pointts-v1")
    with pytest.raises(ConfigError, match="unknown key 'sise'"):
        run.evaluate("points-v1", sise=3)


def test_networks_give_the_samples(run: Learnt) -> None:
    networks = run.networks()
    assert set(networks) == {"generator", "discriminator"} and not networks["generator"].training


# --- going on -----------------------------------------------------------------------------------------------------


def test_resume_goes_on_as_one_long_run_does(tmp_path: Path) -> None:
    keys = {**CIRCLE, "decay_iterations": 8}
    straight = learn(PAIR, "Circle", iterations=8, tag="straight", runs=tmp_path, quiet=True, **keys)
    first = learn(PAIR, "Circle", iterations=4, tag="halves", runs=tmp_path, quiet=True, **keys)
    second = first.resume(iterations=8, quiet=True)
    assert (second.tag, second.outcome.iteration, first.outcome.iteration) == ("halves", 8, 4)
    assert torch.equal(second.sample(3), straight.sample(3))
    assert second.trace["generatorLoss"].tolist() == straight.trace["generatorLoss"].tolist()
    with pytest.raises(ConfigError, match="has all its 8 iterations"):
        second.resume(quiet=True)


def test_runs_and_open_run(run: Learnt, folder: Path) -> None:
    assert [info.tag for info in runs(folder)] == ["tiny"]
    for found in (open_run("tiny", runs=folder), open_run(runs=folder)):
        assert found.directory == run.directory
        assert found.outcome.values == pytest.approx(dict(run.outcome.values)) and found.outcome.status == "finished"
    with pytest.raises(StoreError, match="did you mean 'tiny'"):
        open_run("tinny", runs=folder)


def test_ctrl_c_stores_and_stops_as_the_notebooks_button_does(tmp_path: Path) -> None:
    trace = tmp_path / "endless" / "trace.jsonl"

    def interrupt() -> None:
        end = time.monotonic() + 100
        while time.monotonic() < end and not (trace.exists() and trace.stat().st_size):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    found = learn(
        PAIR, "Circle", tag="endless", iterations=-1, runs=tmp_path, quiet=True, **{**CIRCLE, "flushSeconds": 0}
    )
    assert (found.status, found.outcome.signal) == ("stopped", signal.SIGINT)
    assert found.resume(iterations=found.outcome.iteration + 1, quiet=True).status == "finished"


# --- notebooks ----------------------------------------------------------------------------------------------------


class Shown(HTMLParser):
    """What a block of HTML has: its tags balanced, their attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_how_it_ended_curves_the_newest_picture_and_what_to_type(run: Learnt) -> None:
    shown = Shown(run._repr_html_())
    assert "finished at iteration 10" in shown.text and "samples after 10 iterations" in shown.text
    assert "run.resume(iterations=1000)" in shown.text and "generatorLoss" in shown.text
    assert sum(tag == "svg" for tag, _ in shown.tags) == len(run.trace) - 3
    (source,) = [attributes["src"] for tag, attributes in shown.tags if tag == "img"]
    assert source is not None and source.startswith("data:image/png;base64,iVBOR")
    assert {tag for tag, _ in shown.tags}.isdisjoint({"script", "link", "style", "iframe"})
    assert re.findall(r"https?://", run._repr_html_()) == []


def test_a_notebook_shows_hostile_names_as_text_and_a_damaged_run_as_a_sentence(tmp_path: Path) -> None:
    directory = tmp_path / "r"
    directory.mkdir()
    hostile = "<script>alert(1)</script>"
    record = {"format": 1, "status": "failed", "reason": hostile, "strategy": hostile, "iteration": 2, "result": {}}
    (directory / "record.json").write_text(json.dumps(record))
    lines = [{"iteration": n, "seconds": n, hostile: n, "alarms": [], "x": None} for n in (1, 2)]
    lines.append({"iteration": 2, "health": {}, "alarms": [{"kind": "collapse", "sentence": hostile}]})
    (directory / "trace.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    text = open_run("r", runs=tmp_path)._repr_html_()
    assert "<script" not in text and Shown(text).text.count(hostile) >= 4
    (directory / "record.json").write_text("[")
    assert "record.json" in Shown(open_run("r", runs=tmp_path)._repr_html_()).text


def test_a_curve_has_gaps_and_stays_inside() -> None:
    assert curve([1], [2.0], "loss") == "" and curve([1, 2], [float("nan"), 1.0], "loss") == ""
    values = [0.0, 1.0, float("nan"), -1.0, 1e308, -1e308]
    text = curve(list(range(6)), values, "loss")
    points = [pair.split(",") for line in re.findall(r'points="([^"]*)"', text) for pair in line.split()]
    assert len(re.findall("<polyline", text)) == 2 and len(points) == 5
    assert all(0 <= float(x) <= 160 and 0 <= float(y) <= 28 for x, y in points)


# --- objects in place of names ------------------------------------------------------------------------------------


def small(context: NetworkContext) -> nn.Module:
    """A network of one hidden layer."""
    return nn.Sequential(nn.Linear(context.input.shape[0], 4), nn.ReLU(), nn.Linear(4, context.output.shape[0]))


ROWS = np.random.default_rng(0).normal(size=(64, 3))


def test_a_function_a_network_and_an_array_in_place_of_names(tmp_path: Path) -> None:
    def Generator(context: NetworkContext) -> nn.Module:  # bears the name of a built-in, and is not it
        return small(context)

    discriminator = nn.Sequential(nn.Linear(3, 1))
    before = discriminator[0].weight.clone()
    keys = {**TINY, "strategy": "GAN", "runs": tmp_path, "quiet": True, "generatorDim": 5}
    found = learn([Generator, discriminator], ROWS, iterations=4, **keys)
    assert found.job["networks"] == ["python:Generator", "python:Sequential"] and found.job["dataset"] == "python:Data"
    assert found.tag == "gan-data-1" and found.job["plugins"] == []
    assert found.networks()["generator"][0].weight.shape == (4, 5)
    assert torch.equal(discriminator[0].weight, before), "a copy learns"
    assert torch.equal(found.networks(checkpoint=0)["discriminator"][0].weight, before)
    again = found.resume(iterations=6, quiet=True)
    assert again.outcome.iteration == 6 and again.sample(2).shape == (2, 3)
    for call in (open_run(found.tag, runs=tmp_path).sample, lambda: learn(tag=found.tag, iterations=9, runs=tmp_path)):
        with pytest.raises(ConfigError, match="the job names Generator, an object of the Python program that began it"):
            call()
    with pytest.raises(StoreError, match="the data of Data have changed"):
        learn([Generator, discriminator], ROWS + 1, iterations=9, tag=found.tag, **keys)


def test_the_end_of_a_run_with_objects_names_no_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    learn(PAIR, ROWS, iterations=2, strategy="GAN", runs=tmp_path, **TINY)
    said = capfd.readouterr().err
    assert "run.sample(64)" in said and "ganglion sample" not in said


def test_a_registered_class_is_its_name_and_an_importable_thing_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "importable_networks.py").write_text(
        "from torch import nn\n\n\ndef wide(context):\n"
        "    return nn.Sequential(nn.Linear(context.input.shape[0], context.output.shape[0]))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    wide = importlib.import_module("importable_networks").wide
    gan = Registry().load().get("strategy", "GAN").thing
    keys = {**CIRCLE, "strategy": gan, "iterations": 2, "runs": tmp_path / "runs", "quiet": True}
    job = learn([wide, "Discriminator"], "Circle", **keys).job
    assert job["networks"] == ["importable_networks:wide", "Discriminator"] and job["strategy"] == "GAN"
    assert job["plugins"] == ["importable_networks"]
    words = ["sample", "gan-circle-1", "--plugin", "importable_networks", "--runs", str(tmp_path / "runs")]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize(
    ("data", "kind", "shape", "limits"),
    [
        (torch.zeros(16, 3), "vector", (3,), None),
        (np.zeros((16, 5, 2), dtype=np.int64), "sequence", (5, 2), None),
        (torch.rand(16, 1, 8, 8), "image", (1, 8, 8), (0.0, 1.0)),
        (torch.rand(16, 1, 8, 8) * 2 - 1, "image", (1, 8, 8), (-1.0, 1.0)),
        (torch.full((16, 1, 8, 8), 255, dtype=torch.uint8), "image", (1, 8, 8), (0.0, 1.0)),
    ],
)
def test_what_rows_are_follows_from_their_shape(data: Any, kind: str, shape: tuple[int, ...], limits: Any) -> None:
    from ganglion.engine.given import _rows

    made = _rows(data)
    assert (made.spec.kind, made.spec.shape, made.spec.value_range) == (kind, shape, limits)
    assert made.rows(torch.tensor([0])).input.dtype == torch.float32
    assert float(made.rows(torch.tensor([0])).input.max()) <= 1.0


def test_rows_with_targets_and_whole_splits(tmp_path: Path) -> None:
    keys = {**TINY, "iterations": 2, "runs": tmp_path, "quiet": True}
    assert learn("MLP", (torch.randn(32, 3), torch.arange(32) % 4), **keys).spec.classes == ("0", "1", "2", "3")
    assert learn("MLP", (torch.randn(32, 3), torch.randn(32)), **keys).spec.target_shape == (1,)
    spec = DataSpec("vector", (2,))
    splits = Splits(TensorDataset(spec, torch.randn(32, 2)), test=TensorDataset(spec, torch.randn(16, 2)))
    found = learn(PAIR, splits, strategy="GAN", **keys)
    assert "transport-v1" in found.evaluate()


@pytest.mark.parametrize(
    ("networks", "dataset", "strategy", "kind", "words"),
    [
        (PAIR, np.zeros(4), "GAN", DataError, r"data of shape \(4,\): expected rows of features"),
        (PAIR, [["a", "b"]], "GAN", DataError, "neither a tensor nor an array of numbers"),
        ("MLP", (np.zeros((4, 2)), np.zeros(3)), "FeedForward", DataError, "targets: there are 3 of them, and 4 rows"),
        ("MLP", (np.zeros((4, 2)), np.array([0, -1, 1, 1])), "FeedForward", DataError, "-1 is among them"),
        ([lambda context: None, small], ROWS, "GAN", PluginError, "'<lambda>' cannot name a network"),
        ([3, small], ROWS, "GAN", ConfigError, "int is neither a name, nor a network"),
        (PAIR, "Circle", int, PluginError, "must be a subclass of LearningStrategy, not the class int"),
    ],
)
def test_wrong_objects_are_refused(networks: Any, dataset: Any, strategy: Any, kind: Any, words: str) -> None:
    refused(kind, words, networks, dataset, strategy=strategy, iterations=2, **TINY)


# --- the other commands -------------------------------------------------------------------------------------------


def test_compare_and_verify_resume_take_keywords_and_refuse_as_the_commands_do() -> None:
    with pytest.raises(ConfigError, match="did you mean 'NSGAN'"):
        compare(["GAN", "NSGUN"], "Ring", networks=PAIR)
    with pytest.raises(ConfigError, match="entry NSGAN: unknown key 'penalti'"):
        compare("GAN,NSGAN", "Ring", networks=PAIR, seeds=2, budget="iterations:2", NSGAN={"penalti": "R1"})
    with pytest.raises(InputError, match="expected at least 6, two for each of 3 kills"):
        verify_resume(PAIR, "Circle", strategy="GAN", iterations=5, kills=3, size=64, batch_size=8)


def test_what_is_public_has_types_and_says_what_it_is() -> None:
    functions = [api.learn, api.open_run, api.runs, api.compare, api.verify_resume]
    methods = [each for name, each in vars(Learnt).items() if not name.startswith("_")]
    for thing in (*functions, *methods):
        function = getattr(thing, "fget", None) or getattr(thing, "func", None) or thing
        assert inspect.getdoc(function), function
        assert "return" in function.__annotations__, function
