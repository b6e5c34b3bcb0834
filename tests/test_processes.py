"""Several processes that share a job: their parts of batches and draws, what they exchange, and that it adds up."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine import device, learner, sharedmemory, team
from ganglion.engine.api import Batch, Dataset, TensorDataset
from ganglion.engine.conformance.courses import ITERATIONS, Job
from ganglion.engine.conformance.sharing import first_difference, in_processes, weights_alone_and_shared
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.contracts import DataSpec
from ganglion.engine.device import find_device, stored_name
from ganglion.engine.errors import ConfigError
from ganglion.engine.learner import alike
from ganglion.engine.processes import (
    ALONE,
    Part,
    average_in_place,
    averaged,
    gathered,
    joined_by_file,
    largest,
    told_by_all,
    told_by_first,
)
from ganglion.engine.processors import ProcessorChain
from ganglion.engine.samplers import SAMPLINGS, BatchSampler
from ganglion.engine.streams import RandomStream
from ganglion.engine.synchronising import synchronise
from ganglion.engine.team import share_weights
from ganglion.strategies.api import AdversarialStrategy

CPU = torch.device("cpu")


def shared(folder: Path, count: int, work: Callable[[Part], Any]) -> list[Any]:
    """What `work` gives in each of `count` processes."""

    def one(rank: int, of: int) -> None:
        with joined_by_file(folder / "meeting", Part(rank, of), 60.0) as part:
            torch.save(work(part), folder / f"result{rank}")

    code, told = in_processes(count, one)
    assert code == 0, told
    return [torch.load(folder / f"result{rank}") for rank in range(count)]


# --- parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_draws_are_those_of_the_whole_batch(count: int) -> None:
    def draw(part: Part, rows: int) -> list[Tensor]:
        stream = RandomStream(5, "noise", CPU, part)
        return [stream.normal(rows, 3), stream.uniform(rows, low=-1, high=1), stream.integers(7, rows, 2)]

    whole = draw(ALONE, 12)
    parts = [draw(Part(rank, count), 12 // count) for rank in range(count)]
    for place, wanted in enumerate(whole):
        assert torch.equal(torch.cat([part[place] for part in parts]), wanted)


class Streamed(Dataset):
    """Rows that do not fit in memory, as far as the sampler knows."""

    resident = False

    def __init__(self, rows: Tensor) -> None:
        self.values = rows
        self.spec = DataSpec("vector", (1,))

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, indices: Tensor) -> Batch:
        return Batch(self.values[indices])


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("sampling", ["UNIFORM", "PERMUTATION"])
def test_batches_are_parts_of_the_whole_ones(resident: bool, sampling: str) -> None:
    rows = torch.arange(50.0).unsqueeze(1)
    dataset = TensorDataset(DataSpec("vector", (1,)), rows) if resident else Streamed(rows)

    def batches(part: Part) -> list[Tensor]:
        sampler = BatchSampler(dataset, SAMPLINGS[sampling](None, dataset), 12, 3, CPU, part=part)
        sizes = [None, None, 8 // part.count, None, 20 // part.count, None, None]
        found = [sampler.next_batch(size).input.clone() for size in sizes]
        sampler.close()
        return found

    whole, parts = batches(ALONE), [batches(Part(rank, 4)) for rank in range(4)]
    for place, wanted in enumerate(whole):
        assert torch.equal(torch.cat([part[place] for part in parts]), wanted)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    dataset = TensorDataset(DataSpec("vector", (1,)), torch.zeros(50, 1))
    with pytest.raises(ConfigError, match=r"batchSize=10 counts the rows of all 4 processes .* give batchSize=8, say"):
        BatchSampler(dataset, SAMPLINGS["UNIFORM"](None, dataset), 10, 0, CPU, part=Part(0, 4))


# --- what is exchanged ------------------------------------------------------------------------------------------


def test_one_process_exchanges_nothing() -> None:
    rows = torch.ones(3, 2)
    assert gathered(rows) is rows and averaged(rows) is rows


def test_what_is_told_arrives(tmp_path: Path) -> None:
    def work(part: Part) -> Any:
        first = told_by_first(b"from the first" if part.rank == 0 else None)
        nothing = told_by_first(b"" if part.rank == 0 else None)
        everyone = [told.decode() for told in told_by_all(b"x" * part.rank)]
        return first.decode(), nothing.decode(), everyone, largest([part.rank, 1])

    for result in shared(tmp_path, 3, work):
        assert result == ("from the first", "", ["", "x", "xx"], [2, 1])


def test_tensors_of_several_types_are_averaged_in_place(tmp_path: Path) -> None:
    def work(part: Part) -> Any:
        tensors = [torch.full((2, 2), float(part.rank)), torch.full((3,), 2.0 * part.rank, dtype=torch.float64)]
        average_in_place(tensors)
        return tensors

    for single, double in shared(tmp_path, 2, work):
        assert torch.equal(single, torch.full((2, 2), 0.5)) and torch.equal(double, torch.ones(3, dtype=torch.float64))


def test_figures_that_are_decided_by_are_the_same_in_all(tmp_path: Path) -> None:
    def work(part: Part) -> Any:
        values = alike({"loss": float(part.rank), "error": math.nan if part.rank else 1.0})
        return values["loss"], math.isnan(values["error"])

    assert shared(tmp_path, 2, work) == [(0.5, True), (0.5, True)]
    assert alike({"loss": 3.0}) == {"loss": 3.0}


def test_all_find_the_same_validation_best_and_stop_for_the_same_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(part: Part) -> Any:
        monkeypatch.setattr(learner, "validate", lambda session: {"loss": float(part.rank)})
        stored: list[bool] = []

        def store_now(best: bool) -> None:
            stored.append(best)

        alarms = [SimpleNamespace(kind="still", sentence="still")] if part.rank else []
        own: Any = SimpleNamespace(
            session=None, iteration=1, values={}, best=0.4, validation_losses=deque(maxlen=5), _stopped=False,
            traces=lambda moment: None, store_now=store_now,
            job=SimpleNamespace(validation_loss_threshold=None, stop_on=("still",)),
            health=SimpleNamespace(read=lambda *given: SimpleNamespace(alarms=alarms)),
        )  # fmt: skip
        learner.Learner._validate(own)
        return stored, own.best, learner.Learner._read_health(own), own._stopped

    assert shared(tmp_path, 2, work) == [([], 0.4, None, False)] * 2


def test_all_begin_with_the_weights_of_the_first(tmp_path: Path) -> None:
    def work(part: Part) -> Any:
        network = nn.Linear(2, 3)
        network.weight.data = torch.full((2, 3), float(part.rank)).T  # not contiguous
        network.register_buffer("steps", torch.tensor(7 - part.rank, dtype=torch.int16))
        network.register_buffer("seen", torch.tensor([part.rank == 0]))
        network.register_buffer("none", torch.zeros(0))
        share_weights(part, {"network": network})
        return network.weight.detach().contiguous(), int(network.steps), bool(network.seen)

    for weight, steps, seen in shared(tmp_path, 2, work):
        assert torch.equal(weight, torch.zeros(3, 2)) and (steps, seen) == (7, True)


def test_losses_that_mix_rows_have_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    start = torch.randn(3, 2, generator=generator, dtype=torch.float64)

    def gradient(own: Tensor) -> Tensor:
        own, weight = own.clone().requires_grad_(), start.clone().requires_grad_()
        scores = (own @ weight).tanh()
        mean = averaged(scores.mean(0))
        mixed = (scores - mean).square().mean() + gathered(scores).var(0).sum()
        slopes = torch.autograd.grad((scores + scores * mean).sum(), own, create_graph=True)[0]
        return torch.autograd.grad(mixed + slopes.square().sum(1).mean(), weight)[0]

    wanted = gradient(rows)

    def work(part: Part) -> Any:
        found = gradient(part.rows(rows))
        average_in_place([found])
        return found

    for found in shared(tmp_path, 2, work):
        assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-14)


def test_batch_norm_counts_the_whole_batch(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(3), nn.BatchNorm1d(3, affine=False)
    )
    images = torch.randn(12, 1, 5, 5, dtype=torch.float64)
    network.double()(images)  # sizes
    network.load_state_dict({name: value.clone() for name, value in network.state_dict().items()})

    def step(own: Tensor) -> tuple[Tensor, list[Tensor]]:
        output = network(own)
        (output.square() * torch.tensor([1.0, 2.0, 3.0])).mean().backward()
        return output.detach(), [parameter.grad for parameter in network.parameters() if parameter.grad is not None]

    def work(part: Part) -> Any:
        synchronise({"network": network})
        output, gradients = step(part.rows(images))
        average_in_place(gradients)
        return output, gradients, network.state_dict()

    results = shared(tmp_path, 3, work)
    output, gradients = step(images)
    assert torch.allclose(torch.cat([result[0] for result in results]), output, rtol=1e-9, atol=1e-12)
    for result in results:
        for found, wanted in zip(result[1], gradients, strict=True):
            assert torch.allclose(found, wanted, rtol=1e-8, atol=1e-10)
        for name, value in network.state_dict().items():
            assert torch.allclose(result[2][name].double(), value.double(), rtol=1e-9, atol=1e-12), name


def test_batch_norm_exchanges_nothing_while_the_first_process_judges(tmp_path: Path) -> None:
    layer, rows = nn.BatchNorm1d(2, track_running_stats=False), torch.randn(6, 2)
    wanted = layer(rows)

    def work(part: Part) -> Any:
        synchronise({"network": layer})
        layer.eval()
        return layer(rows) if part.rank == 0 else wanted

    for found in shared(tmp_path, 2, work):
        assert torch.equal(found, wanted)


# --- whole jobs -------------------------------------------------------------------------------------------------


def job_of(strategy: Any, networks: str, dataset: str, **keys: Any) -> Job:
    return Job(find_subject("strategy", strategy), networks.split(","), dataset, keys)


@pytest.mark.parametrize(
    ("strategy", "networks", "dataset", "keys"),
    [
        ("NSGAN", "ConvGenerator,ConvDiscriminator", "Digits", {"batchSize": 8}),
        ("NSGAN", "Generator,Discriminator", "Circle", {"batchSize": 8, "size": 64, "accumulate": 2}),
        (
            "WGAN_GP", "Recurrent,Recurrent", "AR",
            {"batchSize": 8, "size": 64, "length": 6, "hidden": 4, "discriminator.batchMean": True},
        ),
    ],
)  # fmt: skip
def test_two_processes_learn_what_one_does(strategy: str, networks: str, dataset: str, keys: dict[str, Any]) -> None:
    one, other, tolerance = weights_alone_and_shared(job_of(strategy, networks, dataset, **keys))
    assert tolerance == 1e-9 and first_difference(one, other, tolerance) is None


@pytest.mark.parametrize(
    ("networks", "dataset", "schedule"),
    [
        ("Generator,Discriminator", "Circle", "discriminator*2 generator"),
        ("Generator,Discriminator", "Circle", "generator discriminator"),
        ("ConvGenerator,ConvDiscriminator", "Digits", "discriminator generator"),  # statistics travel in between
    ],
)
def test_what_is_computed_while_gradients_travel_changes_nothing(
    networks: str, dataset: str, schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over connections, where the discriminator's update waits until the generator has made its samples."""
    monkeypatch.setattr(sharedmemory, "FOLDER", tmp_path / "nowhere")
    finish, waited = ProcessorChain.finish, tmp_path / "waited"

    def noted(chain: ProcessorChain) -> None:
        if chain._pending is not None:
            with waited.open("a") as file:
                file.write(f"{chain.role} {chain.updates}\n")
        finish(chain)

    monkeypatch.setattr(ProcessorChain, "finish", noted)
    keys = {"batchSize": 8, "schedule": schedule, "penalty": "R1", "discriminator.ema": 0.9}
    one, other, tolerance = weights_alone_and_shared(job_of("NSGAN", networks, dataset, **keys))
    assert tolerance == 1e-9 and first_difference(one, other, tolerance) is None
    put_off = waited.read_text().splitlines()
    assert len(set(put_off)) >= ITERATIONS - 1 and {line.split()[0] for line in put_off} == {"discriminator"}


