"""The short form of the suite ring8-v1: a strategy that loses modes on the ring fails here."""

from __future__ import annotations

from pathlib import Path

import pytest
from inprocess import carry_out_here

from ganglion.engine.comparison import compare

SHORT = {"budget": "iterations:1000", "batchSize": "64", "seeds": "1", "size": "5000", "metrics": "points-v1"}


def test_no_strategy_loses_modes_on_the_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out_here(monkeypatch)
    compared = compare("ring8-v1", None, SHORT, runs=str(tmp_path))
    assert compared.summary.failed == {}
    found = {figure.name.partition(".")[2]: figure.rows for figure in compared.summary.figures}
    modes = {row.entry: row.median for row in found["modes"]}
    assert modes == dict.fromkeys(modes, 8)
    assert len(modes) >= 9
    for row in found["highQuality"]:
        assert row.median is not None and row.median > 0.05, row.entry  # at the start: below 0.02
