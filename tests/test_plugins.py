"""Plugins: names, quarantine, misspelt hooks, clashes, the API version, local files; and the example of one."""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from ganglion.engine import loading
from ganglion.engine.cli import cli
from ganglion.engine.errors import ConfigError, EngineError, PluginError
from ganglion.engine.hookspecs import KINDS
from ganglion.engine.launch import learn
from ganglion.engine.registry import Registry

EXAMPLE = Path(__file__).parent / "examples" / "local_plugin.py"

HEAD = """
from ganglion.engine.api import Criterion, Objective, hookimpl

class Mine(Criterion):
    \"\"\"Mine.\"\"\"
    def loss(self, output, target, mask=None):
        return (output - target).flatten(1).mean(1)

class Other(Mine):
    \"\"\"Another.\"\"\"
"""
GOOD = HEAD + "@hookimpl\ndef register_criteria(register):\n    register('Mine', Mine)\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plugin file."""

    def written(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return written


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes modules importable and names them by entry points, as installed packages do."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    entries: list[EntryPoint] = []

    def entry_points(**selection: str) -> list[EntryPoint]:
        return entries if selection == {"group": "ganglion"} else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    def installed(module: str, text: str) -> None:
        (folder / f"{module}.py").write_text(text)
        monkeypatch.delitem(sys.modules, module, raising=False)
        entries.append(EntryPoint(name=module, value=module, group="ganglion"))

    return installed


def refusal(kind: str, name: str, registry: Registry) -> str:
    with pytest.raises(EngineError) as caught:
        registry.get(kind, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def local_refusal(path: Path | str) -> str:
    with pytest.raises(PluginError) as caught:
        Registry().add_local(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GAN", "gan", "Gan", "GANLearningStrategy", "ganlearningstrategy", "g-a_n"])
def test_names_are_tolerant(name: str) -> None:
    assert Registry().load().get("strategy", name).name == "GAN"


@pytest.mark.parametrize("name", ["Wide_NET-2", "widenet2", "wide-net-2", "WIDE NET 2", "wide_net_2"])
def test_case_hyphens_underscores_and_blanks_do_not_matter(write: Callable[..., Path], name: str) -> None:
    path = write(HEAD + "@hookimpl\ndef register_criteria(register):\n    register('Wide_NET-2', Mine, ['mw'])\n")
    registry = Registry().load([path])
    assert registry.get("criterion", name).name == "Wide_NET-2"
    assert registry.get("criterion", "MW").name == "Wide_NET-2"


def test_built_ins_are_asked_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Registry().load()
    monkeypatch.setattr(loading, "offers", lambda *given: 1 / 0)
    again = Registry().load()
    assert again.plugins == first.plugins and all(again.all(kind) == first.all(kind) != [] for kind in KINDS)


def test_an_unknown_name_names_the_nearest_or_all() -> None:
    registry = Registry().load()
    assert refusal("strategy", "NSGANN", registry) == "unknown strategy 'NSGANN'; did you mean 'NSGAN'?"
    assert "there are: lines, pictures, tensorboard, terminal" in refusal("trace", "qqqq", registry)
    assert refusal("strategy", "Digits", registry).startswith("'Digits' is a dataset, not a strategy; there are: ")
    assert refusal("strategie", "GAN", registry) == "unknown kind 'strategie'; did you mean 'strategy'?"
    assert refusal("strategy", "mine.py", registry).endswith("add what is meant in it, as in mine.py:MyName")


@pytest.mark.parametrize("name", ["", "  ", "a b", "a,b", "a=b", "a:b", "a/b", "a.b", "-a", "a\tb", "a\nb", "_-_", 3])
def test_names_that_cannot_be_typed_are_refused(write: Callable[..., Path], name: Any) -> None:
    path = write(HEAD + f"@hookimpl\ndef register_criteria(register):\n    register({name!r}, Mine)\n")
    assert f"{name!r} cannot name a criterion" in local_refusal(path)


def test_aliases_are_checked_like_names(write: Callable[..., Path]) -> None:
    hook = HEAD + "@hookimpl\ndef register_criteria(register):\n    register('Mine', Mine, aliases={})\n"
    assert "'a b' cannot name a criterion" in local_refusal(write(hook.format(["a b"])))
    assert "aliases are a list of names, not the text 'mine'" in local_refusal(write(hook.format("'mine'")))


# --- what is registered -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("register('X', 3)", "criterion 'X' must be a subclass of Criterion, not an instance of int"),
        ("register('X', Mine())", "criterion 'X' must be a subclass of Criterion, not an instance of Mine"),
        (
            "register('X', lambda settings: None)",
            "criterion 'X' must be a subclass of Criterion, not an instance of function",
        ),
        ("register('X', Objective)", "criterion 'X' must be a subclass of Criterion, not the class Objective"),
        ("register('X', Criterion)", "criterion 'X' lacks loss, which every Criterion has"),
        ("register('X')", "TypeError: "),
        ("1 / 0", "ZeroDivisionError: division by zero (mine.py, line 13)"),
        ("raise SystemExit(3)", "SystemExit: 3 (mine.py, line 13)"),
    ],
)
def test_a_wrong_hook_is_one_sentence(write: Callable[..., Path], call: str, reason: str) -> None:
    path = write(HEAD + f"@hookimpl\ndef register_criteria(register):\n    {call}\n")
    assert local_refusal(path).startswith(f"plugin {path}: {reason}")


def test_a_network_may_be_any_callable_but_nothing_else(write: Callable[..., Path]) -> None:
    hook = HEAD + "@hookimpl\ndef register_networks(register):\n    register('Net', {})\n"
    assert "network 'Net' must be a class or a function, not an instance of str" in local_refusal(
        write(hook.format("'Linear'"))
    )
    registry = Registry()
    registry.add_local(write(hook.format("lambda context: None")))
    assert callable(registry.get("network", "net").thing)


def test_nothing_of_a_plugin_that_fails_halfway_is_registered(install: Callable[..., None]) -> None:
    text = (
        HEAD + "@hookimpl\ndef register_criteria(register):\n    register('Mine', Mine)\n    register('a b', Other)\n"
    )
    install("halfway", text)
    registry = Registry().load()
    assert refusal("criterion", "Mine", registry).startswith("unknown criterion 'Mine'")


# --- hooks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (
            "@hookimpl\ndef register_strategys(register): ...",
            "there is no hook 'register_strategys'; did you mean 'register_strategies'?",
        ),
        (
            "@hookimpl\ndef register_criteria(registry): ...",
            "the hook register_criteria takes one argument, 'register', not registry",
        ),
        (
            "@hookimpl\ndef register_criteria(): ...",
            "the hook register_criteria takes one argument, 'register', not nothing",
        ),
        (
            "@hookimpl\ndef register_criteria(register, more=1): ...",
            "the hook register_criteria takes one argument, 'register', not register, more",
        ),
        (
            "def register_criteria(register): ...",
            "register_criteria is not marked as a hook: put @hookimpl of ganglion.engine.api above it",
        ),
        (
            "@hookimpl(specname='register_all')\ndef mine(register): ...",
            "there is no hook 'register_all'; did you mean 'register_traces'?",
        ),
    ],
)
def test_a_misspelt_hook_is_an_error_with_a_suggestion(write: Callable[..., Path], hook: str, reason: str) -> None:
    path = write(f"from ganglion.engine.api import hookimpl\n{hook}\n")
    message = local_refusal(path)
    assert message.startswith(f"plugin {path}: {reason.partition(';')[0]}")
    assert "register_all" in reason or message == f"plugin {path}: {reason}"


