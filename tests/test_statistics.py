"""Intervals, sign-flip tests and Holm's correction against numbers computed by hand."""

from __future__ import annotations

import pytest

from ganglion.engine.statistics import holm, median, median_interval, sign_flip, smallest_p


def test_medians() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5


def test_the_interval_holds_the_median_and_is_the_same_every_time() -> None:
    values = [0.1, 0.9, 0.4, 0.7, 0.3, 0.8, 0.2, 0.6, 0.5, 1.0]
    low, high = median_interval(values)
    assert min(values) <= low < median(values) < high <= max(values)
    assert median_interval(values) == (low, high)
    assert 0.2 <= low <= 0.35 and 0.75 <= high <= 0.9  # order statistics 2..3 and 8..9 bound 95 % of binomial(10, 1/2)


def test_the_interval_of_three_values_by_hand() -> None:
    """The median of three draws from 1, 2, 3 is 1 in 7 of 27 cases, and 3 likewise: both ends are reached."""
    assert median_interval([1.0, 2.0, 3.0]) == (1.0, 3.0)
    assert median_interval([5.0]) == (5.0, 5.0)
    # The median of five is the smallest with probability P(binomial(5, 1/5) >= 3) = 5.8 %: more than 2.5 %.
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == (1.0, 5.0)
    # Of seven: P(binomial(7, 1/7) >= 4) = 1.0 %, so the ends are the second ones (P(binomial(7, 2/7) >= 4) = 9.8 %).
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == (2.0, 6.0)


@pytest.mark.parametrize("pairs", [1, 3, 6, 16])
def test_differences_of_one_sign_give_the_smallest_p(pairs: int) -> None:
    assert sign_flip([0.1 * (i + 1) for i in range(pairs)]) == 2 / 2**pairs == smallest_p(pairs)
    assert sign_flip([-1.0] * pairs) == 2 / 2**pairs


def test_mixed_differences_by_hand() -> None:
    """Sums of +-1 +-2 +-3: 6, 4, 2, 0, 0, -2, -4, -6; with 3, 2, -1 the observed sum is 4, and 4 of 8 are as large."""
    assert sign_flip([3.0, 2.0, -1.0]) == 4 / 8
    assert sign_flip([0.3, 0.2, -0.1]) == 4 / 8  # whatever way 0.3 - 0.2 + 0.1 is rounded
    assert sign_flip([1.0, -1.0]) == 1.0
    assert sign_flip([0.0, 0.0, 0.0]) == 1.0
    assert sign_flip([]) is None


def test_many_pairs_are_drawn_with_a_seed() -> None:
    values = [1.0, -0.5, 0.8, 0.9, -0.2, 1.1, 0.4, -0.7, 0.6, 0.3, 0.9, -0.1, 0.2, 0.5, -0.3, 0.7, 0.8]
    p = sign_flip(values)
    assert p == sign_flip(values) and p != sign_flip(values, seed=1)
    assert p == pytest.approx(exact(values), abs=0.003)
    assert sign_flip([1.0] * 40) == 1 / 100_001  # the observed signs count as one of the draws


def exact(values: list[float]) -> float:
    """The share of all sign patterns with as large a sum, counted one by one."""
    sums = [
        sum(value if pattern >> i & 1 else -value for i, value in enumerate(values))
        for pattern in range(2 ** len(values))
    ]
    return sum(abs(total) >= abs(sum(values)) - 1e-9 for total in sums) / len(sums)


def test_holm_by_hand() -> None:
    """Sorted .005, .01, .03, .04 times 4, 3, 2, 1 is .02, .03, .06, .04, and never falls: .02, .03, .06, .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([None, 0.02]) == [None, 0.02]
    assert holm([]) == []
