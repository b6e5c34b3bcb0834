"""Strategies for time series: what each does in an update, and the mistakes of their sources that are not repeated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine.assembly import assemble
from ganglion.engine.contracts import Batch, Loss
from ganglion.engine.errors import ConfigError, NetworkError
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.launch import learn
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.strategies.metrics.series.forecast import autoregression, continued, rolled, season_of
from ganglion.strategies.metrics.series.imputation import between_known, last_known
from ganglion.strategies.series.curvegan import delta_of
from ganglion.strategies.series.drawnlabels import against
from ganglion.strategies.series.timegan import moment_distance, next_step_error, root_of

REGISTRY = Registry().load()
PAIR = "RecurrentGenerator,RecurrentDiscriminator"
LOOSE = "Recurrent,Recurrent"
SMALL = {"size": 40, "testSize": 12, "length": 8, "batchSize": 6, "iterations": 9, "hidden": 5}
TIMEGAN = ",".join(["Recurrent"] * 5)


def session(strategy: str, networks: str = PAIR, dataset: str = "AR", **keys: Any) -> Session:
    small = {**SMALL, **({"channels": 2} if dataset == "AR" else {})}
    asked = request(networks, dataset, {**small, "strategy": strategy, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def live(strategy: str, networks: str = PAIR, dataset: str = "AR", **keys: Any) -> tuple[Any, Session]:
    made = session(strategy, networks, dataset, **keys)
    return made.strategy, made


# --- gates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["SGD", "ADAM"])
def test_an_update_behind_a_closed_gate_leaves_weights_and_memory_as_they_were(method: str) -> None:
    strategy, made = live("RGAN", **{"method": method, "discriminator.learningRate": 0.1})
    chain, network = made.chains["discriminator"], made.networks["discriminator"]
    batch, seen = strategy.real_batch(), []

    def loss(rows: Tensor) -> Loss:
        return Loss(strategy.scores(rows, None).square().mean() + 1.0)

    def verdict(opened: bool) -> Any:
        return lambda found: seen.append(float(found.total)) or torch.tensor(opened)

    chain.update(loss, batch.input, gate=verdict(True))
    before, memory = weights(network), [value.clone() for value in chain._memory().values()]
    chain.update(loss, batch.input, gate=verdict(False))
    assert same(before, weights(network)) and same(memory, [*chain._memory().values()])
    chain.update(loss, batch.input, gate=verdict(True))
    assert not same(before, weights(network)) and len(seen) == 3


# --- RGAN, RCGAN --------------------------------------------------------------------------------------------------


def test_rgan_scores_every_step_and_its_loss_is_their_mean() -> None:
    strategy, made = live("RGAN")
    assert made.chains["discriminator"].method.__class__.__name__ == "Sgd"
    assert made.chains["generator"].method.__class__.__name__ == "Adam"
    assert [(turn.player, turn.updates) for turn in strategy._schedule.turns(0)] == [
        ("discriminator", 5),
        ("generator", 1),
    ]
    batch, noise = strategy.real_batch(), strategy.draw_noise(6)
    assert noise.shape == (6, 8, 5)
    scores = strategy.scores(batch.input, None)
    assert scores.shape == (6, 8, 1)
    real, fake = strategy._objective.discriminator(scores, scores)
    assert float(real.detach()) == pytest.approx(float(nn.functional.softplus(-scores).mean().detach()))
    assert float(fake.detach()) == pytest.approx(float(nn.functional.softplus(scores).mean().detach()))


@pytest.mark.parametrize("penalty", ["GP", "R1", "DRAGAN"])
def test_gradient_penalties_work_through_recurrent_networks(penalty: str) -> None:
    """The source could not differentiate its recurrent loop twice. A sample's score is the mean over its steps."""
    strategy, _ = live("RGAN", penalty=penalty)
    values = strategy.process_iteration(0).values
    assert bool(values["penalty"].isfinite()) and float(values["penalty"]) > 0
    batch = strategy.real_batch().input.detach().requires_grad_()
    wanted = torch.autograd.grad(strategy.scores(batch, None).mean(1).sum(), batch)[0]
    from ganglion.strategies.penalties import input_gradient

    torch.testing.assert_close(input_gradient(lambda rows: strategy.scores(rows, None), batch), wanted)


def test_a_window_can_be_scored_as_a_whole_from_one_vector_of_noise() -> None:
    strategy, _ = live("NSGAN", LOOSE, noiseForm="window", scoreForm="window", generatorDim=7)
    assert strategy.draw_noise(3).shape == (3, 7)
    assert strategy.scores(strategy.real_batch().input, None).shape == (6, 1)
    with pytest.raises(ConfigError, match="only sequences have steps"):
        request_circle(noiseForm="step")