def test_a_plugin_for_another_api_is_quarantined(install: Callable[..., None]) -> None:
    install("future", "GANGLION_API = 99\n" + GOOD)
    install("present", "GANGLION_API = 1\n" + GOOD.replace("'Mine'", "'Present'"))
    registry = Registry().load()
    (plugin,) = registry.quarantined()
    assert plugin.name == "future"
    assert plugin.error is not None
    assert plugin.error.startswith("it is written for plugin API 99, this Ganglion has 1")
    assert registry.get("criterion", "present").origin == "package unknown"
    assert refusal("criterion", "mine", registry).startswith("unknown criterion 'mine'")


# --- quarantine ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('no\\nluck')", "RuntimeError: no luck (broken.py, line 1)"),
        ("import sys\nsys.exit(7)", "SystemExit: 7 (broken.py, line 2)"),
        ("import no_such_one", "ModuleNotFoundError: No module named 'no_such_one' (broken.py, line 1)"),
        ("def x(:", "SyntaxError: "),
        ("from ganglion.engine.api import Nothing", "ImportError: cannot import name 'Nothing'"),
    ],
)  # fmt: skip
def test_a_plugin_that_fails_to_import_is_quarantined(install: Callable[..., None], text: str, reason: str) -> None:
    install("broken", text)
    install("sound", GOOD)
    registry = Registry().load()
    (plugin,) = registry.quarantined()
    assert (plugin.name, plugin.origin) == ("broken", "package unknown")
    assert plugin.error is not None
    assert plugin.error.startswith(reason)
    assert "\n" not in plugin.error
    assert plugin.details is not None
    assert "Traceback" in plugin.details
    assert registry.get("criterion", "Mine").name == "Mine"  # another plugin is not harmed
    assert registry.get("strategy", "GAN").name == "GAN"
    message = refusal("criterion", "Broken", registry)
    assert message.endswith("(plugins with problems: broken (package unknown); see 'ganglion plugins')")


