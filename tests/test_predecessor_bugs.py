"""Bugs of DIANNE, Ganglion's predecessor, that shall not come back: which test guards against which of them.

`TRAPS` numbers them as its list of oddities does, and names the tests that would fail, or says why none is possible
here; `SEMANTICS` does the same for what is worth keeping. The tests below are those that have no better place.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import signal
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, learn_tiny, weights_of
from torch import nn

from ganglion.engine.assembly import assemble
from ganglion.engine.cli import learn_main, main
from ganglion.engine.contracts import Loss
from ganglion.engine.errors import ConfigError
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.job import request
from ganglion.engine.launch import data_context, learn
from ganglion.engine.learner import Learner
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.resolution import Plan, Resolver
from ganglion.engine.session import Session
from ganglion.networks.catalogue import LAYERS, OWN
from ganglion.networks.layered import LayeredNetwork
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.feedforward import FeedForward

REGISTRY = Registry().load()
ADVERSARIAL, CRITERIA, PROCESSORS = "tests/test_adversarial.py", "tests/test_criteria.py", "tests/test_processors.py"
LEARNER, LAUNCH, EVERY = "tests/test_learner.py", "tests/test_launch.py", "tests/test_every_strategy.py"
SAMPLERS, ADAPTERS, TABLE = "tests/test_samplers.py", "tests/test_adapters.py", "tests/test_dataset_table.py"
PICTURES, IDX, PLUGINS = "tests/test_dataset_images.py", "tests/test_idx.py", "tests/test_plugins.py"
SETTINGS, DEFINITIONS, NETWORKS = "tests/test_settings.py", "tests/test_definitions.py", "tests/test_networks.py"
STORE, REPOSITORY, EVALUATION = "tests/test_checkpoints.py", "tests/test_repository.py", "tests/test_evaluation.py"
HERE, PUBLISHED = "tests/test_predecessor_bugs.py", "tests/test_published_updates.py"
FORMULAS = f"{PUBLISHED}::test_the_first_three_iterations_follow_the_formulas"
NOT = "not applicable: "

TRAPS: dict[str, tuple[str, ...]] = {
    # numbers
    "1": (f"{PROCESSORS}::test_adagrad_takes_the_square_root_unlike_dianne",),
    "2": (f"{PROCESSORS}::test_a_gradient_left_by_somebody_else_is_not_added", FORMULAS),
    "3": (f"{HERE}::test_the_learning_rate_that_is_shown_is_the_one_that_moves_wgans_weights", FORMULAS),
    "4": (f"{HERE}::test_what_is_reported_is_what_is_minimised",),
    "5": (f"{PROCESSORS}::test_clamp_and_l2_never_touch_running_statistics_as_dianne_did",),
    "6": (
        f"{CRITERIA}::test_gaussian_likelihood_differentiates_by_the_deviation_not_by_the_log_variance_as_dianne_did",
    ),
    "7": (f"{CRITERIA}::test_gaussian_divergence_differentiates_its_target_fully_where_dianne_lost_half_a_term",),
    "8": (f"{CRITERIA}::test_a_sample_has_the_same_loss_alone_as_in_a_batch",),
    "9": (f"{CRITERIA}::test_what_likelihoods_are_given_is_a_setting_and_never_guessed_from_the_values",),
    "10": (
        f"{CRITERIA}::test_binary_cross_entropy_averages_where_dianne_summed",
        f"{CRITERIA}::test_repeating_the_event_does_not_change_the_loss",
    ),
    "11": (f"{HERE}::test_what_is_reported_is_what_is_minimised",),
    "12": (
        f"{HERE}::test_figures_on_unseen_rows_do_not_depend_on_how_many_are_read_at_once",
        f"{LEARNER}::test_validation_counts_every_row_once_with_a_smaller_last_batch",
    ),
    "13": (f"{CRITERIA}::test_a_mask_is_the_same_as_leaving_steps_out",),
    "14": (f"{PROCESSORS}::test_adam_corrects_its_bias_by_its_own_updates_not_by_the_learners_iteration",),
    "15": (f"{HERE}::test_every_pass_of_learning_is_in_training_mode_and_every_other_is_not",),
    "16": (f"{LAUNCH}::test_one_network_for_two_roles_makes_two_instances",),
    "16b": (f"{HERE}::test_one_network_for_two_roles_starts_from_what_clean_has_stored",),
    "17": (
        f"{STORE}::test_a_damaged_file_is_found_and_the_previous_checkpoint_used",
        f"{LAUNCH}::test_weights_of_another_network_are_refused",
    ),
    "18": (
        f"{EVERY}::test_stopped_and_resumed_is_never_having_stopped",
        f"{EVERY}::test_passes_the_conformance_kit",
    ),
    # the life of a run
    "19": (
        f"{LEARNER}::test_a_run_that_diverges_keeps_its_last_good_state",
        f"{LEARNER}::test_nan_retry_goes_back_lowers_the_rate_and_goes_on",
        f"{STORE}::test_what_is_not_finite_is_not_stored",
        f"{HERE}::test_diannes_names_of_keys_are_understood",
    ),
    "20": (f"{LEARNER}::test_early_stop_compares_with_the_window",),
    "21": (f"{LEARNER}::test_validation_chooses_the_best_checkpoint",),
    "22": (f"{HERE}::test_validation_uses_the_criterion_with_its_own_settings",),
    "23": (
        f"{HERE}::test_an_unexpected_error_is_recorded_and_frees_the_tag",
        f"{HERE}::test_a_bad_value_leaves_nothing_behind",
    ),
    "24": (f"{HERE}::test_an_unexpected_error_is_recorded_and_frees_the_tag",),
    "25": (NOT + "a command carries out its one job itself; there are no queues, placements or notifications",),
    "26": (
        f"{HERE}::test_a_run_that_stops_before_its_first_trace_point_has_an_outcome",
        f"{REPOSITORY}::test_finding",
    ),
    "27": (
        f"{HERE}::test_intervals_that_would_divide_by_zero_are_refused",
        f"{HERE}::test_all_runs_are_listed_however_many_there_are",
    ),
    "28": (f"{HERE}::test_learning_leaves_the_file_of_a_network_alone",),
    # keys and names
    "29": (
        f"{HERE}::test_keys_that_nothing_reads_are_refused",
        f"{SETTINGS}::test_an_unknown_key_is_answered_with_the_nearest_and_its_owner",
    ),
    "30": (
        f"{HERE}::test_a_word_without_an_equals_sign_is_refused",
        f"{SETTINGS}::test_tokens_are_split_at_the_first_equals_sign",
    ),
    "31": (
        f"{SETTINGS}::test_a_bad_value_is_answered_with_key_value_and_type",
        f"{SETTINGS}::test_text_is_read_by_the_declared_type",
        f"{LAUNCH}::test_fixed_that_names_nothing_is_an_error",
    ),
    "32": (
        f"{SETTINGS}::test_a_key_of_two_components_is_refused_until_it_says_which",
        f"{PROCESSORS}::test_diannes_other_meaning_of_decay_rate_is_explained",
    ),
    "33": (f"{ADAPTERS}::test_false_is_false", f"{HERE}::test_switches_are_read_not_only_looked_for"),
    "34": (
        f"{HERE}::test_no_noise_at_all_is_refused",
        f"{SETTINGS}::test_the_number_of_networks_follows_the_roles",
        f"{ADVERSARIAL}::test_generator_dimension_follows_the_data_unless_given",
    ),
    "35": (
        f"{HERE}::test_source_code_is_no_strategy",
        f"{LAUNCH}::test_a_run_named_by_path_goes_on_only_with_the_file_named_again",
        f"{PLUGINS}::test_an_unknown_name_names_the_nearest_or_all",
        f"{PLUGINS}::test_a_clash_names_both_origins_and_blocks_only_that_name",
    ),
    "36": (f"{HERE}::test_an_unknown_data_set_is_an_error_at_once_and_makes_nothing",),
    "37": (NOT + "there is no command that compares names with texts of its own; all names go through the registry",),
    # rows
    "38": (f"{SAMPLERS}::test_sequential_goes_on_from_the_start_after_the_last_row",),
    "39": (f"{SAMPLERS}::test_uniform_class_takes_classes_in_turn_and_knows_no_empty_bucket",),
    "40": (
        f"{SAMPLERS}::test_weighted_draws_ranges_by_their_shares_even_when_they_cover_everything",
        f"{SAMPLERS}::test_wrong_weights_are_one_sentence",
    ),
    "41": (
        f"{SAMPLERS}::test_an_error_while_fetching_reaches_the_batch_that_needed_the_rows",
        f"{SAMPLERS}::test_streamed_rows_come_in_the_same_order_as_resident_ones",
    ),
    "42": (
        f"{HERE}::test_the_sampling_that_is_asked_for_is_used_by_every_strategy",
        f"{HERE}::test_a_batch_may_be_the_whole_data_set",
    ),
    "43": (
        f"{TABLE}::test_no_header_and_columns_by_number_anywhere",
        f"{TABLE}::test_forms_of_the_same_file",
        f"{TABLE}::test_separators",
    ),
    "44": (
        f"{IDX}::test_wrong_files_are_refused_by_name",
        f"{IDX}::test_truncated_and_corrupt_gzip",
        f"{IDX}::test_a_folder_or_missing_file",
    ),
    "45": (f"{PICTURES}::test_a_truncated_picture_is_named",),
    "46": (NOT + "there is no adapter that selects labels; rows are selected by number only",),
    "47": (
        f"{ADAPTERS}::test_crops_start_anywhere_and_one_side_may_be_left_out",
        f"{ADAPTERS}::test_random_sizes_reach_both_ends_and_give_one_shape",
        f"{ADAPTERS}::test_padding_adds_places_on_every_side",
        f"{ADAPTERS}::test_rotation_centers",
    ),
    "48": (
        f"{ADAPTERS}::test_overlapping_parts_are_refused",
        f"{HERE}::test_figures_on_unseen_rows_do_not_depend_on_how_many_are_read_at_once",
    ),
    # networks, files, judging
    "49": (f"{HERE}::test_layers_are_what_they_are_called", f"{DEFINITIONS}::test_sizes_of_image_layers_are_inferred"),
    "50": (f"{TABLE}::test_scales_are_fitted_on_the_training_rows_and_can_be_undone",),
    "51": (f"{DEFINITIONS}::test_expressions_have_the_usual_precedence",),
    "52": (
        f"{REPOSITORY}::test_good_tags",
        f"{REPOSITORY}::test_bad_tags",
        f"{REPOSITORY}::test_listing",
        f"{STORE}::test_a_crash_at_any_call_leaves_the_old_or_the_new",
        f"{LAUNCH}::test_one_network_for_two_roles_makes_two_instances",
    ),
    "52b": (f"{HERE}::test_samples_need_nothing_but_the_run_directory",),
    "53": (
        NOT + "networks are neither read from ONNX nor written to it; the definition kept with a run has a test",
        f"{NETWORKS}::test_the_resolved_definition_rebuilds_the_same_network",
    ),
    "54": (
        f"{HERE}::test_figures_on_unseen_rows_do_not_depend_on_how_many_are_read_at_once",
        f"{HERE}::test_top_n_looks_at_the_classes_not_at_the_rows",
        f"{HERE}::test_a_classifier_that_cannot_tell_is_not_right",
    ),
}

SEMANTICS: dict[str, tuple[str, ...]] = {
    "names of strategies": (
        f"{PLUGINS}::test_names_are_tolerant",
        f"{HERE}::test_a_strategy_is_found_by_its_full_name",
    ),
    "the published command": (f"{HERE}::test_the_published_command_learns",),
    "names of keys": (f"{HERE}::test_diannes_names_of_keys_are_understood",),
    "update rules": (FORMULAS, f"{PROCESSORS}::test_five_steps_of_every_method_follow_its_formula"),
    "the order of l2 and momentum": (
        f"{PROCESSORS}::test_dianne_l2_is_not_multiplied_by_the_learning_rate",
        f"{PROCESSORS}::test_dianne_momentum_adds_up_steps_that_the_learning_rate_already_scaled",
    ),
    "decay of the learning rate": (
        f"{PROCESSORS}::test_learning_rate_decay_by_hand",
        f"{PROCESSORS}::test_the_learning_rate_follows_the_iteration_not_the_updates",
    ),
    "reduction of criteria": (f"{CRITERIA}::test_a_sample_has_the_same_loss_alone_as_in_a_batch",),
    "half-open ranges": (f"{ADAPTERS}::test_ranges_are_half_open_and_lists_are_lists",),
    "the order of adapters": (f"{ADAPTERS}::test_the_order_is_published_and_is_that_of_the_keys",),
    "exact iterations": (f"{LEARNER}::test_iterations_are_exact_whatever_the_trace_interval",),
    "endless runs": (f"{HERE}::test_an_endless_run_goes_on_until_it_is_stopped",),
    "early stop": (f"{LEARNER}::test_early_stop_compares_with_the_window",),
    "snapshots": (f"{LEARNER}::test_checkpoints_at_the_store_interval_are_kept_for_good_and_others_pruned",),
    "tags": (
        f"{LAUNCH}::test_without_a_tag_every_run_is_fresh_and_readable",
        f"{LAUNCH}::test_an_existing_tag_goes_on_by_its_name_alone",
        f"{LAUNCH}::test_clean_starts_the_tag_anew_and_only_after_everything_was_checked",
        f"{LAUNCH}::test_a_missing_init_tag_is_an_error_and_leaves_nothing",
    ),
    "learning on with frozen layers": (f"{HERE}::test_layers_taken_from_another_run_can_be_frozen",),
    "schedule of the critic": (
        f"{ADVERSARIAL}::test_updates_follow_the_schedule",
        f"{ADVERSARIAL}::test_wgan_clips_the_critic_and_only_the_critic",
    ),
}


# --- the tables -----------------------------------------------------------------------------------------------------


@cache
def functions(path: Path) -> frozenset[str]:
    """The functions that a file defines; nothing of it is run."""
    return frozenset(node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))


def test_every_trap_is_in_the_table() -> None:
    assert list(TRAPS) == sorted(TRAPS, key=lambda number: (int(number.strip("b")), number))
    assert set(TRAPS) == {str(number) for number in range(1, 55)} | {"16b", "52b"}
    assert all(entries and all(entry.strip() for entry in entries) for entries in TRAPS.values())


def test_every_test_that_the_tables_name_exists() -> None:
    root = Path(__file__).parent.parent
    for entry in itertools.chain(*TRAPS.values(), *SEMANTICS.values()):
        if entry.startswith(NOT):
            assert len(entry) > len(NOT) + 20, "a reason is missing"
            continue
        file, _, name = entry.partition("::")
        assert name in functions(root / file), entry


def test_every_test_here_is_in_a_table() -> None:
    named = {entry.partition("::")[2] for entry in itertools.chain(*TRAPS.values(), *SEMANTICS.values())}
    assert {name for name in functions(Path(__file__)) if name.startswith("test_")} - named == {
        "test_every_trap_is_in_the_table",
        "test_every_test_that_the_tables_name_exists",
        "test_every_test_here_is_in_a_table",
    }


# --- helpers --------------------------------------------------------------------------------------------------------


def plan(strategy: str, networks: str = "Generator,Discriminator", dataset: str = "Circle", **keys: Any) -> Plan:
    return Resolver(REGISTRY, request(networks, dataset, {"strategy": strategy, **keys})).plan()


def session(strategy: str, networks: str = "Generator,Discriminator", dataset: str = "Circle", **keys: Any) -> Session:
    points = {"size": 64, "testSize": 16} if dataset == "Circle" else {}
    asked = request(networks, dataset, {"batchSize": 8, "iterations": 10, **points, "strategy": strategy, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def copies(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def figures(runs: Path, metric: str, **keys: str) -> Mapping[str, float]:
    run = Repository(runs).find("tiny")
    (found,) = evaluate_run(REGISTRY, run, metric, "latest", "cpu", 0, keys, lambda sentence: None)
    return found.values


def at_iteration(monkeypatch: pytest.MonkeyPatch, number: int, action: Any) -> None:
    """Do something within one iteration of every two-player strategy."""
    original = AdversarialStrategy.process_iteration

    def process(strategy: AdversarialStrategy, i: int) -> Any:
        if i == number:
            action()
        return original(strategy, i)

    monkeypatch.setattr(AdversarialStrategy, "process_iteration", process)


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "rate"), [({}, 5e-5), ({"learningRate": 3e-4}, 3e-4)])
def test_the_learning_rate_that_is_shown_is_the_one_that_moves_wgans_weights(keys: Any, rate: float) -> None:
    """Its preset of 1e-4 was printed, and 1e-3, the default of RMSprop, was used."""
    live = session("WGAN", initIterations=0, discriminatorIterations=1, clamp=100, **keys)
    assert live.plan.values["discriminator.learningRate"] == live.chains["discriminator"].learning_rate == rate
    before = copies(live.networks["discriminator"])
    live.strategy.process_iteration(0)
    moved = [now - then for now, then in zip(copies(live.networks["discriminator"]), before, strict=True)]
    largest = max(float(way.abs().max()) for way in moved)
    assert largest == pytest.approx(rate / (1 - 0.99) ** 0.5, rel=1e-2)  # RMSprop's first step: lr g / sqrt(0.01 g^2)


GAMES = {
    "GAN": {},
    "NSGAN": {},
    "Minimax": {},
    "WGAN": {"initIterations": 0, "discriminatorIterations": 1, "clamp": "none"},
    "GAN with a weighted penalty": {"penalty": "R1", "penaltyWeight": 7},
}


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_what_is_reported_is_what_is_minimised(name: str, player: str) -> None:
    """WGAN's number for the generator had the other sign; the VAE's loss left out the weight of its second term."""
    keys = {"method": "SGD", "learningRate": 0.01, "discriminator.Dropout.p": 0, **GAMES[name]}
    live = session(name.split(maxsplit=1)[0], **keys)
    strategy: Any = live.strategy
    own, seen = list(live.networks[player].parameters()), []
    loss_of = getattr(strategy, f"{player}_loss")

    def recorded(*inputs: Any) -> Loss:
        loss: Loss = loss_of(*inputs)
        seen.append((float(loss.total.detach()), torch.autograd.grad(loss.total, own, retain_graph=True), inputs))
        return loss

    setattr(strategy, f"{player}_loss", recorded)
    before = copies(live.networks[player])
    reported = float(strategy.process_iteration(0).values[f"{player}Loss"])
    (value, gradients, inputs) = seen[0]
    assert reported == pytest.approx(value, rel=1e-6)
    for now, then, gradient in zip(own, before, gradients, strict=True):
        torch.testing.assert_close(now.detach(), then - 0.01 * gradient, rtol=1e-4, atol=1e-7)
    if player == "generator":  # the discriminator stays as it was when its loss was taken
        assert float(loss_of(*inputs).total.detach()) < value


@pytest.mark.parametrize("metric", ["loss", "classification"])
def test_figures_on_unseen_rows_do_not_depend_on_how_many_are_read_at_once(
    metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means of batches were divided by the number of rows; a smaller last batch failed; training rows were judged."""
    learn_tiny("FeedForward", tmp_path, iterations=20, validationSet=None)
    found = []
    for rows in (7, 500):
        place = "ganglion.engine.validation" if metric == "loss" else f"ganglion.strategies.metrics.{metric}"
        monkeypatch.setattr(f"{place}.ROWS", rows)
        values = dict(figures(tmp_path, metric))
        values.pop("millisecondsPerRow", None)
        found.append(values)
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    data = session("FeedForward", "MLP", "Digits").data
    assert data.test is not None and found[0]["rows"] == len(data.test) and len(data.test) % 7


