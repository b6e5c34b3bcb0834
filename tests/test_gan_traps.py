"""Traps that published implementations of adversarial strategies fell into: which test guards against which of them.

`TRAPS` names the tests that would fail. The tests below are those that have no better place.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from traps import assembled, missing, unlisted

from ganglion.engine.errors import NetworkError
from ganglion.engine.session import Session
from ganglion.strategies.metrics import frechet

OBJECTIVES, PENALTIES = "tests/test_oracles_objectives.py", "tests/test_oracles_penalties.py"
ADVERSARIAL, PROCESSORS = "tests/test_adversarial.py", "tests/test_processors.py"
DATASETS, EVALUATION = "tests/test_datasets.py", "tests/test_evaluation.py"
HERE, PUBLISHED = "tests/test_gan_traps.py", "tests/test_published_updates.py"

TRAPS: dict[str, tuple[str, ...]] = {
    # one norm over the whole batch, or one per channel
    "1": (f"{PENALTIES}::test_a_linear_discriminator_pays_for_the_norm_of_its_weights_whatever_the_batch",),
    # a place on the line per pixel, or from a normal distribution
    "2": (
        f"{PENALTIES}::test_line_penalties_look_between_a_real_and_a_fake_sample_at_one_uniform_place_each",
        f"{PUBLISHED}::test_the_first_three_iterations_follow_the_formulas",
    ),
    # the penalty alone is minimised, never the discriminator's loss
    "3": (f"{HERE}::test_a_penalised_discriminator_learns_to_tell_two_heaps_apart",),
    # a momentum given in the place of epsilon
    "4": (f"{HERE}::test_batch_normalisation_has_its_usual_constants",),
    # the generator learns in the discriminator's update
    "5": (
        f"{ADVERSARIAL}::test_only_the_player_whose_turn_it_is_changes",
        f"{ADVERSARIAL}::test_fakes_are_not_differentiated_in_the_discriminators_update",
        f"{HERE}::test_statistics_of_the_generator_move_in_the_discriminators_update_its_weights_do_not",
    ),
    # the variance in the place of the deviation, and noise along the diagonal only
    "6": (f"{PENALTIES}::test_dragan_looks_around_the_real_samples_in_one_direction_unless_told_otherwise",),
    # least squares with a root and clipped weights; Wasserstein critics of one update
    "7": (
        f"{OBJECTIVES}::test_both_players_lose_what_is_computed_by_hand",
        f"{HERE}::test_published_numbers_of_critic_updates_and_what_is_clipped",
    ),
    # batch statistics below a gradient penalty
    "8": (f"{ADVERSARIAL}::test_a_penalty_with_batch_statistics_in_the_discriminator_works_and_warns",),
    # what several critic updates mean: here as many per iteration, each on a fresh batch unless told otherwise
    "9": (
        f"{ADVERSARIAL}::test_updates_follow_the_schedule",
        f"{ADVERSARIAL}::test_each_discriminator_update_draws_a_fresh_batch_unless_told_otherwise",
    ),
    # half the weight of R1, or all of it
    "10": (f"{PENALTIES}::test_a_linear_discriminator_pays_for_the_norm_of_its_weights_whatever_the_batch",),
    # the sum of the halves, or their mean
    "11": (f"{ADVERSARIAL}::test_halves_are_summed_or_averaged",),
    # three deviations of the data before they were rescaled
    "12": (f"{DATASETS}::test_scaled_grid_is_judged_by_its_own_deviation",),
    # a ring of eight modes that has seven
    "13": (f"{DATASETS}::test_ring_has_no_mode_twice_and_grid_is_centered",),
    # learning from the test rows
    "14": (
        f"{DATASETS}::test_points_are_the_same_for_the_same_seed_and_others_in_the_test_part",
        f"{DATASETS}::test_real_mnist",
        f"{HERE}::test_no_row_that_is_tested_on_is_learnt_from",
    ),
    # a generator's loss with a real term that has no gradient
    "15": (f"{HERE}::test_the_generators_loss_has_no_real_term_unless_the_objective_reads_it",),
    # penalties of probabilities in the place of logits
    "16": (f"{HERE}::test_penalties_are_on_logits_of_a_discriminator_that_gives_probabilities",),
    # an average of the weights with the last buffers
    "17": (f"{PROCESSORS}::test_the_average_holds_buffers_and_fits_the_network",),
    # an average that remembers the first weights
    "18": (
        f"{PROCESSORS}::test_the_average_starts_late_and_ramps_up",
        f"{HERE}::test_a_short_run_is_not_averaged_with_the_first_weights",
    ),
    # the generator sees the noise of the last discriminator update
    "19": (f"{ADVERSARIAL}::test_generator_draws_fresh_noise_unless_told_otherwise",),
    # Frechet distances from fewer rows than features, and roots that are no numbers
    "20": (
        f"{EVALUATION}::test_frechet_distance_does_not_mind_features_that_never_fire",
        f"{EVALUATION}::test_frechet_distance_of_rotated_covariances_agrees_with_the_matrix_root",
    ),
    # a score without that of real samples beside it
    "21": (f"{HERE}::test_a_score_stands_beside_its_ratio_to_that_of_real_samples",),
}


def test_every_trap_has_a_test_that_exists() -> None:
    assert list(TRAPS) == [str(number) for number in range(1, 22)]
    assert missing(TRAPS) == []


def test_every_test_here_is_in_the_table() -> None:
    assert unlisted(TRAPS, __file__) == set()


def session(
    strategy: str, networks: str = "Generator,PerceptronDiscriminator", dataset: str = "Circle", **keys: Any
) -> Session:
    points = {} if dataset == "Digits" else {"size": 256, "testSize": 16}
    return assembled(networks, dataset, **{"batchSize": 16, "iterations": 10, **points, "strategy": strategy, **keys})


@pytest.mark.parametrize("strategy", ["DRAGAN", "WGAN_GP", "WGAN_LP", "R3GAN"])
def test_a_penalised_discriminator_learns_to_tell_two_heaps_apart(strategy: str) -> None:
    for sign in (1, -1):  # scores that are right by chance are wrong once
        live = session(strategy, dataset="Gaussians", mean="4,4", batchSize=32, learningRate=1e-3)
        play: Any = live.strategy
        with torch.no_grad():
            for parameter in list(live.networks["discriminator"].parameters())[-2:]:
                parameter.mul_(sign)
        for _ in range(100):
            play.train_discriminator(play.real_batch())
        with torch.no_grad():
            real, fake = play.real_batch().input, play.fake(play.draw_noise(32), None)
            assert float(play.scores(real, None).min()) > float(play.scores(fake, None).max())


def test_batch_normalisation_has_its_usual_constants(tmp_path: Path) -> None:
    pairs = ("DCGANGenerator,DCGANDiscriminator", "PerceptronGenerator,Discriminator")
    for live in (session("NSGAN", pair, "Digits", frame="16,16") for pair in pairs):
        modules = itertools.chain(*(network.modules() for network in live.networks.values()))
        found = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        assert found and all((module.eps, module.momentum) == (1e-5, 0.1) for module in found)
    file = tmp_path / "normalised.yaml"
    file.write_text("name: Normalised\ndoc: One.\nlayers:\n  - Linear: 8\n  - BatchNorm1d: 0.8\n  - Linear: 2\n")
    with pytest.raises(NetworkError, match="BatchNorm1d"):  # a number alone is neither of the two
        session("NSGAN", f"{file},Discriminator")


def test_statistics_of_the_generator_move_in_the_discriminators_update_its_weights_do_not() -> None:
    live = session("NSGAN", "PerceptronGenerator,Discriminator", "Digits")
    play: Any = live.strategy
    before = {name: value.clone() for name, value in live.networks["generator"].state_dict().items()}
    play.train_discriminator(play.real_batch())
    moved = {
        name for name, value in live.networks["generator"].state_dict().items() if not torch.equal(before[name], value)
    }
    assert moved and all(name.rpartition(".")[2].startswith(("running_", "num_batches")) for name in moved)


def test_published_numbers_of_critic_updates_and_what_is_clipped() -> None:
    for strategy, updates in {"LSGAN": 1, "WGAN": 5, "WGAN_GP": 5, "WGAN_LP": 10, "SNGAN": 5, "R3GAN": 1}.items():
        warm_up = {"initIterations": 0} if strategy in {"WGAN", "WGAN_LP"} else {}
        live = session(strategy, **warm_up)
        live.strategy.process_iteration(0)
        assert (live.chains["discriminator"].updates, live.chains["generator"].updates) == (updates, 1), strategy
        largest = max(float(weight.detach().abs().max()) for weight in live.networks["discriminator"].parameters())
        assert (largest <= 0.01 + 1e-8) is (strategy == "WGAN"), strategy


@pytest.mark.parametrize("dataset", ["Circle", "Gaussians", "Grid", "Ring", "SwissRoll", "Digits"])
def test_no_row_that_is_tested_on_is_learnt_from(dataset: str) -> None:
    live = session("NSGAN", "Generator,Discriminator", dataset)
    assert live.data.test is not None
    learnt, tested = (part.rows(torch.arange(len(part))).input.flatten(1) for part in (live.data.train, live.data.test))
    known = {tuple(row) for row in learnt.tolist()}
    assert known.isdisjoint(tuple(row) for row in tested.tolist())
    epoch = len(learnt) // 16 + 1
    assert all(tuple(row) in known for _ in range(epoch) for row in live.sampler.next_batch().input.flatten(1).tolist())


@pytest.mark.parametrize("strategy", ["NSGAN", "PacGAN", "DRAGAN"])
def test_the_generators_loss_has_no_real_term_unless_the_objective_reads_it(strategy: str) -> None:
    live = session(strategy)
    play: Any = live.strategy
    noise = play.draw_noise(play._batch_size())
    scores = play.scores(play.fake(noise, None), None).detach()
    play.draw_noise = lambda count: noise
    reported = play.train_generator()["generatorLoss"]
    torch.testing.assert_close(reported, nn.functional.softplus(-scores).mean())
    assert live.sampler.offset == 0  # no real row was drawn


def test_penalties_are_on_logits_of_a_discriminator_that_gives_probabilities(tmp_path: Path) -> None:
    """The gradient of the probability would be shorter by the sigmoid's slope, at most a quarter."""
    file = tmp_path / "probable.yaml"
    file.write_text("name: Probable\ndoc: One.\noutputs: probability\nlayers:\n  - Linear: 1\n  - Sigmoid\n")
    live = session("NSGAN", f"Generator,{file}", penalty="R1,GP")
    norm = float(next(live.networks["discriminator"].parameters()).detach().norm())
    play: Any = live.strategy
    values = play.train_discriminator(play.real_batch())
    assert float(values["R1"]) == pytest.approx(norm**2 / 2, rel=1e-4)
    assert float(values["GP"]) == pytest.approx(10 * (norm - 1) ** 2, rel=1e-4)


