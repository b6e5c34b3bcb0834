"""Pictures that a metric gives are written into the run's directory; those of samples beside real windows."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from commandline import call, runs_folder
from torch import Tensor

from ganglion.engine.commands import print_evaluation
from ganglion.engine.contracts import DataSpec, Evaluation, EvaluationContext, Metric, Splits
from ganglion.engine.data import TensorDataset
from ganglion.engine.errors import DataError, PluginError
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.launch import learn
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.strategies.metrics.series import pictures
from ganglion.strategies.metrics.series.pictures import Pictures

PNG = b"\x89PNG"
NAMES = ["pca.png", "tsne.png", "autocorrelation.png"]
TINY = {
    "strategy": "RGAN", "size": 30, "testSize": 12, "length": 8, "hidden": 4, "batchSize": 6, "iterations": 1,
    "threads": 1, "traces": "lines", "sampleInterval": 0, "tag": "waves",
}  # fmt: skip


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def context(train: Tensor, made: Tensor, names: tuple[str, ...] = (), retells: bool = False) -> EvaluationContext:
    spec = DataSpec("sequence", tuple(train.shape[1:]), features=names)
    strategy = SimpleNamespace(generates=lambda: True, retells=retells)
    nothing = cast("Any", None)
    return EvaluationContext(
        strategy=cast("Any", strategy), spec=spec, device=torch.device("cpu"), seed=0, own_scale=lambda rows: rows,
        splits=lambda: Splits(TensorDataset(spec, train)), factory=nothing, samples=lambda count: made[:count],
        labelled=nothing, run=nothing,
    )  # fmt: skip


@pytest.fixture
def projected(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What t-SNE is given; it takes a second, so it is not carried out."""
    seen: list[Tensor] = []

    def instead(real: Tensor, made: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        seen.extend((real, made))
        return real[:, :2], made[:, :2]

    monkeypatch.setattr(pictures, "neighbours", instead)
    return seen


# --- of series ----------------------------------------------------------------------------------------------------


def test_principal_components_are_those_of_real_windows_only() -> None:
    real = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 2, 0], [4, 2, 0]]).double()
    ours, theirs = pictures.principal(real, torch.tensor([[2.0, 1, 50], [3, 1, -70]]).double())
    assert ours.abs().tolist() == [[2.0, 1.0]] * 4
    assert theirs.abs().tolist() == [[0.0, 0.0], [1.0, 0.0]]  # the third direction, which is theirs alone, is not seen


def test_windows_become_means_over_features(projected: list[Tensor]) -> None:
    """Of at most 1,000 training windows, each feature mapped onto 0..1 by them, and as many samples."""
    train, made = noise(1100, 4, 2), 3 * noise(1100, 4, 2, seed=1)
    train[:, :, 1] *= 100
    train[0, 0], train[1, 0] = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 100.0])
    found = Pictures(Pictures.Settings(count=1100)).evaluate(context(train, made))
    assert projected[0].shape == (1100, 4) and found.values == {"windows": 1100.0, "samples": 1100.0}
    wanted = (train / torch.tensor([1.0, 100.0])).double().mean(2)
    assert projected[0].sum(1).sort().values.allclose(wanted.sum(1).sort().values, atol=1e-5)
    assert projected[1].allclose((made / torch.tensor([1.0, 100.0])).double().mean(2), atol=1e-5)
    Pictures().evaluate(context(train, made))
    assert [len(each) for each in projected[2:]] == [1000, 1000]


def test_pictures_repeat_and_leave_torchs_generator_alone(projected: list[Tensor]) -> None:
    before = torch.get_rng_state()
    train = noise(20, 6, 14)
    names = ("$a_{", "\n", *(f"{number}" for number in range(12)))
    first, again = (Pictures().evaluate(context(train, noise(20, 6, 14, seed=3), names)) for _ in range(2))
    assert first == again and list(first.pictures) == NAMES
    assert all(content.startswith(PNG) for content in first.pictures.values())
    assert torch.equal(before, torch.get_rng_state())


