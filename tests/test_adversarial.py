"""The one adversarial loop: who learns when, on what, and that nothing leaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from ganglion.engine.assembly import assemble
from ganglion.engine.errors import ConfigError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.registry import Registry
from ganglion.engine.session import Session
from ganglion.strategies.adversarial import batch_coupled, one_pass, score_of
from ganglion.strategies.charges import exchange

REGISTRY = Registry().load()
SMALL = {"batchSize": 8, "iterations": 10}
POINTS = {"size": 64, "testSize": 16}


def session(
    strategy: str = "GAN", dataset: str = "Circle", networks: str = "Generator,Discriminator", **keys: Any
) -> Session:
    points = POINTS if dataset == "Circle" else {}
    asked = request(networks, dataset, {**SMALL, **points, "strategy": strategy, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def weights(network: nn.Module) -> Mapping[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(before: Mapping[str, torch.Tensor], network: nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_only_the_player_whose_turn_it_is_changes() -> None:
    live = session()
    strategy: Any = live.strategy
    for own, other, train in (
        ("discriminator", "generator", lambda: strategy.train_discriminator(strategy.real_batch())),
        ("generator", "discriminator", strategy.train_generator),
    ):
        own_before, other_before = weights(live.networks[own]), weights(live.networks[other])
        train()
        assert changed(own_before, live.networks[own])
        assert not changed(other_before, live.networks[other])
        assert all(parameter.grad is None for network in live.networks.values() for parameter in network.parameters())


def test_no_work_for_the_discriminators_weights_in_the_generators_update() -> None:
    live = session()
    strategy: Any = live.strategy
    touched = []
    for parameter in live.networks["discriminator"].parameters():
        parameter.register_hook(touched.append)
    strategy.train_generator()
    assert touched == []
    strategy.train_discriminator(strategy.real_batch())
    assert touched


def test_fakes_are_not_differentiated_in_the_discriminators_update() -> None:
    live = session()
    strategy: Any = live.strategy
    seen = []
    original = strategy.discriminator_loss
    strategy.discriminator_loss = lambda batch, fake, mix: seen.append(fake) or original(batch, fake, mix)
    strategy.train_discriminator(strategy.real_batch())
    assert not seen[0].requires_grad


def test_updates_follow_the_schedule() -> None:
    live = session("WGAN", discriminatorIterations=3, initDiscriminatorIterations=7, initIterations=2)
    counts = []
    for i in range(4):
        live.strategy.process_iteration(i)
        counts.append((live.chains["discriminator"].updates, live.chains["generator"].updates))
    assert counts == [(7, 1), (14, 2), (17, 3), (20, 4)]


def test_each_discriminator_update_draws_a_fresh_batch_unless_told_otherwise() -> None:
    for reuse, rows in ((False, 24), (True, 8)):
        live = session("GAN", discriminatorIterations=3, reuseBatch=reuse)
        live.strategy.process_iteration(0)
        assert live.sampler.offset == rows


def test_generator_draws_fresh_noise_unless_told_otherwise() -> None:
    for reuse in (False, True):
        live = session("GAN", reuseNoise=reuse)
        strategy: Any = live.strategy
        seen: list[torch.Tensor] = []
        original = strategy.fake

        def fake(noise: torch.Tensor, batch: Any, seen: Any = seen, original: Any = original) -> torch.Tensor:
            seen.append(noise.clone())
            return original(noise, batch)

        strategy.fake = fake
        strategy.process_iteration(0)
        assert torch.equal(seen[0], seen[1]) is reuse


def test_one_pass_and_two_passes_are_the_same_without_dropout() -> None:
    results = []
    for choice in ("yes", "no"):
        live = session("NSGAN", jointPass=choice, **{"discriminator.Dropout.p": 0})
        for i in range(5):
            live.strategy.process_iteration(i)
        results.append(weights(live.networks["generator"]))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-4, atol=1e-6)


def test_batch_statistics_force_two_passes() -> None:
    plain, coupled = nn.Sequential(nn.Linear(2, 1)), nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    normalised = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 1)))
    assert [one_pass("auto", network) for network in (plain, coupled, normalised)] == [True, False, False]
    assert one_pass("yes", plain) and not one_pass("no", plain)
    with pytest.raises(ConfigError, match="jointPass=yes"):
        one_pass("yes", coupled)


def test_halves_are_summed_or_averaged() -> None:
    totals = {}
    for halves in ("sum", "mean"):
        live = session("GAN", halves=halves, **{"discriminator.Dropout.p": 0})
        values = live.strategy.process_iteration(0).values
        torch.testing.assert_close(
            values["discriminatorLoss"],
            (values["discriminatorReal"] + values["discriminatorFake"]) * (1.0 if halves == "sum" else 0.5),
        )
        totals[halves] = float(values["discriminatorLoss"])
    assert totals["sum"] == pytest.approx(2 * totals["mean"], rel=1e-5)


def test_micro_batches_give_the_same_update() -> None:
    results = []
    for parts in (1, 4):
        live = session("GAN", accumulate=parts, **{"discriminator.Dropout.p": 0})
        live.strategy.process_iteration(0)
        results.append(weights(live.networks["discriminator"]))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-5, atol=1e-7)


def test_penalty_and_objective_compose_from_the_command_line() -> None:
    live = session("GAN", objective="hinge", penalty="R1", penaltyWeight=3)
    values = live.strategy.process_iteration(0).values
    assert float(values["penalty"]) > 0
    assert float(values["discriminatorLoss"]) == pytest.approx(
        float(values["discriminatorReal"] + values["discriminatorFake"] + values["penalty"]), rel=1e-5
    )


def test_wgan_clips_the_critic_and_only_the_critic() -> None:
    live = session("WGAN", clamp=0.02, initIterations=0)
    live.strategy.process_iteration(0)
    assert (
        max(float(parameter.detach().abs().max()) for parameter in live.networks["discriminator"].parameters())
        <= 0.02 + 1e-8
    )
    assert max(float(parameter.detach().abs().max()) for parameter in live.networks["generator"].parameters()) > 0.02


def test_progress_is_detached_and_zero_dimensional() -> None:
    for value in session().strategy.process_iteration(0).values.values():
        assert value.dim() == 0 and not value.requires_grad


def test_progress_never_waits_for_the_host() -> None:
    """A dispatch mode sees every scalar that is read from a tensor."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "_local_scalar_dense" in str(function) or "item" in str(function):
                Reads.count += 1
            return function(*args, **(kwargs or {}))

    links = {"clipNorm": 1, "clipValue": 1, "l2": 0.1, "clamp": 1, "ema": 0.9, "dianneL2": 0.1, "dianneMomentum": 0.5}
    decay = {"decayType": "cosine", "accumulate": 2, "penalty": "R1"}
    for strategy, keys in (("GAN", {}), ("NSGAN", {}), ("WGAN", {}), ("Minimax", {}), ("GAN", {**links, **decay})):
        live = session(strategy, initIterations=0, **keys)
        live.strategy.process_iteration(0)
        with Reads():
            live.strategy.process_iteration(1)
        assert Reads.count == 0, strategy
        with Reads():
            torch.ones(()).item()
        assert Reads.count == 1
        Reads.count = 0


