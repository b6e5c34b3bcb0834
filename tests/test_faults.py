"""Faults: after each the last good state is intact, there is one sentence, the right exit code, and no hang.

`scripts/faults` injects them at every possible place and prints the table.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from faultbench import warm
from faults import FAULTS, Fault, carry_out


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What the forked processes share is imported before the first fork."""
    warm()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.inject.__name__)
def test_a_fault_costs_nothing_but_the_time_since_the_last_checkpoint(fault: Fault, tmp_path: Path) -> None:
    bench = carry_out(fault, tmp_path, quick=True)
    assert not bench.wrong, "\n".join(bench.wrong)
    assert bench.lost == 0 and bench.hangs == 0
    assert bench.injected or fault.inject.__name__ == "mounted_read_only"
