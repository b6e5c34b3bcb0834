"""Series of unequal length: padding counts in no loss and moves no weight, and samples have it where the data do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from ganglion.engine.assembly import assemble
from ganglion.engine.contracts import Batch, DataSpec
from ganglion.engine.data import TensorDataset
from ganglion.engine.errors import ConfigError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.launch import learn
from ganglion.engine.opening import _recall, draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.networks.series.crnn import logit_of_mean, mean_over_steps
from ganglion.networks.series.recurrentlayers import at_end
from ganglion.strategies.masking import (
    generator_of,
    halves_of,
    lengths_of,
    mask_of,
    mean_of,
    mixes_scores,
    squared_error,
    steps_of,
)
from ganglion.strategies.objectives import (
    Hinge,
    Labelled,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticLeastSquares,
    RelativisticPaired,
    Wasserstein,
)
from ganglion.strategies.series.timegan import TimeGAN, moment_distance, next_step_error
from ganglion.strategies.series.windows import known_lengths

REGISTRY = Registry().load()
STEPS, OWN = 8, 5
FIVE, CODED = ",".join(["Recurrent"] * 5), "MLP,MLP,Recurrent,Recurrent"
LOOSE, CRNN = "Recurrent,Recurrent", "CRNNGenerator,CRNNDiscriminator"
VAE = "TimeVAEEncoder,TimeVAEDecoder"
FREE = {"generator.freeRunning": True, "learningRate": 0.01}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Series of 3 to 8 steps with two values, thirty of them."""
    file = tmp_path_factory.mktemp("series") / "unequal.csv"
    rows = [
        f"{series},{math.sin(series + step):.4f},{math.cos(2 * series + step):.4f}"
        for series in range(30)
        for step in range(3 + series % 6)
    ]
    file.write_text("\n".join(["series,a,b", *rows]) + "\n")
    return file


def keys_of(path: Path, networks: str, **keys: Any) -> dict[str, Any]:
    data = {"path": str(path), "group": "series", "length": STEPS, "short": "pad", "split": "series", "scale": "minmax"}
    small = {"channels": "4"} if networks == VAE else {"hidden": 5}
    return {**data, **small, "batchSize": 6, "iterations": 9, **keys}


def live(path: Path, strategy: str, networks: str, **keys: Any) -> tuple[Any, Session]:
    asked = request(networks, "Series", keys_of(path, networks, strategy=strategy, **keys))
    made = assemble(REGISTRY, asked, data_context(lambda sentence: None))
    return made.strategy, made