def test_the_global_random_state_is_neither_read_nor_changed_without_dropout() -> None:
    live = session("GAN", **{"discriminator.Dropout.p": 0})
    before = torch.get_rng_state()
    live.strategy.process_iteration(0)
    assert torch.equal(before, torch.get_rng_state())


def test_generator_dimension_follows_the_data_unless_given() -> None:
    assert session().strategy.noise(3, session().streams("noise")).shape == (3, 2)  # type: ignore[union-attr]
    assert session(dataset="Digits").strategy.noise(3, session().streams("noise")).shape == (3, 100)  # type: ignore[union-attr]
    assert session(generatorDim=7).strategy.noise(3, session().streams("noise")).shape == (3, 7)  # type: ignore[union-attr]


def test_uniform_noise_lies_in_its_interval() -> None:
    live = session(noise="uniform")
    noise = live.strategy.noise(500, live.streams("noise"))
    assert noise is not None
    assert -1 <= float(noise.min()) < -0.9 and 0.9 < float(noise.max()) < 1


@pytest.mark.parametrize("device", ["generator.device", "discriminator.device"])
def test_each_role_has_its_own_device(device: str) -> None:
    """`meta` tensors carry no numbers but know where they are: the pair meets on the discriminator's device."""
    from ganglion.engine.device import find_device

    assert find_device("meta").type == "meta"
    for name in ("cuda:7", "gpu", "xla"):
        with pytest.raises(ConfigError, match=name.replace(":", ".")):
            session(**{device: name})


def test_tensors_go_where_the_roles_live() -> None:
    live = session(**{"discriminator.device": "meta"})
    assert {parameter.device.type for parameter in live.networks["discriminator"].parameters()} == {"meta"}
    assert {parameter.device.type for parameter in live.networks["generator"].parameters()} == {"cpu"}
    strategy: Any = live.strategy
    assert live.sampler.device.type == "meta"
    noise = strategy.draw_noise(4)
    assert noise.device.type == "cpu"
    assert strategy.fake(noise, None).device.type == "meta"
    assert strategy.generate(noise).device.type == "cpu"


