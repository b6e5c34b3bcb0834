"""Losses as recordings: a stand-in for a GPU replays them here; what only a GPU can show is skipped without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from commandline import refused, tiny
from test_capture import AS_WRITTEN, add_norm, assembled, furthest, iterate
from tiny import TINY, learn_tiny, weights_of
from torch import Tensor, nn

from ganglion.engine import execution
from ganglion.engine.capture import Capture
from ganglion.engine.contracts import Loss
from ganglion.engine.cudagraphs import CudaRecorder, Function, Recorded, Recording
from ganglion.engine.errors import ConfigError
from ganglion.engine.processes import Part
from ganglion.engine.session import Session
from ganglion.engine.tracing import CannotCapture

RECORDED = [name for name, row in TINY.items() if row.dataset in ("Circle", "Ring", "Digits")]  # others are recurrent
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")


class CalledAgain:
    """In a GPU's place: a replay calls the function on the same buffers, into the same results."""

    def __init__(self, *_: object) -> None:
        self.recorded = 0

    def record(self, function: Function, buffers: Sequence[Tensor]) -> Recording:
        self.recorded += 1
        for _ in range(2):
            function(buffers)
        results = [torch.full_like(result, torch.nan) for result in function(buffers)]  # recording computes nothing

        def replay() -> None:
            for result, now in zip(results, function(buffers), strict=True):
                result.copy_(now)

        return Recording(results, replay)


class Stale(CalledAgain):
    """Replays what came first: its inputs are copies that nobody fills."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        tensors = [each for network in session.networks.values() for each in network.state_dict().values()]
        self.own = {tensor.data_ptr() for tensor in tensors}

    def record(self, function: Function, buffers: Sequence[Tensor]) -> Recording:
        kept = [each if each.data_ptr() in self.own else each.clone() for each in buffers]
        return super().record(function, kept)


class Unable:
    """Cannot record anything, and has changed running statistics when it says so."""

    def __init__(self, *_: object) -> None:
        pass

    def record(self, function: Function, buffers: Sequence[Tensor]) -> Recording:
        function(buffers)
        raise RuntimeError("operation not permitted when stream is capturing\nand more lines")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes this machine for one with a GPU that the stand-in records on."""
    monkeypatch.setattr(execution, "only_gpu", lambda session: torch.device("cpu"))
    monkeypatch.setattr(execution, "_on_cpu", lambda session: False)
    monkeypatch.setattr(execution, "CudaRecorder", CalledAgain)


def execution_of(run: Path) -> dict[str, object]:
    recorded: dict[str, object] = json.loads((run / "record.json").read_text())["execution"]
    return recorded


# --- the same numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", RECORDED)
def test_replays_are_the_loss_as_it_is_written_bit_for_bit(strategy: str) -> None:
    written, replayed = assembled(strategy), assembled(strategy)
    wanted = iterate(written, 4)
    capture = execution.use_recordings(replayed, CalledAgain())
    assembled(strategy)  # dropout draws from torch's own generators, which this starts anew
    assert iterate(replayed, 4) == wanted
    assert furthest(written, replayed) == 0.0
    assert set(capture.refused) == set(AS_WRITTEN.get(strategy, {}))
    assert capture.graphs() >= 1


def test_running_statistics_count_each_batch_once() -> None:
    sessions = []
    for recorder in (None, CalledAgain(), Unable()):
        session = assembled("GAN", accumulate=2)
        add_norm(session)
        if recorder is not None:
            execution.use_recordings(session, recorder)
        iterate(session, 2)
        for parameter in session.networks["generator"].parameters():
            parameter.data = parameter.data.clone()  # so that recordings are made anew in the midst of a run
        iterate(session, 2)
        sessions.append(session)
    assert sessions[1].capture.refused == {} and len(sessions[2].capture.refused) == 2
    assert int(sessions[0].networks["generator"].norm.num_batches_tracked) == 12
    assert furthest(sessions[0], sessions[1]) == furthest(sessions[0], sessions[2]) == 0.0


def test_learning_rates_fall_as_without_recordings() -> None:
    keys = {"decayType": "linear", "decayIterations": 4}
    written, replayed = assembled("NSGAN", **keys), assembled("NSGAN", **keys)
    iterate(written, 4)
    execution.use_recordings(replayed, CalledAgain())
    assembled("NSGAN", **keys)
    iterate(replayed, 4)
    assert replayed.chains["generator"].learning_rate < replayed.chains["generator"]._start_rate
    assert furthest(written, replayed) == 0.0


