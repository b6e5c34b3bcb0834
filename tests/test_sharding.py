"""Networks that processes divide among themselves: what is learnt, stored and gone on with is as in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # fully_shard imports it: once, before processes are forked
import torch.distributed.fsdp
from tiny import QUIET
from torch import Tensor, nn

from ganglion.engine.api import GradientProcessor, Settings, setting
from ganglion.engine.checkpoint_files import Checkpoint
from ganglion.engine.conformance.courses import Job
from ganglion.engine.conformance.sharing import in_processes
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.dividing import Shards, collected
from ganglion.engine.errors import ConfigError, DivergedError, NetworkError, RunError
from ganglion.engine.launch import learn
from ganglion.engine.learnt import open_run
from ganglion.engine.processes import Part, joined_by_file
from ganglion.engine.processors import ChainSettings, update_together
from ganglion.engine.repository import Repository
from ganglion.engine.sharding import ShardedChain, _divide, _refuse_network, layers, refuse_links
from ganglion.engine.state import copied

CPU = torch.device("cpu")
KEYS = {
    **QUIET, "strategy": "NSGAN", "size": 64, "batchSize": 8, "generatorDim": 3, "Dropout.p": 0, "method": "ADAM",
    "generator.ema": 0.9, "generator.l2": 1e-3, "generator.clipNorm": 0.1, "discriminator.clamp": 0.3,
    "execution": "eager", "threads": 1, "accumulate": 2, "healthInterval": 2, "traceInterval": 1, "sampleInterval": 4,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def doubled() -> Iterator[None]:
    """In double precision what is left between one process and two is the order of sums."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def shared(folder: Path, count: int, work: Callable[[Part], Any]) -> list[Any]:
    """What `work` gives in each of `count` processes."""
    folder.mkdir(exist_ok=True)

    def one(rank: int, of: int) -> None:
        with joined_by_file(folder / "meeting", Part(rank, of), 60.0) as part:
            torch.save(work(part), folder / f"result{rank}")

    code, told = in_processes(count, one)
    assert code == 0, told
    return [torch.load(folder / f"result{rank}") for rank in range(count)]


def stored(runs: Path, tag: str, which: str | int = "latest") -> Checkpoint:
    return Repository(runs).find(tag).checkpoints().load(which)


def tensors(tree: Any, place: str = "") -> dict[str, Tensor]:
    """Every tensor of a checkpoint's networks, averages and chains, by where it stands."""
    if isinstance(tree, Checkpoint):
        return tensors([tree.networks, tree.averaged, tree.state["session"]["chains"]])
    if isinstance(tree, Tensor):
        return {place: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    return {name: value for key, item in items for name, value in tensors(item, f"{place}/{key}").items()}


def differ(one: Checkpoint, other: Checkpoint, tolerance: float) -> list[str]:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys() and len(first) > 40
    return [name for name, value in first.items() if not torch.allclose(value, second[name], rtol=0, atol=tolerance)]


# --- whole jobs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one`: four iterations in one process; `two`: in two that divide both networks; `halves`: those, with a stop."""
    folder = tmp_path_factory.mktemp("runs")
    names = ("Generator,Discriminator", "Circle")
    learn(*names, {**KEYS, "tag": "one", "iterations": 4}, runs=folder, quiet=True)

    def work(part: Part) -> Any:
        keys = {**KEYS, "shard": True}
        learn(*names, {**keys, "tag": "two", "iterations": 4}, runs=folder, quiet=True)
        for end in (2, 4):
            given = names if end == 2 else (None, None)
            learn(*given, {**(keys if end == 2 else {}), "tag": "halves", "iterations": end}, runs=folder, quiet=True)

    shared(folder / "meeting", 2, work)
    return folder


def test_two_processes_that_divide_their_networks_learn_what_one_does(runs: Path) -> None:
    assert differ(stored(runs, "one"), stored(runs, "two"), 1e-12) == []
    first, second = (open_run(tag, runs=runs) for tag in ("one", "two"))
    for one, two in ((first.trace, second.trace), (first.health, second.health)):
        assert one.rows == two.rows > 1 and one.columns == two.columns
        for name in set(one.columns) - {"seconds", "iterationsPerSecond"}:
            assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-9), name


def test_a_stop_changes_no_bit(runs: Path) -> None:
    assert differ(stored(runs, "two"), stored(runs, "halves"), 0.0) == []


