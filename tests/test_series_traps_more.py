"""More traps of published implementations: smart grids, filling in, and the newer baselines.

`TRAPS` is a table as in tests/test_series_traps.py: the tests that would fail, by section and sentence of the notes on
the sources. The tests below are those that have no better place.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seriesfiles import dated
from torch import Tensor
from traps import REGISTRY, assembled, inputs_of, live, missing, unlisted

from ganglion.datasets.series.series import Series, SeriesTableSettings
from ganglion.datasets.series.windows import ranged
from ganglion.engine.commands import job_folders
from ganglion.engine.contracts import Batch, DataContext, DataSpec, EvaluationContext, NetworkContext, Port, Splits
from ganglion.engine.errors import ConfigError
from ganglion.engine.job import named_job, read_job
from ganglion.engine.launch import learn
from ganglion.engine.opening import draw_samples, named_classes, open_run
from ganglion.engine.repository import Repository
from ganglion.strategies.metrics.series import discriminative, tstr
from ganglion.strategies.metrics.series.imputation import Imputation
from ganglion.strategies.metrics.series.timeganpredictive import published_error

HERE, STRATEGIES, CONDITIONS = (
    "tests/test_series_traps_more.py",
    "tests/test_series_strategies.py",
    "tests/test_conditional.py",
)
NETWORKS, METRICS, CONTROLS = (
    "tests/test_networks_series.py",
    "tests/test_metrics_series.py",
    "tests/test_metrics_controls.py",
)
DATA, FILES, TRAPS_BEFORE = (
    "tests/test_dataset_series.py",
    "tests/test_dataset_series_files.py",
    "tests/test_series_traps.py",
)
PICTURES = "tests/test_evaluation_pictures.py"
DAYS = {"time": "date", "length": 96, "align": "day", "calendar": ("month", "weekday")}

TRAPS: dict[str, tuple[str, ...]] = {
    # --- 7: smart grids
    "7 made days get the level of real ones": (
        f"{HERE}::test_every_day_has_a_scale_of_its_own_and_made_ones_have_no_level",
        f"{HERE}::test_the_smart_grid_job_learns_from_a_file_of_days",
    ),
    "7 a day without sun divides by nothing and leaves what was in memory": (
        f"{HERE}::test_every_day_has_a_scale_of_its_own_and_made_ones_have_no_level",
        f"{DATA}::test_normalised_windows_give_what_was_taken_away_as_fields",
    ),
    "7 users without a second column always fail": (f"{HERE}::test_the_smart_grid_job_learns_from_a_file_of_days",),
    "7 days of months and weekdays, the later ones held out": (
        f"{FILES}::test_days_as_a_smart_grid_has_them",
        f"{FILES}::test_calendar_labels_of_known_dates",
    ),
    "7 month and weekday at once, with equal weights": (
        f"{HERE}::test_a_calendar_label_is_the_class_and_the_others_are_fields",
        f"{CONDITIONS}::test_acgan_with_several_heads",
    ),
    "7 heads learn from made days too": (f"{CONDITIONS}::test_acgan_adds_the_classes_cross_entropies",),
    "7 real target .95, fake target 0, Adam 1e-4, two batches": (
        f"{HERE}::test_published_numbers_of_the_smart_grid_job",
    ),
    "7 a window must be a multiple of 8": (
        f"{NETWORKS}::test_generators_of_windows_take_one_vector",
        f"{NETWORKS}::test_judges_give_what_the_port_asks_for",
    ),
    "7 a biased discrepancy with sigma in place of its square, cut off below": (
        f"{METRICS}::test_mmd_by_hand",
        f"{METRICS}::test_the_bandwidth_is_the_median_distance_of_real_windows",
        f"{METRICS}::test_it_is_unbiased_so_that_equal_distributions_score_below_zero_half_the_time",
    ),
    # --- 8: filling in
    "8 probabilities are taken for logits": (f"{HERE}::test_judges_of_windows_give_logits",),
    "8 smoothed labels are drawn and hard ones used": (
        f"{STRATEGIES}::test_drawn_targets_are_used_and_differ_per_sample",
        f"{HERE}::test_labels_are_drawn_in_every_mode_that_plays",
    ),
    "8 layers that nothing uses": (
        f"{NETWORKS}::test_the_imputer_gives_the_values_of_every_step_and_learns_with_all_it_has",
    ),
    "8 the error counts what was never taken away": (
        f"{STRATEGIES}::test_observed_values_stay_and_only_missing_ones_count",
        f"{HERE}::test_the_figure_counts_what_was_taken_away_alone",
    ),
    "8 the discriminator sees observed values overwritten": (
        f"{STRATEGIES}::test_observed_values_stay_and_only_missing_ones_count",
    ),
    "8 real rows come from the first few files alone": (f"{HERE}::test_the_discriminator_sees_every_real_window",),
    "8 a fifth of the steps, in a block or scattered with replacement": (
        f"{STRATEGIES}::test_a_fifth_of_the_steps_is_taken_away_in_a_block_or_scattered",
    ),
    "8 a placeholder that the generator is told of, and no noise": (
        f"{HERE}::test_the_generator_is_told_what_is_missing_and_draws_nothing",
    ),
    "8 covariates are known": (f"{STRATEGIES}::test_covariates_are_given_and_not_filled_in",),
    "8 whole series are held out": (f"{DATA}::test_series_held_out_as_a_whole",),
    "8 the error plus .05 times the game": (f"{STRATEGIES}::test_modes_of_imputation",),
    "8 the game alone is useless": (f"{HERE}::test_the_game_alone_fills_nothing_in",),
    # --- 10: newer baselines and independent reruns
    "10 windows of one part share rows with another's": (
        f"{DATA}::test_no_value_is_in_windows_of_two_parts",
        f"{CONTROLS}::test_no_value_is_in_two_parts",
    ),
    "10 the interval behind the sign is that of Student's t": (f"{METRICS}::test_spread_over_refits",),
    "10 correlations of features, lag 0": (f"{METRICS}::test_cross_correlation_by_hand",),
    "10 loaders disagree on which way time runs": (f"{FILES}::test_real_stocks_as_timegan_prepares_them",),
    "10 a score below the floor of a random target": (
        f"{HERE}::test_a_random_target_is_predicted_no_better_than_by_a_constant",
        f"{FILES}::test_real_energy",
    ),
    "10 a low discriminative score is not usefulness": (
        f"{CONTROLS}::test_the_honest_judge_sees_what_the_published_one_does_not",
        f"{CONTROLS}::test_the_published_predictor_does_not_mind_lost_time",
    ),
    "10 near-duplicates of what was learnt": (
        f"{METRICS}::test_copies_are_found_and_new_windows_are_not",
        f"{CONTROLS}::test_memorising_finds_the_copies_and_only_those",
    ),
    "10 an argument of the judge is ignored": (f"{HERE}::test_what_a_judge_is_set_to_counts",),
    "10 a judge that always says one half": (
        f"{METRICS}::test_a_score_of_a_half_means_that_the_judge_is_always_right",
        f"{METRICS}::test_a_perfect_generator_scores_about_nothing_and_noise_a_half",
    ),
    "10 a whole window is one step of a recurrent network": (
        f"{NETWORKS}::test_no_step_depends_on_a_later_one",
        f"{HERE}::test_recurrent_networks_go_through_the_steps",
    ),
    "10 RTSGAN: codes first, then a game on codes that stay as they are": (
        f"{STRATEGIES}::test_rtsgan_codes_first_and_plays_in_the_space_of_codes_then",
        f"{TRAPS_BEFORE}::test_real_codes_are_those_of_an_encoder_that_does_not_learn",
        f"{HERE}::test_published_numbers_of_rtsgan",
    ),
    "10 TimeVAE: the error counts three times": (f"{HERE}::test_published_numbers_of_timevae",),
    "10 series of very different ranges": (
        f"{HERE}::test_every_day_has_a_scale_of_its_own_and_made_ones_have_no_level",
    ),
    "10 projections fitted on real windows alone, means over features": (
        f"{PICTURES}::test_principal_components_are_those_of_real_windows_only",
        f"{PICTURES}::test_windows_become_means_over_features",
    ),
}


def test_every_trap_has_a_test_that_exists() -> None:
    assert missing(TRAPS) == []


def test_every_test_here_is_in_the_table() -> None:
    assert unlisted(TRAPS, __file__) == {"test_wrong_targets_of_series_are_refused"}


def series(path: Path, **keys: Any) -> Series:
    settings = SeriesTableSettings(path=str(path), **keys)
    return Series(settings, DataContext((), path.parent, 0, lambda sentence: None))


def days(folder: Path, columns: int = 2, count: int = 20) -> Path:
    """A file of quarters of an hour from 2024-01-01 on."""
    path = folder / "days.csv"
    path.write_text(dated(96 * count, columns, np.timedelta64(15, "m")))
    return path


# --- 7: smart grids -----------------------------------------------------------------------------------------------


def test_every_day_has_a_scale_of_its_own_and_made_ones_have_no_level(tmp_path: Path) -> None:
    """One source multiplies what it made by the level and the range of a real day."""
    batch = ranged(Batch(torch.tensor([[[1.0, 7.0, 2.0], [3.0, 7.0, -1e30], [5.0, 7.0, 1e30]]])))
    assert batch.input[0].T.tolist() == [[0.0, 0.5, 1.0], [0.0, 0.0, 0.0], [0.5, 0.0, 1.0]]
    assert batch.fields["low"][0].tolist() == [1.0, 7.0, pytest.approx(-1e30)]
    assert batch.fields["extent"][0].tolist() == [4.0, 0.0, pytest.approx(2e30)]
    mask = {"mask": torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])}
    for sign, wanted in ((1.0, [0.0, 1.0, 0.0]), (-1.0, [1.0, 0.0, 0.0])):
        seen = ranged(Batch(sign * torch.tensor([[[2.0, 0.0], [4.0, 0.0], [0.0, 0.0]]]), fields=mask))
        assert seen.input[0].T.tolist() == [wanted, [0.0, 0.0, 0.0]]
        assert seen.fields["low"].tolist() == [[min(2 * sign, 4 * sign), 0.0]]
        assert seen.fields["extent"].tolist() == [[2.0, 0.0]]

    source = series(days(tmp_path), normalise="range", test_share=0.25, **DAYS)
    part = source.load().train
    rows = part.rows(torch.arange(len(part)))
    assert part.spec.value_range == (0.0, 1.0)
    assert rows.input.amin(1).tolist() == [[0.0, 0.0]] * len(part) == (1 - rows.input.amax(1)).tolist()
    own = source.unscale(rows.input, rows.fields["low"], rows.fields["extent"])[0, :2, 0]
    assert own.tolist() == pytest.approx([5.0, 5 + math.sin(1)], abs=1e-5)
    with pytest.raises(ConfigError, match=r"normalise=range, samples have units only with low and extent given$"):
        source.unscale(rows.input)


def test_a_calendar_label_is_the_class_and_the_others_are_fields(tmp_path: Path) -> None:
    part = series(days(tmp_path, count=40), target="month", test_share=0.0, **DAYS).load().train
    rows = part.rows(torch.arange(len(part)))
    assert rows.target is not None and rows.target.tolist() == [0] * 31 + [1] * 9
    assert part.spec.classes[:2] == ("January", "February") and len(part.spec.classes) == 12
    assert set(rows.fields) == {"weekday"} and rows.fields["weekday"][:8].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    free = {**DAYS, "align": "none", "length": 24, "stride": 10, "target": "month", "test_share": 0.0}
    assert len(series(days(tmp_path, count=40), **free).load().train) == 382  # also those that a month begins in


def test_wrong_targets_of_series_are_refused(tmp_path: Path) -> None:
    for keys, said in (
        ({"target": "hour"}, "Series: target=hour is not among calendar=month,weekday$"),
        ({"target": "month", "labels": ("b",)}, "Series: target=month and labels=b: give one of them$"),
    ):
        with pytest.raises(ConfigError, match=said):
            series(days(tmp_path), **DAYS, **keys).load()


def test_published_numbers_of_the_smart_grid_job() -> None:
    job = read_job(named_job("smart-grid", job_folders()))
    settings = job["settings"]
    wanted = {
        "labelled.realTarget": "0.95", "labelled.fakeTarget": "0", "method": "ADAM", "learningRate": "0.0001",
        "beta1": "0.5", "batchSize": "32", "generatorDim": "64", "jointPass": "no", "heads": "weekday:7",
        "target": "month",
    }  # fmt: skip
    assert {key: settings[key] for key in wanted} == wanted
    assert not {"classWeight", "generatorClassWeight"} & set(settings)  # 1 and 1


@pytest.mark.parametrize("columns", ["a,b", "a"])
def test_the_smart_grid_job_learns_from_a_file_of_days(columns: str, tmp_path: Path) -> None:
    job = read_job(named_job("smart-grid", job_folders()))
    keys = {
        "path": str(days(tmp_path)), "columns": columns, "length": 96, "batchSize": 6, "iterations": 2, "width": 8,
        "threads": 1, "sampleInterval": 0, "traces": "lines", "tag": "grid",
    }  # fmt: skip
    learn(None, None, keys, job=job, runs=tmp_path / "runs", quiet=True)
    (tmp_path / "days.csv").unlink()
    opened = open_run(REGISTRY, Repository(tmp_path / "runs").find("grid"))
    made = draw_samples(opened, 5, 0, named_classes(opened, "March,May"))
    assert made.shape == (5, 96, len(columns.split(","))) and made.min() >= 0 and made.max() <= 1
    assert opened.strategy.requested(opened.strategy.noise(13, opened.strategy.random("x"))).tolist() == [*range(12), 0]


# --- 8: filling in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ImputationDiscriminator", "SmartGridDiscriminator", "FinGANDiscriminator"])
def test_judges_of_windows_give_logits(name: str) -> None:
    """One source computes the loss of probabilities as if they were logits."""
    window = Port("sequence", (8, 2))
    context = NetworkContext("discriminator", window, Port("score", (1,)), DataSpec("sequence", (8, 2)))
    network = REGISTRY.get("network", name).thing(context).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        [parameter for parameter in network.parameters() if parameter.shape == (1,)][-1].fill_(-7.0)
    assert network(torch.randn(3, 8, 2)).tolist() == [[-7.0]] * 3


def test_labels_are_drawn_in_every_mode_that_plays() -> None:
    for mode in ("partial", "pure"):
        strategy, _ = live("ImputationGAN", mode=mode)
        drawn: list[Any] = []
        draw = strategy.draw_rest
        strategy.draw_rest = lambda batch, draw=draw, drawn=drawn: drawn.append(draw(batch)) or drawn[-1]
        used: list[Any] = []
        halves = strategy.halves
        strategy.halves = lambda *given, halves=halves, used=used: used.append(given[2]) or halves(*given)
        strategy.process_iteration(0)
        assert len(drawn) == 1 and len(used) >= 1
        assert all(torch.equal(used[0].targets[side], drawn[0].targets[side]) for side in (0, 1)), mode


def test_the_figure_counts_what_was_taken_away_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One source averages over the whole window, which divides the error by five."""
    strategy, made = live("ImputationGAN")
    monkeypatch.setattr(strategy, "completed", lambda windows, missing: windows + missing)
    plain = made.data

    def nothing(*given: Any) -> Any:
        raise AssertionError("not asked for")

    context = EvaluationContext(
        strategy=strategy, spec=made.spec, device=torch.device("cpu"), seed=0, own_scale=lambda rows: rows,
        splits=lambda: Splits(plain.plain, plain.validation, plain.test), factory=nothing, samples=nothing,
        labelled=nothing, run=nothing,
    )  # fmt: skip
    assert Imputation().evaluate(context).values["imputation"] == pytest.approx(1.0, abs=1e-5)


