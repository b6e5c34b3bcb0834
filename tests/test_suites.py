"""The suites that ship can be carried out: every name, key and metric in them is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganglion.engine.comparing import plan_comparison
from ganglion.engine.registry import Registry
from ganglion.engine.suites import shipped_suites


@pytest.mark.parametrize("suite", sorted(shipped_suites()))
def test_a_shipped_suite_resolves(suite: str, tmp_path: Path) -> None:
    comparison = plan_comparison(Registry().load(), suite, None, {}, str(tmp_path))
    assert len(comparison.entries) > 1
    assert comparison.against in {entry.label for entry in comparison.entries}
    assert {choice.better for choice in comparison.figures} & {"higher", "lower"}
    assert list(tmp_path.iterdir()) == []
