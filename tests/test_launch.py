"""The life of a run: tags, clean, initTag, fixed weights, records, and jobs that repeat themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tiny import QUIET, TINY, learn_tiny, weights_of

from ganglion.engine.commands import job_folders
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.job import naming_plugins, read_job
from ganglion.engine.launch import learn


def role_weights(directory: Path, iteration: int, role: str) -> dict[str, Any]:
    return load_file(directory / "checkpoints" / str(iteration) / f"{role}.safetensors")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(bool((value == other[name]).all()) for name, value in one.items())


def test_without_a_tag_every_run_is_fresh_and_readable(tmp_path: Path) -> None:
    tags = [learn_tiny("GAN", tmp_path, tag=None, iterations=1).tag for _ in range(2)]
    assert tags == ["gan-circle-1", "gan-circle-2"]


def test_an_existing_tag_goes_on_by_its_name_alone(tmp_path: Path) -> None:
    learn_tiny("GAN", tmp_path, iterations=4)
    learnt = learn(None, None, {"tag": "tiny", "iterations": 6}, runs=tmp_path)
    assert learnt.outcome.iteration == 6
    assert weights_of(learnt) == weights_of(learn_tiny("GAN", tmp_path, "straight", iterations=6, decayIterations=4))


def test_a_tag_that_has_all_its_iterations_says_so(tmp_path: Path) -> None:
    learn_tiny("GAN", tmp_path, iterations=4)
    with pytest.raises(ConfigError, match=r"has all its 4 iterations; give a larger number"):
        learn_tiny("GAN", tmp_path, iterations=4)
    record = json.loads((tmp_path / "tiny" / "record.json").read_text())
    assert record["status"] == "finished"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"learningRate": 0.5}, "generator.learningRate=0.01, not 0.5"),
        ({"batchSize": 16}, "batchSize=8, not 16"),
        ({"seed": 3}, "seed=0, not 3"),
        ({"strategy": "NSGAN"}, "strategy GAN, not NSGAN"),
    ],
)
def test_a_tag_does_not_go_on_as_another_job(keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    learn_tiny("GAN", tmp_path, iterations=2)
    with pytest.raises(ConfigError, match=words):
        learn_tiny("GAN", tmp_path, iterations=4, **keys)


def test_what_only_shows_may_change_when_a_tag_goes_on(tmp_path: Path) -> None:
    learn_tiny("GAN", tmp_path, iterations=2)
    assert learn_tiny("GAN", tmp_path, iterations=4, traceInterval=1, keep=1, trace=False).outcome.iteration == 4


def test_clean_starts_the_tag_anew_and_only_after_everything_was_checked(tmp_path: Path) -> None:
    first = learn_tiny("GAN", tmp_path, iterations=4)
    with pytest.raises(ConfigError):
        learn_tiny("GAN", tmp_path, iterations=4, clean=True, batchSize=10**6)
    assert (first.directory / "checkpoints" / "4").is_dir()
    again = learn_tiny("GAN", tmp_path, iterations=3, clean=True)
    assert again.outcome.iteration == 3
    assert not (first.directory / "checkpoints" / "4").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_init_tag_takes_weights_and_clean_does_not_undo_it(tmp_path: Path) -> None:
    """In DIANNE `clean=true` randomised what initTag had loaded."""
    learn_tiny("GAN", tmp_path, "source", iterations=5, seed=1)
    learnt = learn_tiny("GAN", tmp_path, "target", iterations=1, seed=2, initTag="source", clean=True)
    for role in ("generator", "discriminator"):
        assert same(role_weights(tmp_path / "source", 5, role), role_weights(learnt.directory, 0, role))
    assert learnt.outcome.iteration == 1


def test_a_missing_init_tag_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    learn_tiny("GAN", tmp_path, "source", iterations=1)
    with pytest.raises(StoreError, match="did you mean 'source'"):
        learn_tiny("GAN", tmp_path, "target", initTag="sourse")
    assert not (tmp_path / "target").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    learn_tiny("GAN", tmp_path, "source", iterations=1)
    with pytest.raises(ConfigError, match="its generator is another network"):
        learn_tiny("GAN", tmp_path, "target", iterations=1, initTag="source", generatorDim=5)


def test_fixed_weights_do_not_learn(tmp_path: Path) -> None:
    learnt = learn_tiny("GAN", tmp_path, iterations=3, fixed="discriminator")
    for role, stays in (("discriminator", True), ("generator", False)):
        assert same(role_weights(learnt.directory, 0, role), role_weights(learnt.directory, 3, role)) is stays


def test_fixed_takes_the_beginning_of_a_parameters_name(tmp_path: Path) -> None:
    first = learn_tiny("GAN", tmp_path, "look", iterations=1)
    name = next(iter(role_weights(first.directory, 0, "generator")))
    prefix = name.rpartition(".")[0]
    learnt = learn_tiny("GAN", tmp_path, iterations=3, fixed=f"generator.{prefix}")
    before, after = role_weights(learnt.directory, 0, "generator"), role_weights(learnt.directory, 3, "generator")
    for key, value in before.items():
        assert bool((value == after[key]).all()) is key.startswith(f"{prefix}.")


def test_fixed_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    """In DIANNE an unparsable name froze nothing, without a word."""
    with pytest.raises(ConfigError, match="did you mean 'generator'"):
        learn_tiny("GAN", tmp_path, fixed="generater")


def test_a_runs_own_job_file_repeats_it_to_the_byte(tmp_path: Path) -> None:
    for strategy in TINY:
        first = learn_tiny(strategy, tmp_path, f"first-{strategy}", iterations=4)
        job = read_job(first.directory / "job.yaml")
        assert not {"tag", "initTag", "clean"} & set(job["settings"])
        again = learn(None, None, {"tag": f"again-{strategy}"}, job=job, runs=tmp_path)
        assert weights_of(first) == weights_of(again)
        assert (first.directory / "job.yaml").read_text() == (again.directory / "job.yaml").read_text()


def test_the_command_line_wins_over_a_job_file(tmp_path: Path) -> None:
    first = learn_tiny("GAN", tmp_path, "first", iterations=2)
    job = read_job(first.directory / "job.yaml")
    again = learn(None, None, {"tag": "again", "iterations": 3, "learningRate": 0.5}, job=job, runs=tmp_path)
    settings = yaml.safe_load((again.directory / "job.yaml").read_text())["settings"]
    assert again.outcome.iteration == 3
    assert float(settings["generator.learningRate"]) == float(settings["discriminator.learningRate"]) == 0.5


def test_another_method_than_the_job_files_drops_its_values(tmp_path: Path) -> None:
    first = learn_tiny("NSGAN", tmp_path, "first", iterations=2)
    job = read_job(first.directory / "job.yaml")
    again = learn(None, None, {"tag": "again", "method": "SGD"}, job=job, runs=tmp_path)
    settings = yaml.safe_load((again.directory / "job.yaml").read_text())["settings"]
    assert float(settings["generator.learningRate"]) == 0.01  # SGD's own default, not Adam's preset


def test_the_record_says_what_ran(tmp_path: Path) -> None:
    learnt = learn_tiny("GAN", tmp_path, iterations=4)
    record = json.loads((learnt.directory / "record.json").read_text())
    assert record["status"] == "finished" and record["iteration"] == 4 and record["seed"] == 0
    assert record["devices"] == {"generator": "cpu", "discriminator": "cpu"}
    assert record["threads"] == 1 and record["versions"]["torch"].startswith("2.")
    assert len(record["data"]["digest"]) >= 32 and record["data"]["rows"] == 256
    assert set(record["result"]) >= {"generatorLoss", "discriminatorLoss"}


LOCAL = Path(__file__).parent / "examples" / "local_plugin.py"


def local_job(runs: Path, **keys: Any) -> dict[str, Any]:
    """The names of everything in the local plugin file, by path."""
    from ganglion.engine.registry import Registry

    registry = Registry().load([LOCAL])
    mine = {
        kind: next(e.name for e in registry.all(kind) if e.origin.startswith("file"))
        for kind in ("strategy", "network", "dataset")
    }
    things = {kind: registry.get(kind, name).thing for kind, name in mine.items()}
    return {kind: f"{LOCAL}:{thing.__name__}" for kind, thing in things.items()}


def test_a_run_named_by_path_goes_on_only_with_the_file_named_again(tmp_path: Path) -> None:
    names = local_job(tmp_path)
    keys = {**QUIET, "strategy": names["strategy"], "tag": "local", "batchSize": 4}
    networks = f"{names['network']},Discriminator"
    learn(networks, names["dataset"], {**keys, "iterations": 2}, runs=tmp_path)
    with pytest.raises(ConfigError, match=r"code in a local file; give --plugin .*local_plugin.py too"):
        learn(None, None, {"tag": "local", "iterations": 4}, runs=tmp_path)
    by_tag = learn(None, None, {"tag": "local", "iterations": 4}, plugins=[str(LOCAL)], runs=tmp_path)
    assert by_tag.outcome.iteration == 4
    in_full = learn(networks, names["dataset"], {**keys, "iterations": 6}, runs=tmp_path)
    assert in_full.outcome.iteration == 6


def test_a_run_made_with_a_plugin_file_says_so_without_it(tmp_path: Path) -> None:
    from ganglion.engine.registry import Registry

    registry = Registry().load([LOCAL])
    strategy = next(entry.name for entry in registry.all("strategy") if entry.origin.startswith("file"))
    keys = {**QUIET, "strategy": strategy, "tag": "local", "iterations": 1, "size": 64, "testSize": 8, "batchSize": 4}
    learn("Generator,Discriminator", "Circle", keys, plugins=[str(LOCAL)], runs=tmp_path)
    with pytest.raises(ConfigError, match=rf"^unknown strategy '{strategy}'; it was made with --plugin "):
        learn(None, None, {"tag": "local", "iterations": 2}, runs=tmp_path)


def test_what_may_be_meant_is_told_of_a_key_that_was_not_in_the_job() -> None:
    job = {"strategy": "Mine", "plugins": ["mine.py"], "settings": {"myWeight": 1}}
    for key, words in (("myweght", "; did you mean 'weight'?; it was made"), ("myWeight", "; it was made")):
        with pytest.raises(ConfigError, match=re.escape(f"'{key}'{words} with --plugin")), naming_plugins(job, ()):
            raise ConfigError(f"unknown key '{key}'; did you mean 'weight'?")


def test_one_network_for_two_roles_makes_two_instances(tmp_path: Path) -> None:
    """In DIANNE both shared their weights on disk."""
    keys = {
        **QUIET,
        "strategy": "GAN",
        "tag": "twice",
        "iterations": 2,
        "size": 64,
        "testSize": 8,
        "batchSize": 8,
        "generatorDim": 2,
    }
    file = tmp_path / "both.yaml"
    file.write_text(
        "name: Both\ndoc: Serves both roles.\nlayers:\n  - Linear: 8\n  - ReLU\n  - Linear: ${output.size}\n"
    )
    learnt = learn([str(file), str(file)], "Circle", keys, runs=tmp_path / "runs")
    generator, discriminator = (role_weights(learnt.directory, 2, role) for role in ("generator", "discriminator"))
    assert [value.shape for value in generator.values()] != [value.shape for value in discriminator.values()]
    first = next(iter(generator))
    assert not bool((generator[first] == discriminator[first]).all())


@pytest.mark.parametrize("file", [file for folder in job_folders() for file in sorted(folder.glob("*.yaml"))])
def test_every_job_file_that_ships_is_a_job(file: Path) -> None:
    from ganglion.engine.job import named_job, request
    from ganglion.engine.registry import Registry
    from ganglion.engine.resolution import Resolver

    job = read_job(named_job(file.stem, job_folders()))
    assert job["doc"].endswith(".")
    plan = Resolver(Registry().load(), request(None, None, {}, job)).plan()
    assert plan.job.iterations > 0
