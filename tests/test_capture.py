"""Losses run as graphs: the same numbers as those carried out as they are written, decided once, resumed exactly."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import PAIR, call, runs_folder
from tiny import TINY, learn_tiny, weights_of
from torch import Tensor

from ganglion.engine import execution, tracing
from ganglion.engine.assembly import assemble
from ganglion.engine.capture import MOST_VARIANTS, Capture
from ganglion.engine.conformance.watching import default_type
from ganglion.engine.contracts import Loss
from ganglion.engine.folders import data_context
from ganglion.engine.job import JobRequest
from ganglion.engine.learner import Learner
from ganglion.engine.registry import Registry
from ganglion.engine.session import Session
from ganglion.engine.tracing import interpreted

REGISTRY = Registry().load()
# The losses that are carried out as they are written, and why; all others run as graphs.
AS_WRITTEN = {
    "UnrolledGAN": {"generator: generator_loss": "other numbers"},  # it looks up weights that a graph has replaced
    "BEGAN": {"discriminator: discriminator_round": "FakeTensors"},  # it reads k, a tensor of its own
}


def assembled(strategy: str, **keys: Any) -> Session:
    row = TINY[strategy]
    asked = JobRequest(tuple(row.networks.split(",")), row.dataset, strategy, {**row.keys, "iterations": 200, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def captured(session: Session) -> Capture:
    return execution.use_graphs(session, interpreted)


def made_graphs(session: Session) -> tuple[Capture, list[torch.fx.GraphModule]]:
    """Graphs for a session that are not compiled, and those that were made, once it has iterated."""
    made = []

    def noted(graph: torch.fx.GraphModule, examples: Sequence[Tensor]) -> tracing.Runner:
        made.append(graph)
        return interpreted(graph, examples)

    return execution.use_graphs(session, noted), made


def iterate(session: Session, iterations: int) -> list[dict[str, float]]:
    values = []
    for i in range(iterations):
        for chain in session.chains.values():
            chain.begin(i)
        progress = session.strategy.process_iteration(i)
        values.append({name: float(value) for name, value in progress.values.items()})
    return values


def both(strategy: str, iterations: int, **keys: Any) -> tuple[Session, Session, Capture, Any]:
    """The same job as it is written and by graphs, one after the other, as both draw from torch's own generators."""
    written = assembled(strategy, **keys)
    wanted = iterate(written, iterations)
    graphs = assembled(strategy, **keys)
    capture = captured(graphs)
    found = iterate(graphs, iterations)
    return written, graphs, capture, list(zip(found, wanted, strict=True))


def furthest(one: Session, other: Session) -> float:
    """The largest difference between the weights and buffers of two sessions."""
    pairs = [
        (weights, other.networks[role].state_dict()[name])
        for role, network in one.networks.items()
        for name, weights in network.state_dict().items()
    ]
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


def recurrent(session: Session) -> bool:
    return any(isinstance(module, torch.nn.RNNBase) for net in session.networks.values() for module in net.modules())


@pytest.mark.parametrize("strategy", TINY)
def test_a_graph_is_the_loss_as_it_is_written(strategy: str) -> None:
    with default_type(torch.float64):
        iterations = 8 if recurrent(assembled(strategy)) else 200
        written, graphs, capture, values = both(strategy, iterations)
    assert furthest(written, graphs) < 1e-9
    for mine, theirs in values:
        assert mine == pytest.approx(theirs, rel=1e-7, abs=1e-9)
    if recurrent(graphs):
        assert capture.graphs() == 0
        assert all("which a graph would unroll" in reason for reason in capture.refused.values())
        return
    expected = AS_WRITTEN.get(strategy, {})
    assert set(capture.refused) == set(expected)
    assert all(part in capture.refused[name] for name, part in expected.items())
    assert capture.graphs() >= 1


def test_ten_iterations_in_single_precision() -> None:
    written, graphs, _, _ = both("R3GAN", 10)
    assert furthest(written, graphs) < 1e-5


def test_batch_statistics_are_kept() -> None:
    written = assembled("GAN")
    add_norm(written)
    iterate(written, 5)
    graphs = assembled("GAN")
    add_norm(graphs)
    captured(graphs)
    iterate(graphs, 5)
    buffers = dict(written.networks["generator"].named_buffers())
    assert int(buffers["norm.num_batches_tracked"]) == 10  # twice an iteration, once for either player
    assert furthest(written, graphs) < 1e-6


def add_norm(session: Session) -> None:
    """A BatchNorm and a Dropout behind the generator."""
    network = session.networks["generator"]
    network.norm = torch.nn.BatchNorm1d(2)
    network.drop = torch.nn.Dropout(0.5)
    network.register_forward_hook(lambda module, given, output: module.drop(module.norm(output)))