class Judging:
    """A loss with a number that changes, for a discriminator that draws nothing."""

    def __init__(self, session: Session) -> None:
        self.network = session.networks["discriminator"].eval()

    def weighted(self, rows: Tensor, weight: float) -> Loss:
        total = (self.network(rows) * weight).mean()
        return Loss(total, {"weighted": total * 2})

    def spoiling(self, rows: Tensor) -> Tensor:
        return self.network(rows.mul_(2.0)).mean()


def judged(recorder: CalledAgain | None) -> tuple[Session, Judging, Capture | None]:
    session = assembled("NSGAN")
    capture = None if recorder is None else execution.use_recordings(session, recorder)
    return session, Judging(session), capture


def test_numbers_and_shapes_that_change() -> None:
    sessions = []
    for recorder in (None, CalledAgain()):
        session, loss, capture = judged(recorder)
        draw = torch.Generator().manual_seed(3)
        given = [(torch.randn(size, 2, generator=draw), 1.0 / number) for number in (1, 2, 3) for size in (4, 6)]
        losses = [session.chains["discriminator"].update(loss.weighted, *each) for each in given]
        sessions.append((session, losses))
    (written, wanted), (replayed, found) = sessions
    assert furthest(written, replayed) == 0.0
    assert [each.total for each in found] == [each.total for each in wanted]  # read now: later replays left them alone
    assert [each.terms for each in found] == [each.terms for each in wanted]
    assert capture is not None and capture.graphs() == recorder.recorded == 2 and capture.refused == {}  # type: ignore[union-attr]


def test_weights_that_were_put_elsewhere_are_recorded_anew() -> None:
    recorder = CalledAgain()
    sessions = []
    for each in (None, recorder):
        session, loss, _ = judged(each)
        for number in range(4):
            if number == 3:
                for parameter in session.networks["discriminator"].parameters():
                    parameter.data = parameter.data.clone()
            session.chains["discriminator"].update(loss.weighted, torch.ones(4, 2), 1.0)
        sessions.append(session)
    assert furthest(*sessions) == 0.0
    assert recorder.recorded == 2


# --- what is carried out as it is written -------------------------------------------------------------------------


def test_inputs_that_are_not_filled_anew_are_noticed() -> None:
    written, stale = assembled("EBGAN"), assembled("EBGAN")
    iterate(written, 4)
    capture = execution.use_recordings(stale, Stale(stale))
    assembled("EBGAN")
    iterate(stale, 4)
    wrong = "its graph gives other numbers than the loss as it is written"
    assert set(capture.refused.values()) == {wrong} and len(capture.refused) == 2
    assert furthest(written, stale) == 0.0


def test_what_cannot_be_recorded_says_why() -> None:
    session, loss, capture = judged(None)
    capture = execution.use_recordings(session, Unable())
    session.chains["discriminator"].update(loss.weighted, torch.ones(4, 2), 1.0)
    session.chains["discriminator"].update(loss.spoiling, torch.ones(4, 2))
    assert capture.refused == {
        "discriminator: weighted": "RuntimeError: operation not permitted when stream is capturing",
        "discriminator: spoiling": "it changes an input in place",
    }


def test_tensors_on_two_devices_are_not_recorded() -> None:
    graph = torch.fx.symbolic_trace(lambda one, other: one + other)
    with pytest.raises(CannotCapture, match="it computes on cpu and meta, and a CUDA graph is recorded on one GPU"):
        Recorded(CalledAgain())(graph, [torch.ones(()), torch.ones((), device="meta")])


def test_gradients_that_are_kept_stay_what_they_were() -> None:
    session, loss, capture = judged(CalledAgain())
    chain = session.chains["discriminator"]
    kept: list[Tensor] = []
    chain._before.append(lambda number: kept.extend(chain.gradients()) if number == 2 else None)
    for number in range(5):
        chain.update(loss.weighted, torch.full((4, 2), float(number)), 1.0 + number)
        if number == 2:
            before = [gradient.clone() for gradient in kept]
    assert capture is not None
    assert capture.refused == {
        "discriminator: weighted": "its gradients are kept beyond the update, and a replay would change them"
    }
    assert kept and all(map(torch.equal, kept, before))


# --- a run --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("strategy", ["HingeGAN", "BEGAN"])
def test_a_run_stopped_and_resumed_is_never_having_stopped(strategy: str, tmp_path: Path) -> None:
    whole = learn_tiny(strategy, tmp_path, tag="whole", iterations=6, execution="graph")
    learn_tiny(strategy, tmp_path, tag="parts", iterations=3, execution="graph", decayIterations=6)
    again = learn_tiny(strategy, tmp_path, tag="parts", iterations=6)
    eager = learn_tiny(strategy, tmp_path, tag="eager", iterations=6, execution="eager")
    assert weights_of(again) == weights_of(whole)
    for name in ("generator.safetensors", "discriminator.safetensors"):
        assert weights_of(whole)[name] == weights_of(eager)[name]
    record = json.loads((again.directory / "record.json").read_text())
    assert record["execution"]["name"] == "graph"
    assert set(record["as_written"]) == set(AS_WRITTEN.get(strategy, {}))


