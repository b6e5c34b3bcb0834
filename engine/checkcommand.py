"""What the command `check` does: the conformance kit, as a table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ganglion.engine.commands import split_words
from ganglion.engine.conformance.datasetchecks import examine_dataset
from ganglion.engine.conformance.networkchecks import examine_network
from ganglion.engine.conformance.processorchecks import examine_processor
from ganglion.engine.conformance.results import Finding
from ganglion.engine.conformance.strategychecks import examine_strategy
from ganglion.engine.conformance.subjects import Subject, find_any
from ganglion.engine.errors import ConfigError, fold
from ganglion.engine.job import parse_tokens
from ganglion.engine.tables import clean_text, print_json, print_table

OWN = ("kind", "role", "skip")  # keys of the command itself


def check(words: Sequence[str], plugins: Sequence[str], as_json: bool) -> None:
    """Print what every check finds; exits 1 when one fails. Raises InputError where the command is wrong."""
    names, tokens = split_words(words)
    keys = parse_tokens(tokens)
    if not names:
        raise ConfigError(f"'{words[0]}': expected the name of what is to be checked before the keys")
    own = {name: value for key, value in keys.items() if (name := fold(key)) in OWN}
    others = {key: value for key, value in keys.items() if fold(key) not in OWN}
    kind, subject = find_any(names[0], plugins, own.get("kind"))
    findings = _examine(kind, subject, names[1:], own, others)
    failed = [found for found in findings if found.result == "failed"]
    if as_json:
        checks = [found._asdict() for found in findings]
        print_json({"kind": kind, "name": subject.name, "passed": not failed, "checks": checks})
    else:
        print_table(["check", "result", "what was found"], [list(found) for found in findings])
        print(clean_text(_summary(kind, subject, findings)), file=sys.stderr)
    if failed:
        sys.exit(1)


def _examine(
    kind: str, subject: Subject, names: Sequence[str], own: Mapping[str, str], keys: Mapping[str, Any]
) -> list[Finding]:
    skip = [name.strip() for name in own.get("skip", "").split(",") if name.strip()]
    if len(names) > (2 if kind == "strategy" else 0):
        expected = "key=value after the data set" if kind == "strategy" else f"key=value after the name of a {kind}"
        raise ConfigError(f"'{names[-1]}': expected {expected}")
    if "role" in own and kind != "network":
        raise ConfigError(f"role={own['role']}: only networks play a role here, and {subject.name} is a {kind}")
    if kind == "network":
        return examine_network(subject, own.get("role"), None, keys, skip)
    if kind == "dataset":
        return examine_dataset(subject, keys, skip)
    if kind == "processor":
        return examine_processor(subject, keys, skip)
    networks, dataset = (*names, None, None)[:2]
    return examine_strategy(subject, networks, dataset, keys, skip)


def _summary(kind: str, subject: Subject, findings: Sequence[Finding]) -> str:
    counts = {result: sum(found.result == result for found in findings) for result in ("passed", "failed", "skipped")}
    told = ", ".join(f"{count} {result}" for result, count in counts.items() if count)
    return f"{kind} {subject.name}: {told}"