@contextmanager
def loss_of(session: Session, change: Any) -> Iterator[None]:
    """`change(strategy)` before every loss of the discriminator."""
    kind = type(session.strategy)
    before = kind.discriminator_loss  # type: ignore[attr-defined]

    def changed(self: Any, *given: Any) -> Loss:
        factor = change(self)
        loss: Loss = before(self, *given)
        return Loss(loss.total * factor, loss.terms)

    kind.discriminator_loss = changed  # type: ignore[attr-defined]
    try:
        yield
    finally:
        kind.discriminator_loss = before  # type: ignore[attr-defined]


def test_a_number_that_always_changes_is_refused_and_never_stale() -> None:
    with loss_of(assembled("NSGAN"), lambda self: 1.0 + self._iteration):
        written, graphs, capture, _ = both("NSGAN", MOST_VARIANTS + 3)
    assert furthest(written, graphs) < 1e-6
    assert capture.refused == {
        "discriminator: discriminator_round": "it reads _iteration, which changes; give that as an argument"
    }


def test_a_switch_has_a_graph_for_either_state() -> None:
    sessions = []
    for with_graphs in (False, True):
        session = assembled("NSGAN")
        capture = captured(session) if with_graphs else None
        sessions.append(session)
        with loss_of(session, lambda self: 2.0 if self.doubled else 1.0):
            for i, doubled in enumerate((False, True, False, True)):
                session.strategy.doubled = doubled
                session.strategy.process_iteration(i)
    written, graphs = sessions
    assert capture is not None
    assert furthest(written, graphs) < 1e-6
    assert capture.refused == {}
    assert capture.graphs() == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda self: setattr(self, "seen", 1) or 1.0, "it changes seen of NSGAN"),
        (lambda self: self.factor, "FakeTensors"),
        (lambda self: 1.0 if self.context.processors["discriminator"].learning_rate else 2.0, None),
    ],
    ids=["writes", "own tensor", "the learning rate"],
)
def test_what_a_graph_would_not_see(change: Any, reason: str | None) -> None:
    session = assembled("NSGAN")
    capture = captured(session)
    session.strategy.factor = torch.tensor(2.0)
    with loss_of(session, change):
        session.strategy.process_iteration(0)
        if reason is not None:
            assert reason in capture.refused["discriminator: discriminator_round"]
            return
        assert capture.graphs() == 2
        session.chains["discriminator"].learning_rate = 0.5
        session.strategy.process_iteration(1)
        assert capture.graphs() == 3


def test_what_is_changed_in_place_becomes_elementary_operations() -> None:
    """The compiler has no code for what torch makes of others, as these two, which changes in place bring in late."""
    session = assembled("NSGAN")
    capture, made = made_graphs(session)
    with loss_of(session, lambda self: torch.arange(3).ge_(2).to(torch.float32).clamp_(0.5, 0.75).mean()):
        session.strategy.process_iteration(0)
    assert capture.refused == {} and len(made) == 2
    targets = {node.target for graph in made for node in graph.graph.nodes}
    assert targets & {torch.ops.aten.ge.Scalar}
    assert not targets & {torch.ops.aten.clamp.default, torch.ops.aten._to_copy.default}


def test_a_function_made_anew_is_carried_out_as_it_is_written() -> None:
    session = assembled("NSGAN")
    capture, chain = captured(session), session.chains["discriminator"]
    rows = torch.ones(4, 2)
    network = session.networks["discriminator"]
    for _ in range(2):
        chain.update(lambda given: Loss(network(given).mean()), rows)
    assert capture.refused == {"discriminator: <lambda>": "it is a function made anew in every iteration"}


def test_accumulated_gradients_are_those_of_the_whole() -> None:
    written, graphs, _, _ = both("NSGAN", 5, accumulate=2)
    assert furthest(written, graphs) < 1e-6


# --- a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that are not compiled, which would take long."""
    monkeypatch.setattr(execution, "inductor", interpreted)
    monkeypatch.setattr(execution, "has_compiler", lambda: True)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("strategy", ["HingeGAN", "BEGAN", "InfoGAN"])
def test_stopped_and_resumed_is_never_having_stopped(strategy: str, tmp_path: Path) -> None:
    whole = learn_tiny(strategy, tmp_path / "whole", iterations=8, execution="compile")
    learn_tiny(strategy, tmp_path / "parts", iterations=3, execution="compile", decayIterations=8)
    again = learn_tiny(strategy, tmp_path / "parts", iterations=8)
    assert weights_of(again) == weights_of(whole)
    record = json.loads((again.directory / "record.json").read_text())
    assert record["execution"]["name"] == "compile"
    assert set(record["as_written"]) == set(AS_WRITTEN.get(strategy, {}))