def test_the_discriminator_sees_every_real_window() -> None:
    strategy, made = live("ImputationGAN", size=12)
    seen: list[Tensor] = []
    train = strategy.train_discriminator
    strategy.train_discriminator = lambda batch: seen.append(batch.input.clone()) or train(batch)
    for i in range(20):
        strategy.process_iteration(i)
    whole = made.data.train.rows(torch.arange(12)).input
    found = torch.cat(seen)
    assert all(bool((found == window).flatten(1).all(1).any()) for window in whole)


def test_the_generator_is_told_what_is_missing_and_draws_nothing() -> None:
    strategy, made = live("ImputationGAN", placeholder=-0.1)
    given = inputs_of(made.networks["generator"])
    batch, holes = strategy.real_batch(), torch.zeros(6, 8, 1)
    holes[:, 2:4] = 1
    once, again = (strategy.fake(holes, batch).detach() for _ in range(2))
    assert torch.equal(once, again) and given[0].shape == (6, 8, 4)
    shown, told = given[0].split(2, 2)
    assert bool((shown[:, 2:4] == -0.1).all()) and torch.equal(shown[:, 4:], batch.input[:, 4:])
    assert torch.equal(told, holes.expand(-1, -1, 2))


def test_the_game_alone_fills_nothing_in() -> None:
    """The source's figures: .0467 with a little game, .0590 without, .5487 with the game alone."""
    errors = {}
    for mode in ("regression", "partial", "pure"):
        strategy, made = live(
            "ImputationGAN", dataset="Sine", mode=mode, size=200, length=12, hidden=12, batchSize=32, learningRate=0.02
        )
        for i in range(50):
            strategy.process_iteration(i)
        with made.judging():
            errors[mode] = float(strategy.validate(made.data.test.rows(torch.arange(12)))["loss"].mean())
    assert errors["partial"] < 1.3 * errors["regression"] and errors["pure"] > 1.5 * errors["regression"], errors