def request_circle(**keys: Any) -> Session:
    asked = request("Generator,Discriminator", "Circle", {"size": 40, "batchSize": 4, "strategy": "NSGAN", **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


@pytest.mark.parametrize("strategy", ["RGAN", "RCGAN", "CurveGAN", "FinGAN", "CRNNGAN", "ForecastGAN", "TimeVAE"])
def test_points_are_refused_by_strategies_for_series(strategy: str) -> None:
    networks = "Encoder,Decoder" if strategy == "TimeVAE" else "Generator,Discriminator"
    asked = request(networks, "Ring", {"size": 40, "batchSize": 4, "strategy": strategy})
    with pytest.raises((ConfigError, NetworkError), match=r"time series|class labels"):
        assemble(REGISTRY, asked, data_context(lambda sentence: None))


CLASSES = "\n".join(
    f"{series},{step},{(series % 2) + 0.05 * (series % 5) + 0.01 * step:.3f},{'up' if series % 2 else 'down'}"
    for series in range(40)
    for step in range(6)
)


@pytest.fixture
def classes(tmp_path: Path) -> dict[str, Any]:
    """Forty series of six steps in two classes."""
    path = tmp_path / "classes.csv"
    path.write_text("series,step,value,kind\n" + CLASSES + "\n")
    return {
        "path": str(path), "columns": "value", "group": "series", "labels": "kind", "length": 6, "split": "series",
        "batchSize": 6,
        "iterations": 4, "hidden": 5,
    }  # fmt: skip


def labelled(strategy: str, keys: dict[str, Any], networks: str = PAIR, **more: Any) -> tuple[Any, Session]:
    asked = request(networks, "Series", {**keys, "strategy": strategy, **more})
    made = assemble(REGISTRY, asked, data_context(lambda sentence: None))
    return made.strategy, made


def test_rcgan_tells_both_players_the_label_in_every_step(classes: dict[str, Any]) -> None:
    strategy, made = labelled("RCGAN", classes)
    noise = strategy.noise(4, made.streams("test"))
    assert noise.shape == (4, 6, 12)
    assert noise[:, :, 10:].tolist() == [[[1.0, 0.0]] * 6, [[0.0, 1.0]] * 6] * 2
    assert strategy.requested(noise).tolist() == [0, 1, 0, 1]
    seen: list[Tensor] = []
    made.networks["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = strategy.real_batch()
    strategy.scores(batch.input, batch)
    told = torch.nn.functional.one_hot(batch.target, 2).float()
    assert torch.equal(seen[0][:, :, 1:], told.unsqueeze(1).expand(-1, 6, -1))


@pytest.mark.parametrize("strategy", ["ACGAN", "ProjectionGAN", "CGAN", "RCGAN"])
@pytest.mark.parametrize("form", ["step", "window"])
def test_label_strategies_play_on_series(strategy: str, form: str, classes: dict[str, Any]) -> None:
    networks = "Recurrent,Recurrent" if form == "window" else PAIR
    more = {"discriminator.spectralNorm": False} if strategy == "ProjectionGAN" else {}
    made, live_session = labelled(strategy, classes, networks, noiseForm=form, scoreForm=form, **more)
    values = made.process_iteration(0).values
    assert all(bool(value.isfinite()) for value in values.values())
    samples = made.generate(made.noise(4, live_session.streams("test")))
    assert samples.shape == (4, 6, 1)


def test_acgan_names_the_class_by_the_mean_of_its_steps(classes: dict[str, Any]) -> None:
    from ganglion.strategies.labels import answers_of

    output = torch.tensor([[[9.0, 1.0, 2.0], [9.0, 3.0, 6.0]]])
    assert answers_of(output).tolist() == [[2.0, 4.0]]
    assert answers_of(output[:, 0]).tolist() == [[1.0, 2.0]]


# --- CurveGAN -----------------------------------------------------------------------------------------------------


def test_deltas_to_look_at_have_the_mean_and_deviation_of_the_data() -> None:
    """The source adds the mean to a normal number before it multiplies by the deviation."""
    strategy, made = live("CurveGAN")
    strategy._delta_mean, strategy._delta_deviation = torch.tensor([5.0, -1.0]), torch.tensor([0.5, 2.0])
    shown = strategy.shown(4000, made.streams("test"))
    assert shown.mean(0).tolist() == pytest.approx([5.0, -1.0], abs=0.1)
    assert shown.std(0).tolist() == pytest.approx([0.5, 2.0], rel=0.1)


def test_curvegan_adds_the_error_of_the_delta_or_takes_a_step_of_its_own() -> None:
    summed, _ = live("CurveGAN", deltaWeight=3.0)
    batch, noise = summed.real_batch(), summed.draw_noise(6)
    loss = summed.generator_loss(noise, batch)
    fake = summed.fake(noise, batch)
    error = (delta_of(fake) - delta_of(batch.input)).square().mean()
    score = nn.functional.softplus(-summed.scores(fake, batch)).mean()
    assert float(loss.total.detach()) == pytest.approx(float((score + 3.0 * error).detach()), rel=1e-5)
    alternating, made = live("CurveGAN", deltaStep="alternating")
    values = alternating.process_iteration(0).values
    assert {"generatorLoss", "deltaError"} <= set(values) and made.chains["generator"].updates == 2


def test_curvegan_shows_the_discriminator_the_delta_only_where_asked_to() -> None:
    plain, made = live("CurveGAN")
    assert made.networks["generator"](plain.noise(2, made.streams("test"))).shape == (2, 8, 2)
    told, shown = live("CurveGAN", showDelta=True)
    assert plain.shapes(made.plan.strategy_settings, made.spec)["discriminator"].input.shape == (8, 2)
    assert told.shapes(shown.plan.strategy_settings, shown.spec)["discriminator"].input.shape == (8, 4)
    assert bool(told.process_iteration(0).values["discriminatorLoss"].isfinite())
    free, _ = live("CurveGAN", condition="none", showDelta=False)
    assert "deltaError" not in free.process_iteration(0).values


def test_what_a_strategy_made_of_the_data_is_there_when_it_only_generates(tmp_path: Path) -> None:
    quiet = {"traces": "lines", "threads": 1, "sampleInterval": 0, **SMALL, "channels": 2}
    learn(PAIR, "AR", {**quiet, "strategy": "CurveGAN", "tag": "t"}, runs=tmp_path)
    opened = open_run(REGISTRY, Repository(tmp_path).find("t"))
    strategy: Any = opened.strategy
    assert strategy._delta_deviation.shape == (2,) and draw_samples(opened, 3, 0).shape == (3, 8, 2)


# --- TimeGAN ------------------------------------------------------------------------------------------------------


def test_the_supervisor_foretells_the_next_code_and_not_the_one_it_is_given() -> None:
    """A well-known form of TimeGAN compares step t with step t, which the identity solves."""
    codes = torch.arange(12.0).view(1, 4, 3)
    assert float(next_step_error(codes, codes)) == 9.0  # each code is 3 above the one before
    assert float(next_step_error(codes, codes + 3)) == 0.0


def test_timegan_learns_in_three_phases_and_each_moves_its_own_networks() -> None:
    strategy, made = live("TimeGAN", TIMEGAN, hiddenDim=4)
    moved = []
    for i in (0, 3, 6):
        before = {role: weights(network) for role, network in made.networks.items()}
        strategy.process_iteration(i)
        moved.append({role for role, network in made.networks.items() if not same(before[role], weights(network))})
    assert moved[0] == {"embedder", "recovery"}
    assert moved[1] == {"supervisor"}
    assert moved[2] == {"embedder", "recovery", "generator", "supervisor", "discriminator"}
    assert made.chains["generator"].updates == 2 and made.chains["discriminator"].updates == 1


def test_timegans_discriminator_waits_while_its_loss_is_low() -> None:
    shut, made = live("TimeGAN", TIMEGAN, gate=1e6)
    before = weights(made.networks["discriminator"])
    shut.process_iteration(6)
    assert same(before, weights(made.networks["discriminator"]))


def test_moments_are_those_of_each_step_with_the_biased_variance() -> None:
    made = torch.tensor([[[0.0]], [[2.0]]])  # mean 1, biased variance 1
    real = torch.tensor([[[3.0]], [[3.0]]])  # mean 3, variance 0
    wanted = abs(math.sqrt(1 + 1e-6) - math.sqrt(1e-6)) + 2.0
    assert float(moment_distance(made, real)) == pytest.approx(wanted, rel=1e-6)


def test_the_root_of_an_error_of_zero_has_a_finite_gradient() -> None:
    error = torch.zeros((), requires_grad=True)
    root_of(error).backward()
    assert error.grad is not None and bool(error.grad.isfinite())


def test_the_supervised_loss_of_the_second_phase_leaves_the_embedder_alone() -> None:
    strategy, made = live("TimeGAN", TIMEGAN)
    loss = strategy.supervised_loss(strategy._next().input)
    loss.backward()
    assert all(parameter.grad is None for parameter in made.networks["embedder"].parameters())
    assert all(parameter.grad is None for parameter in made.networks["generator"].parameters())


# --- labels that are drawn ----------------------------------------------------------------------------------------


def test_cross_entropy_against_drawn_targets() -> None:
    scores = torch.tensor([[0.0], [2.0]])
    targets = torch.tensor([0.9, 0.1])
    wanted = (math.log(2) + (math.log(1 + math.exp(2)) - 0.2)) / 2
    assert float(against(scores, targets)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("strategy", "real", "fake"), [("FinGAN", (0.9, 1.1), (0.1, 0.3)), ("ImputationGAN", (0.8, 1.0), (0.0, 0.2))]
)
def test_drawn_targets_are_used_and_differ_per_sample(
    strategy: str, real: tuple[float, float], fake: tuple[float, float]
) -> None:
    """One source draws smooth labels and then uses hard ones."""
    made, _ = live(strategy, LOOSE)
    batch = made.real_batch()
    drawn = made.draw_rest(batch)
    assert drawn.targets is not None
    for targets, (low, high) in zip(drawn.targets, (real, fake), strict=True):
        assert targets.shape == (6,) and len(targets.unique()) == 6
        assert low <= float(targets.min()) and float(targets.max()) <= high
    scores = torch.ones(6, 1)
    halves = made.halves(scores, scores, drawn)
    assert float(halves[0]) == pytest.approx(float(against(scores, drawn.targets[0])))
    with pytest.raises(ConfigError, match="objective=labelled"):
        session(strategy, LOOSE, objective="hinge")
    with pytest.raises(ConfigError, match=r"realTargets=1,0\.5"):
        session(strategy, LOOSE, realTargets="1,0.5")


def test_fingan_makes_windows_of_any_length_from_one_vector() -> None:
    strategy, made = live("FinGAN", "Recurrent,Recurrent", length=12, channels=1)
    assert strategy.draw_noise(3).shape == (3, 100)
    assert strategy.scores(strategy.real_batch().input, None).shape == (6, 1)
    assert made.chains["discriminator"].learning_rate == 1e-5 and made.chains["generator"].learning_rate == 2e-4


# --- C-RNN-GAN ----------------------------------------------------------------------------------------------------

FREE = {"generator.freeRunning": True, "learningRate": 0.01}


def test_a_player_whose_loss_is_low_waits_for_the_other() -> None:
    strategy, _ = live("CRNNGAN", LOOSE, **FREE)
    judge, maker = strategy.gate("discriminator"), strategy.gate("generator")

    def halves(each: float) -> Loss:
        """Loss of the discriminator; the penalty in its total does not count."""
        terms = {"discriminatorReal": torch.tensor(each - 0.1), "discriminatorFake": torch.tensor(each + 0.1)}
        return Loss(torch.tensor(2 * each + 5.0), terms)

    assert bool(maker(Loss(torch.tensor(1.0))))  # at the start both count as even, and 1 is above 70 % of log 2
    assert bool(judge(halves(0.71)))  # the mean of its halves, against .7
    assert not bool(judge(halves(0.69)))
    assert not bool(maker(Loss(torch.tensor(0.4))))  # against .7 * .69 = .483
    assert bool(maker(Loss(torch.tensor(0.5))))
    assert live("CRNNGAN", LOOSE, freeze="none", **FREE)[0].gate("generator") is None


def test_both_players_learn_where_they_are_even() -> None:
    """The source stops the generator whenever a loss is below 2, which it nearly always is."""
    strategy, made = live("CRNNGAN", LOOSE, **FREE)
    before = {role: weights(network) for role, network in made.networks.items()}
    strategy.process_iteration(0)
    assert all(not same(before[role], weights(network)) for role, network in made.networks.items())


def test_pretraining_hears_real_events_in_windows_that_grow() -> None:
    strategy, made = live("CRNNGAN", LOOSE, pretrainIterations=4, growSteps=3, growEvery=2, **FREE)
    heard: list[Tensor] = []
    made.networks["generator"].register_forward_hook(
        lambda _, given, keys, output: heard.append(keys["previous"]), with_kwargs=True
    )
    for i in range(4):
        strategy.process_iteration(i)
    assert [given.shape[1] for given in heard] == [3, 3, 6, 6]
    assert all(not bool(given[:, 0].any()) and bool(given[:, 1:].any()) for given in heard)
    assert made.chains["discriminator"].updates == 0
    with pytest.raises(ConfigError, match="takes no `previous`"):
        session("CRNNGAN", LOOSE, pretrainIterations=4)


def test_the_decision_is_the_mean_of_the_probabilities_or_that_of_the_last_step() -> None:
    steps = torch.tensor([[[1.0], [5.0]]])
    probability = (1 / (1 + math.exp(-1)) + 1 / (1 + math.exp(-5))) / 2
    for more, wanted in ({}, math.log(probability / (1 - probability))), ({"decision": "end"}, 5.0):
        strategy, made = live("CRNNGAN", "CRNNGenerator,CRNNDiscriminator", **more)
        made.networks["discriminator"].network.output.forward = lambda features: steps
        assert float(strategy.scores(strategy.real_batch().input[:1, :2], None)) == pytest.approx(wanted, rel=1e-5)


def test_matched_features_are_all_that_the_generator_minimises() -> None:
    strategy, _ = live("CRNNGAN", LOOSE, matching=True, **FREE)
    batch = strategy.real_batch()
    same, other = (float(strategy.generator_contest(batch.input + by, batch).total.detach()) for by in (0, 1))
    assert 0 <= same < 1e-12  # two passes over the same rows may differ in their last bits
    assert other > 1e-6


# --- ImputationGAN ------------------------------------------------------------------------------------------------


def test_a_fifth_of_the_steps_is_taken_away_in_a_block_or_scattered() -> None:
    strategy, made = live("ImputationGAN", LOOSE, length=20)
    holes = strategy.holes(2000, made.streams("test"))[..., 0]
    counts = holes.sum(1)
    runs = (holes.diff(dim=1) == 1).sum(1) + (holes[:, 0] == 1)
    blocks = (runs == 1) & (counts == 4)
    assert set(counts.tolist()) <= {1.0, 2.0, 3.0, 4.0}  # scattered ones are drawn with replacement
    assert 0.72 < float(blocks.float().mean()) < 0.80
    assert bool((holes.mean(0) > 0.02).all())


def test_observed_values_stay_and_only_missing_ones_count() -> None:
    """One source overwrites what was observed before its discriminator sees it, and averages errors over all."""
    strategy, _ = live("ImputationGAN", LOOSE)
    batch = strategy.real_batch()
    holes = torch.zeros(6, 8, 1)
    holes[:, 3] = 1
    made = strategy.fake(holes, batch).detach()
    kept = [step for step in range(8) if step != 3]
    assert torch.equal(made[:, kept], batch.input[:, kept]) and not torch.equal(made[:, 3], batch.input[:, 3])
    wanted = (made[:, 3] - batch.input[:, 3]).abs().mean(1)
    torch.testing.assert_close(strategy.error(made, batch, holes), wanted)


def test_what_was_never_observed_is_filled_in_and_counts_in_no_error() -> None:
    strategy, _ = live("ImputationGAN", LOOSE)
    batch = strategy.real_batch()
    observed = torch.ones_like(batch.input)
    observed[:, 5, 0] = 0
    masked = Batch(batch.input, None, {"mask": observed})
    holes = torch.zeros(6, 8, 1)
    missing = strategy.missing_of(holes, masked)
    assert torch.equal(missing, 1 - observed)
    assert strategy.error(strategy.fake(holes, masked), masked, holes).tolist() == [0.0] * 6
    holes[:, 5] = 1  # of what is taken away, only the feature that was observed there counts
    made = strategy.fake(holes, masked)
    torch.testing.assert_close(strategy.error(made, masked, holes), (made - batch.input)[:, 5, 1].abs())


@pytest.mark.parametrize(("mode", "terms"), [("regression", 1), ("partial", 2), ("pure", 2)])
def test_modes_of_imputation(mode: str, terms: int) -> None:
    strategy, made = live("ImputationGAN", LOOSE, mode=mode)
    batch, holes = strategy.real_batch(), strategy.draw_noise(6)
    loss = strategy.generator_loss(holes, batch)
    found = {name: float(term.detach()) for name, term in loss.terms.items()}
    wanted = {
        "regression": found["imputationError"],
        "partial": found["imputationError"] + 0.05 * found.get("generatorScore", 0.0),
        "pure": found.get("generatorScore", 0.0),
    }
    assert len(found) == terms and float(loss.total.detach()) == pytest.approx(wanted[mode], rel=1e-5)
    strategy.process_iteration(0)
    assert made.chains["discriminator"].updates == (0 if mode == "regression" else 1)


def test_covariates_are_given_and_not_filled_in() -> None:
    strategy, made = live("ImputationGAN", LOOSE, values=1)
    ports = strategy.shapes(made.plan.strategy_settings, made.spec)
    assert ports["generator"].input.shape == (8, 3) and ports["generator"].output.shape == (8, 1)
    assert ports["discriminator"].input.shape == (8, 2)
    samples = strategy.generate(strategy.noise(3, made.streams("test")))
    assert samples.shape == (3, 8, 2)
    with pytest.raises(ConfigError, match="values=3: the data have 2 features"):
        session("ImputationGAN", LOOSE, values=3)


def test_plain_ways_to_fill_in() -> None:
    windows = torch.tensor([[9.0, 2.0, 7.0, 7.0, 8.0, 5.0]]).unsqueeze(2)
    missing = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0]]).unsqueeze(2)
    assert between_known(windows, missing).flatten().tolist() == [2.0, 2.0, 4.0, 6.0, 8.0, 8.0]
    assert last_known(windows, missing).flatten().tolist() == [2.0, 2.0, 2.0, 2.0, 8.0, 8.0]