def test_who_is_drawn_and_what_cannot_be() -> None:
    train = noise(20, 6, 2)
    assert Pictures().applies(context(train, train))  # also where nothing is held out
    assert not Pictures().applies(context(train, train, retells=True))
    assert not Pictures().applies(replace(context(train, train), spec=DataSpec("image", (1, 6, 2))))
    with pytest.raises(DataError, match=r"^metric pictures-v1: every feature of the training windows is constant"):
        Pictures().evaluate(context(torch.ones(20, 6, 2), train))
    broken = train.clone()
    broken[3, 2, 1] = torch.nan
    with pytest.raises(DataError, match=r"^metric pictures-v1: 1 of 20 samples hold numbers that are not finite$"):
        Pictures().evaluate(context(train, broken))


def test_neighbours_are_those_of_a_seed() -> None:
    rows = (noise(12, 5).double(), noise(8, 5, seed=1).double())
    (ours, theirs), again = (pictures.neighbours(*rows, 0) for _ in range(2))
    assert ours.shape == (12, 2) and theirs.shape == (8, 2)
    assert torch.equal(ours, again[0]) and torch.equal(theirs, again[1])


# --- of runs ------------------------------------------------------------------------------------------------------


def test_a_run_of_series_gets_its_pictures(
    projected: list[Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn("RecurrentGenerator,RecurrentDiscriminator", "Sines", TINY, runs=runs_folder(), quiet=True)
    said = call(capsys, "ganglion", "evaluate", "waves", "mmd-v1.permutations=3")
    folder = runs_folder() / "waves" / "evaluation"
    assert said.code == 0 and {file.name for file in folder.glob("*.png")} == set(NAMES)
    assert all((folder / name).read_bytes().startswith(PNG) for name in NAMES)
    assert "pictures-v1\n" in said.out and "pca.png,tsne.png,autocorrelation.png" in said.out
    assert f"pictures are in {folder}\n" in said.err
    kept = json.loads((folder / "pictures-v1.json").read_text())
    assert kept["details"] == {"pictures": NAMES} and kept["values"]["windows"] == 30
    document = json.loads(call(capsys, "ganglion", "evaluate", "waves", "metric=pictures-v1", "--json").out)
    assert document["evaluations"] == [
        {"metric": "pictures-v1", "values": {"windows": 30, "samples": 30}, "details": {"pictures": NAMES}}
    ]


def test_long_details_are_left_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(
        Evaluation("m-v1", {"error": 0.5}, {"horizons": [1, 10, 20], "series": [[0.25] * 300], "told": "long " * 200})
    )
    said = capsys.readouterr().out
    assert "1,10,20" in said and "0.25" not in said and said.count("long") == 200
    assert re.search(r"^series +numbers for programs, with --json$", said, re.MULTILINE)


class Drawing(Metric):
    """Draws one picture of any name."""

    name = ""

    def applies(self, context: EvaluationContext) -> bool:
        return True

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        return Evaluation("drawing-v1", {}, pictures={"fine.png": PNG, self.name: PNG})


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn("RecurrentGenerator,RecurrentDiscriminator", "Sines", TINY, runs=tmp_path, quiet=True)
    run, registry = Repository(tmp_path).find("waves"), Registry().load()
    get = registry.get
    monkeypatch.setattr(
        registry,
        "get",
        lambda kind, name: get(kind, name)._replace(thing=Drawing) if kind == "metric" else get(kind, name),
    )
    for name in ("../x.png", "x", "x.json", ".png", "a/b.png"):
        monkeypatch.setattr(Drawing, "name", name)
        with pytest.raises(
            PluginError, match=r"^metric drawing-v1 calls a picture .*: expected a plain name and \.png$"
        ):
            evaluate_run(registry, run, "pictures-v1", "latest", "cpu", 0, {}, lambda sentence: None)
    assert list(run.directory.rglob("*.png")) == []