@pytest.mark.usefixtures("gpu")
def test_auto_keeps_recordings_where_they_are_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganglion.engine.cudagraphs.SECONDS", 0.01)
    monkeypatch.setattr(execution, "MARGIN", 1e9)
    learnt = learn_tiny("EBGAN", tmp_path, tag="measured", iterations=4)
    found = execution_of(learnt.directory)
    assert found["name"] == "graph" and found["graphs"] == 2
    assert "ms with 2 CUDA graphs, recorded in" in str(found["reason"])
    assert all(0 < float(str(found[key])) < 1000 for key in ("graphMilliseconds", "eagerMilliseconds"))
    assert "execution: graph" in (learnt.directory / "job.yaml").read_text()
    eager = learn_tiny("EBGAN", tmp_path, tag="plain", iterations=4, execution="eager")
    assert weights_of(learnt)["generator.safetensors"] == weights_of(eager)["generator.safetensors"]


@pytest.mark.usefixtures("gpu")
def test_auto_goes_without_where_that_is_faster_and_leaves_the_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganglion.engine.cudagraphs.SECONDS", 0.01)
    monkeypatch.setattr(execution, "MARGIN", 0.0)
    measured, untouched = assembled("EBGAN"), assembled("EBGAN")
    decided = execution.settle_execution(measured)
    assert decided.name == "eager" and decided.told and decided.figures["graphs"] == 2
    assert measured.capture is None
    assert furthest(measured, untouched) == 0.0
    assert execution.to_measure(measured) == ["execution=eager"]


@pytest.mark.usefixtures("gpu")
def test_auto_goes_without_where_nothing_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "CudaRecorder", Unable)
    learnt = learn_tiny("FeedForward", tmp_path, iterations=2)
    found = execution_of(learnt.directory)
    assert found["name"] == "eager"
    assert str(found["reason"]).startswith("no loss can be a CUDA graph: network: ")


def test_without_a_gpu_it_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        capsys,
        tiny("execution=graph", "tag=none"),
        "execution=graph: CUDA graphs need all networks on one NVIDIA GPU, and here are the generator on cpu, the "
        "discriminator on cpu; use auto, eager or compile",
    )


@pytest.mark.usefixtures("gpu")
def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    session = assembled("NSGAN", execution="graph")
    monkeypatch.setattr(execution, "this_process", lambda: Part(0, 2))
    with pytest.raises(ConfigError, match="several processes share the job, and CUDA graphs are for one; use eager"):
        execution.settle_execution(session)


# --- on a GPU -----------------------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("strategy", RECORDED)
def test_cuda_graphs_are_the_losses_as_they_are_written(strategy: str) -> None:
    written, replayed = assembled(strategy, device="cuda"), assembled(strategy, device="cuda")
    wanted = iterate(written, 6)
    capture = execution.use_recordings(replayed, CudaRecorder(torch.device("cuda", 0)))
    assembled(strategy, device="cuda")
    found = iterate(replayed, 6)
    assert set(capture.refused) == set(AS_WRITTEN.get(strategy, {}))
    assert capture.graphs() >= 1
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    assert furthest(written, replayed) < 1e-3


@needs_gpu
def test_dropout_draws_the_same_in_a_cuda_graph() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).cuda()
    rows = torch.ones(4, 8, device="cuda")
    recording = CudaRecorder(torch.device("cuda", 0)).record(lambda buffers: [network(buffers[0]).detach()], [rows])
    for seed in (1, 2):
        torch.manual_seed(seed)
        wanted = [network(rows).detach() for _ in range(2)]
        torch.manual_seed(seed)
        for each in wanted:
            recording.replay()
            assert torch.equal(recording.results[0], each)


@needs_gpu
def test_a_run_on_a_gpu_goes_on_exactly_and_auto_says_what_it_measured(tmp_path: Path) -> None:
    keys = {"device": "cuda", "execution": "graph"}
    whole = learn_tiny("HingeGAN", tmp_path, tag="whole", iterations=6, **keys)
    learn_tiny("HingeGAN", tmp_path, tag="parts", iterations=3, decayIterations=6, **keys)
    assert weights_of(learn_tiny("HingeGAN", tmp_path, tag="parts", iterations=6)) == weights_of(whole)
    auto = learn_tiny("HingeGAN", tmp_path, tag="auto", iterations=6, device="cuda")
    assert int(str(execution_of(auto.directory)["graphs"])) == 3