def test_ctrl_c_in_a_plugin_stops_the_program(install: Callable[..., None]) -> None:
    install("stopped", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry().load()


def test_commands_show_what_is_quarantined_and_go_on(install: Callable[..., None]) -> None:
    install("broken", "raise RuntimeError('no luck')")
    install("sound", GOOD)
    rows = {row["name"]: row for row in json.loads(run("plugins", "--json").output)}
    assert rows["broken"]["error"] == "RuntimeError: no luck (broken.py, line 1)"
    assert rows["sound"]["error"] is None
    plain = run("plugins").stdout
    assert "RuntimeError: no luck" in " ".join(plain.split())
    listed = run("list", "criterion")
    assert "Mine" in listed.stdout
    assert "1 plugin(s) have problems; see 'ganglion plugins'" in listed.stderr


def test_a_quarantined_plugin_stops_only_jobs_that_need_it(install: Callable[..., None], tmp_path: Path) -> None:
    install("broken", "raise RuntimeError('no luck')")
    keys = {"strategy": "NSGAN", "iterations": 2, "size": 64, "batchSize": 16, "threads": 1, "sampleInterval": 0}
    keys["trace"] = False
    learnt = learn("Generator,Discriminator", "Circle", keys)
    assert learnt.outcome.iteration == 2
    with pytest.raises(ConfigError, match=r"unknown strategy 'BrokenGAN'.*broken \(package unknown\)"):
        learn("Generator,Discriminator", "Circle", {**keys, "strategy": "BrokenGAN"})


def run(*words: str) -> Any:
    result = CliRunner().invoke(cli, list(words))
    assert result.exception is None, result.exception
    return result


# --- clashes ------------------------------------------------------------------------------------------------------

BOTH = "@hookimpl\ndef register_criteria(register):\n    register('{}', {}, aliases={})\n    register('{}', {})\n"


def test_a_clash_names_both_origins_and_blocks_only_that_name(
    install: Callable[..., None], write: Callable[..., Path]
) -> None:
    install("first", HEAD + BOTH.format("Shared", "Mine", ["one"], "First", "Other"))
    path = write(HEAD + BOTH.format("shared", "Mine", ["two"], "Second", "Other"), "second.py")
    registry = Registry().load([path])
    claims = f"criterion 'Shared' of package unknown and 'shared' of file {path}"
    expected = f"{claims} claim one name; rename or remove all but one"
    assert refusal("criterion", "SHARED", registry) == expected
    assert [plugin.error for plugin in registry.plugins] == [None, expected]
    assert [registry.get("criterion", name).name for name in ("First", "Second")] == ["First", "Second"]
    names = [entry.name for entry in registry.all("criterion")]
    assert "First" in names
    assert "Second" in names
    assert "Shared" not in names
    assert "shared" not in names


def test_a_third_claim_is_named_too(install: Callable[..., None]) -> None:
    for number in range(3):
        install(f"plugin{number}", GOOD.replace("'Mine'", f"'M{'i' * (number == 1)}ne'"))
    install("plugin3", GOOD.replace("'Mine'", "'mne'"))
    registry = Registry().load()
    message = refusal("criterion", "mne", registry)
    assert message.count("package unknown") == 3
    assert registry.get("criterion", "mine").name == "Mine"


def test_a_clash_with_a_built_in_blocks_that_name_and_says_so(install: Callable[..., None]) -> None:
    install("rival", GOOD.replace("'Mine'", "'mse'"))
    registry = Registry().load()
    message = refusal("criterion", "MSE", registry)
    assert message.startswith("criterion 'MSE' of the built-ins and 'mse' of package unknown claim one name")
    assert registry.get("criterion", "NLL").name == "NLL"


def test_an_alias_that_clashes_leaves_the_names_alone(install: Callable[..., None]) -> None:
    install("alias", HEAD + "@hookimpl\ndef register_criteria(register):\n    register('Mine', Mine, ['MSE', 'own'])\n")
    registry = Registry().load()
    assert registry.get("criterion", "Mine").name == "Mine"
    assert registry.get("criterion", "own").name == "Mine"
    assert "'Mine' of package unknown" in refusal("criterion", "MSE", registry)


def test_a_name_given_twice_for_one_thing_is_no_clash(install: Callable[..., None]) -> None:
    install(
        "twice", HEAD + "@hookimpl\ndef register_criteria(register):\n    register('Mine', Mine, ['mine', 'MI-NE'])\n"
    )
    registry = Registry().load(["twice"])  # and named on the command line as well
    assert registry.quarantined() == []
    assert [entry.name for entry in registry.all("criterion")].count("Mine") == 1


def test_one_name_may_stand_for_things_of_two_kinds(write: Callable[..., Path]) -> None:
    hook = "@hookimpl\ndef register_networks(register):\n    register('Mine', lambda context: None)\n"
    registry = Registry()
    registry.add_local(write(GOOD + hook))
    assert registry.get("criterion", "mine").kind == "criterion"
    assert registry.get("network", "mine").kind == "network"


# --- local files --------------------------------------------------------------------------------------------------


def test_local_files_that_cannot_be_loaded(write: Callable[..., Path], tmp_path: Path) -> None:
    missing = tmp_path / "missing.py"
    assert local_refusal(missing) == f"plugin {missing}: the file {missing} does not exist"
    assert local_refusal(f"{tmp_path}/") == f"plugin {tmp_path}/: the file {tmp_path} is a folder; name a file in it"
    broken = write("x = 1\ndef y(:\n")
    assert local_refusal(broken) == f"plugin {broken}: SyntaxError: invalid syntax (mine.py, line 2)"
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"\x00\xff\xfe")
    assert local_refusal(binary).startswith(f"plugin {binary}: ")
    assert local_refusal("no_such_module_at_all").startswith("plugin no_such_module_at_all: ModuleNotFoundError: ")
    assert local_refusal("") == "plugin : ValueError: Empty module name"