def test_one_process_goes_on_with_what_two_have_divided(runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"generator.shard=true .* is the only one; .* give generator.shard=false"):
        learn(None, None, {"tag": "two", "iterations": 6}, runs=runs, quiet=True)
    learn(None, None, {"tag": "two", "iterations": 6, "shard": False}, runs=runs, quiet=True)
    learn(None, None, {"tag": "one", "iterations": 6}, runs=runs, quiet=True)
    assert differ(stored(runs, "one"), stored(runs, "two"), 1e-12) == []


def test_samples_are_drawn_in_one_process(runs: Path) -> None:
    first, second = (open_run(tag, runs=runs).sample(5, checkpoint="4") for tag in ("one", "halves"))
    assert torch.allclose(first, second, atol=1e-6)


# --- parts --------------------------------------------------------------------------------------------------------


def uneven() -> nn.Module:
    """Rows that three processes cannot divide equally, fewer rows than processes, and statistics."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5, affine=False), nn.Tanh(), nn.Linear(5, 1))


def test_parts_are_put_together_to_the_whole(tmp_path: Path) -> None:
    wanted = uneven().state_dict()

    def work(part: Part) -> Any:
        network = uneven()
        shards = Shards(network, part, _divide(network, CPU))
        parts = {name: value.clone() for name, value in shards.state_dict().items()}
        length = shards.whole_norm([own.detach() for own, _ in shards.pairs])
        whole = copied(shards.whole({"weights": shards.state_dict(), "step": {"0.weight": torch.tensor(3.0)}}))
        shards.load_state_dict(shards.own({name: value + 1 for name, value in wanted.items()}))
        after = copied(shards.whole(shards.state_dict()))
        if part.rank == 1:
            shards.pairs[1][0].data[0] = torch.nan  # of the bias
        try:
            collected({"g": shards}, {"g": shards.state_dict()}, {}, {"session": {"chains": {}}})
            said = ""
        except DivergedError as error:
            said = str(error)
        return parts, length, whole, after, said

    results = shared(tmp_path, 3, work)
    rows = [[len(result[0][name]) for result in results] for name in ("0.weight", "3.weight", "1.running_mean")]
    assert rows == [[2, 2, 1], [1, 0, 0], [5, 5, 5]]
    assert torch.equal(torch.cat([result[0]["0.bias"] for result in results]), wanted["0.bias"])
    length = torch.cat([parameter.detach().flatten() for parameter in uneven().parameters()]).norm()
    assert all(float(result[1]) == pytest.approx(float(length)) for result in results)
    assert results[0][2]["step"]["0.weight"] == 3.0
    assert [result[4] for result in results] == [
        "g: '0.bias' has values that are not finite; this state is not stored"
    ] * 3
    for name, value in wanted.items():
        assert torch.equal(results[0][2]["weights"][name], value), name
        assert torch.equal(results[0][3][name], value + 1), name


class Branched(nn.Module):
    """A parameter of its own around layers, one of which is used twice; what it gives is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0, 4.0]))
        self.inner = nn.Linear(3, 3)
        self.last = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(self.inner(x).tanh() * self.scale)
        scores: Tensor = self.last(hidden)
        return scores.view(-1, 2, 2)


def branched() -> Branched:
    torch.manual_seed(8)
    return Branched()


def inner(network: nn.Module, rows: Tensor) -> Tensor:
    """A loss of what a layer inside gives, not of what comes out."""
    caught: list[Tensor] = []
    handle = network.last.register_forward_pre_hook(lambda _, given: caught.append(given[0]))  # type: ignore[union-attr]
    network(rows)
    handle.remove()
    return caught[0].square().mean()


class Still(GradientProcessor):
    """Stands for a method: it changes nothing."""

    def update(self, step: int, learning_rate: float) -> None:
        pass


