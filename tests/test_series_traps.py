"""Traps that published implementations of strategies for series fell into: which test guards against which of them.

`TRAPS` names the tests that would fail, by section and sentence of the notes on the sources. The tests below are those
that have no better place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus
from traps import LOOSE, SHORT, SMALL, assembled, inputs_of, live, missing, published, unlisted

from ganglion.engine.averages import EMA
from ganglion.engine.contracts import Batch, GradientProcessor, Method
from ganglion.engine.decay import Span
from ganglion.engine.errors import ConfigError
from ganglion.engine.links import L2, ClipNorm, DianneMomentum
from ganglion.engine.methods import Adam, Sgd
from ganglion.engine.processors import ChainSettings, ProcessorChain
from ganglion.engine.session import Session
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.series.timegan import moment_distance, next_step_error

STRATEGIES, HERE = "tests/test_series_strategies.py", "tests/test_series_traps.py"
PAIR, CRNN = "RecurrentGenerator,RecurrentDiscriminator", "CRNNGenerator,CRNNDiscriminator"
FIVE = ",".join(["Recurrent"] * 5)
FREE = {"generator.freeRunning": True, "learningRate": 0.01}

TRAPS: dict[str, tuple[str, ...]] = {
    # --- 1: curves of a day
    "1 the mean is added before the deviation multiplies": (
        f"{STRATEGIES}::test_deltas_to_look_at_have_the_mean_and_deviation_of_the_data",
    ),
    "1 a discriminator that sees the delta checks nothing else": (
        f"{STRATEGIES}::test_curvegan_shows_the_discriminator_the_delta_only_where_asked_to",
    ),
    "1 the error of the delta is summed or alternates": (
        f"{STRATEGIES}::test_curvegan_adds_the_error_of_the_delta_or_takes_a_step_of_its_own",
        f"{HERE}::test_keys_that_change_nothing_are_refused",
    ),
    # --- 2: RGAN and RCGAN
    "2 output layers that no optimiser moves": (f"{HERE}::test_output_layers_of_both_players_of_rgan_move",),
    "2 the generator's update uses the labels of its own batch": (
        f"{HERE}::test_fakes_share_the_labels_of_the_rows_that_their_update_drew",
    ),
    "2 each sub-step consumes its own batch": (f"{HERE}::test_every_update_draws_rows_of_its_own",),
    "2 one discriminator update and three of the generator": (f"{HERE}::test_published_numbers_of_rcgan",),
    "2 the mean of the batch beside each step": (f"{HERE}::test_the_mean_of_the_batch_is_seen_in_a_run",),
    "2 the loss averages cross-entropies of the steps": (
        f"{STRATEGIES}::test_rgan_scores_every_step_and_its_loss_is_their_mean",
    ),
    "2 gradient penalty impossible through the loop": (
        f"{STRATEGIES}::test_gradient_penalties_work_through_recurrent_networks",
    ),
    # --- 3: TimeGAN
    "3 the supervised loss is shifted by one step": (
        f"{STRATEGIES}::test_the_supervisor_foretells_the_next_code_and_not_the_one_it_is_given",
    ),
    "3 the generator has no gradient in the second phase": (
        f"{STRATEGIES}::test_the_supervised_loss_of_the_second_phase_leaves_the_embedder_alone",
    ),
    "3 the generator's total": (f"{HERE}::test_timegans_generator_minimises_the_published_sum",),
    "3 the embedder's total in the joint phase": (
        f"{HERE}::test_timegans_embedder_learns_through_codes_as_input_and_as_target",
    ),
    "3 the discriminator's total": (f"{HERE}::test_timegans_discriminator_judges_three_kinds_of_codes",),
    "3 biased variance and a root of an error near zero": (
        f"{STRATEGIES}::test_moments_are_those_of_each_step_with_the_biased_variance",
        f"{STRATEGIES}::test_the_root_of_an_error_of_zero_has_a_finite_gradient",
    ),
    "3 two updates of generator and embedder, then one of the discriminator": (
        f"{STRATEGIES}::test_timegan_learns_in_three_phases_and_each_moves_its_own_networks",
        f"{HERE}::test_every_update_of_timegan_has_fresh_noise_and_rows",
    ),
    "3 the discriminator learns only above 0.15": (f"{HERE}::test_timegans_gate_opens_just_above_its_level",),
    "3 one feature fails": (f"{HERE}::test_timegan_takes_data_of_one_feature",),
    "3 three phases of equal length": (f"{HERE}::test_timegan_has_thirds_of_a_run_with_an_end_alone",),
    # --- 5: FinGAN
    "5 noisy labels, two optimisers, batch 24, 10,240 updates": (
        f"{STRATEGIES}::test_drawn_targets_are_used_and_differ_per_sample",
        f"{HERE}::test_published_numbers_of_fingan",
    ),
    "5 two of four generators crash": (f"{HERE}::test_fingan_plays_with_all_forms_of_its_generator",),
    "5 one vector makes a whole window": (f"{STRATEGIES}::test_fingan_makes_windows_of_any_length_from_one_vector",),
    # --- 6: C-RNN-GAN
    "6 the two optimisers are swapped": (f"{HERE}::test_published_numbers_of_crnngan",),
    "6 a player waits nearly always": (
        f"{STRATEGIES}::test_a_player_whose_loss_is_low_waits_for_the_other",
        f"{STRATEGIES}::test_both_players_learn_where_they_are_even",
        f"{HERE}::test_no_player_of_crnngan_waits_for_ever",
    ),
    "6 the logarithm of zero is not guarded": (f"{HERE}::test_losses_of_extreme_scores_are_finite",),
    "6 full length behind the pretraining": (f"{HERE}::test_windows_have_their_full_length_behind_the_pretraining",),
    "6 windows that grow while pretraining": (
        f"{STRATEGIES}::test_pretraining_hears_real_events_in_windows_that_grow",
    ),
    "6 the decision is a mean of probabilities": (
        f"{STRATEGIES}::test_the_decision_is_the_mean_of_the_probabilities_or_that_of_the_last_step",
    ),
    # --- what no source has: updates that do not count, phases
    "an update that does not count leaves no trace": (
        f"{HERE}::test_what_links_remember_is_put_back_too",
        f"{HERE}::test_an_average_never_begins_with_rejected_weights",
        f"{HERE}::test_memory_of_any_form_is_put_back",
    ),
    "a schedule begins where the game does": (f"{HERE}::test_the_warm_up_begins_where_the_game_does",),
    "one vector of noise while pretraining": (f"{HERE}::test_one_vector_of_noise_stands_in_every_step_of_pretraining",),
    "real codes come from a network that does not learn": (
        f"{HERE}::test_real_codes_are_those_of_an_encoder_that_does_not_learn",
    ),
}


def test_every_trap_has_a_test_that_exists() -> None:
    assert missing(TRAPS) == []


def test_every_test_here_is_in_the_table() -> None:
    assert unlisted(TRAPS, __file__) == set()


def weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def rows_of(strategy: Any) -> list[Batch]:
    """The batches that a two-player strategy draws from now on."""
    seen: list[Batch] = []
    draw = strategy.real_batch
    strategy.real_batch = lambda: seen.append(draw()) or seen[-1]
    return seen


def all_differ(tensors: list[Tensor]) -> bool:
    return all(not torch.equal(one, other) for one, other in itertools.combinations(tensors, 2))


# --- RGAN, RCGAN --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "dataset"), [("RGAN", "AR"), ("RCGAN", "Sine")])
def test_output_layers_of_both_players_of_rgan_move(strategy: str, dataset: str) -> None:
    play, made = live(strategy, PAIR, dataset)
    layers: list[Any] = [made.networks[role].output for role in ("generator", "discriminator")]
    before = [weights(layer) for layer in layers]
    play.process_iteration(0)
    for layer, old in zip(layers, before, strict=True):
        assert all(not torch.equal(now, then) for now, then in zip(weights(layer), old, strict=True))


def test_fakes_share_the_labels_of_the_rows_that_their_update_drew() -> None:
    play, made = live("RCGAN", PAIR, "Sine")
    batches, judged, told = (
        rows_of(play),
        inputs_of(made.networks["discriminator"]),
        inputs_of(made.networks["generator"]),
    )
    play.train_discriminator(play.real_batch())
    play.train_generator()
    assert len(batches) == 2 and not torch.equal(batches[0].target, batches[1].target)
    labels = [torch.nn.functional.one_hot(batch.target, 2).float() for batch in batches]
    in_steps = [label.unsqueeze(1).expand(-1, 8, -1) for label in labels]
    assert [torch.equal(given[:, :, 10:], wanted) for given, wanted in zip(told, in_steps, strict=True)] == [True] * 2
    real_and_fake = torch.cat([given for given in judged[:-1]])
    assert torch.equal(real_and_fake[:, :, 1:], torch.cat((in_steps[0], in_steps[0])))
    assert torch.equal(judged[-1][:, :, 1:], in_steps[1])


@pytest.mark.parametrize(("strategy", "dataset", "updates"), [("RGAN", "AR", 5), ("RCGAN", "Sine", 4)])
def test_every_update_draws_rows_of_its_own(strategy: str, dataset: str, updates: int) -> None:
    play, made = live(strategy, PAIR, dataset)
    batches, noise = rows_of(play), inputs_of(made.networks["generator"])
    play.process_iteration(0)
    assert len(batches) == updates and all_differ([batch.input for batch in batches])
    assert all_differ(noise) and len(noise) == sum(turn.updates for turn in play._schedule.turns(0))


def test_published_numbers_of_rcgan() -> None:
    play, _ = published("RCGAN", PAIR, "Sine")
    assert [(turn.player, turn.updates) for turn in play._schedule.turns(0)] == [("discriminator", 1), ("generator", 3)]
    batch = play.real_batch()
    assert len(batch) == 28 and play.draw_noise(28).shape == (28, 8, 10)
    assert published("RGAN", PAIR)[0].draw_noise(28).shape == (28, 8, 5)


def test_the_mean_of_the_batch_is_seen_in_a_run() -> None:
    play, made = live("RGAN", PAIR, **{"discriminator.batchMean": True})
    judge: Any = made.networks["discriminator"]
    given = inputs_of(judge.recurrent)
    play.train_discriminator(play.real_batch())
    assert [len(rows) for rows in given] == [6, 6]  # real and fake rows each see the mean of their own kind
    for rows in given:
        torch.testing.assert_close(rows[:, :, 2:], rows[:, :, :2].mean(0).expand(6, -1, -1))
    values = play.process_iteration(1).values
    assert all(bool(value.isfinite()) for value in values.values()) and bool(judge.batch_mean.running_mean.any())
    judge.eval()
    rows = play.real_batch().input
    torch.testing.assert_close(play.scores(rows, None)[:1], play.scores(rows[:1], None))


# --- CurveGAN and the other keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "networks", "keys", "message"),
    [
        ("CurveGAN", PAIR, {"condition": "none", "deltaWeight": 3}, "deltaWeight=3: condition=none has no delta"),
        ("CurveGAN", PAIR, {"condition": "none", "deltaStep": "alternating"}, "condition=none has no delta"),
        ("CurveGAN", PAIR, {"condition": "none", "showDelta": True}, "condition=none has no delta"),
        ("CurveGAN", PAIR, {"deltaWeight": 0, "deltaStep": "alternating"}, "with deltaWeight=0"),
        ("CurveGAN", PAIR, {"initDiscriminatorIterations": 3}, "without initIterations"),
        ("CRNNGAN", CRNN, {"growSteps": 2}, "growSteps=2: windows grow only during pretrainIterations"),
        ("CRNNGAN", CRNN, {"growEvery": 2}, "growEvery=2: windows grow only during pretrainIterations"),
        ("CRNNGAN", CRNN, {"matching": True, "freeze": 0.5}, r"freeze=0\.5: with matching=true"),
        ("CRNNGAN", CRNN, {"objective": "hinge", "freeze": 0.5}, r"freeze=0\.5: with objective=hinge"),
        (
            "RTSGAN",
            "MLP,MLP,Recurrent,Recurrent",
            {"noiseForm": "step"},
            "noiseForm=step: a window's code is one vector",
        ),
        (
            "RTSGAN",
            "MLP,MLP,Recurrent,Recurrent",
            {"scoreForm": "step"},
            "scoreForm=step: a window's code is one vector",
        ),
        ("FinGAN", LOOSE, {"labelled.realTarget": 0.7}, r"labelled\.realTarget=0\.7: targets are drawn here"),
        ("FinGAN", LOOSE, {"labelled.fakeTarget": 0}, r"labelled\.fakeTarget=0: targets are drawn here"),
        ("TimeGAN", FIVE, {"iterations": -1}, "give autoencoderIterations and supervisorIterations"),
    ],
)
def test_keys_that_change_nothing_are_refused(strategy: str, networks: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        live(strategy, networks, **keys)


# --- TimeGAN ------------------------------------------------------------------------------------------------------


def timegan(**keys: Any) -> tuple[Any, Session, dict[str, Any], Tensor]:
    """TimeGAN, its networks, and a batch of windows."""
    play, made = live("TimeGAN", FIVE, hiddenDim=4, **keys)
    return play, made, dict(made.networks), play._next().input


def test_timegans_generator_minimises_the_published_sum() -> None:
    play, _, network, windows = timegan(gamma=0.5)
    noise = play._noise(6)
    direct = network["generator"](noise)
    supervised = network["supervisor"](direct)
    codes = network["embedder"](windows)
    game = softplus(-network["discriminator"](supervised)).mean()
    beside = softplus(-network["discriminator"](direct)).mean()
    foretold = next_step_error(codes, network["supervisor"](codes)).sqrt()
    moments = moment_distance(network["recovery"](supervised), windows)
    wanted = game + 0.5 * beside + 100 * foretold + 100 * moments
    loss = play.generator_loss(windows, noise)
    torch.testing.assert_close(loss.total, wanted)
    loss.total.backward()
    assert all(parameter.grad is None for parameter in network["embedder"].parameters())


def test_timegans_embedder_learns_through_codes_as_input_and_as_target() -> None:
    play, _, network, windows = timegan()
    parameters = list(network["embedder"].parameters())

    def total(target: Callable[[Tensor], Tensor]) -> Tensor:
        codes = network["embedder"](windows)
        supervised = mse_loss(network["supervisor"](codes)[:, :-1], target(codes[:, 1:]))
        return mse_loss(network["recovery"](codes), windows).sqrt() * 10 + 0.1 * supervised

    loss = play.embedder_loss(windows).total
    torch.testing.assert_close(loss, total(lambda codes: codes))
    found = torch.autograd.grad(loss, parameters)
    for gradient, wanted in zip(found, torch.autograd.grad(total(lambda codes: codes), parameters), strict=True):
        torch.testing.assert_close(gradient, wanted)
    halved = torch.autograd.grad(total(Tensor.detach), parameters)
    assert not all(torch.allclose(one, other) for one, other in zip(found, halved, strict=True))


def test_timegans_discriminator_judges_three_kinds_of_codes() -> None:
    play, _, network, _ = timegan(gamma=0.5)
    kinds = [torch.full((2, 8, 4), value) for value in (1.0, 2.0, 3.0)]
    scores = [network["discriminator"](codes) for codes in kinds]
    wanted = softplus(-scores[0]).mean() + softplus(scores[1]).mean() + 0.5 * softplus(scores[2]).mean()
    torch.testing.assert_close(play.discriminator_loss(*kinds), wanted)


def test_every_update_of_timegan_has_fresh_noise_and_rows() -> None:
    play, _, network, _ = timegan()
    noise, rows = inputs_of(network["generator"]), inputs_of(network["embedder"])
    play.process_iteration(6)
    assert len(noise) == 3 and all_differ(noise)
    assert len(rows) == 5  # generator and embedder see the same windows, twice, then come those to be judged
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[2], rows[3]) and all_differ(rows[::2])


@pytest.mark.parametrize(("level", "moves"), [(0.1501, True), (0.1499, False)])
def test_timegans_gate_opens_just_above_its_level(level: float, moves: bool) -> None:
    play, _, network, _ = timegan()
    usual = play.discriminator_loss

    def shifted(*codes: Tensor) -> Tensor:
        loss: Tensor = usual(*codes)
        return loss - loss.detach() + level

    play.discriminator_loss = shifted
    before = weights(network["discriminator"])
    play.process_iteration(6)
    assert same(before, weights(network["discriminator"])) is not moves


def test_timegan_takes_data_of_one_feature() -> None:
    play, made, _, _ = timegan(channels=1)
    for i in (0, 3, 6):
        assert all(bool(value.isfinite()) for value in play.process_iteration(i).values.values())
    assert play.generate(play.noise(3, made.streams("test"))).shape == (3, 8, 1)
    assert timegan(latentDim=7)[0]._noise(2).shape == (2, 8, 7)


def test_timegan_has_thirds_of_a_run_with_an_end_alone() -> None:
    play, made, _, _ = timegan(iterations=2)
    assert (play._first, play._second) == (0, 0) and not made.notices
    assert timegan(iterations=300)[0]._second == 200
    assert timegan(iterations=-1, decayIterations=9)[0]._first == 3
    assert timegan(iterations=-1, autoencoderIterations=4, supervisorIterations=5)[0]._second == 9


# --- FinGAN -------------------------------------------------------------------------------------------------------


def test_published_numbers_of_fingan() -> None:
    play, made = published("FinGAN", LOOSE)
    judge, maker = made.chains["discriminator"], made.chains["generator"]
    assert isinstance(judge.method, Adam) and isinstance(maker.method, Adam)
    assert (judge.method.settings.beta1, maker.method.settings.beta1) == (0.1, 0.5)
    assert (judge.learning_rate, maker.learning_rate) == (1e-5, 2e-4)
    batch = play.real_batch()
    assert len(batch) == 24 and made.plan.job.iterations == 10240
    ones = torch.ones(24, 1)
    assert float(play.played(ones, None)) == pytest.approx(math.log1p(math.exp(-1)), rel=1e-6)  # against the target 1
    drawn = play.draw_rest(batch)
    real, fake = play.halves(ones, -ones, drawn)
    total = play.contest(ones, -ones, batch, batch.input, drawn).total
    assert float(total) == pytest.approx((float(real) + float(fake)) / 2, rel=1e-6)


@pytest.mark.parametrize("form", ["mlp", "cnn", "mlp-cnn", "plus"])
def test_fingan_plays_with_all_forms_of_its_generator(form: str) -> None:
    small = {"length": 64, "generator.hidden": 8, "width": 4, "hidden": None}
    keys = {name: value for name, value in {**SMALL, **SHORT, **small, "generator.form": form}.items() if value}
    made = assembled("FinGANGenerator,FinGANDiscriminator", "AR", **{**keys, "strategy": "FinGAN", "channels": 1})
    play: Any = made.strategy
    before = {role: weights(network) for role, network in made.networks.items()}
    values = play.process_iteration(0).values
    assert all(bool(value.isfinite()) for value in values.values())
    assert all(not same(before[role], weights(network)) for role, network in made.networks.items())
    assert play.generate(play.noise(2, made.streams("test"))).shape == (2, 64, 1)


# --- C-RNN-GAN ----------------------------------------------------------------------------------------------------


def test_published_numbers_of_crnngan() -> None:
    play, made = published("CRNNGAN", CRNN)
    rates = {role: chain.learning_rate for role, chain in made.chains.items()}
    assert rates == {"generator": 0.1, "discriminator": 0.05} and len(play.real_batch()) == 20
    for chain in made.chains.values():
        clip, decay = chain.links
        assert isinstance(chain.method, Sgd) and isinstance(clip, ClipNorm) and isinstance(decay, L2)
        assert (clip.settings.clip_norm, decay.settings.l2) == (5.0, 0.1)


@pytest.mark.parametrize(
    "keys",
    [
        {"matching": True},
        {"penalty": "GP", "GP.weight": 100, "learningRate": 0.001},
        {"objective": "hinge"},
        {"objective": "wasserstein", "halves": "mean"},
        {"objective": "relativisticPaired"},
        {"objective": "leastSquares"},
        {"objective": "minimax"},
    ],
    ids=lambda keys: "-".join(map(str, keys.values())),
)
def test_no_player_of_crnngan_waits_for_ever(keys: dict[str, Any]) -> None:
    play, made = live("CRNNGAN", LOOSE, **{**FREE, **keys})
    told = any("no player waits for the other" in notice for notice in made.notices)
    assert told is ("penalty" not in keys)
    quiet = live("CRNNGAN", LOOSE, **{**FREE, **keys, "freeze": "none"})[1].notices
    assert not any("no player waits" in notice for notice in quiet)
    moved = dict.fromkeys(made.networks, 0)
    for i in range(20):
        before = {role: weights(network) for role, network in made.networks.items()}
        play.process_iteration(i)
        for role, network in made.networks.items():
            moved[role] += not same(before[role], weights(network))
    assert min(moved.values()) >= 10


@pytest.mark.parametrize("score", [1e4, -1e4])
@pytest.mark.parametrize("networks", [LOOSE, CRNN])
def test_losses_of_extreme_scores_are_finite(score: float, networks: str) -> None:
    play, made = live("CRNNGAN", networks)
    judge: Any = made.networks["discriminator"]
    output = judge.network.output if networks == CRNN else judge.output
    with torch.no_grad():
        output.bias.fill_(score)
    batch = play.real_batch()
    losses = [
        play.generator_loss(play.draw_noise(6), None),
        play.discriminator_loss(batch, batch.input, play.draw_rest(batch)),
    ]
    for loss in losses:
        assert bool(loss.total.isfinite())
        for gradient in torch.autograd.grad(loss.total, list(judge.parameters())):
            assert bool(gradient.isfinite().all())
    assert max(float(loss.total.detach()) for loss in losses) == pytest.approx(1e4, rel=1e-3)


def test_windows_have_their_full_length_behind_the_pretraining() -> None:
    play, made = live("CRNNGAN", LOOSE, pretrainIterations=2, growSteps=3, **FREE)
    made_of, judged = inputs_of(made.networks["generator"]), inputs_of(made.networks["discriminator"])
    for i in range(3):
        play.process_iteration(i)
    assert [given.shape[1] for given in made_of] == [3, 6, 8, 8]
    assert {given.shape[1] for given in judged} == {8}


def test_one_vector_of_noise_stands_in_every_step_of_pretraining() -> None:
    play, made = live("CRNNGAN", LOOSE, pretrainIterations=3, growSteps=3, noiseForm="window", **FREE)
    entries = inputs_of(made.networks["generator"].get_submodule("entry"))
    for i in range(4):
        play.process_iteration(i)
    assert [len(entries[:3]), len(entries)] == [3, 3 + 6 + 8 + 8 + 8]
    assert all(torch.equal(entries[0][:, :2], given[:, :2]) for given in entries[1:3])


def test_the_warm_up_begins_where_the_game_does() -> None:
    warm = {"initIterations": 2, "initDiscriminatorIterations": 4, "discriminatorIterations": 1}
    for strategy, networks, more in (
        ("CRNNGAN", LOOSE, FREE),
        ("RTSGAN", "MLP,MLP,Recurrent,Recurrent", {"codeDim": 4}),
    ):
        play, made = live(strategy, networks, pretrainIterations=3, **warm, **more)
        counts = []
        for i in range(6):
            play.process_iteration(i)
            counts.append(made.chains["discriminator"].updates)
        assert counts == [0, 0, 0, 4, 8, 9]


# --- RTSGAN -------------------------------------------------------------------------------------------------------


def test_real_codes_are_those_of_an_encoder_that_does_not_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"codeDim": 4, "encoder.layers": 2, "encoder.dropout": 0.5, "pretrainIterations": 1}
    for finetune in (False, True):
        play, made = live("RTSGAN", "MLP,MLP,Recurrent,Recurrent", finetune=finetune, **keys)
        windows = play.context.sampler.next_batch()
        with monkeypatch.context() as patched:
            patched.setattr(AdversarialStrategy, "real_batch", lambda _, windows=windows: windows)
            first, second = play.real_batch().input, play.real_batch().input
        assert torch.equal(first, second) is not finetune
        assert made.networks["encoder"].training and not first.requires_grad


# --- updates that do not count ------------------------------------------------------------------------------------


def chain_of(network: nn.Module, method: Method, *links: GradientProcessor) -> ProcessorChain:
    parameters = list(network.parameters())
    return ProcessorChain("role", network, parameters, method, links, ChainSettings(), 0.1, Span(0, 0))


def gated(links: dict[type[GradientProcessor], dict[str, Any]], method: type[Method] = Adam) -> tuple[Any, Any]:
    """A network with a chain, and a function that updates it, the gate being open or closed, or absent (None)."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    parameters = list(network.parameters())
    made = [link(link.Settings(**keys), network, parameters) for link, keys in links.items()]
    chain = chain_of(network, method(method.Settings(), network, parameters), *made)
    rows = torch.arange(12.0).view(4, 3)

    def update(opened: bool | None) -> None:
        gate = None if opened is None else lambda loss: torch.tensor(opened)
        chain.update(lambda given: (network(given) - 1).square().mean(), rows, gate=gate)

    return chain, update