# --- 10: newer baselines and independent reruns -------------------------------------------------------------------


def test_a_random_target_is_predicted_no_better_than_by_a_constant() -> None:
    """The last column of Energy: a constant has .25, and a score below it means another protocol or a leak."""
    generator = torch.Generator().manual_seed(0)
    windows = torch.rand(1000, 8, 3, generator=generator)
    found = published_error(windows[:300], windows[300:], 0, 60, 32)
    constant = float((windows[300:, 1:, -1] - 0.5).abs().mean())
    assert constant == pytest.approx(0.25, abs=0.005) and constant - 0.003 < found < constant + 0.03


def test_what_a_judge_is_set_to_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One benchmark's judge is the same whatever it is told."""
    windows = torch.rand(20, 6, 2, generator=torch.Generator().manual_seed(0))
    updates: list[int] = []
    for module, judge in (
        (discriminative, lambda: discriminative.held_out_accuracy(windows, windows, windows.repeat(2, 1, 1), 0, 7, 3)),
        (tstr, lambda: tstr.next_step_error(windows, windows, torch.ones(2), 0, 7, 3)),
    ):
        kind = module.Recurrent
        made: list[tuple[int, ...]] = []

        def recorded(*given: Any, kind: Any = kind, made: list[tuple[int, ...]] = made) -> Any:
            made.append(given[:3])
            return kind(*given)

        fit = module.fit
        monkeypatch.setattr(module, "Recurrent", recorded)
        monkeypatch.setattr(
            module, "fit", lambda network, loss, count, fit=fit: updates.append(count) or fit(network, loss, count)
        )
        judge()
        assert [given[1] for given in made] == [7]
    assert updates == [3, 3]