def test_a_short_run_is_not_averaged_with_the_first_weights() -> None:
    """After 50 updates an average of decay 0.999 would be 95 per cent the first weights."""
    live = session("NSGAN", **{"generator.ema": 0.999, "learningRate": 0.01})
    first = next(live.networks["generator"].parameters()).detach().clone()
    for i in range(50):
        live.strategy.process_iteration(i)
    name, last = next(iter(live.networks["generator"].named_parameters()))
    way = (last.detach() - first).norm()
    assert float((live.averaged()["generator"][name] - first).norm()) > 0.5 * float(way)


class Judge:
    """A classifier whose features and probabilities are the rows themselves."""

    def rows(self, context: Any, part: Any) -> SimpleNamespace:
        return self(part)

    def __call__(self, probabilities: Tensor) -> SimpleNamespace:
        return SimpleNamespace(features=probabilities[:, :3], probabilities=probabilities)

    def refuse_inaccurate(self, accuracy: float, what: str) -> None:
        assert accuracy == 1.0


def test_a_score_stands_beside_its_ratio_to_that_of_real_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is never sure gives real digits less than 10, and samples that miss half of them less still."""
    monkeypatch.setattr(frechet, "open_judge", lambda *_: Judge())
    real = 0.9 * torch.eye(10).double().repeat(100, 1) + 0.01

    class Part(Tensor):
        def targets(self) -> Tensor:
            return torch.arange(len(self)) % 10

    part = real.as_subclass(Part)
    half = real.view(-1, 10, 10)[:, :5].reshape(-1, 10)
    splits = SimpleNamespace(train=part, test=part)
    context: Any = SimpleNamespace(splits=lambda: splits, samples=lambda count: half)
    metric = frechet.MnistFrechet(frechet.MnistFrechetSettings(classifier="judge"))
    values = metric.evaluate(context).values
    best = frechet.score(real)
    assert 1 < best < 10
    assert values["score"] == pytest.approx(frechet.score(half)) and values["score"] < best
    assert values["scoreRatio"] == pytest.approx(float(values["score"]) / best)
