"""Dropout with few random bits against its definition, and where torch's own is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine.bench.driving import engine
from ganglion.engine.execution import has_compiler
from ganglion.networks import modules
from ganglion.networks.modules import BITS, FEW, Dropout

MANY = 400_000


def made(p: float, rows: Tensor) -> Tensor:
    """What a learning layer makes of rows."""
    torch.manual_seed(0)
    output: Tensor = Dropout(p)(rows)
    return output


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_values_are_dropped_with_the_probability_wherever_they_stand(p: float) -> None:
    """A word of 64 bits is behind four values, two side by side in either half of the mask: each of the four, and
    pairs of them, must come out as independent."""
    dropped = (made(p, torch.ones(MANY)) == 0).double().view(2, -1, 2).transpose(0, 1).reshape(-1, 4)
    deviation = (p * (1 - p) / len(dropped)) ** 0.5
    assert (dropped.mean(0) - p).abs().max() < 5 * deviation
    correlation = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / len(dropped) ** 0.5
    following = torch.corrcoef(torch.stack([dropped[:-1, 3], dropped[1:, 0]]))[0, 1]
    assert following.abs() < 5 / len(dropped) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_left_is_scaled_so_that_the_mean_stays(dtype: torch.dtype) -> None:
    rows = torch.ones(8, 1000, dtype=dtype)
    output = made(0.25, rows)
    assert output.dtype == dtype
    assert output.shape == rows.shape
    assert set(output.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75, dtype=dtype))}


def test_the_gradient_is_that_of_the_mask() -> None:
    rows = torch.rand(101, 81, requires_grad=True)  # no multiple of four
    output = made(0.5, rows)
    output.sum().backward()
    assert rows.grad is not None
    torch.testing.assert_close(rows.grad, (output != 0) * 2.0)


def test_a_probability_is_rounded_and_the_mean_exact() -> None:
    """1.4 steps of the smallest probability are one; the scale is that of what is really dropped."""
    step = 1 / 2**BITS
    output = made(1.4 * step, torch.ones(FEW, dtype=torch.float64))
    assert output.max() == 1 / (1 - step)


class Noted(nn.Dropout):
    """Torch's own, which says that it was asked."""

    def forward(self, input: Tensor) -> Tensor:
        raise LookupError


@pytest.mark.parametrize(
    ("p", "rows"),
    [
        (0.5, torch.ones(FEW - 1)),
        (0.0, torch.ones(FEW)),
        (1.0, torch.ones(FEW)),
        (0.1 / 2**BITS, torch.ones(FEW)),
        (0.5, torch.ones(FEW, 2).T),
        (0.5, torch.ones(FEW, device="meta")),
    ],
)
def test_torchs_own_is_taken_elsewhere(p: float, rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Dropout, "forward", Noted.forward)
    with pytest.raises(LookupError):
        made(p, rows)


def test_nothing_is_dropped_in_use() -> None:
    rows = torch.rand(FEW, 2)
    assert torch.equal(Dropout(0.5).eval()(rows), rows)


def test_masks_follow_the_seed() -> None:
    rows = torch.ones(FEW)
    first = made(0.5, rows)
    assert torch.equal(made(0.5, rows), first)
    assert not torch.equal(Dropout(0.5)(rows), first)


def test_definitions_name_it() -> None:
    from ganglion.networks.catalogue import LAYERS

    assert LAYERS["Dropout"] is modules.Dropout


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler on this machine")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, at its own
def test_losses_with_dropout_are_compiled() -> None:
    """Some of torch's calls can be traced and not compiled."""
    with engine("circle", {"execution": "compile"}, 1, "cpu") as own:
        assert any(isinstance(each, Dropout) for each in own.session.networks["discriminator"].modules())
        own.run(1)
        capture = own.session.chains["discriminator"].capture
        assert capture is not None and capture.refused == {} and capture.graphs() == 2