@pytest.mark.usefixtures("quick")
def test_auto_measures_where_a_run_is_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = learn_tiny("NSGAN", tmp_path, tag="short", iterations=4)
    record = json.loads((short.directory / "record.json").read_text())
    assert record["execution"]["name"] == "eager"
    assert "does not pay for compiling" in record["execution"]["reason"]
    monkeypatch.setattr(execution, "WORTH", 0.0)
    monkeypatch.setattr(execution, "SHARE", math.inf)
    for margin, name in ((0.0, "eager"), (1e9, "compile")):
        monkeypatch.setattr(execution, "MARGIN", margin)
        learnt = learn_tiny("NSGAN", tmp_path, tag=name, iterations=4)
        record = json.loads((learnt.directory / "record.json").read_text())["execution"]
        assert record["name"] == name
        assert record["graphs"] == 2
        assert 0 < record["compiledMilliseconds"] < 1000
        assert f"execution: {name}" in (learnt.directory / "job.yaml").read_text()
    assert weights_of(learn_tiny("NSGAN", tmp_path, tag="plain", iterations=4, execution="eager")) == weights_of(short)


@pytest.mark.usefixtures("quick")
def test_measuring_leaves_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "WORTH", 0.0)
    monkeypatch.setattr(execution, "SHARE", math.inf)
    monkeypatch.setattr(execution, "MARGIN", 0.0)
    measured = learn_tiny("HingeGAN", tmp_path, tag="measured", iterations=6)
    plain = learn_tiny("HingeGAN", tmp_path, tag="plain", iterations=6, execution="eager")
    assert weights_of(measured) == weights_of(plain)


@pytest.mark.usefixtures("quick")
def test_graphs_that_cannot_be_paid_back_are_given_up_after_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "WORTH", 0.0)
    monkeypatch.setattr(execution, "SHARE", 0.0)
    given_up = learn_tiny("HingeGAN", tmp_path, tag="given-up", iterations=6)
    record = json.loads((given_up.directory / "record.json").read_text())
    assert record["execution"]["name"] == "eager" and record["as_written"] == {}
    assert re.match(r"making graphs was given up after \d+ s for 1 of them: it takes", record["execution"]["reason"])
    plain = learn_tiny("HingeGAN", tmp_path, tag="plain", iterations=6, execution="eager")
    assert weights_of(given_up) == weights_of(plain)


def test_how_long_a_run_takes_is_told_from_how_busy_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    session = assembled("NSGAN", iterations=1000, threads=1)
    monkeypatch.setattr(execution, "has_compiler", lambda: True)
    monkeypatch.setattr(execution, "_wall_and_own", lambda session: (0.6, 0.2))
    decided = execution.settle_execution(session, seconds=0.6)  # 600 s here, and 200 s of a processor: under WORTH
    assert decided[:2] == ("eager", "a run of about 200 s does not pay for compiling")
    assert execution.settle_execution(session, seconds=0.1).reason.startswith("a run of about 100 s")  # no need to look


def test_ctrl_c_while_graphs_are_made_leaves_nothing_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(graph: object, examples: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "inductor", interrupt)
    monkeypatch.setattr(execution, "has_compiler", lambda: True)
    monkeypatch.setattr(execution, "WORTH", 0.0)
    said = call(capsys, "learn", PAIR, "Circle", "strategy=NSGAN", "size=64", "testSize=8", "threads=1", "tag=early")
    lines = " ".join(said.err.split())
    assert said.code == 130 and said.out == ""
    assert lines.startswith("early prepares to learn Circle by NSGAN: measuring how that is fastest here (not with exe")
    assert "early makes graphs of its losses, which takes some" in lines and "begins" not in lines
    assert said.err.endswith("learn: stopped: nothing was learnt yet, and nothing of run 'early' is left\n")
    assert not (runs_folder() / "early").exists()


def test_ctrl_c_while_the_first_checkpoint_is_stored_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(learner: object) -> None:
        assert (tmp_path / "tiny" / "record.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "store_first", interrupt)
    with pytest.raises(KeyboardInterrupt, match="nothing was learnt yet"):
        learn_tiny("NSGAN", tmp_path)
    assert not (tmp_path / "tiny").exists()


def test_without_a_compiler_updates_are_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    learnt = learn_tiny("NSGAN", tmp_path, iterations=2, execution="compile")
    record = json.loads((learnt.directory / "record.json").read_text())["execution"]
    assert record == {"name": "eager", "reason": "there is no C++ compiler here, which graphs need"}


@pytest.mark.skipif(not execution.has_compiler(), reason="there is no C++ compiler here")
def test_a_compiled_graph_is_the_loss_as_it_is_written(tmp_path: Path) -> None:
    compiled = learn_tiny("FeedForward", tmp_path, tag="compiled", execution="compile", iterations=6)
    plain = learn_tiny("FeedForward", tmp_path, tag="plain", execution="eager", iterations=6)
    assert compiled.outcome.values == pytest.approx(plain.outcome.values, rel=1e-5)
    record = json.loads((compiled.directory / "record.json").read_text())
    assert record["execution"]["name"] == "compile"