def weights(made: Session) -> list[Tensor]:
    return [value.detach().clone() for network in made.networks.values() for value in network.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def spoilt(batch: Batch) -> Batch:
    """The batch with something that would spread to everything where there is nothing."""
    mask = mask_of(batch)
    assert mask is not None and 0 < int((mask == 0).sum()) < mask.numel() / 2
    return batch.with_input(batch.input.masked_fill(mask == 0, math.nan))


# --- weights ------------------------------------------------------------------------------------------------------


def moved(made: Session, iterations: tuple[int, ...], damage: bool) -> Iterator[list[Tensor]]:
    """The weights after each of these iterations, on batches whose padding holds nonsense or nothing."""
    draw = made.sampler.next_batch
    made.sampler.next_batch = lambda size=None: spoilt(draw(size)) if damage else draw(size)  # type: ignore[method-assign]
    for i in iterations:
        torch.manual_seed(i)
        values = made.strategy.process_iteration(i).values
        assert values and all(bool(value.isfinite()) for value in values.values())
        yield weights(made)


@pytest.mark.parametrize(
    ("strategy", "networks", "iterations", "keys"),
    [
        ("TimeGAN", FIVE, (0, 3, 6), {"hiddenDim": 4}),
        ("TimeGAN", FIVE, (0, 6), {"hiddenDim": 4, "bidirectional": True, "accumulate": 2}),
        ("RTSGAN", CODED, (0, 1), {"codeDim": 4, "pretrainIterations": 1, "finetune": True}),
        ("RTSGAN", CODED, (0, 1), {"codeDim": 4, "pretrainIterations": 1, "encoder.bidirectional": True}),
        ("TimeVAE", VAE, (0,), {}),
        ("TimeVAE", LOOSE, (0,), {"sampleSize": 2}),
        ("CRNNGAN", CRNN, (0, 4), {"pretrainIterations": 4, "growSteps": 6, "freeze": "none"}),
        ("CRNNGAN", CRNN, (0,), {"matching": True, "penalty": "GP,R1", "instanceNoise": 0.1}),
        ("CRNNGAN", LOOSE, (0,), {"matching": True, "scoreForm": "step", **FREE}),
        ("CRNNGAN", LOOSE, (0,), {"scoreForm": "step", "objective": "relativisticPaired", **FREE}),
        ("CRNNGAN", LOOSE, (0,), {"scoreForm": "step", "labelNoise": 0.4, "freeze": "none", **FREE}),
    ],
)
def test_padding_moves_no_weight(
    strategy: str, networks: str, iterations: tuple[int, ...], keys: dict[str, Any], path: Path
) -> None:
    runs = [live(path, strategy, networks, **keys)[1] for _ in range(2)]
    before = weights(runs[0])
    for clean, dirty in zip(moved(runs[0], iterations, False), moved(runs[1], iterations, True), strict=True):
        assert same(clean, dirty) and not same(before, clean)
        assert all(bool(value.isfinite().all()) for value in clean)
        before = clean


# --- losses are those of the rows without their padding -----------------------------------------------------------


def shorter(play: Any) -> tuple[Tensor, Batch]:
    """Windows of five steps, and the same in windows of eight, the others being nonsense."""
    generator = torch.Generator().manual_seed(3)
    windows = torch.rand(6, OWN, 2, generator=generator)
    whole = torch.cat((windows, torch.full((6, STEPS - OWN, 2), 7.0)), 1)
    mask = torch.ones_like(whole)
    mask[:, OWN:] = 0
    return windows, Batch(whole, None, {"mask": mask})


def test_losses_of_timegan_are_those_of_the_windows_without_padding(path: Path) -> None:
    play, _ = live(path, "TimeGAN", FIVE, hiddenDim=4, gamma=0.5)
    windows, batch = shorter(play)
    mask, noise = batch.fields["mask"], play._noise(6)
    pairs = [
        (play.reconstruction_loss(batch.input, mask), play.reconstruction_loss(windows)),
        (play.supervised_loss(batch.input, mask), play.supervised_loss(windows)),
        (play.embedder_loss(batch.input, mask).total, play.embedder_loss(windows).total),
        (play.generator_loss(batch.input, noise, mask).total, play.generator_loss(windows, noise[:, :OWN]).total),
        (
            play.discriminator_loss(*play._judged_codes(batch.input, noise, mask), steps_of(mask)),
            play.discriminator_loss(*play._judged_codes(windows, noise[:, :OWN], None)),
        ),
    ]
    for padded, plain in pairs:
        torch.testing.assert_close(padded, plain, rtol=1e-5, atol=1e-6)
    ones = torch.ones(6, OWN, 2)  # a mask that hides nothing changes nothing
    torch.testing.assert_close(play.embedder_loss(windows, ones).total, play.embedder_loss(windows).total)


def test_codes_behind_the_ends_are_hidden_from_a_discriminator_that_reads_backwards(path: Path) -> None:
    play, _ = live(path, "TimeGAN", FIVE, hiddenDim=4, **{"discriminator.bidirectional": True})
    _, batch = shorter(play)
    steps, noise = steps_of(batch.fields["mask"]), play._noise(6)
    codes = play._judged_codes(batch.input, noise, batch.fields["mask"])
    others = [torch.cat((each[:, :OWN], torch.rand(6, STEPS - OWN, 4)), 1) for each in codes]
    assert torch.equal(play.discriminator_loss(*codes, steps), play.discriminator_loss(*others, steps))


def test_rtsgans_code_is_that_of_the_windows_own_steps(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play, made = live(path, "RTSGAN", CODED, codeDim=4, **{"encoder.layers": 2})
    windows, batch = shorter(play)
    codes = made.networks["encoder"](windows)
    wanted = mse_loss(made.networks["decoder"](codes)[:, :OWN], windows)
    torch.testing.assert_close(play.reconstruction_loss(batch.input, batch.fields["mask"]), wanted)
    monkeypatch.setattr(made.sampler, "next_batch", lambda size=None: batch)
    torch.testing.assert_close(play.real_batch().input, codes.detach())


@pytest.mark.parametrize("decision", ["mean", "end"])
def test_crnngan_judges_a_window_by_its_own_steps(decision: str, path: Path) -> None:
    judge = {"discriminator.bidirectional": False, "dropout": 0, "decision": decision}
    play, made = live(path, "CRNNGAN", CRNN, penalty="R1", **judge)
    windows, batch = shorter(play)
    noise = play.draw_noise(6)
    fake = made.networks["generator"](noise)
    torch.testing.assert_close(play.scores(batch.input, batch), play.scores(windows, None))
    loss = play.discriminator_loss(batch, fake.detach(), play.draw_rest(batch))
    plain = Batch(windows)
    wanted = play.discriminator_loss(plain, fake[:, :OWN].detach(), play.draw_rest(plain))
    torch.testing.assert_close(loss.total, wanted.total)
    torch.testing.assert_close(loss.terms["penalty"], wanted.terms["penalty"])
    played = softplus(-play.scores(fake[:, :OWN], None)).mean()
    torch.testing.assert_close(play.generator_loss(noise, batch).total, played)


def test_what_crnngan_makes_is_judged_at_the_lengths_of_real_windows(path: Path) -> None:
    play, made = live(path, "CRNNGAN", CRNN)
    given: list[tuple[Tensor, ...]] = []
    made.networks["discriminator"].register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    play.train_generator()
    rows, lengths = given[0]
    there = torch.arange(STEPS) < lengths.unsqueeze(1)
    assert torch.equal((rows != 0).all(2), there) and torch.equal((rows != 0).any(2), there) and not bool(there.all())


def test_crnngan_counts_scores_features_and_events_of_own_steps(path: Path) -> None:
    keys = {"scoreForm": "step", "discriminator.bidirectional": False, "dropout": 0}
    play, made = live(path, "CRNNGAN", CRNN, matching=True, **keys)
    windows, batch = shorter(play)
    fake = made.networks["generator"](play.draw_noise(6))
    loss = play.discriminator_loss(batch, fake.detach(), play.draw_rest(batch)).total
    halves = softplus(-play.scores(windows, None)).mean(), softplus(play.scores(fake[:, :OWN], None)).mean()
    torch.testing.assert_close(loss, halves[0] + halves[1])
    judge: Any = made.networks["discriminator"]
    distance = (judge(fake[:, :OWN]).features - judge(windows).features).square().mean()
    torch.testing.assert_close(play.generator_contest(fake, batch).total, distance)
    noise, mask = play.draw_noise(6), batch.fields["mask"]
    wanted = play.continuing_loss(noise[:, :OWN], windows)
    torch.testing.assert_close(play.continuing_loss(noise, batch.input, mask), wanted)
    torch.testing.assert_close(
        play.played(play.scores(fake, batch), batch), softplus(-play.scores(fake, batch)[:, :OWN]).mean()
    )


def test_timevae_adds_up_the_errors_of_what_was_observed(path: Path) -> None:
    play, made = live(path, "TimeVAE", VAE)
    _, batch = shorter(play)
    batch.fields["mask"][0, 2:] = 0  # a window of two steps among those of five
    batch.fields["mask"][1, 1, 1] = 0  # and a value that is missing in the midst of another
    drawn = torch.zeros(6, 1, 8)
    seen = batch.input * batch.fields["mask"]
    mean = made.networks["encoder"](seen).chunk(2, 1)[0]
    errors = (made.networks["decoder"](mean) - seen).square() * batch.fields["mask"]
    loss = play.loss(batch, drawn)
    torch.testing.assert_close(loss.terms["reconstruction"], errors.flatten(1).sum(1).mean())
    torch.testing.assert_close(play.validate(batch)["divergence"].mean(), loss.terms["divergence"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"penalty": "R1"}, "penalty=R1 takes the mean over all steps; use scoreForm=window"),
        ({"objective": "relativisticAverage"}, "objective=relativisticAverage mixes the scores of a batch"),
    ],
)
def test_scores_of_steps_that_cannot_be_left_out_are_refused(keys: dict[str, Any], message: str, path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        live(path, "CRNNGAN", LOOSE, scoreForm="step", **keys, **FREE)
    live(path, "CRNNGAN", LOOSE, scoreForm="window", **keys, **FREE)


# --- samples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "networks", "keys"),
    [
        ("TimeGAN", FIVE, {"hiddenDim": 4, "recovery.activation": "tanh"}),
        ("RTSGAN", CODED, {"codeDim": 4, "pretrainIterations": 2, "pretrainBatch": 6}),
        ("TimeVAE", VAE, {}),
        ("CRNNGAN", CRNN, {"generator.activation": "tanh"}),
    ],
)
def test_samples_are_as_long_as_the_data(
    strategy: str, networks: str, keys: dict[str, Any], path: Path, tmp_path: Path
) -> None:
    quiet = {"threads": 1, "traces": "lines", "sampleInterval": 0, "iterations": 3, "tag": "t"}
    learn(networks, "Series", keys_of(path, networks, strategy=strategy, **keys, **quiet), runs=tmp_path)
    opened = open_run(REGISTRY, Repository(tmp_path).find("t"))
    samples = draw_samples(opened, 600, 0)
    assert samples.shape == (600, STEPS, 2)
    there = (samples != 0).any(2)  # padding is 0 in the data, whatever the networks' scale
    lengths = there.sum(1)
    assert torch.equal(there, torch.arange(STEPS) < lengths.unsqueeze(1))
    known: Any = opened.strategy
    assert set(lengths.tolist()) == set(known._lengths.tolist()) == {3, 4, 5, 6, 7, 8}
    shares = [(each.bincount(minlength=9) / len(each))[3:] for each in (lengths, known._lengths)]
    assert float((shares[0] - shares[1]).abs().max()) < 0.07
    assert torch.equal(samples, draw_samples(opened, 600, 0)) and not torch.equal(samples, draw_samples(opened, 600, 1))


