"""Everything that can be named is listed, shown and explained, and README.md says what is true."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
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
from ganglion.engine.job import JobSettings, RoleSettings, parse_tokens, request
from ganglion.engine.processors import ChainSettings
from ganglion.engine.registry import Registry
from ganglion.engine.resolution import Resolver, settings_of
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


@every_thing
def test_show_tells_a_sentence_and_every_setting(entry: Any) -> None:
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


# --- README, CONTRIBUTING, continuous integration -----------------------------------------------------------------


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_tables_of_the_readme_are_fresh() -> None:
    module = generator()
    assert module.generated(README) == README, "run 'python scripts/generate_docs.py'"
    marked = re.findall(r"<!-- generated: ([\w-]+) -->", README)
    assert sorted(marked) == sorted(module.SECTIONS)
    assert README.count("<!-- end -->") == len(marked)


def test_a_stale_section_is_noticed_and_mended() -> None:
    module = generator()
    stale = README.replace("| `NSGAN` |", "| `NSGUN` |")
    assert stale != README and module.generated(stale) == README


def test_every_hook_is_explained() -> None:
    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert [hook for hook in hooks if f"| `{hook}` |" not in README] == []
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


def code(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in blocks if name == language]


def commands() -> list[str]:
    """Every complete `learn` command of the README."""
    lines = [line for block in code("") for line in block.splitlines()] + re.findall(r"`(learn [^`]*)`", README)
    lines = [line.rpartition(" && ")[2].removeprefix(".venv/bin/") for line in lines]
    return [line for line in lines if re.match(r"learn (--plugin \S+ )?[\w.]+,\w+ ", line)]


def test_the_commands_of_the_readme_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (definition,) = code("yaml")
    (tmp_path / "my_generator.yaml").write_text(definition, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert len(commands()) >= 4
    for command in commands():
        words = shlex.split(command)[1:]
        plugins = [str(generator().EXAMPLE)] if words[0] == "--plugin" else []
        networks, dataset, *tokens = words[2:] if plugins else words
        keys = parse_tokens(tokens)
        assert Resolver(Registry().load(plugins), request(networks, dataset, keys)).plan().job.iterations > 0


def test_the_python_example_of_the_readme_runs(tmp_path: Path) -> None:
    (text,) = [block for block in code("python") if "learn(" in block]
    short = text.replace('"iterations": 3000', '"iterations": 2, "threads": 1, "batchSize": 8')
    assert short != text
    done = subprocess.run(
        [sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.startswith("nsgan-digits-1 {'discriminatorLoss': ")


def test_the_local_plugin_of_the_readme_is_short() -> None:
    (text,) = [block for block in code("python") if "hookimpl" in block]
    assert len(text.splitlines()) <= 60
    assert text == generator().EXAMPLE.read_text(encoding="utf-8")