# --- RTSGAN -------------------------------------------------------------------------------------------------------


def test_rtsgan_codes_first_and_plays_in_the_space_of_codes_then() -> None:
    strategy, made = live("RTSGAN", "MLP,MLP,Recurrent,Recurrent", codeDim=4, pretrainIterations=2, pretrainBatch=5)
    coding = {role: weights(made.networks[role]) for role in ("generator", "discriminator")}
    strategy.process_iteration(0)
    assert all(same(before, weights(made.networks[role])) for role, before in coding.items())
    kept = {role: weights(made.networks[role]) for role in ("encoder", "decoder")}
    values = strategy.process_iteration(2).values
    assert all(same(before, weights(made.networks[role])) for role, before in kept.items())
    assert "penalty" in values and made.chains["discriminator"].updates == 5
    assert strategy.real_batch().input.shape == (6, 4)
    assert strategy.generate(strategy.noise(3, made.streams("test"))).shape == (3, 8, 2)


# --- ForecastGAN --------------------------------------------------------------------------------------------------

AHEAD = {"history": 5, "generator.head": "window"}


def test_the_discriminator_judges_history_and_future_and_the_history_is_real() -> None:
    strategy, _ = live("ForecastGAN", LOOSE, **AHEAD)
    batch, noise = strategy.real_batch(), strategy.draw_noise(6)
    made = strategy.fake(noise, batch)
    assert noise.shape == (6, 5, 4) and made.shape == (6, 8, 2)
    assert torch.equal(made[:, :5].detach(), batch.input[:, :5])
    assert not torch.equal(made[:, 5:].detach(), batch.input[:, 5:])
    with pytest.raises(ConfigError, match="history=8: windows of 8 steps leave no future"):
        session("ForecastGAN", LOOSE, history=8)