# --- modes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["NSGAN", "FeedForward"])
def test_every_pass_of_learning_is_in_training_mode_and_every_other_is_not(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode was guessed from the last pass: the first iteration, and the generator's update, had no dropout."""
    kind = FeedForward if strategy == "FeedForward" else AdversarialStrategy
    original, learning, modes = kind.process_iteration, [False], {True: set(), False: set()}

    def process(self: Any, i: int) -> Any:
        learning[0] = True
        progress = original(self, i)
        learning[0] = False
        return progress

    def notice(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, LayeredNetwork):
            modes[learning[0]].update(inner.training for inner in module.modules())

    monkeypatch.setattr(kind, "process_iteration", process)
    handle = nn.modules.module.register_module_forward_pre_hook(notice)
    busy = {"sampleInterval": 1, "samples": 4, "validationInterval": 1, "storeInterval": 1, "traces": "lines,pictures"}
    try:
        learn_tiny(strategy, tmp_path, iterations=3, **busy)
        learn_tiny(strategy, tmp_path, iterations=5, **busy)
    finally:
        handle.remove()
    assert modes == {True: {True}, False: {False}}


# --- the life of a run ----------------------------------------------------------------------------------------------


def test_one_network_for_two_roles_starts_from_what_clean_has_stored(tmp_path: Path) -> None:
    """Both instances drew weights of their own, one was stored, and the other learnt on from somewhere else."""
    file = tmp_path / "both.yaml"
    file.write_text(
        "name: Both\ndoc: Serves both roles.\nlayers:\n  - Linear: 8\n  - ReLU\n  - Linear: ${output.size}\n"
    )
    keys = {**TINY["GAN"].keys, "strategy": "GAN", "threads": 1, "traces": "lines", "storeInterval": 1}

    def run(tag: str, **more: Any) -> Path:
        return learn([str(file)] * 2, "Circle", {**keys, "tag": tag, **more}, runs=tmp_path / "runs").directory

    run("again", iterations=3, seed=5)
    stored = {
        tag: [
            {path.name: path.read_bytes() for path in (directory / "checkpoints" / str(number)).glob("*or.safetensors")}
            for number in range(3)
        ]
        for tag, directory in (("again", run("again", iterations=2, clean=True)), ("fresh", run("fresh", iterations=2)))
    }
    assert stored["again"] == stored["fresh"]
    assert len(stored["fresh"][0]) == 2 and stored["fresh"][0] != stored["fresh"][1]
    taken = run("taken", iterations=1, initTag="fresh")
    for name, content in stored["fresh"][2].items():
        assert (taken / "checkpoints" / "0" / name).read_bytes() == content


def test_validation_uses_the_criterion_with_its_own_settings(tmp_path: Path) -> None:
    """Validation was given the criterion's name and none of the strategy's other keys."""
    losses = {}
    for delta in (0.01, 1.0):
        keys = {"criterion": "HUB", "delta": delta, "iterations": 1, "learningRate": 1e-12}
        learnt = learn_tiny("FeedForward", tmp_path, f"delta{delta}", **keys)
        lines = (learnt.directory / "trace.jsonl").read_text().splitlines()
        losses[delta] = [json.loads(line)["validation"]["loss"] for line in lines if "validation" in line][-1]
    live = session("FeedForward", "MLP", "Digits", validationSet="0,100", criterion="HUB", delta=0.01)
    assert live.data.validation is not None
    batch = live.data.validation.rows(torch.arange(100))
    with torch.no_grad():
        error = live.networks["network"](batch.input) - nn.functional.one_hot(batch.target, 10)
    expected = (0.01**2 * ((1 + (error / 0.01) ** 2).sqrt() - 1)).mean()
    assert losses[0.01] == pytest.approx(float(expected), rel=1e-4)
    assert losses[1.0] > 3 * losses[0.01]


@pytest.mark.parametrize("number", [0, 3])
def test_an_unexpected_error_is_recorded_and_frees_the_tag(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that nobody expected left a job running for ever; one that failed at once was called cancelled."""

    def fail() -> None:
        raise ZeroDivisionError("a bug of the strategy")

    with monkeypatch.context() as patch:
        at_iteration(patch, number, fail)
        with pytest.raises(ZeroDivisionError):
            learn_tiny("GAN", tmp_path, iterations=5)
    (info,) = Repository(tmp_path).list_runs()
    record = Repository(tmp_path).find("tiny").read_record()
    assert (info.status, record["reason"]) == ("failed", "ZeroDivisionError: a bug of the strategy")
    assert learn_tiny("GAN", tmp_path, iterations=5).outcome.status == "finished"


def test_a_bad_value_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """maxIterations=abc left the job running and its device busy."""
    words = ["Generator,Discriminator", "Circle", "strategy=GAN", "maxIterations=abc", "--runs", str(tmp_path / "runs")]
    with pytest.raises(SystemExit) as caught:
        learn_main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("learn: maxIterations=abc: the job expects int >= -1")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_stops_before_its_first_trace_point_has_an_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asking for the result of such a job failed."""
    at_iteration(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    learnt = learn_tiny("GAN", tmp_path, iterations=50, traceInterval=10, traces="terminal,lines")
    assert (learnt.outcome.status, learnt.outcome.iteration, dict(learnt.outcome.values)) == ("stopped", 2, {})
    with pytest.raises(SystemExit) as caught:
        main(["runs", "--runs", str(tmp_path)])
    assert caught.value.code == 0
    output = capsys.readouterr()
    assert "stopped" in output.out and "Traceback" not in output.err


@pytest.mark.parametrize("key", ["traceInterval", "validationInterval", "thresholdWindow", "batchSize"])
def test_intervals_that_would_divide_by_zero_are_refused(key: str) -> None:
    """traceInterval=0 divided by zero after the first iteration."""
    with pytest.raises(ConfigError, match=f"{key}=0: the job expects int >= 1"):
        plan("GAN", **{key: 0})


def test_all_runs_are_listed_however_many_there_are(tmp_path: Path) -> None:
    """Only the last ten jobs could be asked for, though all results were on the disk."""
    repository = Repository(tmp_path)
    for number in range(25):
        repository.run(f"run-{number}").create().write_record({"status": "finished", "iteration": number})
    assert {info.tag for info in repository.list_runs()} == {f"run-{number}" for number in range(25)}
    assert repository.find("run-3").read_record()["iteration"] == 3


def test_learning_leaves_the_file_of_a_network_alone(tmp_path: Path) -> None:
    """Training wrote the labels into the definition, so that a locked network could not be trained."""
    file = tmp_path / "locked.yaml"
    text = "name: Locked\ndoc: A classifier.\nlayers:\n  - Flatten\n  - Linear: ${output.size}\n"
    file.write_text(text)
    file.chmod(stat.S_IRUSR)
    changed = file.stat().st_mtime_ns
    learn(
        str(file), "Digits", {"strategy": "FeedForward", "iterations": 1, "threads": 1, "traces": "lines"},
        runs=tmp_path / "runs",
    )  # fmt: skip
    assert (file.read_text(), file.stat().st_mtime_ns) == (text, changed)


def test_an_endless_run_goes_on_until_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-1 means no end, as there."""
    at_iteration(monkeypatch, 39, lambda: os.kill(os.getpid(), signal.SIGINT))
    learnt = learn_tiny("GAN", tmp_path, maxIterations=-1)
    assert (learnt.outcome.status, learnt.outcome.iteration) == ("stopped", 40)
    assert Learner(session("GAN", iterations=-1), None, None).limit is None  # type: ignore[arg-type]


def test_layers_taken_from_another_run_can_be_frozen(tmp_path: Path) -> None:
    """initTag, fixed and clean together: what is fixed keeps the other run's weights, the rest learns."""
    learn_tiny("GAN", tmp_path, "source", iterations=3, seed=1)
    learn_tiny("GAN", tmp_path, "target", iterations=2)
    target = {"fixed": "generator.layers.0", "initTag": "source", "clean": True, "iterations": 4}
    learn_tiny("GAN", tmp_path, "target", **target)
    source, weights = (
        Repository(tmp_path).find(tag).checkpoints().load().networks["generator"] for tag in ("source", "target")
    )
    kept = {name for name, value in weights.items() if torch.equal(value, source[name])}
    assert kept == {name for name in weights if name.startswith("layers.0.")} != set()


# --- keys and names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "regularization", "trainingSet", "miniBatchErrorThreshold", "validationErrorThreshold", "errorThresholdWindow",
        "storeIfBetterThan", "Maxiteration", "clampp", "generator.batchSize",
    ],
)  # fmt: skip
def test_keys_that_nothing_reads_are_refused(key: str) -> None:
    """Its own builder, examples and documents used keys that no code read; nobody was told."""
    with pytest.raises(ConfigError, match=f"^unknown key '{key}'") as caught:
        plan("GAN", **{key: "1"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", ["clean strategy=GAN", "strategy=GAN clean", "strategy=GAN =1", "strategy=GAN seed"])
def test_a_word_without_an_equals_sign_is_refused(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bare `clean`, and values that hold an equals sign, vanished."""
    with pytest.raises(SystemExit) as caught:
        learn_main(["Generator,Discriminator", "Circle", *words.split(), "--runs", str(tmp_path / "runs")])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected key=value after the data set" in line and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", ["false", "no", "none", "0"])
def test_switches_are_read_not_only_looked_for(value: str, tmp_path: Path) -> None:
    """autoencode=false switched autoencoding on; l2 and momentum were switched on by their mere presence."""
    if value != "none":
        assert not plan("FeedForward", "MLP", "Digits", autoencode=value).adapters.autoencode
    if value in ("none", "0"):
        off = {"clamp": "none", "ema": "none", "dianneMomentum": "none", "l2": value, "dianneL2": value}
        learnt = [learn_tiny("GAN", tmp_path, tag, iterations=2, **keys) for tag, keys in (("a", off), ("b", {}))]
        without, plain = (weights_of(each) for each in learnt)
        for role in ("generator", "discriminator"):
            assert without[f"{role}.safetensors"] == plain[f"{role}.safetensors"]


def test_no_noise_at_all_is_refused() -> None:
    """The generator's input had the size 0 unless it was given."""
    with pytest.raises(ConfigError, match=r"generatorDim=0: strategy GAN expects int or none >= 1"):
        plan("GAN", generatorDim=0)


@pytest.mark.parametrize("form", ["{code}", "{code}:Mine", "class", "path.java"])
def test_source_code_is_no_strategy(form: str, tmp_path: Path) -> None:
    """Any strategy with the letters `class` in it was compiled and run, even when it came over the network."""
    trace = tmp_path / "ran"
    code = f"class Mine: open({str(trace)!r}, 'w')"
    with pytest.raises(Exception, match=r"unknown strategy|does not exist|No module named") as caught:
        plan(form.format(code=code))
    assert getattr(caught.value, "exit_code", None) == 2 and not trace.exists()


def test_an_unknown_data_set_is_an_error_at_once_and_makes_nothing(tmp_path: Path) -> None:
    """A misspelt data set became a new, empty one of that name, with the job's keys in its file."""
    with pytest.raises(ConfigError, match="unknown dataset 'MINST'; did you mean 'MNIST'"):
        learn("Generator,Discriminator", "MINST", {"strategy": "GAN"}, runs=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_strategy_is_found_by_its_full_name() -> None:
    """`GAN` and other spellings are one name; a module and a class in it are another way."""
    assert plan("ganglion.strategies.gan:GAN").strategy.thing is REGISTRY.get("strategy", "GAN").thing


def test_the_published_command_learns(tmp_path: Path) -> None:
    """The line of its documentation, on the embedded digits, with an end."""
    words = (
        "Generator,Discriminator Digits strategy=GANLearningStrategy generatorDim=10 batchSize=16 method=SGD "
        "learningRate=0.001 momentum=0.9 trace=true clean=true maxIterations=3 traceInterval=1 tag=published threads=1"
    )
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            learn_main([*words.split(), "--runs", str(tmp_path)])
        assert caught.value.code == 0
    run = Repository(tmp_path).find("published")
    assert run.read_record()["iteration"] == 3 and run.read_record()["sessions"] == 1
    settings = run.read_job()["settings"]
    assert settings["generatorDim"] == 10 and settings["discriminator.momentum"] == 0.9


def test_diannes_names_of_keys_are_understood() -> None:
    """NaNretry was read and never used; the others worked, and their names are kept."""
    made = plan(
        "WGANLearningStrategy", Diterations="3", initDiterations="7", initIterations="2", latentDims="5", NaNretry="4",
        minibatchLossThreshold="0.5", validationLossThreshold="0.25", thresholdWindow="6", trainSet="0,100",
        maxIterations="1e3", storeInterval="50", decayType="EXPONENTIAL", decayRate="1e-3", minLearningRate="1e-6",
        sampling="UniformSamplingStrategy", method="rmsprop", clamp="0.02", l2="1e-4",
    )  # fmt: skip
    own, job = made.strategy_settings, made.job
    assert (own.discriminator_iterations, own.init_discriminator_iterations, own.init_iterations) == (3, 7, 2)
    assert (own.generator_dim, job.nan_retry, job.iterations, job.store_interval) == (5, 4, 1000, 50)
    assert (job.loss_threshold, job.validation_loss_threshold, job.threshold_window) == (0.5, 0.25, 6)
    assert made.adapters.range == (0, 100) and made.sampling.name == "UNIFORM"
    chain = made.roles["generator"].chain
    assert (chain.decay_type, chain.decay_rate, chain.min_learning_rate) == ("exponential", 1e-3, 1e-6)
    assert {entry.method_settings.learning_rate for entry in made.roles.values()} == {5e-5}


# --- rows, networks, judging ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", TINY)
@pytest.mark.parametrize("sampling", ["UNIFORM", "SEQUENTIAL", "PERMUTATION"])
def test_the_sampling_that_is_asked_for_is_used_by_every_strategy(strategy: str, sampling: str) -> None:
    """Sequences were always drawn uniformly, whatever was asked for."""
    row = TINY[strategy]
    live = session(strategy, row.networks, row.dataset, **{**row.keys, "sampling": sampling, "batchSize": 32})
    order = live.sampler.sampling.order(torch.Generator().manual_seed(1))
    rows = torch.arange(len(live.data.train))
    kinds = {
        "SEQUENTIAL": torch.equal(order, rows),
        "PERMUTATION": torch.equal(order.sort().values, rows) and not torch.equal(order, rows),
        "UNIFORM": not torch.equal(order.sort().values, rows),
    }
    assert [name for name, holds in kinds.items() if holds] == [sampling]


@pytest.mark.parametrize("sampling", ["UNIFORM", "SEQUENTIAL", "PERMUTATION"])
def test_a_batch_may_be_the_whole_data_set(sampling: str) -> None:
    """Where one sequence was the whole text, drawing its start failed."""
    live = session("GAN", size=8, sampling=sampling)
    assert len(live.data.train) == 8
    batches = [live.sampler.next_batch().input for _ in range(3)]
    assert all(batch.shape == (8, 2) for batch in batches)
    if sampling == "SEQUENTIAL":
        assert torch.equal(batches[0], batches[2])


def test_layers_are_what_they_are_called() -> None:
    """ELU made a SoftPlus, and one kind of pooling could be listed but not made."""
    for name, layer in LAYERS.items():
        assert layer is (OWN[name] if name in OWN else getattr(nn, name))
    values = torch.tensor([-2.0, -0.5, 0.0, 1.5])
    wanted = {
        "ELU": torch.where(values > 0, values, values.exp() - 1),
        "Softplus": (1 + values.exp()).log(),
        "LeakyReLU": torch.where(values > 0, values, 0.01 * values),
        "PReLU": torch.where(values > 0, values, 0.25 * values),
        "SELU": 1.0507009873554805 * torch.where(values > 0, values, 1.6732632423543772 * (values.exp() - 1)),
    }
    for name, expected in wanted.items():
        torch.testing.assert_close(LAYERS[name]()(values), expected)


def test_samples_need_nothing_but_the_run_directory(tmp_path: Path) -> None:
    """A trained network could not be had from the dashboard at all."""
    table = tmp_path / "points.csv"
    table.write_text("\n".join(f"{number},{number % 7}" for number in range(64)))
    keys = {"path": str(table), "strategy": "GAN", "tag": "tiny", "iterations": 2, "batchSize": 8, "threads": 1}
    learn("Generator,Discriminator", "Table", {**keys, "traces": "lines"}, runs=tmp_path / "runs")
    table.unlink()
    samples = draw_samples(open_run(REGISTRY, Repository(tmp_path / "runs").find("tiny")), 5, 0)
    assert samples.shape == (5, 2) and bool(samples.isfinite().all())


def test_top_n_looks_at_the_classes_not_at_the_rows(tmp_path: Path) -> None:
    """With fewer rows than N there was no top-N figure, and with fewer classes a wrong one."""
    learn_tiny("FeedForward", tmp_path, iterations=30, validationSet=None)
    two = figures(tmp_path, "classification", testSet="0,2")
    assert two["rows"] == 2 and {"top2", "top3"} <= set(two)
    assert figures(tmp_path, "classification", top="50")["top10"] == 1.0


def test_a_classifier_that_cannot_tell_is_not_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of one evaluation rest on one order of the classes: equal scores count as the first class."""
    learn_tiny("FeedForward", tmp_path, iterations=1, validationSet=None)
    for score in (0.0, float("nan")):
        monkeypatch.setattr(FeedForward, "predict", lambda self, rows, s=score: torch.full((len(rows), 10), s))
        values = figures(tmp_path, "classification")
        zeros = float((session("FeedForward", "MLP", "Digits").data.test.targets() == 0).double().mean())  # type: ignore[union-attr]
        assert values["accuracy"] == pytest.approx(zeros) and 0 < zeros < 0.2
        confusion = json.loads((tmp_path / "tiny" / "evaluation" / "classification.json").read_text())["details"]
        right = sum(row[1 + place] for place, row in enumerate(confusion["confusion"]["rows"]))
        assert right / values["rows"] == pytest.approx(values["accuracy"])
