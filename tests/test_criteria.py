"""The criteria: hand-computed values and gradients, one reduction rule, masks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ganglion.engine.contracts import Criterion
from ganglion.engine.criteria import ABS, BCE, CRITERIA, GAU, GKL, HUB, MSE, NLL
from ganglion.engine.errors import ConfigError
from ganglion.engine.settings import describe


def tensor(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gradient(value: Tensor, of: Tensor) -> list[float]:
    found: list[float] = torch.autograd.grad(value.sum(), of)[0].flatten().tolist()
    return found


# --- values by hand -------------------------------------------------------------------------------------------------


def test_elementwise_values_by_hand() -> None:
    output, target = tensor([1.0, 2.0], [0.0, -3.0]), tensor([0.0, 4.0], [0.0, 1.0])  # errors 1, -2; 0, -4
    assert MSE().loss(output, target).tolist() == [2.5, 8.0]
    assert ABS().loss(output, target).tolist() == [1.5, 2.0]
    hub = [(math.sqrt(2) - 1 + math.sqrt(5) - 1) / 2, (math.sqrt(17) - 1) / 2]
    assert HUB().loss(output, target).tolist() == pytest.approx(hub)
    wide = [4 * (math.sqrt(1.25) - 1 + math.sqrt(2) - 1) / 2, 4 * (math.sqrt(5) - 1) / 2]
    assert HUB(HUB.Settings(delta=2.0)).loss(output, target).tolist() == pytest.approx(wide)


def test_pseudo_huber_keeps_its_digits_for_small_errors() -> None:
    error = torch.tensor([[1e-4]])
    assert HUB().loss(error, torch.zeros(1, 1)).item() == pytest.approx(5e-9, rel=1e-5)


def test_binary_cross_entropy_by_hand() -> None:
    logits = tensor([0.0, 2.0, -3.0])
    p = [1 / (1 + math.exp(-x)) for x in (0.0, 2.0, -3.0)]
    for target in (0.85, 0.15, 0.0, 1.0):
        expected = sum(-target * math.log(q) - (1 - target) * math.log(1 - q) for q in p) / 3
        assert BCE().loss(logits, target).item() == pytest.approx(expected)
        assert BCE().loss(logits, torch.full_like(logits, target)).item() == pytest.approx(expected)
        assert BCE().loss(logits, torch.tensor(target)).item() == pytest.approx(expected)


def test_binary_cross_entropy_averages_where_dianne_summed() -> None:
    one, many = torch.full((2, 1), 0.3), torch.full((2, 784), 0.3)
    assert torch.allclose(BCE().loss(one, 1.0), BCE().loss(many, torch.ones(2, 784)))


def test_binary_cross_entropy_keeps_a_gradient_when_saturated() -> None:
    score = torch.tensor([[30.0], [-30.0]], requires_grad=True)
    assert gradient(BCE().loss(score, 1.0)[0], score)[0] == pytest.approx(-math.exp(-30), rel=1e-4, abs=0)
    assert gradient(BCE().loss(score, 0.0)[1], score)[1] == pytest.approx(math.exp(-30), rel=1e-4, abs=0)
    huge = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    assert BCE().loss(huge, 0.85).isfinite().all()
    assert gradient(BCE().loss(huge, 0.85), huge) == pytest.approx([0.15, -0.85])


def test_a_constant_target_makes_no_target_tensor() -> None:
    score = torch.zeros(4, 1)
    assert BCE().loss(score, 0.85).shape == MSE().loss(score, 1.0).shape == (4,)
    assert MSE().loss(score, 1.0).tolist() == [1.0] * 4


def test_negative_log_likelihood_by_hand() -> None:
    logits = tensor([1.0, 2.0, 0.5], [0.0, 0.0, 0.0])
    total = math.exp(1) + math.exp(2) + math.exp(0.5)
    expected = [math.log(total) - 2.0, math.log(3)]
    assert NLL().loss(logits, torch.tensor([1, 0])).tolist() == pytest.approx(expected)
    assert NLL().loss(logits, tensor([0.0, 1.0, 0.0], [1.0, 0.0, 0.0])).tolist() == pytest.approx(expected)
    half = tensor([0.5, 0.5, 0.0], [1.0, 0.0, 0.0])
    assert NLL().loss(logits, half).tolist() == pytest.approx([math.log(total) - 1.5, math.log(3)])


def test_negative_log_likelihood_averages_over_steps_and_sums_over_classes() -> None:
    logits = torch.randn(2, 5, 3, dtype=torch.float64)
    classes = torch.randint(3, (2, 5))
    each = -logits.log_softmax(-1).gather(-1, classes.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(NLL().loss(logits, classes), each.mean(1))
    one_hot = torch.nn.functional.one_hot(classes, 3)
    assert torch.allclose(NLL().loss(logits, one_hot), each.mean(1))


def test_what_likelihoods_are_given_is_a_setting_and_never_guessed_from_the_values() -> None:
    probabilities = tensor([0.0, 0.75, 0.25])  # element 0 is not above 0: DIANNE would have read logarithms
    expected = [-math.log(0.75)]
    given = NLL(NLL.Settings(input="probabilities"))
    assert given.loss(probabilities, torch.tensor([1])).tolist() == pytest.approx(expected)
    assert given.loss(probabilities, torch.tensor([0])).item() == pytest.approx(
        -math.log(torch.finfo(torch.float64).tiny)
    )
    logs = NLL(NLL.Settings(input="logProbabilities"))
    assert logs.loss(probabilities.log(), torch.tensor([1])).tolist() == pytest.approx(expected)
    assert logs.loss(probabilities.log(), tensor([0.0, 1.0, 0.0])).tolist() == pytest.approx(expected)
    assert NLL().loss(tensor([0.0, 0.75, 0.25]), torch.tensor([1])).item() != pytest.approx(expected[0])


def test_gaussian_likelihood_by_hand() -> None:
    output, target = tensor([1.0, 0.5, 2.0, 0.5]), tensor([2.0, 0.0])  # means 1, 0.5; deviations 2, 0.5
    each = [0.125 + math.log(2) + 0.5 * math.log(2 * math.pi), 0.5 + math.log(0.5) + 0.5 * math.log(2 * math.pi)]
    assert GAU().loss(output, target).item() == pytest.approx(sum(each) / 2)


def test_gaussian_likelihood_differentiates_by_the_deviation_not_by_the_log_variance_as_dianne_did() -> None:
    output = tensor([0.0, 0.7]).reshape(1, 2).requires_grad_()
    found = gradient(GAU().loss(output, tensor([0.9])), output)
    assert found[1] == pytest.approx(-0.933, abs=5e-4)  # 1/s - e^2/s^3; DIANNE: -0.327
    assert found[0] == pytest.approx(-0.9 / 0.49)


def test_gaussian_divergence_by_hand() -> None:
    output, target = tensor([1.0, 0.5]), tensor([0.2, 1.7])
    expected = math.log(1.7 / 0.5) + (0.25 + 0.64) / (2 * 1.7**2) - 0.5
    assert GKL().loss(output, target).item() == pytest.approx(expected)
    assert GKL().loss(target, target).item() == pytest.approx(0.0)
    normal = tensor([0.0, 1.0])
    assert GKL().loss(output, None).item() == pytest.approx(GKL().loss(output, normal).item())
    pair = tensor([1.0, 1.0, 0.5, 0.5])  # two means, then two deviations: the mean over the event
    assert GKL().loss(pair, None).item() == pytest.approx(GKL().loss(output, None).item())


def test_gaussian_divergence_differentiates_its_target_fully_where_dianne_lost_half_a_term() -> None:
    output, target = tensor([1.0, 0.5]), tensor([0.2, 1.7]).requires_grad_()
    assert gradient(GKL().loss(output, target), target)[1] == pytest.approx(0.407, abs=5e-4)  # DIANNE: 0.113


# --- one reduction rule ---------------------------------------------------------------------------------------------


def example(name: str, batch: int) -> tuple[Tensor, Tensor]:
    """An output and a target that fit the criterion."""
    numbers = torch.randn(batch, 4, 6, dtype=torch.float64)
    if name == "NLL":
        return numbers, torch.randint(6, (batch, 4))
    if name in ("GAU", "GKL"):
        numbers[..., 3:] = numbers[..., 3:].exp()
        other = torch.rand(batch, 4, 6, dtype=torch.float64) + 0.5
        return numbers, other if name == "GKL" else other[..., :3]
    return numbers, torch.rand(batch, 4, 6, dtype=torch.float64)


@pytest.mark.parametrize("name", CRITERIA)
def test_a_sample_has_the_same_loss_alone_as_in_a_batch(name: str) -> None:
    """DIANNE reported the sum for a batch of one, and the mean for larger ones."""
    criterion = CRITERIA[name]()
    output, target = example(name, 5)
    together = criterion.loss(output, target)
    assert together.shape == (5,)
    alone = [criterion.loss(output[i : i + 1], target[i : i + 1]).item() for i in range(5)]
    assert together.tolist() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("name", CRITERIA)
def test_repeating_the_event_does_not_change_the_loss(name: str) -> None:
    criterion = CRITERIA[name]()
    output, target = example(name, 3)
    twice = criterion.loss(torch.cat([output, output], 1), torch.cat([target, target], 1))
    assert torch.allclose(criterion.loss(output, target), twice)


@pytest.mark.parametrize("name", CRITERIA)
def test_a_mask_is_the_same_as_leaving_steps_out(name: str) -> None:
    criterion = CRITERIA[name]()
    output, target = example(name, 3)
    if target.is_floating_point():
        target[:, 3] = math.nan  # missing values may be anything
    else:
        target[:, 3] = -100
    output.requires_grad_()
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    loss = criterion.loss(output, target, mask)
    kept = [[0, 1], [0, 2]]
    expected = [criterion.loss(output[i : i + 1, rows], target[i : i + 1, rows]).item() for i, rows in enumerate(kept)]
    assert loss.tolist() == pytest.approx([*expected, 0.0])
    found = torch.autograd.grad(loss.sum(), output)[0]
    assert found.isfinite().all()
    assert (found[mask == 0] == 0).all() and found[0, 0].abs().sum() > 0


def test_masks_weigh_and_may_be_as_fine_as_the_event() -> None:
    output, target = tensor([1.0, 2.0, 3.0]), torch.zeros(1, 3, dtype=torch.float64)
    assert MSE().loss(output, target, tensor([1.0, 0.0, 3.0])).item() == pytest.approx((1 + 27) / 4)
    assert MSE().loss(output, target, torch.tensor([True])).item() == pytest.approx(14 / 3)
    broadcast = MSE().loss(torch.ones(2, 3, 4), torch.zeros(2, 3, 4), torch.ones(2, 3, 1))
    assert broadcast.tolist() == [1.0, 1.0]
    assert MSE().loss(torch.ones(2, 1), 0.0, torch.tensor([1, 0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", CRITERIA)
def test_gradients_agree_with_differences(name: str) -> None:
    criterion = CRITERIA[name]()
    output, target = example(name, 2)
    mask = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]])
    if target.is_floating_point():
        target.requires_grad_()
    output.requires_grad_()
    assert torch.autograd.gradcheck(criterion.loss, (output, target))
    assert torch.autograd.gradcheck(lambda x, y: criterion.loss(x, y, mask), (output, target))


@pytest.mark.parametrize("target", [0.0, 0.85, 1.0])
def test_gradients_for_constant_targets_agree_with_differences(target: float) -> None:
    scores = torch.randn(5, 1, dtype=torch.float64, requires_grad=True)
    for criterion in (BCE(), MSE(), ABS(), HUB()):
        assert torch.autograd.gradcheck(lambda x, criterion=criterion: criterion.loss(x, target), (scores,))


@pytest.mark.parametrize("choice", ["logProbabilities", "probabilities"])
def test_gradients_of_likelihoods_agree_with_differences(choice: str) -> None:
    given = torch.rand(3, 4, dtype=torch.float64) * 0.5 + 0.2
    criterion = NLL(NLL.Settings(input=choice))
    assert torch.autograd.gradcheck(lambda x: criterion.loss(x, torch.tensor([0, 3, 1])), (given.requires_grad_(),))


# --- wrong input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MSE", "ABS", "HUB", "BCE"])
def test_shapes_are_never_broadcast_by_accident(name: str) -> None:
    criterion = CRITERIA[name]()
    column, row = torch.randn(3, 1), torch.rand(3)
    assert torch.equal(criterion.loss(column, row), criterion.loss(column, row.reshape(3, 1)))
    with pytest.raises(ConfigError, match=rf"^criterion {name}: the output has shape \(3, 4\) and the target \(3, 1\)"):
        criterion.loss(torch.randn(3, 4), torch.rand(3, 1))
    with pytest.raises(ConfigError, match="class indices are for criterion=NLL"):
        criterion.loss(torch.randn(3, 4), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("criterion", "output", "target", "message"),
    [
        (NLL(), torch.zeros(2, 3), torch.zeros(2), r"criterion NLL: .* \(2,\) of torch.float32; class indices \(2,\)"),
        (NLL(), torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), "criterion NLL: the output has shape"),
        (GAU(), torch.ones(2, 3), torch.zeros(2, 1), "criterion GAU: .* its size must be even; it is 3"),
        (GAU(), torch.ones(2, 4), torch.zeros(2, 4), r"criterion GAU: .* means of shape \(2, 2\)"),
        (GKL(), torch.ones(2, 4), torch.ones(2, 2), "criterion GKL: the output has shape"),
    ],
)
def test_targets_that_do_not_fit_are_refused(
    criterion: Criterion, output: Tensor, target: Tensor, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        criterion.loss(output, target)


@pytest.mark.parametrize("criterion", CRITERIA.values())
def test_every_criterion_is_documented(criterion: type[Criterion]) -> None:
    assert criterion.__doc__ and len(criterion.__doc__) > 40
    assert all(info.help for info in describe(criterion.Settings))
