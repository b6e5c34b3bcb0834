"""The conformance kit for plugin authors: every built-in passes it too, and so should a plugin's own tests.

    from ganglion.engine.testing import check_strategy

    def test_it_is_a_good_strategy():
        check_strategy("MyStrategy", networks="Generator,Discriminator", dataset="Circle", size=256, batchSize=8)

What is checked is named as in a job, `path.py:Thing` included, or is the class itself. Each call raises one
ConformanceError (an AssertionError) with a sentence per failed check, and returns all findings when none failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ganglion.engine.conformance.datasetchecks import examine_dataset
from ganglion.engine.conformance.networkchecks import examine_network
from ganglion.engine.conformance.processorchecks import examine_processor
from ganglion.engine.conformance.results import ConformanceError, Finding
from ganglion.engine.conformance.strategychecks import examine_strategy
from ganglion.engine.conformance.subjects import Subject, find_subject
from ganglion.engine.contracts import DataSpec

__all__ = [
    "ConformanceError",
    "Finding",
    "check_dataset",
    "check_network",
    "check_processor",
    "check_strategy",
]


def check_strategy(
    strategy: Any,
    networks: Sequence[str] | str | None = None,
    dataset: str | None = None,
    *,
    plugins: Sequence[str] = (),
    skip: Sequence[str] = (),
    **keys: Any,
) -> list[Finding]:
    """Check a strategy on a job that takes no time: `keys` are those of a job, such as size=256, batchSize=8.

    Networks and data are chosen by the strategy's roles where none are named. `skip` leaves out checks by name.
    Raises ConformanceError, and ConfigError where the job itself is wrong.
    """
    subject = find_subject("strategy", strategy, plugins)
    return _verdict(subject, examine_strategy(subject, networks, dataset, keys, skip))


def check_network(
    network: Any,
    role: str | None = None,
    data: DataSpec | None = None,
    *,
    plugins: Sequence[str] = (),
    skip: Sequence[str] = (),
    **keys: Any,
) -> list[Finding]:
    """Check a network factory, or a definition in YAML, for every kind of data that it takes.

    `role` is what it plays: generator, decoder, discriminator, encoder, autoencoder or classifier; without one, what
    it declares or what its name says. `data` is one kind of data only. `keys` are its settings and `Layer.argument`s.
    Raises ConformanceError, and ConfigError for a wrong key.
    """
    subject = find_subject("network", network, plugins)
    return _verdict(subject, examine_network(subject, role, data, keys, skip))


def check_dataset(dataset: Any, *, plugins: Sequence[str] = (), skip: Sequence[str] = (), **keys: Any) -> list[Finding]:
    """Check a data set; `keys` are its settings, such as path='points.csv'.

    Data that are not on this machine and are not to be downloaded leave most checks skipped, with the reason.
    Raises ConformanceError, and ConfigError for a wrong key.
    """
    subject = find_subject("dataset", dataset, plugins)
    return _verdict(subject, examine_dataset(subject, keys, skip))


def check_processor(
    processor: Any, *, plugins: Sequence[str] = (), skip: Sequence[str] = (), **keys: Any
) -> list[Finding]:
    """Check a gradient processor, be it a method or a link of the chain; `keys` are its settings.

    Raises ConformanceError, and ConfigError for a wrong key.
    """
    subject = find_subject("processor", processor, plugins)
    return _verdict(subject, examine_processor(subject, keys, skip))


def _verdict(subject: Subject, findings: list[Finding]) -> list[Finding]:
    if any(found.result == "failed" for found in findings):
        raise ConformanceError(f"{subject.entry.kind} {subject.name}", findings)
    return findings