def test_a_penalty_with_batch_statistics_in_the_discriminator_works_and_warns() -> None:
    keys = {"penalty": "R1", "width": 4, "frame": "16,16"}
    live = session("NSGAN", "Digits", "DCGANGenerator,DCGANDiscriminator", **keys)
    assert any("batch statistics" in notice and "BatchNorm" in notice for notice in live.notices)
    assert float(live.strategy.process_iteration(0).values["penalty"]) > 0
    calm = session("NSGAN", "Digits", "DCGANGenerator,DCGANDiscriminator", batchNorm=False, **keys)
    assert not any("batch statistics" in notice for notice in calm.notices)


def test_instance_noise_is_on_both_kinds_of_rows_and_falls_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    live = session(instanceNoise=0.5, batchSize=32)
    strategy: Any = live.strategy
    shown: list[torch.Tensor] = []
    monkeypatch.setattr(
        strategy, "discriminator_loss", lambda batch, fake, drawn: shown.extend((batch.input, fake)) or fake.sum()
    )
    monkeypatch.setattr(live.chains["discriminator"], "update", lambda loss_of, *inputs, **_: _Told(loss_of(*inputs)))
    for iteration, std in ((0, 0.5), (5, 0.25), (10, 0.0)):
        strategy._iteration = iteration
        batch = strategy.real_batch()
        monkeypatch.setattr(strategy, "fake", lambda noise, batch: torch.zeros(len(noise), 2))
        strategy.train_discriminator(batch)
        real, fake = shown[-2:]
        assert float((real - batch.input).std()) == pytest.approx(std, rel=0.3)
        assert float(fake.std()) == pytest.approx(std, rel=0.3)
        assert std == 0 or not torch.equal(real - batch.input, fake)


class _Told:
    """What a chain's update gives, without an update."""

    def __init__(self, total: torch.Tensor) -> None:
        self.total, self.terms = total, dict[str, torch.Tensor]()


def test_label_noise_exchanges_scores_of_pairs() -> None:
    live = session(labelNoise=0.25, batchSize=64)
    strategy: Any = live.strategy
    drawn = [strategy.draw_rest(strategy.real_batch()).exchanged for _ in range(30)]
    assert float(torch.cat(drawn).float().mean()) == pytest.approx(0.25, abs=0.04)
    real, fake = torch.tensor([[1.0], [2.0]]), torch.tensor([[-1.0], [-2.0]])
    exchanged = exchange(real, fake, torch.tensor([False, True]))
    assert [pair.tolist() for pair in exchanged] == [[[1.0], [-2.0]], [[-1.0], [2.0]]]


def test_networks_in_the_wrong_order_are_named() -> None:
    with pytest.raises(ConfigError, match="order generator,discriminator"):
        session(networks="Discriminator,Generator")


def test_instance_noise_is_on_real_rows_in_the_generators_update_too(monkeypatch: pytest.MonkeyPatch) -> None:
    live = session("RpGAN", instanceNoise=5, batchSize=64)
    strategy: Any = live.strategy
    shown: list[torch.Tensor] = []
    judge = strategy.scores
    monkeypatch.setattr(strategy, "scores", lambda rows, batch: shown.append(rows.detach()) or judge(rows, batch))
    strategy.train_generator()
    assert len(shown) == 2 and all(float(rows.std()) > 3 for rows in shown)


def test_a_fall_in_a_run_without_end_is_told() -> None:
    live = session("NSGAN", penalty="R1", iterations=-1, **{"R1.finalWeight": 0.1})
    assert any("never fall; give decayIterations" in notice for notice in live.notices)
    ends = session("NSGAN", penalty="R1", iterations=-1, decayIterations=5, **{"R1.finalWeight": 0.1})
    assert not any("never fall" in notice for notice in ends.notices)


def test_several_penalties_are_reported_by_the_names_that_they_were_given() -> None:
    values = session("GAN", penalty="DRAGAN,consistency").strategy.process_iteration(0).values
    assert {"DRAGAN", "consistency"} <= set(values)


def test_only_statistics_of_a_batch_couple_its_samples() -> None:
    assert batch_coupled(nn.Sequential(nn.BatchNorm1d(2)))
    assert batch_coupled(nn.InstanceNorm2d(2, track_running_stats=True))
    assert not batch_coupled(nn.InstanceNorm2d(2))
    assert not batch_coupled(nn.LayerNorm(2))


def test_scores_are_found_in_every_kind_of_output() -> None:
    class Out(NamedTuple):
        features: torch.Tensor
        score: torch.Tensor

    score = torch.ones(2, 1)
    for output in (score, (score, torch.zeros(2)), Out(torch.zeros(2), score)):
        assert score_of(output) is score


def test_spectral_normalisation_of_either_kind_takes_two_passes() -> None:
    newer, older = nn.Linear(2, 1), nn.Linear(2, 1)
    assert not one_pass("auto", nn.utils.parametrizations.spectral_norm(newer))
    assert not one_pass("auto", nn.utils.spectral_norm(older))
    assert one_pass("auto", nn.Linear(2, 1))
