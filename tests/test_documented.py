"""Everything that can be named is listed, shown and explained, and the reference says so."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from ganglion.engine import hookspecs
from ganglion.engine.adapters import AdapterSettings
from ganglion.engine.cli import cli
from ganglion.engine.commands import EvaluateSettings, SampleSettings
from ganglion.engine.errors import fold
from ganglion.engine.job import JobSettings, RoleSettings
from ganglion.engine.processors import ChainSettings
from ganglion.engine.registry import Registry
from ganglion.engine.resolution import settings_of
from ganglion.engine.settings import describe

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REGISTRY = Registry().load()
THINGS = [entry for kind in hookspecs.KINDS for entry in REGISTRY.all(kind) if entry.origin == "built-in"]
every_thing = pytest.mark.parametrize("entry", THINGS, ids=lambda entry: f"{entry.kind}-{entry.name}")


def ganglion(*words: str) -> str:
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


# --- list and show ------------------------------------------------------------------------------------------------


def test_nothing_built_in_is_refused() -> None:
    assert REGISTRY.quarantined() == []
    assert {entry.kind for entry in THINGS} == set(hookspecs.KINDS)


def test_list_has_everything_once() -> None:
    listed = [(row["kind"], row["name"]) for row in json.loads(ganglion("list", "--json"))]
    assert sorted(listed) == sorted(
        (entry.kind, entry.name) for kind in hookspecs.KINDS for entry in REGISTRY.all(kind)
    )
    text = ganglion("list")
    assert all(re.search(rf"^{entry.kind} +{re.escape(entry.name)} ", text, re.MULTILINE) for entry in THINGS)


class Once(Registry):
    """What is registered, read once: it is asked for hundreds of times here."""

    def load(self, plugins: Any = ()) -> Registry:
        return REGISTRY


@every_thing
def test_show_tells_a_sentence_and_every_setting(entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganglion.engine.commands.Registry", Once)
    shown = json.loads(ganglion("show", entry.kind, entry.name, "--json"))
    sentence = shown["about"].strip().split("\n\n")[0].rstrip()
    assert len(sentence.split()) >= 4 and sentence.endswith(".")
    declared = describe(settings_of(entry.thing))
    assert [setting["key"] for setting in shown["settings"]] == [info.key for info in declared]
    text = ganglion("show", entry.kind, entry.name)
    assert all(re.search(rf"^{info.key}\b", text, re.MULTILINE) for info in declared)


MODELS = [
    *((f"{entry.kind} {entry.name}", settings_of(entry.thing)) for entry in THINGS),
    *(("job", model) for model in (JobSettings, RoleSettings, AdapterSettings, ChainSettings)),
    *(("command", model) for model in (SampleSettings, EvaluateSettings)),
]


@pytest.mark.parametrize(("label", "model"), MODELS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_setting_has_a_meaning(label: str, model: Any) -> None:
    silent = [info.key for info in describe(model) if len(info.help.split()) < 2]
    assert silent == []
    assert all(info.key[0].islower() and "_" not in info.key for info in describe(model))


# --- strategies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [entry for entry in THINGS if entry.kind == "strategy"], ids=lambda entry: entry.name)
def test_a_strategy_names_its_source_and_its_deviations(entry: Any) -> None:
    text = entry.thing.__doc__
    assert re.search(r"https://\S+", text)
    assert re.search(r"^ +Deviations: \S", text, re.MULTILINE)
    assert entry.thing.__module__.rpartition(".")[2] == fold(entry.name)


# --- reference pages, CONTRIBUTING, continuous integration ----------------------------------------------------------


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_fresh() -> None:
    stale = [str(page.relative_to(ROOT)) for page in generator().stale()]
    assert stale == [], "run 'python scripts/generate_docs.py'"


def test_a_stale_piece_is_noticed_and_mended() -> None:
    module, page = generator(), ROOT / "docs" / "guide" / "data.md"
    text = page.read_text(encoding="utf-8")
    stale = text.replace("| `Circle` |", "| `Cirkle` |")
    assert stale != text and module.generated(stale) == text
    file = module.EXAMPLES / "calm_gan.py"
    assert f"```python\n{file.read_text(encoding='utf-8')}```\n<!-- end -->" in README


def test_every_thing_and_every_setting_stands_in_the_reference() -> None:
    module = generator()
    for kind, (file, _, _) in module.TITLES.items():
        page = (ROOT / "docs" / "reference" / f"{file}.md").read_text(encoding="utf-8")
        for entry in REGISTRY.all(kind):
            if entry.origin == "built-in":
                assert f"\n## {entry.name}\n" in page
                keys = [info.key for info in describe(settings_of(entry.thing))]
                assert [key for key in keys if f"| `{key}` |" not in page] == []


def test_every_hook_is_explained() -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    for page in ("docs/reference/api.md", "docs/plugins/index.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert [hook for hook in hooks if f"| `{hook}` |" not in text] == []
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [hook for hook in hooks if f"`{hook}`" not in contributing and hook != "register_strategies"] == []


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    set_up = re.search(r"^set_up='(.*)'$", script, re.MULTILINE)
    assert set_up is not None
    lines = [line for line in README.splitlines() if set_up[1] in line]
    assert lines == [set_up[1] + ".venv/bin/pytest"]
    assert '"$environment/bin/pip" install --quiet --disable-pip-version-check -e ".[dev]"' in script


def test_the_scripts_are_sound_and_executable() -> None:
    for name in (".ci/run", "scripts/check"):
        assert (ROOT / name).stat().st_mode & 0o111
        assert subprocess.run(["bash", "-n", str(ROOT / name)], check=False).returncode == 0
    wrong = subprocess.run([ROOT / "scripts" / "check", "lnt"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr == "scripts/check: unknown step 'lnt'; there are: lint, types, tests\n"


def test_hooks_before_a_commit_call_the_same_script() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: (.*)", text) == [f"scripts/check {step}" for step in ("lint", "types", "tests")]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 230