def test_whole_windows_have_no_lengths() -> None:
    asked = request(
        FIVE, "AR", {"size": 40, "length": 8, "batchSize": 6, "iterations": 9, "hidden": 5, "strategy": "TimeGAN"}
    )
    made = assemble(REGISTRY, asked, data_context(lambda sentence: None))
    play: Any = made.strategy
    assert play._lengths is None and play.noise(3, made.streams("test")).shape == play._noise(3).shape


def test_a_run_from_before_lengths_were_kept_makes_whole_windows() -> None:
    play = TimeGAN()
    _recall(play, {"session": {"strategy": {}}}, torch.device("cpu"))
    assert play._lengths is None and play._filler == 0.0


def test_lengths_and_what_stands_behind_them_are_those_of_the_data() -> None:
    rows, mask = torch.full((3, 4, 1), 2.0), torch.ones(3, 4, 1)
    mask[0, 2:] = mask[1, 1] = 0
    rows[mask == 0] = -1.0
    spec = DataSpec("sequence", (4, 1))
    lengths, filler = known_lengths(TensorDataset(spec, rows, None, {"mask": mask}))
    assert lengths is not None and lengths.tolist() == [2, 4, 4] and filler == -1.0
    assert known_lengths(TensorDataset(spec, rows)) == (None, 0.0)


