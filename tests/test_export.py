"""`ganglion export`: what is written, that it gives what the run gives, without Ganglion too, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch
from commandline import Said, call, refused
from tiny import QUIET, TINY
from torch import Tensor

from ganglion.engine import exporting
from ganglion.engine.contracts import NetworkContext, NoisePart, RoleShape
from ganglion.engine.exportformats import FORMATS
from ganglion.engine.exportgraphs import Graph, SampleGraph, graph_of
from ganglion.engine.exporting import Exported, export
from ganglion.engine.launch import learn
from ganglion.engine.opening import Opened, draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.streams import RandomStream
from ganglion.strategies.adversarial import AdversarialStrategy

JOBS = {
    "digits": (
        "Generator,Discriminator", "Digits",
        {"strategy": "CGAN", "generatorDim": 5, "batchSize": 8, "generator.ema": 0.5},
    ),
    "forecast": (
        "Recurrent,Recurrent", "Sine",
        {**TINY["ForecastGAN"].keys, "strategy": "ForecastGAN", "generator.activation": "sigmoid"},
    ),
    "codes": (TINY["TimeGAN"].networks, "AR", {**TINY["TimeGAN"].keys, "strategy": "TimeGAN"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs of a few iterations: images with classes, series with a history, series by codes."""
    runs = tmp_path_factory.mktemp("runs")
    for tag, (networks, dataset, keys) in JOBS.items():
        learn(networks, dataset, {**QUIET, **keys, "tag": tag, "iterations": 3}, runs=runs)
    return runs