@pytest.mark.parametrize(
    "links",
    [
        {DianneMomentum: {"dianne_momentum": 0.9}},
        {DianneMomentum: {"dianne_momentum": 0.9, "dianne_nesterov": True}},
        {EMA: {"ema": 0.5, "ema_ramp": False}},
        {DianneMomentum: {"dianne_momentum": 0.9}, EMA: {"ema": 0.5, "ema_ramp": False}},
    ],
)
@pytest.mark.parametrize("method", [Adam, Sgd])
def test_what_links_remember_is_put_back_too(
    links: dict[type[GradientProcessor], dict[str, Any]], method: type[Method]
) -> None:
    closed, update = gated(links, method)
    never, plain = gated(links, method)
    for opened in (True, *[False] * 20, True, True):
        update(opened)
    for _ in range(3):
        plain(None)
    assert same(weights(closed.network), weights(never.network))
    memory, wanted = closed._memory(), never._memory()
    assert memory.keys() == wanted.keys() and all(torch.equal(memory[place], wanted[place]) for place in wanted)


def test_an_average_never_begins_with_rejected_weights() -> None:
    chain, update = gated({DianneMomentum: {"dianne_momentum": 0.9}, EMA: {"ema": 0.5}}, Sgd)
    before = weights(chain.network)
    update(False)
    assert same(before, list(chain.averaged().values()))


class Rebinding(Method):
    """A third-party method: what it remembers is new tensors in a list, beside a number."""

    def __init__(self, settings: Any, network: nn.Module, parameters: Any) -> None:
        super().__init__(settings, network, parameters)
        self.totals = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]

    def update(self, step: int, learning_rate: float) -> None:
        self.totals = [total + parameter.grad for total, parameter in zip(self.totals, self.parameters, strict=True)]
        for parameter, total in zip(self.parameters, self.totals, strict=True):
            parameter.sub_(learning_rate * total)

    def state_dict(self) -> dict[str, Any]:
        return {"count": 3, "nested": {"totals": self.totals}, "name": "rebinding"}


def test_memory_of_any_form_is_put_back() -> None:
    closed, update = gated({}, Rebinding)
    never, plain = gated({}, Rebinding)
    for opened in (True, False, False, True):
        update(opened)
    for _ in range(2):
        plain(None)
    assert same(weights(closed.network), weights(never.network))
    assert same(closed.method.totals, never.method.totals) and bool(closed.method.totals[0].any())
