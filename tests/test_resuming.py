"""Going on: lazily made state, changed data and network files, frozen modules, and weights taken before set-up."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import QUIET, learn_tiny, weights_of

from ganglion.engine import documents, threads
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.launch import learn
from ganglion.strategies.adversarial import AdversarialStrategy


def test_state_that_is_made_while_learning_does_not_survive_the_measurement_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = AdversarialStrategy.process_iteration

    def process(strategy: Any, i: int) -> Any:
        strategy.count = getattr(strategy, "count", 0) + 1
        if strategy.random("jitter").uniform(1).item() * strategy.count > 0.7:
            strategy.draw_noise(8)
        return original(strategy, i)

    monkeypatch.setattr(AdversarialStrategy, "process_iteration", process)
    monkeypatch.setattr(threads, "MARGIN", 0.0)
    monkeypatch.setattr(threads, "SECONDS", 0.01)
    given = learn_tiny("GAN", tmp_path, "given", iterations=6, threads=1)
    measured = learn_tiny("GAN", tmp_path, "measured", iterations=6, threads=None)
    assert weights_of(given) == weights_of(measured)


def table(path: Path, value: float) -> None:
    path.write_text("a,b\n" + "".join(f"{i},{i**value}\n" for i in range(40)))


def test_a_run_that_was_killed_after_its_last_checkpoint_is_found_to_be_finished(tmp_path: Path) -> None:
    learnt = learn_tiny("GAN", tmp_path, iterations=4)
    record = learnt.directory / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "status": "running", "reason": ""}))
    for total, status in ((3, "running"), (4, "finished")):
        with pytest.raises(ConfigError, match="has all its 4 iterations"):
            learn_tiny("GAN", tmp_path, iterations=total)
        assert json.loads(record.read_text())["status"] == status


def test_changed_data_are_refused_when_a_run_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    keys = {**QUIET, "strategy": "GAN", "tag": "data", "path": str(file), "batchSize": 4}
    table(file, 1.0)
    learn("Generator,Discriminator", "Table", {**keys, "iterations": 2}, runs=tmp_path / "runs")
    table(file, 2.0)
    with pytest.raises(StoreError, match="the data of Table have changed since it began"):
        learn(None, None, {"tag": "data", "iterations": 4}, runs=tmp_path / "runs")
    table(file, 1.0)
    assert learn(None, None, {"tag": "data", "iterations": 4}, runs=tmp_path / "runs").outcome.iteration == 4


def test_a_long_list_of_rows_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GROWTH_LIMIT", 1000)  # of what aliases repeat: a list has no aliases
    keys = {**QUIET, "strategy": "GAN", "tag": "long", "size": 1100, "testSize": 8, "batchSize": 4}
    rows = list(range(1010))
    learn("Generator,Discriminator", "Circle", {**keys, "range": rows, "iterations": 2}, runs=tmp_path)
    assert learn(None, None, {"tag": "long", "iterations": 3}, runs=tmp_path).outcome.iteration == 3


def test_a_changed_network_file_is_refused_when_a_run_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    text = "name: Net\ndoc: One.\nlayers:\n  - Linear: 8\n  - Dropout: 0.1\n  - Linear: ${output.size}\n"
    file.write_text(text)
    keys = {**QUIET, "strategy": "GAN", "tag": "net", "size": 64, "testSize": 8, "batchSize": 4}
    learn([str(file), "Discriminator"], "Circle", {**keys, "iterations": 2}, runs=tmp_path / "runs")
    file.write_text(text.replace("0.1", "0.9"))
    with pytest.raises(StoreError, match="the definition of its generator has changed"):
        learn(None, None, {"tag": "net", "iterations": 4}, runs=tmp_path / "runs")


def test_weights_of_init_tag_are_there_when_the_strategy_is_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn_tiny("GAN", tmp_path, "source", iterations=4, seed=1)
    original, copies = AdversarialStrategy.setup, []

    def setup(strategy: Any, context: Any) -> None:
        original(strategy, context)
        copies.append(copy.deepcopy(context.networks["generator"].state_dict()))

    monkeypatch.setattr(AdversarialStrategy, "setup", setup)
    learn_tiny("GAN", tmp_path, "target", iterations=1, initTag="source")
    from safetensors.torch import load_file

    stored = load_file(tmp_path / "source" / "checkpoints" / "4" / "generator.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in copies[0].items())


def test_a_module_that_a_strategy_froze_stays_frozen_through_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, modes = AdversarialStrategy.setup, []

    def setup(strategy: Any, context: Any) -> None:
        original(strategy, context)
        context.networks["discriminator"].eval()

    step = AdversarialStrategy.process_iteration

    def process(strategy: Any, i: int) -> Any:
        modes.append(
            (strategy.context.networks["discriminator"].training, strategy.context.networks["generator"].training)
        )
        return step(strategy, i)

    monkeypatch.setattr(AdversarialStrategy, "setup", setup)
    monkeypatch.setattr(AdversarialStrategy, "process_iteration", process)
    learn_tiny("GAN", tmp_path, iterations=4, sampleInterval=1, traces="lines,pictures", samples=4)
    assert set(modes) == {(False, True)}


def test_a_trace_that_is_left_out_for_a_while_keeps_its_file(tmp_path: Path) -> None:
    first = learn_tiny("GAN", tmp_path, iterations=4)
    lines = (first.directory / "trace.jsonl").read_text()
    learn_tiny("GAN", tmp_path, iterations=6, traces="pictures")
    learn_tiny("GAN", tmp_path, iterations=8)
    text = (first.directory / "trace.jsonl").read_text()
    assert text.startswith(lines)
    assert [json.loads(line)["iteration"] for line in text.splitlines()] == [2, 4, 8]


def test_a_refused_continuation_leaves_the_trace_alone(tmp_path: Path) -> None:
    first = learn_tiny("GAN", tmp_path, iterations=6)
    text = (first.directory / "trace.jsonl").read_text()
    with pytest.raises(ConfigError, match="has all its 6 iterations"):
        learn_tiny("GAN", tmp_path, iterations=4)
    assert (first.directory / "trace.jsonl").read_text() == text


def test_accumulation_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="accumulate=3 does not divide batchSize=8"):
        learn_tiny("GAN", tmp_path, accumulate=3)
    assert not (tmp_path / "tiny").exists()


def test_infinity_that_a_strategy_remembers_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = AdversarialStrategy.setup

    def setup(strategy: Any, context: Any) -> None:
        original(strategy, context)
        strategy.best = torch.tensor(float("inf"))

    monkeypatch.setattr(AdversarialStrategy, "setup", setup)
    assert learn_tiny("GAN", tmp_path, iterations=2).outcome.iteration == 2


def test_augmented_training_rows_are_shown_and_judged_in_one_scale_with_samples(tmp_path: Path) -> None:
    from ganglion.engine.assembly import assemble
    from ganglion.engine.folders import data_context
    from ganglion.engine.job import request
    from ganglion.engine.registry import Registry

    asked = request(
        "Generator,Discriminator", "Digits", {"strategy": "GAN", "hflip": 0.5, "cropWidth": 6, "cropHeight": 6}
    )
    session = assemble(Registry().load(), asked, data_context(lambda sentence: None))
    rows, batch = session.data.plain.rows(torch.arange(200)).input, session.sampler.next_batch(200).input
    assert rows.shape[1:] == batch.shape[1:] == (1, 6, 6)
    for tensor in (rows, batch):
        assert float(tensor.min()) == -1.0 and float(tensor.max()) == 1.0


def test_a_data_set_with_validation_rows_of_its_own_serves_a_strategy_without_a_loss(tmp_path: Path) -> None:
    plugin = tmp_path / "own.py"
    plugin.write_text(
        "import torch\nfrom ganglion.engine import api\n"
        "class Own(api.DatasetFactory):\n    'Points.'\n    def load(self):\n"
        "        rows = api.TensorDataset(api.DataSpec('vector', (2,)), torch.arange(64.).reshape(32, 2) / 64)\n"
        "        return api.Splits(rows, rows, rows)\n"
    )
    keys = {**QUIET, "strategy": "GAN", "tag": "own", "iterations": 2, "batchSize": 4}
    learnt = learn("Generator,Discriminator", f"{plugin}:Own", keys, runs=tmp_path / "runs")
    assert learnt.outcome.iteration == 2