def test_nothing_is_put_off_where_another_could_read_what_is_to_be_updated(tmp_path: Path) -> None:
    class Curious(AdversarialStrategy):
        preset = {"objective": "nonSaturating"}

        def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
            return super().fake(noise, batch) + 0 * next(self._discriminator.parameters()).sum()

    def work(part: Part) -> Any:
        jobs = [job_of(each, "Generator,Discriminator", "Circle", batchSize=8, size=64) for each in (Curious, "NSGAN")]
        found = []
        for job in jobs:
            with job.session(part=part) as session:
                found.append(session.strategy._overlaps)
        return found

    assert shared(tmp_path, 2, work) == [[False, True]] * 2


def test_the_kit_finds_a_loss_that_mixes_only_its_own_rows() -> None:
    one, other, tolerance = weights_alone_and_shared(
        job_of(Apart, "Generator,Discriminator", "Circle", batchSize=8, size=64)
    )
    assert "differs by" in (first_difference(one, other, tolerance) or "")


class Apart(AdversarialStrategy):
    """Scores less the mean of those beside them: of this process's rows alone."""

    preset = {"objective": "nonSaturating"}

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        scores = super().scores(samples, batch)
        return scores - scores.mean(0) * 0.5


def test_a_process_stores_the_state_of_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"is_available": True, "is_initialized": True, "current_device": 1}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.arange(16, dtype=torch.uint8))
    stored = torch.frombuffer(bytearray(team._generator()), dtype=torch.uint8)
    found = team._unjoined(stored)
    assert list(found) == ["cpu", "cuda1"] and torch.equal(found["cpu"], torch.get_rng_state())
    assert found["cuda1"].tolist() == list(range(16))
    assert list(team._unjoined(found["cpu"])) == ["cpu"]  # stored without a GPU's
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert list(team._unjoined(stored)) == ["cpu"] and team._generator() == found["cpu"].numpy().tobytes()


# --- devices ------------------------------------------------------------------------------------------------------


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(device, "this_process", lambda: Part(5, 8))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_device("auto") == find_device("cuda") == find_device("cuda:1") == torch.device("cuda:1")
    assert (stored_name(torch.device("cuda:1")), find_device("cpu").type) == ("cuda", "cpu")
    with pytest.raises(ConfigError, match="device=cuda:0: each process has a GPU of its own; give device=auto"):
        find_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="device=auto: each process needs a GPU of its own, and this machine has 2"):
        find_device("auto")
    monkeypatch.delenv("LOCAL_RANK")
    for name in ("auto", "cuda"):
        with pytest.raises(ConfigError, match=f"device={name}: LOCAL_RANK is not set, .*; start them with torchrun"):
            find_device(name)
    monkeypatch.setattr(device, "this_process", lambda: ALONE)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda:0")
    assert stored_name(torch.device("cuda:0")) == "cuda:0"
