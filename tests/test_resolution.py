"""What is asked for over a job file or a run: names that change, keys that clash, keys that would do nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import QUIET, learn_tiny

from ganglion.engine.commands import show
from ganglion.engine.contracts import DataSpec
from ganglion.engine.errors import ConfigError
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.job import parse_job, read_job, request
from ganglion.engine.launch import learn
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.resolution import PRECEDENCE, Plan, Resolver
from ganglion.engine.settings import format_value, parse_value

REGISTRY = Registry().load()
PLUGIN = '''
"""Components whose settings have the names of others."""

import torch
from torch import nn

from ganglion.engine import api


class SeededSettings(api.Settings):
    seed: int = api.setting(1, "its own seed")
    momentum: float = api.setting(0.25, "its own momentum")
    method: str = api.setting("plain", "its own method")


def seeded(context):
    """A network with keys of the job, of its role and of its method."""
    return nn.Sequential(nn.Linear(context.input.size, context.output.size))


seeded.Settings = SeededSettings


class Generator(api.Objective):
    """An objective with the name of a role."""

    def discriminator(self, real_scores, fake_scores):
        return real_scores.mean(), fake_scores.mean()

    def generator(self, real_scores, fake_scores):
        return fake_scores.mean()


@api.hookimpl
def register_networks(register):
    register("Seeded", seeded)


@api.hookimpl
def register_objectives(register):
    register("Generator", Generator)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    file = tmp_path / "sharing.py"
    file.write_text(PLUGIN)
    return str(file)


def plan(
    strategy: str | None = "NSGAN",
    networks: str | None = "Generator,Discriminator",
    dataset: str | None = "Circle",
    job: Mapping[str, Any] | None = None,
    registry: Registry = REGISTRY,
    **given: Any,
) -> Plan:
    """Keys with a prefix are written `generator__learningRate`."""
    keys = {key.replace("__", "."): value for key, value in given.items()}
    named = {"strategy": strategy} if strategy else {}
    return Resolver(registry, request(networks, dataset, {**named, **keys}, job)).plan()


def job_of(made: Plan) -> dict[str, Any]:
    """What a run of that plan writes."""
    return {**made.names(), "settings": {key: format_value(value) for key, value in made.values.items()}}


def refused(sentence: str, strategy: str = "NSGAN", **given: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        plan(strategy, **given)


def rates(made: Plan) -> list[float]:
    return [entry.method_settings.learning_rate for entry in made.roles.values()]


# --- the same and other names over a job file ---------------------------------------------------------------------


def test_the_same_method_once_more_keeps_the_job_files_values() -> None:
    job = job_of(plan("WGAN", method="ADAM", learningRate="2e-4"))
    again = plan(None, None, None, job, method="ADAM")
    assert rates(again) == [2e-4, 2e-4]
    assert rates(plan(None, None, None, job, method="SGD")) == [0.01, 0.01]
    assert rates(plan(None, None, None, job, generator__method="SGD")) == [0.01, 2e-4]


def test_a_run_goes_on_when_its_method_is_named_again(tmp_path: Path) -> None:
    learn_tiny("WGAN", tmp_path, iterations=2, method="ADAM", learningRate=2e-4)
    learnt = learn(None, None, {"tag": "tiny", "method": "ADAM", "iterations": 4}, runs=tmp_path)
    assert learnt.outcome.iteration == 4
    assert read_job(learnt.directory / "job.yaml")["settings"]["generator.learningRate"] == "0.0002"


def test_keys_of_traces_that_are_not_named_now_are_dropped_without_a_word() -> None:
    job = job_of(plan(flushSeconds="3"))
    made = plan(None, None, None, job, traces="pictures")
    assert [entry.name for entry, _ in made.traces] == ["pictures"] and made.notices == ()
    assert "flushSeconds" not in made.values
    with pytest.raises(ConfigError, match=r"^unknown key 'batchsze' \(from the job file\)"):
        plan(None, None, None, {**job, "settings": {**job["settings"], "batchsze": "3"}}, traces="pictures")


@pytest.mark.parametrize("text", ["none", ""])
def test_nothing_is_none_for_lists_too(text: str) -> None:
    assert parse_value(tuple[str, ...], text) == parse_value(tuple[str, ...], None) == ()
    assert plan(traces=text).traces == []
    assert parse_value(tuple[str, ...], "none,lines") == ("none", "lines")


def test_another_data_set_leaves_the_old_ones_values_behind() -> None:
    job = job_of(plan(size="77", std="0.5"))
    made = plan(None, None, "Digits", job)
    assert made.notices[0].startswith("not used with these choices, from the job file: ")
    assert set(made.notices[0].partition("file: ")[2].split(", ")) == {"radius", "std", "size", "testSize"}
    assert plan(None, None, "Ring", job).dataset_settings.std == 0.01
    assert plan(None, None, "Ring", job, std="0.2").dataset_settings.std == 0.2
    kept = plan(None, None, "circle", job)
    assert (kept.dataset_settings.std, kept.dataset_settings.size, kept.notices) == (0.5, 77, ())
    prefixed = {**job, "settings": {"Circle.std": "0.5", "seed": "3"}}
    assert plan(None, None, "Ring", prefixed).dataset_settings.std == 0.01
    assert plan(None, None, "Ring", prefixed).job.seed == 3


def test_a_data_set_that_is_gone_leaves_only_what_nothing_takes() -> None:
    job = {**job_of(plan(std="0.5")), "dataset": "GoneSet"}
    made = plan(None, None, "Digits", job)
    assert "size" in made.notices[0] and "seed" not in made.notices[0]


def test_another_strategy_leaves_the_old_ones_values_behind() -> None:
    job = job_of(plan("WGAN", generatorDim="7", seed="4"))
    made = plan("NSGAN", None, None, job)
    assert made.strategy_settings.discriminator_iterations == 1 and made.strategy_settings.objective == "nonsaturating"
    assert made.job.seed == 4 and "discriminatorIterations" in made.notices[0]
    assert plan("wgan", None, None, job).strategy_settings.discriminator_iterations == 5


def test_another_network_leaves_the_old_ones_values_behind(plugin: str) -> None:
    registry = Registry().load([plugin])
    job = job_of(plan("GAN", "Seeded,Seeded", registry=registry, Seeded__seed="5", job__seed="6"))
    made = plan(None, "Generator,Seeded", None, job, registry)
    assert made.roles["discriminator"].network_settings.seed == 5 and made.job.seed == 6
    assert set(made.notices[0].partition("file: ")[2].split(", ")) == {
        "generator.seed",
        "generator.Seeded.method",
        "generator.Seeded.momentum",
    }
    layered = plan(dataset="Digits", Dropout__p="0.3")
    other = plan(None, "Generator,MLP", None, {**job_of(layered)}, discriminator__learningRate="0.5")
    assert "Dropout.p" not in other.roles["discriminator"].overrides
    assert other.roles["generator"].overrides == {"Dropout.p": "0.3"}


# --- what is written can be read ----------------------------------------------------------------------------------


def test_a_job_whose_network_has_keys_of_the_job_can_be_read_again(plugin: str) -> None:
    registry = Registry().load([plugin])
    keys = {"generator__seed": "3", "generator__chain__method": "SGD", "generator__SGD__momentum": "0.5"}
    made = plan("GAN", "Seeded,Discriminator", registry=registry, job__seed="8", **keys)
    assert made.values["job.seed"] == 8 and made.values["generator.seed"] == 3 and made.key("seed") == "job.seed"
    assert made.values["generator.Seeded.momentum"] == 0.25 and made.values["generator.SGD.momentum"] == 0.5
    assert made.key("iterations") == "iterations"
    again = plan(None, None, None, job_of(made), registry)
    assert again.values == made.values
    assert (again.job.seed, again.roles["generator"].network_settings.method) == (8, "plain")
    assert again.roles["generator"].method_settings.momentum == 0.5


def test_a_run_whose_network_has_keys_of_the_job_goes_on(plugin: str, tmp_path: Path) -> None:
    keys = {**QUIET, "strategy": "GAN", "tag": "shared", "size": 64, "testSize": 8, "batchSize": 4}
    runs = tmp_path / "runs"
    first = {**keys, "iterations": 1, "generator.seed": 3}
    learn("Seeded,Discriminator", "Circle", first, plugins=[plugin], runs=runs)
    learnt = learn(None, None, {"tag": "shared", "iterations": 2}, plugins=[plugin], runs=runs)
    assert learnt.outcome.iteration == 2


def test_a_clash_within_a_role_says_forms_that_work(plugin: str) -> None:
    registry = Registry().load([plugin])
    with pytest.raises(ConfigError, match=r"write 'generator\.Seeded\.momentum' or 'generator\.SGD\.momentum'$"):
        plan("GAN", "Seeded,Discriminator", registry=registry, generator__chain__method="SGD", generator__momentum="0")


def test_values_keep_every_digit() -> None:
    assert [format_value(value) for value in (0.00012345679, 0.0001, 1e-05, 2.0, 1e6, -0.5)] == [
        "0.00012345679",
        "0.0001",
        "1e-05",
        "2",
        "1000000",
        "-0.5",
    ]
    made = plan(dataset="Digits", Dropout__p=0.1234567891)
    assert made.values["generator.Dropout.p"] == "0.1234567891"


def test_a_run_does_not_go_on_with_a_value_that_differs_in_the_last_digits(tmp_path: Path) -> None:
    learn_tiny("GAN", tmp_path, iterations=1, learningRate="0.00012345679")
    with pytest.raises(ConfigError, match=r"learningRate=0\.00012345679, not 0\.00012345678"):
        learn_tiny("GAN", tmp_path, iterations=2, learningRate="0.00012345678")


# --- keys that cannot be meant ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["job.tag", "Job.init_tag", "JOB.clean"])
def test_what_belongs_to_a_start_takes_no_prefix(key: str) -> None:
    name = key.partition(".")[2]
    refused(f"{key}=true: this key takes no prefix; write {name}=true", **{key: "true"})
    with pytest.raises(ConfigError, match="is no setting of a job; give it on the command line"):
        parse_job(f"networks: A\nsettings: {{{key}: yes}}\n", "x.yaml")


ORDER = "discriminator*2 generator"


@pytest.mark.parametrize(
    ("strategy", "given", "sentence"),
    [
        (
            "WGAN",
            {"schedule": ORDER, "discriminatorIterations": "3"},
            "discriminatorIterations=3: schedule= says the order of updates in full; give one of them",
        ),
        (
            "GAN",
            {"schedule": ORDER, "initIterations": "3"},
            "initIterations=3: schedule= says the order of updates in full; give one of them",
        ),
        (
            "GAN",
            {"initDiterations": "9"},
            "initDiscriminatorIterations=9: it has no effect without initIterations, the warm-up's length",
        ),
        ("GAN", {"emaStart": "10"}, "emaStart=10: it has no effect without ema"),
        ("GAN", {"emaRamp": "no", "generator.ema": "0"}, None),
        (
            "GAN",
            {"generator.ema": "0.9", "discriminator.emaRamp": "no"},
            "discriminator.emaRamp=false: it has no effect without ema",
        ),
        ("GAN", {"minLearningRate": "1e-5"}, "minLearningRate=1e-05: it has no effect without decayType or decayRate"),
        ("GAN", {"nanFactor": "0.1"}, "nanFactor=0.1: it has no effect without nanRetry"),
        ("GAN", {"dianneNesterov": "yes"}, "dianneNesterov=true: it has no effect without dianneMomentum"),
    ],
)
def test_a_key_without_effect_is_an_error(strategy: str, given: dict[str, str], sentence: str | None) -> None:
    if sentence is None:
        with pytest.raises(ConfigError, match=r"^generator\.ema=0"):
            plan(strategy, **given)
    else:
        refused(sentence, strategy, **given)


@pytest.mark.parametrize(
    ("strategy", "given"),
    [
        ("WGAN", {"schedule": ORDER}),  # the preset's counts are not what was asked for
        ("WGAN", {"initIterations": "0"}),
        ("GAN", {"generator.ema": "0.9", "emaStart": "10"}),  # for every role, and one has it
        ("GAN", {"decayType": "linear", "minLearningRate": "1e-5"}),
        ("GAN", {"nanRetry": "2", "nanFactor": "0.1"}),
        ("GAN", {"minLearningRate": "0", "nanFactor": "0.5", "emaStart": "0"}),  # the defaults
    ],
)
def test_what_is_meant_for_something_is_accepted_and_can_be_read_again(strategy: str, given: dict[str, str]) -> None:
    made = plan(strategy, **given)
    assert plan(None, None, None, job_of(made)).values == made.values


def test_a_component_without_a_role_may_not_have_a_roles_name(plugin: str) -> None:
    registry = Registry().load([plugin])
    with pytest.raises(
        ConfigError,
        match=r"^objective Generator has the name of a role of strategy GAN \(generator, discriminator\): "
        r"'Generator\.key=value' would mean both; give it another name$",
    ):
        plan("GAN", registry=registry, objective="Generator")


def test_a_network_may_have_a_roles_name_and_its_layers_are_reached_through_the_role() -> None:
    made = plan(dataset="Digits", Generator__learningRate="0.5", generator__Dropout__p="0.1")
    assert rates(made) == [0.5, 2e-4]
    assert [dict(entry.overrides) for entry in made.roles.values()] == [{"Dropout.p": "0.1"}, {}]


# --- precedence ---------------------------------------------------------------------------------------------------


def test_the_levels_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    resolver = Resolver(REGISTRY, request("Generator,Discriminator", "Circle", {"strategy": "WGAN"}))
    names = [level.name.removesuffix(" of WGAN") for level in resolver.levels]
    assert names == [name for name, _ in PRECEDENCE][1:]
    show("precedence", None, (), as_json=False)
    printed = capsys.readouterr().out
    positions = [printed.rindex(f"{name}  ") for name, _ in PRECEDENCE]
    assert positions == sorted(positions)
    show("precedence", None, (), as_json=True)
    assert json.loads(capsys.readouterr().out)["levels"] == [list(level) for level in PRECEDENCE]


# --- evaluate -----------------------------------------------------------------------------------------------------


def evaluate(runs: Path, metric: str | None = None, **keys: str) -> dict[str, dict[str, float]]:
    run = Repository(runs).find("tiny")
    keys = {key.replace("__", "."): value for key, value in keys.items()}
    found = evaluate_run(REGISTRY, run, metric, "latest", "cpu", 0, keys, lambda sentence: None)
    return {evaluation.metric: dict(evaluation.values) for evaluation in found}


def test_evaluate_takes_only_keys_of_the_data_and_of_metrics(tmp_path: Path) -> None:
    learn_tiny("Minimax", tmp_path, iterations=1)
    for keys, sentence in (
        ({"learningRate": "3"}, "unknown key 'learningRate'"),
        ({"testSize": "x"}, r"testSize=x: dataset Circle expects int"),
        ({"testsze": "3"}, "unknown key 'testsze'; did you mean 'testSize' of dataset Circle"),
        ({"top": "5"}, "unknown key 'top'"),  # of a metric that does not fit
        ({"points-v1.cont": "5"}, r"unknown key 'points-v1\.cont'; did you mean 'points-v1\.count'"),
    ):
        with pytest.raises(ConfigError, match=f"^{sentence}"):
            evaluate(tmp_path, **keys)
    assert not (tmp_path / "tiny" / "evaluation").exists() or not list((tmp_path / "tiny" / "evaluation").iterdir())


def test_a_key_of_several_metrics_reaches_all_that_fit(tmp_path: Path) -> None:
    learn_tiny("Minimax", tmp_path, iterations=1)
    assert evaluate(tmp_path, count="50")["points-v1"]["samples"] == 50  # less than another metric, which does not fit
    assert evaluate(tmp_path, points_v1__count="60", size="100")["points-v1"]["samples"] == 60
    with pytest.raises(ConfigError, match=r"^count=0: metric points-v1 expects int >= 1"):
        evaluate(tmp_path, count="0")


def test_a_presets_penalty_is_replaced_or_left_out_with_its_keys() -> None:
    made = plan("WGAN_GP", penalty="LP", LP__weight="3")
    assert [entry.name for entry, _ in made.parts.values()] == ["wasserstein", "LP"]
    assert "GP.weight" not in made.values and made.parts["penalty.0"][1].weight == 3.0
    assert list(plan("R3GAN", penalty="none").parts) == ["objective"]
    assert [entry.name for entry, _ in plan("R3GAN", penalty="R1").parts.values()] == ["relativisticPaired", "R1"]
    given = {"strategy": "WGAN_GP", "penalty": "LP", "GP.weight": "3"}
    with pytest.raises(ConfigError, match=r"unknown key 'GP\.weight'"):
        Resolver(REGISTRY, request("Generator,Discriminator", "Circle", given), DataSpec("vector", (2,))).plan()


def test_a_presets_gain_belongs_to_its_initial_weights() -> None:
    roles = plan("UnrolledGAN").roles
    assert {(role.options.init, role.options.init_gain) for role in roles.values()} == {("orthogonal", 1.4)}
    roles = plan("UnrolledGAN", init="normal").roles
    assert {(role.options.init, role.options.init_gain) for role in roles.values()} == {("normal", None)}