# --- the parts ----------------------------------------------------------------------------------------------------


def test_what_counts_and_where_a_window_ends() -> None:
    mask = torch.tensor([[1, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]).unsqueeze(2).expand(-1, -1, 2).float()
    assert lengths_of(mask).tolist() == [3, 5, 0]
    steps = steps_of(mask)
    assert steps is not None and steps.squeeze(2).int().tolist() == [[1, 1, 1, 0, 0], [1] * 5, [0] * 5]
    half = mask.clone()
    half[0, :, 0] = 0  # a step is one where anything was observed
    assert lengths_of(half).tolist() == [3, 5, 0] and mask_of(Batch(torch.zeros(3, 5, 2))) is None
    flat = mask_of(Batch(torch.zeros(3, 5, 2), None, {"mask": mask[..., 0]}))
    assert flat is not None and flat.shape == (3, 5, 1)


def test_errors_are_averaged_per_window_first() -> None:
    values = torch.tensor([[[1.0], [3.0]], [[10.0], [99.0]]])
    counted = torch.tensor([[[1.0], [1.0]], [[1.0], [0.0]]])
    assert float(mean_of(values, counted)) == 6.0  # of 2 and 10
    assert float(mean_of(values, None)) == 28.25
    assert float(squared_error(values, torch.zeros(2, 2, 1), counted)) == (5 + 100) / 2
    assert float(mean_of(values, torch.zeros_like(values))) == 0.0


def test_foretold_codes_count_up_to_the_last_step() -> None:
    codes = torch.tensor([[[0.0], [1.0], [5.0]]])
    assert float(next_step_error(codes, torch.zeros(1, 3, 1), torch.tensor([[[True], [True], [False]]]))) == 1.0
    assert float(next_step_error(codes, torch.zeros(1, 3, 1))) == 13.0


def test_moments_count_what_is_observed_in_each_step() -> None:
    real, mask = torch.tensor([[[3.0], [50.0]], [[5.0], [50.0]], [[7.0], [8.0]]]), torch.ones(3, 2, 1)
    mask[:2, 1] = 0
    made = torch.tensor([[[1.0], [9.0]], [[1.0], [9.0]], [[1.0], [10.0]]])
    first = abs(math.sqrt(8 / 3 + 1e-6) - math.sqrt(1e-6)) + 4.0  # 3, 5, 7 against 1, 1, 1
    second = 2.0  # 8 against 10, both without a deviation
    assert float(moment_distance(made, real, mask)) == pytest.approx((first + second) / 2, rel=1e-5)
    mask[2, 1] = 0
    assert float(moment_distance(made, real, mask)) == pytest.approx(first, rel=1e-5)


SCORES = torch.tensor([[[1.0], [-2.0], [0.5]], [[3.0], [0.2], [-1.0]]])
OTHERS = torch.tensor([[[0.3], [2.0], [-4.0]], [[-1.0], [1.5], [6.0]]])
COUNTED = torch.tensor([[[1], [1], [0]], [[1], [0], [0]]]).bool()


@pytest.mark.parametrize(
    "objective", [Labelled, NonSaturating, Minimax, LeastSquares, Wasserstein, Hinge, RelativisticPaired]
)
def test_objectives_of_scores_of_which_not_all_count(objective: type[Any]) -> None:
    made = objective()
    rows = [(each[:1, :2], each[1:, :1]) for each in (SCORES, OTHERS)]
    wanted = [made.discriminator(real, fake) for real, fake in zip(*rows, strict=True)]
    found = halves_of(made, SCORES, OTHERS, COUNTED)
    for place, half in enumerate(found):
        if half is not None:
            torch.testing.assert_close(half, (wanted[0][place] + wanted[1][place]) / 2)
    assert (found[1] is None) is (wanted[0][1] is None) and not mixes_scores(made)
    real = SCORES if made.reads_real else None
    played = [made.generator(one if made.reads_real else None, other) for one, other in zip(*rows, strict=True)]
    torch.testing.assert_close(generator_of(made, real, OTHERS, COUNTED), (played[0] + played[1]) / 2)


@pytest.mark.parametrize("objective", [RelativisticAverage, RelativisticLeastSquares])
def test_objectives_that_mix_scores_are_known(objective: type[Any]) -> None:
    assert mixes_scores(objective())


def test_networks_end_where_the_sequences_do() -> None:
    rows = torch.arange(12.0).view(2, 3, 2)
    lengths = torch.tensor([2, 3])
    assert at_end(rows, lengths).tolist() == [[2.0, 3.0], [10.0, 11.0]]
    assert at_end(rows, torch.tensor([0, 1])).tolist() == [[0.0, 1.0], [6.0, 7.0]]
    assert mean_over_steps(rows, lengths).tolist() == [[1.0, 2.0], [8.0, 9.0]]
    scores = rows[..., :1] - 5
    found = logit_of_mean(scores, lengths)
    torch.testing.assert_close(found[:1], logit_of_mean(scores[:1, :2]))
    torch.testing.assert_close(found[1:], logit_of_mean(scores[1:]))
    parameter = nn.Parameter(scores)
    logit_of_mean(parameter, lengths).sum().backward()
    assert parameter.grad is not None and bool(parameter.grad.isfinite().all()) and float(parameter.grad[0, 2]) == 0.0