@pytest.fixture
def runs(learnt: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the one that commands look in."""
    monkeypatch.setenv("GANGLION_RUNS", str(learnt))
    return learnt


def opened(runs: Path, tag: str) -> Opened:
    return open_run(Registry().load(), Repository(runs).find(tag))


def noise_of(run: Opened, count: int) -> Tensor:
    """The noise that `ganglion sample TAG count=COUNT` draws."""
    noise = run.strategy.noise(count, RandomStream(0, "sample", run.device))
    assert noise is not None
    return noise


def exported(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    said = call(capsys, "ganglion", "export", *words, "--json")
    assert said.code == 0, said
    return dict(json.loads(said.out))


@pytest.fixture(scope="module")
def files(learnt: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Exported]:
    """What the images' generator is exported to, by format; without `onnx` where that is not installed."""
    folder, run = tmp_path_factory.mktemp("export"), opened(learnt, "digits")
    return {kind: export(run, kind, None, "data", f"{folder}/") for kind in FORMATS}


def eager(graph: Graph, **given: Tensor) -> Tensor:
    """What a graph gives before anything is made of it."""
    with torch.no_grad():
        made: Tensor = graph(**given)
        return made


# --- what comes out -----------------------------------------------------------------------------------------------


def test_archive_and_model_give_the_samples_of_the_run(runs: Path, files: Mapping[str, Exported]) -> None:
    run = opened(runs, "digits")
    noise, wanted = noise_of(run, 7), draw_samples(run, 7, 0)
    given = {"noise": noise[:, :5], "label": torch.tensor([0, 1, 2, 3, 4, 5, 6])}  # classes come in turn
    with torch.no_grad():
        by_hand = (run.networks["generator"](noise) + 1) / 2  # from -1..1 to the grey values of the data
    assert torch.allclose(wanted, by_hand, atol=1e-6)

    module = torch.export.load(files["torch"].paths[0]).module()
    assert torch.equal(module(**given), wanted) and not module(**given).requires_grad
    assert module(noise=torch.zeros(33, 5), label=torch.zeros(33, dtype=torch.int64)).shape == (33, 1, 8, 8)

    session = onnxruntime.InferenceSession(files["onnx"].paths[0], providers=["CPUExecutionProvider"])
    (made,) = session.run(["samples"], {name: value.numpy() for name, value in given.items()})
    assert np.allclose(made, wanted.numpy(), atol=1e-5)
    assert [(each.name, each.shape, each.type) for each in session.get_inputs()] == [
        ("noise", ["batch", 5], "tensor(float)"),
        ("label", ["batch"], "tensor(int64)"),
    ]
    for kind in ("torch", "onnx"):
        check, told = files[kind].check, files[kind].description
        assert check is not None and check.counts == (1, 2, 7) and check.share < 1e-5
        assert told["role"] == "generator" and told["source"]["averaged"] == ["generator"]


def test_the_scale_of_the_networks_on_request(runs: Path) -> None:
    run = opened(runs, "digits")
    graph, noise = graph_of(run, "generator", "network"), noise_of(run, 4)
    assert graph.outputs[0].scale == "network"
    with torch.no_grad():
        wanted = run.networks["generator"](noise)
    assert torch.equal(eager(graph, noise=noise[:, :5], label=torch.arange(4)), wanted)


def test_history_goes_in_and_comes_out_in_the_scale_of_the_data(runs: Path) -> None:
    run = opened(runs, "forecast")
    assert run.data_range == (-1.0, 1.0) and run.spec.value_range == (0.0, 1.0)  # a Sigmoid wants the data in 0..1
    graph = graph_of(run, None, "data")
    history = torch.linspace(-1, 1, 10).view(2, 5, 1)
    samples = eager(graph, history=history, noise=torch.zeros(2, 5, 4))
    assert samples.shape == (2, 8, 1) and torch.allclose(samples[:, :5], history, atol=1e-6)
    assert float(samples[:, 5:].min()) >= -1.0 and float(samples[:, 5:].max()) <= 1.0


def test_several_networks_are_one_graph_and_each_one_alone(runs: Path, tmp_path: Path) -> None:
    run = opened(runs, "codes")
    whole = export(run, "torch", None, "data", f"{tmp_path}/")
    assert whole.paths[0].name == "sample.pt2"
    assert list(whole.description["networks"]) == ["recovery", "generator", "supervisor"]
    samples = torch.export.load(whole.paths[0]).module()(noise=noise_of(run, 3))
    assert torch.allclose(samples, draw_samples(run, 3, 0), atol=1e-6)
    assert all(parameter.requires_grad for parameter in run.networks["recovery"].parameters())  # as it was
    alone, codes = graph_of(run, "supervisor", "data"), torch.ones(2, 8, 4)
    with torch.no_grad():
        assert torch.equal(eager(alone, input=codes), run.networks["supervisor"](codes))
    weights = export(run, "safetensors", "sample", "data", f"{tmp_path}/")
    names = safetensors.torch.load_file(weights.paths[0])
    assert {name.partition(".")[0] for name in names} == {"recovery", "generator", "supervisor"}


def test_rows_of_the_data_go_into_a_discriminator_in_their_own_scale(runs: Path) -> None:
    run = opened(runs, "forecast")
    graph, rows = graph_of(run, "discriminator", "data"), torch.linspace(-1, 1, 8).view(1, 8, 1)
    with torch.no_grad():
        wanted = run.networks["discriminator"]((rows + 1) / 2)
    assert torch.allclose(eager(graph, rows=rows), wanted, atol=1e-6)
    assert [value.name for value in graph.outputs] == ["scores"]


@pytest.mark.parametrize("tag", list(JOBS))
def test_inputs_are_what_noise_consists_of(tag: str, runs: Path) -> None:
    run = opened(runs, tag)
    graph, noise = graph_of(run, None, "data"), noise_of(run, 4)
    assert isinstance(graph, SampleGraph)
    given = graph.given(noise)
    assert list(given) == [value.name for value in graph.inputs]
    for value in graph.inputs:
        assert given[value.name].shape == (4, *value.shape) and str(given[value.name].dtype) == f"torch.{value.dtype}"
    assert torch.allclose(eager(graph, **given), draw_samples(run, 4, 0), atol=1e-6)


def test_lengths_and_rows_stand_in_every_step(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (NoisePart("noise", 1, ""), NoisePart("delta", 2, "", "row"), NoisePart("length", 1, "", "count"))
    run, drawn = opened(runs, "codes"), torch.tensor([[[1.0, 2.0, 3.0, 7.0], [4.0, 2.0, 3.0, 7.0]]])
    monkeypatch.setattr(type(run.strategy), "noise_parts", lambda self: parts)
    monkeypatch.setattr(type(run.strategy), "noise", lambda self, count, stream: drawn)
    monkeypatch.setattr(type(run.strategy), "generate", lambda self, noise: noise)
    graph = SampleGraph(run, "sample", (), "network")
    given = graph.given(drawn)
    assert given["noise"].tolist() == [[[1.0], [4.0]]]
    assert given["delta"].tolist() == [[2.0, 3.0]] and given["length"].tolist() == [7]
    assert torch.equal(eager(graph, **given), drawn)


# --- weights ------------------------------------------------------------------------------------------------------


def test_weights_are_the_averaged_ones_with_the_network_file(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = exported(capsys, "digits")
    path, beside, definition = (Path(name) for name in told["files"])
    assert (path.name, beside.name, definition.name) == (
        "generator.safetensors", "generator.safetensors.json", "generator.safetensors.yaml"
    )  # fmt: skip
    checkpoint = runs / "digits" / "checkpoints" / "3"
    averaged = safetensors.torch.load_file(checkpoint / "generator.ema.safetensors")
    weights = safetensors.torch.load_file(path)
    assert weights.keys() == averaged.keys() and all(torch.equal(weights[name], averaged[name]) for name in weights)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    assert told["source"]["sha256"]["generator"] == manifest["files"]["generator.ema.safetensors"]["sha256"]
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    with safetensors.safe_open(path, "pt") as handle:
        assert json.loads(handle.metadata()["ganglion"])["source"] == told["source"]


def test_weights_fit_the_network_file(runs: Path, tmp_path: Path) -> None:
    run = opened(runs, "digits")
    path, _, definition = export(run, "safetensors", None, "data", f"{tmp_path}/").paths
    shape: RoleShape = type(run.strategy).shapes(run.strategy.context.settings, run.spec)["generator"]
    context = NetworkContext("generator", shape.input, shape.output, run.spec, None, {})
    network = Registry().load().get("network", str(definition)).thing(context).eval()
    network.load_state_dict(safetensors.torch.load_file(path))
    noise = noise_of(run, 3)
    with torch.no_grad():
        assert torch.equal(network(noise), run.networks["generator"](noise))


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_files_say_what_they_are_and_nothing_of_the_machine(
    kind: str, files: Mapping[str, Exported], learnt: Path
) -> None:
    made = files[kind]
    data = made.paths[0].read_bytes()
    if kind == "torch":
        archive = zipfile.ZipFile(io.BytesIO(data))
        content = b"".join(archive.read(name) for name in archive.namelist())
        note = json.loads(next(archive.read(name) for name in archive.namelist() if name.endswith("ganglion.json")))
        pickled = (".pkl", ".pt")
        assert not [name for name in archive.namelist() if name.endswith(pickled) and archive.read(name)]
    else:
        content, model = data, onnx.load_from_string(data)
        note = json.loads({each.key: each.value for each in model.metadata_props}["ganglion"])
    assert note["outputs"] == made.description["outputs"] and note["source"] == made.description["source"]
    for place in (Path(exporting.__file__).parent, Path(torch.__file__).parent, learnt):
        assert str(place).encode() not in content
    beside = json.loads(made.paths[1].read_text())
    assert beside["sha256"] == hashlib.sha256(data).hexdigest() and beside["file"] == made.paths[0].name


def test_the_same_export_is_the_same_file(files: Mapping[str, Exported], runs: Path, tmp_path: Path) -> None:
    again = export(opened(runs, "digits"), "torch", None, "data", f"{tmp_path}/new/")
    assert [path.name for path in again.paths] == ["generator.pt2", "generator.pt2.json"]
    assert again.paths[0].read_bytes() == files["torch"].paths[0].read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["generator.pt2", "generator.pt2.json"]


def test_it_is_told_in_words(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said: Said = call(capsys, "ganglion", "export", "digits", f"out={tmp_path / 'digits.pt2'}")
    assert said.code == 0
    assert "generator of run 'digits' after 3 iterations, averaged weights" in said.err
    assert "the largest difference from the networks is 0" in said.err
    assert "in   noise    float32 batch x 5          random numbers, N(0, 1)" in said.out
    assert "in   label    int64 batch                the class, 0 to 9" in said.out
    assert "out  samples  float32 batch x 1 x 8 x 8  samples (image), in the data's own scale" in said.out
    assert str(tmp_path / "digits.pt2.json") in said.out


WITHOUT = """
import json, sys
sys.path.append(sys.argv[1])
sys.modules["ganglion"] = None
try:
    import ganglion
except ImportError:
    print("no ganglion")
import numpy, torch, onnxruntime
given = dict(numpy.load(sys.argv[2]))
archive = torch.export.load(sys.argv[3]).module()
made = archive(**{name: torch.from_numpy(value) for name, value in given.items()})
session = onnxruntime.InferenceSession(sys.argv[4], providers=["CPUExecutionProvider"])
numpy.savez(sys.argv[5], torch=made.detach().numpy(), onnx=session.run(["samples"], given)[0])
print([name for name in sys.modules if name.startswith("ganglion.")])
"""


def test_exports_run_where_ganglion_is_not_installed(runs: Path, files: Mapping[str, Exported], tmp_path: Path) -> None:
    run = opened(runs, "digits")
    np.savez(tmp_path / "given.npz", noise=noise_of(run, 5)[:, :5].numpy(), label=np.arange(5))
    # -S: nothing but what lies in the packages' folder itself, so that no link in it leads to Ganglion.
    words = [Path(torch.__file__).parent.parent, tmp_path / "given.npz", files["torch"].paths[0],
             files["onnx"].paths[0], tmp_path / "made.npz"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WITHOUT, *map(str, words)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["no ganglion", "[]"]
    made, wanted = np.load(tmp_path / "made.npz"), draw_samples(run, 5, 0).numpy()
    assert np.array_equal(made["torch"], wanted) and np.allclose(made["onnx"], wanted, atol=1e-5)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["format=onx"], ["format=onx", "safetensors", "torch"]),
        (["role=generater"], ["role=generater", "did you mean 'generator'?"]),
        (["rolle=generator"], ["rolle", "role"]),
        (["out=generator.zip"], ["out=generator.zip", ".safetensors, .pt2, .onnx"]),
        (["format=torch", "out=generator.onnx"], ["format=torch writes .pt2"]),
        (["checkpoint=99"], ["99"]),
        (["checkpoint=newest"], ["checkpoint=newest", "latest, best"]),
        (["scale=own"], ["scale=own", "data", "network"]),
        (["tolerance=-1"], ["tolerance=-1"]),
        (["out=/nowhere/at/all.safetensors"], ["cannot write /nowhere/at/all"]),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], parts: list[str], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, ["ganglion", "export", "digits", *words], *parts)


def test_a_missing_library_is_named(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    words = ["ganglion", "export", "digits", "format=onnx"]
    refused(capsys, words, "onnxscript is not installed", "pip install ganglion[onnx]")


def test_what_differs_is_not_written(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    form = FORMATS["torch"]
    assert form.run is not None
    right = form.run

    def wrong(data: bytes, graph: Any) -> Any:
        run = right(data, graph)
        return lambda given: tuple(value + 0.1 * (len(value) == 7) for value in run(given))

    monkeypatch.setitem(FORMATS, "torch", form._replace(run=wrong))
    words = ["ganglion", "export", "digits", "format=torch"]
    refused(capsys, words, "the largest difference is 0.1", "tolerance=0.0001 allows no more", code=1)


def test_what_torch_cannot_export_is_one_sentence(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(self: AdversarialStrategy, noise: Tensor) -> Tensor:
        samples: Tensor = self.context.networks["generator"](noise)
        return samples if float(samples.sum()) > 0 else -samples

    monkeypatch.setattr(AdversarialStrategy, "generate", generate)
    refused(capsys, ["ganglion", "export", "digits", "format=torch"], "torch cannot export this", code=1)


def test_noise_that_is_not_what_its_parts_say(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def parts(self: AdversarialStrategy) -> tuple[NoisePart, ...]:
        return (NoisePart("noise", 14, "one too few"),)

    run = opened(runs, "digits")
    monkeypatch.setattr(type(run.strategy), "noise_parts", parts)
    with pytest.raises(Exception, match=r"its noise has 15 numbers, and noise_parts names noise \(14\)"):
        export(run, "torch", None, "data", f"{tmp_path}/")
    assert list(tmp_path.iterdir()) == []


def test_without_parts_all_noise_is_one_input(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(runs, "digits")
    monkeypatch.setattr(type(run.strategy), "noise_parts", lambda self: ())
    assert [(value.name, value.shape) for value in graph_of(run, None, "data").inputs] == [("noise", (15,))]
