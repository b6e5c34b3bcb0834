"""The data set Text, and a network that learns to spell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ganglion.datasets.series.text import Text, TextSettings
from ganglion.engine.contracts import DataContext
from ganglion.engine.errors import ConfigError, DataError
from ganglion.engine.launch import learn
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.testing import check_dataset


def load(path: Path | str, **keys: Any) -> tuple[Text, Any]:
    text = Text(TextSettings(path=str(path), **keys), DataContext((), Path(), 0, lambda sentence: None))
    return text, text.load()


def test_windows_are_one_hot_characters_in_order_and_the_end_is_kept_for_testing(tmp_path: Path) -> None:
    path = tmp_path / "abc.txt"
    path.write_text("abcabcabca")
    text, splits = load(path, length=3, test_share=0.3)
    assert text.alphabet == ("a", "b", "c") and splits.train.spec.features == ("a", "b", "c")
    assert len(splits.train) == 5 and len(splits.test) == 1
    rows = splits.train.rows(torch.tensor([0, 4])).input
    assert rows.argmax(2).tolist() == [[0, 1, 2], [1, 2, 0]] and rows.sum(2).tolist() == [[1.0] * 3] * 2
    assert splits.test.spec.text and splits.test.spec.texts(splits.test.rows(torch.tensor([0])).input) == ["bca"]


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    for content, reason in (
        (b"aaaa", "1 different"),
        (b"ab", "fewer than the 5"),
        (b"\xff\xfe", "byte 0 is not UTF-8"),
    ):
        path = tmp_path / "text.txt"
        path.write_bytes(content)
        with pytest.raises(DataError, match=reason):
            load(path, length=5)
    with pytest.raises(ConfigError, match="no file named"):
        load("")
    path.write_text("ab" * 10)
    with pytest.raises(DataError, match="the test part has 2 characters"):
        load(path, length=5)


def test_passes_the_conformance_kit(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    drawn = torch.randint(0, 23, (300,), generator=torch.Generator().manual_seed(0)).tolist()
    path.write_text("".join(chr(97 + number) for number in drawn))
    findings = check_dataset("Text", path=str(path), length=9)
    assert all(found.result in ("passed", "skipped") for found in findings)


def test_a_recurrent_network_learns_to_spell(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("hello world. " * 60)
    keys = {
        "path": str(path), "length": 20, "strategy": "BPTT", "criterion": "NLL", "hidden": 32, "learningRate": 0.02,
        "batchSize": 16, "iterations": 120, "threads": 1, "temperature": 0, "prefix": 6, "traces": "lines", "tag": "t",
        "sampleInterval": 0,
    }  # fmt: skip
    learn("Recurrent", "Text", keys, runs=tmp_path)
    samples = draw_samples(open_run(Registry().load(), Repository(tmp_path).find("t")), 20, 0)
    _, splits = load(path, length=20)
    right = [spelt in "hello world. " * 4 for spelt in splits.train.spec.texts(samples)]
    assert sum(right) >= 18