def test_gradients_enter_inside_and_through_a_divided_network(tmp_path: Path) -> None:
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(9))

    def losses(network: nn.Module, own: Tensor) -> list[Tensor]:
        return [inner(network, own), network(own).square().mean() + network(own * 2).mean()]

    network = branched()
    wanted = [
        torch.autograd.grad(loss, list(network.parameters()), allow_unused=True) for loss in losses(network, rows)
    ]
    leaf = rows.clone().requires_grad_()
    through = torch.autograd.grad(network(leaf).square().mean(), leaf)[0]

    def work(part: Part) -> Any:
        network = branched()
        shards = Shards(network, part, _divide(network, CPU))
        parameters = [*shards.parameters()]
        method: Any = Still(None, shards, parameters)
        chain = ShardedChain("n", shards, parameters, method, [], ChainSettings(), 1.0, None)
        found: list[Any] = []
        chain.zero = lambda: None  # type: ignore[method-assign]
        for place in range(2):
            update_together((chain,), lambda own, place=place: losses(network, own)[place], part.rows(rows))
            names = [name for name, _ in shards.named_parameters()]
            found.append(
                shards.whole({n: p.grad for n, p in zip(names, parameters, strict=True) if p.grad is not None})
            )
            ShardedChain.zero(chain)
        leaf = part.rows(rows).clone().requires_grad_()
        torch.autograd.backward(network(leaf).square().mean() / part.count, inputs=[leaf])
        with torch.no_grad():  # weights that change while whole ones are still there from a pass without a gradient
            network(rows)
            shards.load_state_dict(shards.own({name: value + 1 for name, value in branched().state_dict().items()}))
            changed = network(rows)
        try:  # last: what is interrupted here cannot be gone on with
            torch.autograd.grad(network(leaf).sum(), leaf, create_graph=True)
            said = ""
        except RunError as error:
            said = str(error)
        return found, leaf.grad, [p.grad is None for p in network.parameters()], said, changed

    results = shared(tmp_path, 2, work)
    names = [name for name, _ in branched().named_parameters()]
    for found, gradients in zip(results[0][0], wanted, strict=True):
        for name, gradient in zip(names, gradients, strict=True):
            assert (gradient is None) == (name not in found)
            assert gradient is None or torch.allclose(found[name], gradient, rtol=1e-12, atol=1e-14), name
    assert torch.allclose(torch.cat([result[1] for result in results]), through, rtol=1e-12, atol=1e-14)
    assert all(all(result[2]) for result in results)
    network.load_state_dict({name: value + 1 for name, value in network.state_dict().items()})
    assert torch.allclose(results[1][4], network(rows), rtol=1e-12, atol=1e-14)
    assert all("is differentiated twice, which it cannot be" in result[3] for result in results)


def test_layers_are_the_modules_that_compute_with_parameters() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), Branched(), nn.MultiheadAttention(2, 1))
    assert list(layers(network)) == [network[0][0], network[1].inner, network[1].last, network[1], network[2]]
    network[0][0].weight = network[1].inner.weight
    assert list(layers(network)) == [network[1].last, network[2]]


# --- what is refused ----------------------------------------------------------------------------------------------


def refused(**keys: Any) -> str:
    strategy = keys.pop("strategy", "NSGAN")
    networks = keys.pop("networks", ["Generator", "Discriminator"])
    subject = find_subject("strategy", strategy)
    with (
        pytest.raises((ConfigError, NetworkError)) as caught,
        Job(subject, networks, "Ring", {"batchSize": 8, "size": 64, **keys}).session(part=Part(0, 2)),
    ):
        pass
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"strategy": "WGAN_GP"}, "penalty=GP differentiates twice through the discriminator"),
        ({"strategy": "ACGAN", "penalty": "R1"}, "penalty=R1 differentiates twice through the discriminator"),
        ({"strategy": "UnrolledGAN"}, "UnrolledGAN computes its whole batch in every process"),
        ({"execution": "compile"}, "graphs cannot be made of a divided network"),
        ({"channelsLast": True}, "a divided network keeps no channelsLast"),
        ({"device": "meta"}, "the discriminator is on meta; only networks on cpu and cuda can be divided"),
    ],
)
def test_what_cannot_be_divided_is_refused(keys: dict[str, Any], sentence: str) -> None:
    told = refused(**{"discriminator.shard": True, **keys})
    assert told.startswith("discriminator.shard=true") and sentence in told


def test_a_penalty_that_differentiates_no_score_is_not_refused() -> None:
    told = refused(**{"discriminator.shard": True, "penalty": "consistency", "execution": "compile"})
    assert "graphs" in told


class RowsSettings(Settings):
    rows: float | None = setting(None, "norm of a row")


class Rows(GradientProcessor):
    """Needs whole parameters, or does not say."""

    Settings = RowsSettings
    key = "rows"


def test_links_that_do_not_say_that_parts_are_enough_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"generator.shard=true: 'Rows' does not say that it works on parts"):
        refuse_links("generator", {"Rows": Rows})


def test_a_parameter_without_rows_is_refused() -> None:
    network = nn.Linear(2, 2)
    network.gain = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(
        NetworkError, match=r"G: shard=true divides the rows of parameters, and 'gain' is a single number"
    ):
        _refuse_network(network, "G: shard=true")