def test_forecastgan_learns_by_the_error_alone_where_the_game_has_no_weight() -> None:
    strategy, made = live("ForecastGAN", LOOSE, adversarialWeight=0, supervisedWeight=2, **AHEAD)
    batch, noise = strategy.real_batch(), strategy.draw_noise(6)
    error = (strategy.fake(noise, batch) - batch.input)[:, 5:].square().mean()
    assert float(strategy.generator_loss(noise, batch).total.detach()) == pytest.approx(2 * float(error.detach()))
    strategy.process_iteration(0)
    assert made.chains["discriminator"].updates == 0 and made.chains["generator"].updates == 1
    with pytest.raises(ConfigError, match="leave the generator nothing to minimise"):
        session("ForecastGAN", LOOSE, adversarialWeight=0, **AHEAD)


class Counting:
    """Foretells two steps, each the last known value plus 1, and keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[list[float]] = []

    def forecast(self, history: Tensor, stream: Any) -> Tensor:
        self.given.append(history[0, :, 0].tolist())
        return history[:, -1:] + torch.tensor([1.0, 2.0]).view(1, 2, 1)


def test_a_rollout_goes_on_from_its_own_forecasts() -> None:
    model: Any = Counting()
    made = rolled(model, torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1), 5, None, torch.device("cpu"))  # type: ignore[arg-type]
    assert model.given == [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0], [5.0, 6.0, 7.0]]
    assert made.flatten().tolist() == [4.0, 5.0, 6.0, 7.0, 8.0]


def test_a_linear_autoregression_continues_what_is_linear_and_the_season_is_found() -> None:
    time = torch.arange(60.0)
    waves = torch.stack([(2 * math.pi * (time + shift) / 7).sin() for shift in range(5)]).unsqueeze(2)
    weights_found = autoregression(waves, 3)
    made = continued(weights_found, waves[:, :20], 14)
    assert float((made - waves[:, 20:34]).abs().max()) < 0.01
    assert season_of(waves, 30) in (7, 14, 21, 28) and season_of(torch.rand(1, 2, 1), 1) == 1


def test_forecasts_are_judged_by_horizon_beside_plain_ones(tmp_path: Path) -> None:
    quiet = {"traces": "lines", "threads": 1, "sampleInterval": 0, **SMALL, "channels": 1, "length": 8}
    learn(LOOSE, "AR", {**quiet, **AHEAD, "strategy": "ForecastGAN", "tag": "t"}, runs=tmp_path)
    run = Repository(tmp_path).find("t")
    asked = {"length": "17", "forecast-v1.steps": "12", "block": "5", "count": "9"}
    (found,) = evaluate_run(REGISTRY, run, "forecast-v1", "latest", "cpu", 0, asked, lambda sentence: None)
    assert {"forecast", "persistence", "autoregression", "relative"} <= set(found.values)
    table = found.details["error by horizon"]
    assert [row[0] for row in table["rows"]] == ["1-5", "6-10", "11-12"]
    assert found.values["autoregression"] < found.values["persistence"]


# --- BPTT ---------------------------------------------------------------------------------------------------------


def test_bptt_compares_each_step_with_the_next() -> None:
    strategy, _ = live("BPTT", "Recurrent")
    windows = torch.arange(8.0).view(1, 8, 1).expand(2, 8, 2)
    strategy._network = lambda given: given + 1
    assert strategy.errors(windows).tolist() == [0.0, 0.0]
    strategy._network = lambda given: given
    assert strategy.errors(windows).tolist() == [1.0, 1.0]


def test_bptt_generates_from_what_it_has_foretold_behind_a_known_beginning() -> None:
    strategy, made = live("BPTT", "Recurrent", prefix=3)
    noise = strategy.noise(4, made.streams("test"))
    strategy._network = lambda given: given + 1
    windows = strategy.generate(noise)
    assert torch.equal(windows[:, :3], noise[:, :3, :-1])
    torch.testing.assert_close(windows[:, 3:].diff(dim=1), torch.ones(4, 4, 2))
    torch.testing.assert_close(windows[:, 3], windows[:, 2] + 1)


def test_bptt_draws_classes_from_its_distribution() -> None:
    strategy, _ = live("BPTT", "Recurrent")
    logits = torch.tensor([[0.25, 0.5, 0.25]]).log().expand(4, 3)
    drawn = strategy._chosen(logits, torch.tensor([0.1, 0.3, 0.7, 0.8]))
    assert drawn.argmax(1).tolist() == [0, 1, 1, 2] and drawn.sum(1).tolist() == [1.0] * 4
    with pytest.raises(ConfigError, match="no one-hot class"):
        session("BPTT", "Recurrent", criterion="NLL")


# --- what a second reading found ----------------------------------------------------------------------------------


def test_instance_noise_leaves_histories_known_values_and_truth_alone() -> None:
    strategy, _ = live("ForecastGAN", LOOSE, instanceNoise=5.0, supervisedWeight=1, **AHEAD)
    given: list[Batch] = []
    inner = strategy.generator_loss
    strategy.generator_loss = lambda noise, batch, *rest: given.append(batch) or inner(noise, batch, *rest)
    values = strategy.train_generator()
    assert float(given[0].input.abs().max()) < 6 and float(given[0].fields["shown"].abs().max()) > 6
    assert float(values["forecastError"]) < 6
    made = strategy.fake(strategy.draw_noise(6), given[0])
    assert torch.equal(made[:, :5].detach(), given[0].input[:, :5])


def test_networks_that_see_what_they_are_to_foretell_are_refused() -> None:
    for keys in ({"bidirectional": True}, {"head": "window"}):
        with pytest.raises(ConfigError, match="sees the steps that it is to foretell"):
            session("BPTT", "Recurrent", **keys)
    with pytest.raises(ConfigError, match="sees the steps"):
        session_of("BPTT", "MLP")
    with pytest.raises(ConfigError, match="criterion=BCE: the network gives values as they are"):
        session("BPTT", "Recurrent", criterion="BCE")
    with pytest.raises(ConfigError, match="from the beginning of the history alone"):
        session("ForecastGAN", LOOSE, history=4)


def session_of(strategy: str, networks: str) -> Session:
    keys = {key: value for key, value in SMALL.items() if key != "hidden"}
    asked = request(networks, "AR", {**keys, "strategy": strategy})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def test_padding_counts_in_no_error_of_bptt() -> None:
    strategy, _ = live("BPTT", "Recurrent")
    windows, mask = torch.zeros(2, 8, 2), torch.ones(2, 8, 2)
    mask[0, 5:] = 0
    spoilt = windows.clone()
    spoilt[0, 6:] = 9.0
    plain = strategy.errors(windows, mask)
    torch.testing.assert_close(strategy.errors(spoilt, mask), plain)
    assert float(strategy.errors(spoilt)[0].detach()) > float(plain[0].detach()) + 10


def test_fillers_do_not_tell_real_windows_from_made_ones() -> None:
    strategy, _ = live("ImputationGAN", LOOSE)
    batch = strategy.real_batch()
    observed = torch.ones_like(batch.input)
    observed[:, 5, 0] = 0
    filled = batch.input.clone()
    filled[:, 5, 0] = 0
    shown: list[Tensor] = []
    inner = strategy.discriminator_loss
    strategy.discriminator_loss = lambda rows, *rest: shown.append(rows.input) or inner(rows, *rest)
    strategy.train_discriminator(Batch(filled, None, {"mask": observed}))
    assert bool((shown[0][:, 5, 0] != 0).all()) and torch.equal(shown[0][:, 4], filled[:, 4])


def test_plain_imputation_knows_nothing_of_a_feature_that_is_missing_altogether(tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    rows = [f"{5 + math.sin(step):.4f},{'' if step % 3 else 2.0}" for step in range(120)]
    path.write_text("\n".join(["a,b", *rows]) + "\n")
    keys = {
        "path": str(path), "missing": "mask", "length": 4, "strategy": "ImputationGAN", "iterations": 3, "batchSize": 6,
        "hidden": 4, "threads": 1, "traces": "lines", "tag": "t",
    }  # fmt: skip
    learn(LOOSE, "Series", keys, runs=tmp_path)
    run = Repository(tmp_path).find("t")
    (found,) = evaluate_run(REGISTRY, run, "imputation-v1", "latest", "cpu", 0, {}, lambda sentence: None)
    assert all(math.isfinite(value) for value in found.values.values()) and found.values["linear"] > 0
    samples = draw_samples(open_run(REGISTRY, run), 4, 0)
    assert samples.shape == (4, 4, 2) and bool(samples.isfinite().all())


def test_a_forecast_is_made_in_the_scale_that_was_learnt(tmp_path: Path) -> None:
    from ganglion.engine.forecastcommand import longer_windows

    path = tmp_path / "rising.csv"
    path.write_text("\n".join(["value", *(f"{step + 3 * math.sin(step):.4f}" for step in range(400))]) + "\n")
    keys = {
        "path": str(path), "length": 8, "strategy": "ForecastGAN", "iterations": 2, "batchSize": 6, "hidden": 4,
        "threads": 1, "traces": "lines", "tag": "t", **AHEAD,
    }  # fmt: skip
    learn(LOOSE, "Series", keys, runs=tmp_path)
    opened = open_run(REGISTRY, Repository(tmp_path).find("t"))
    found = longer_windows(REGISTRY, opened, 45, {})
    assert found == {"length": "45", "gap": "8"}
    from ganglion.engine.evaluation import evaluation_context

    plain = evaluation_context(REGISTRY, opened, 0, {}, lambda sentence: None)
    longer = evaluation_context(REGISTRY, opened, 0, found, lambda sentence: None)
    first, second = (each.splits().train.rows(torch.tensor([0])).input[0, :8] for each in (plain, longer))
    assert torch.equal(first, second)
    assert longer_windows(REGISTRY, opened, 45, {"length": "60"}) == {"gap": "8"}


def test_a_season_longer_than_the_history_is_refused_in_a_sentence(tmp_path: Path) -> None:
    quiet = {"traces": "lines", "threads": 1, "sampleInterval": 0, **SMALL, "channels": 1}
    learn(LOOSE, "AR", {**quiet, **AHEAD, "strategy": "ForecastGAN", "tag": "t"}, runs=tmp_path)
    run = Repository(tmp_path).find("t")
    from ganglion.engine.errors import DataError

    with pytest.raises(DataError, match="season=6 is longer than the history of 5 steps"):
        evaluate_run(REGISTRY, run, "forecast-v1", "latest", "cpu", 0, {"season": "6"}, lambda sentence: None)


def test_keys_without_effect_are_refused() -> None:
    for strategy, networks, keys, reason in (
        ("ForecastGAN", LOOSE, {"noiseForm": "window", **AHEAD}, "stands beside every known step"),
        ("ImputationGAN", LOOSE, {"noise": "uniform"}, "draws holes"),
        ("ImputationGAN", LOOSE, {"mode": "pure", "adversarialWeight": 2}, "only mode=partial"),
        ("BPTT", "Recurrent", {"temperature": 0.5}, "without criterion=NLL"),
    ):
        with pytest.raises(ConfigError, match=reason):
            session(strategy, networks, **keys)


def test_a_code_as_wide_as_the_data_is_not_taken_for_data() -> None:
    keys = {"embedder.activation": "tanh", "supervisor.activation": "tanh", "recovery.activation": "sigmoid"}
    made = session("TimeGAN", TIMEGAN, "Sines", hiddenDim=5, **keys)
    assert made.spec.value_range == (0.0, 1.0)
    future = session("ForecastGAN", "RecurrentGenerator,RecurrentDiscriminator", "Sines", **AHEAD)
    assert future.spec.value_range == (-1.0, 1.0)  # a tanh that makes the last steps only makes data all the same