@pytest.mark.parametrize("name", ["Recurrent", "RecurrentGenerator", "RecurrentDiscriminator", "CRNNDiscriminator"])
def test_recurrent_networks_go_through_the_steps(name: str) -> None:
    """One 'LSTM' is given a whole window as its only step."""
    role = "discriminator" if name.endswith("Discriminator") else "generator"
    made = Port("score", (9, 1)) if role == "discriminator" else Port("sequence", (9, 2))
    given = Port("sequence" if role == "discriminator" else "noise", (9, 2))
    network = REGISTRY.get("network", name).thing(NetworkContext(role, given, made, DataSpec("sequence", (9, 2))))
    seen: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, torch.nn.RNNBase):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    network(torch.randn(3, 9, 2))
    assert seen == [(3, 9, 2)]


def test_published_numbers_of_rtsgan() -> None:
    strategy, made = live("RTSGAN", "MLP,MLP,Recurrent,Recurrent", size=600, batchSize=512)
    settings = made.plan.strategy_settings
    shapes = strategy.shapes(settings, made.spec)
    assert shapes["generator"].input.shape == shapes["encoder"].output.shape == (96,)
    assert (settings.pretrain_batch, settings.discriminator_iterations, settings.penalty) == (128, 5, ("GP",))
    players = [made.plan.roles[role] for role in ("generator", "discriminator")]
    assert {(role.method.name, role.method_settings.learning_rate, role.method_settings.alpha) for role in players} == {
        ("RMSPROP", 1e-4, 0.99)
    }
    coders = [made.plan.roles[role] for role in ("encoder", "decoder")]
    assert {(role.method.name, role.method_settings.learning_rate) for role in coders} == {("ADAM", 1e-3)}
    assert strategy.preset["batchSize"] == 512 and strategy.preset["iterations"] - settings.pretrain_iterations == 15000


def test_published_numbers_of_timevae() -> None:
    made = assembled("TimeVAEEncoder,TimeVAEDecoder", "Sines", strategy="TimeVAE", size=40, testSize=12)
    strategy: Any = made.strategy
    assert made.plan.strategy_settings.generator_dim == 8 and strategy.preset["batchSize"] == 16
    batch = made.sampler.next_batch()
    terms = strategy.loss(batch, torch.zeros(len(batch), 1, 8))
    found = {name: float(term.detach()) for name, term in terms.terms.items()}
    assert 3 * float(terms.total.detach()) == pytest.approx(3 * found["reconstruction"] + found["divergence"], rel=1e-5)
