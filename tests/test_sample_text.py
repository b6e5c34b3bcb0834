"""`ganglion sample` for a run on characters writes text, from the run's directory alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commandline import call, refused, runs_folder

from ganglion.engine.contracts import DataSpec
from ganglion.engine.errors import StoreError
from ganglion.engine.launch import learn
from ganglion.engine.pictures import joined
from ganglion.engine.repository import Repository

Capture = pytest.CaptureFixture[str]
KEYS = {
    "strategy": "BPTT", "criterion": "NLL", "length": 12, "hidden": 4, "batchSize": 8, "iterations": 1, "threads": 1,
    "traces": "lines", "sampleInterval": 0, "tag": "spelling",
}  # fmt: skip


@pytest.fixture
def spelling(tmp_path: Path) -> Path:
    """The directory of a run whose data are gone."""
    return learnt(tmp_path, "to be or not to be, that is the question. ")


def learnt(folder: Path, text: str) -> Path:
    path = folder / "text.txt"
    path.write_text(text * 6)
    learn("Recurrent", "Text", {**KEYS, "path": str(path)}, runs=runs_folder(), quiet=True)
    path.unlink()
    return runs_folder() / "spelling"


def test_text_is_written_and_shown(spelling: Path, capsys: Capture) -> None:
    said = call(capsys, "ganglion", "sample", "spelling", "count=5")
    file = spelling / "samples.txt"
    texts = file.read_text().splitlines()
    assert said.code == 0 and len(texts) == 5 and {len(text) for text in texts} == {12}
    assert set("".join(texts)) <= set("to be or not to be, that is the question. ")
    assert all(text[:6] in "to be or not to be, that is the question. " * 2 for text in texts)  # the known beginning
    assert said.out.splitlines() == [*texts, str(file)]
    document = json.loads(call(capsys, "ganglion", "sample", "spelling", "count=5", "--json").out)
    assert document["texts"] == texts and document["file"] == str(file)


def test_long_text_is_not_shown_and_numbers_can_still_be_had(spelling: Path, capsys: Capture) -> None:
    assert call(capsys, "ganglion", "sample", "spelling", "count=500").out == f"{spelling / 'samples.txt'}\n"
    file = spelling.parent / "samples.npz"
    assert call(capsys, "ganglion", "sample", "spelling", "count=2", f"out={file}").code == 0
    with np.load(file) as arrays:
        assert arrays["input"].shape[:2] == (2, 12) and set(arrays["input"].flatten().tolist()) == {0.0, 1.0}


def test_texts_of_several_lines_are_kept_apart() -> None:
    assert joined(["ab", "cd"]) == "ab\ncd\n"
    assert joined(["a\nb", "cd"]) == f"a\nb\n{'-' * 20}\ncd\n"


def test_what_a_text_holds_does_not_reach_the_terminal_as_a_command(tmp_path: Path, capsys: Capture) -> None:
    learnt(tmp_path, "red \x1b[31m and \x07 bell. \n")
    said = call(capsys, "ganglion", "sample", "spelling", "count=20")
    assert said.code == 0 and "\x1b" not in said.out and "\x07" not in said.out
    assert "\x1b" in (runs_folder() / "spelling" / "samples.txt").read_text()


def test_other_samples_are_no_text(capsys: Capture) -> None:
    keys = {**KEYS, "strategy": "RGAN", "size": 20, "testSize": 10, "tag": "waves"}
    keys.pop("criterion")
    learn("RecurrentGenerator,RecurrentDiscriminator", "Sines", keys, runs=runs_folder(), quiet=True)
    refused(capsys, ["ganglion", "sample", "waves", "out=x.txt"], "out=x.txt: the samples are no text")


def test_a_damaged_alphabet_is_told(spelling: Path) -> None:
    file = spelling / "data.json"
    document = json.loads(file.read_text())
    assert document["spec"]["text"] is True
    for features in (document["spec"]["features"][1:], [1, *document["spec"]["features"][1:]]):
        file.write_text(json.dumps({**document, "spec": {**document["spec"], "features": features}}))
        with pytest.raises(StoreError, match="not the description of data that this version writes"):
            Repository(runs_folder()).find("spelling").read_data()


def test_what_characters_say() -> None:
    import torch

    spec = DataSpec("sequence", (2, 3), features=("a", "b", "c"), text=True)
    assert spec.texts(torch.tensor([[[0.1, 0.5, 0.2], [0.9, 0.0, 0.0]], [[0, 0, 1.0], [0, 1.0, 0]]])) == ["ba", "cb"]