def test_a_local_file_that_changes_is_loaded_anew_and_leaves_no_cache(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = write(GOOD)
    first = Registry()
    module = first.add_local(path)
    assert first.add_local(path) is module
    assert len(first.plugins) == 1
    write(GOOD.replace("'Mine'", "'Mind'"))  # the same size, within the same second
    second = Registry()
    second.add_local(path)
    assert second.get("criterion", "Mind").name == "Mind"
    assert first.plugins[0].digest != second.plugins[0].digest
    assert [entry.name for entry in path.parent.iterdir() if entry.name == "__pycache__"] == []


def test_a_thing_in_a_file_is_named_by_path(write: Callable[..., Path]) -> None:
    path = write(GOOD)
    registry = Registry().load()
    entry = registry.get("criterion", f"{path}:Other")
    assert (entry.name, entry.origin, entry.thing.__name__) == ("Other", f"file {path}", "Other")
    assert registry.get("criterion", "mine").thing.__name__ == "Mine"  # its hooks count as well
    assert refusal("criterion", f"{path}:Othr", registry) == f"{path} has no 'Othr'; did you mean 'Other'?"
    assert "must be a subclass of Dataset" in refusal("dataset", f"{path}:Other", registry)
    assert refusal("strategy", f"{path.parent}/none.py:X", registry).endswith("does not exist")


def test_a_copy_of_a_built_in_is_used_by_path(write: Callable[..., Path]) -> None:
    import ganglion.strategies.nsgan as original

    path = write(Path(str(original.__file__)).read_text(), "nsgan.py")
    registry = Registry().load()
    entry = registry.get("strategy", f"{path}:NSGAN")
    assert entry.thing is not original.NSGAN
    assert "'NSGAN' of the built-ins and 'NSGAN' of file" in refusal("strategy", "NSGAN", registry)


# --- the example --------------------------------------------------------------------------------------------------

KEYS = {"iterations": 6, "batchSize": 32, "threads": 1, "trace": False, "sampleInterval": 0, "turns": 1, "calm": 0.5}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    latest = folder / "checkpoints" / (folder / "checkpoints" / "latest").read_text().strip()
    return load_file(latest / "generator.safetensors")


def test_the_example_has_at_most_sixty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_the_example_learns_as_a_plugin_by_path_and_installed(install: Callable[..., None]) -> None:
    by_plugin = learn("Slim,Slim", "Spiral", {**KEYS, "strategy": "CalmGAN"}, plugins=[str(EXAMPLE)])
    assert all(math.isfinite(value) for value in by_plugin.outcome.values.values())
    assert by_plugin.outcome.values["calm"] > 0
    by_path = learn(f"{EXAMPLE}:slim,{EXAMPLE}:slim", f"{EXAMPLE}:Spiral", {**KEYS, "strategy": f"{EXAMPLE}:CalmGAN"})
    install("calm_package", EXAMPLE.read_text())
    installed = learn("slim,slim", "spiral", {**KEYS, "strategy": "calm-gan"})
    expected = weights(by_plugin.directory)
    for learnt in (by_path, installed):
        found = weights(learnt.directory)
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_example_learns_from_the_command_line(tmp_path: Path) -> None:
    keys = [f"{key}={str(value).lower()}" for key, value in KEYS.items()]
    words = ["learn", "--plugin", str(EXAMPLE), "Slim,Slim", "Spiral", "strategy=CalmGAN", "tag=mine", "--json", *keys]
    result = json.loads(run(*words).stdout)
    assert (result["tag"], result["iteration"], result["status"]) == ("mine", 6, "finished")
    record = json.loads((Path(result["directory"]) / "record.json").read_text())
    (plugin,) = record["plugins"]
    assert plugin["name"] == "local_plugin"
    assert plugin["origin"] == f"file {EXAMPLE}"
    assert len(plugin["digest"]) == 64
    shown = json.loads(run("show", "--plugin", str(EXAMPLE), "strategy", "calm_gan", "--json").stdout)
    assert "calm" in [setting["key"] for setting in shown["settings"]]
    listed = json.loads(run("list", "--plugin", str(EXAMPLE), "dataset", "--json").stdout)
    assert ("Spiral", f"file {EXAMPLE}") in [(row["name"], row["origin"]) for row in listed]
