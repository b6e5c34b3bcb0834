"""The documentation builds without a broken link, and its commands and Python do what they say."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
import docpages
import pytest
from commandline import call
from docpages import DOCS, EXAMPLES, ROOT, blocks, commands, inline_commands, label, pages

from ganglion.engine import api
from ganglion.engine.cli import CONTEXT, cli
from ganglion.engine.commands import job_folders, split_words
from ganglion.engine.comparing import plan_comparison
from ganglion.engine.errors import fold
from ganglion.engine.job import JobSettings, named_job, parse_tokens, read_job, request
from ganglion.engine.registry import Registry
from ganglion.engine.resolution import Resolver, settings_of
from ganglion.engine.settings import describe
from ganglion.engine.sweeps.planning import plan_sweep

OTHERS = {"python3", "python", "pip", ".venv/bin/pip", "source", "pytest"}  # begins of commands that are not ours
CARRIED_OUT = {
    "learn", "sample", "evaluate", "forecast", "runs", "list", "show", "check", "plugins", "new", "report", "export",
}  # fmt: skip
SHORT = {"iterations": "2", "batchSize": "8", "threads": "1", "sampleInterval": "0"}
every_page = pytest.mark.parametrize("page", pages(), ids=label)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the examples, as their reader has them."""
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGLION_DATA", str(tmp_path))
    return tmp_path


# --- the site -----------------------------------------------------------------------------------------------------


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("furo", reason="needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "-n", "--keep-going", str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(DOCS, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    made = {str(path.relative_to(tmp_path).with_suffix(".md")) for path in tmp_path.rglob("*.html")}
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} <= made
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"""(?:<script|<img|<link)[^>]*(?:src|href)=["']https?:[^>]*""", text) == []


def test_a_broken_link_or_a_lost_page_fails(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (tmp_path / "pyproject.toml").write_text('version = "1"\n', encoding="utf-8")
    shutil.copy(DOCS / "conf.py", source)
    (source / "index.md").write_text(
        "# Index\n\n[gone](gone.md), [no such heading](index.md#nowhere)\n", encoding="utf-8"
    )
    (source / "lost.md").write_text("# Lost\n", encoding="utf-8")
    done = build(source, tmp_path / "out")
    assert done.returncode == 1
    assert "'gone.md'" in done.stderr and "'nowhere'" in done.stderr
    assert "lost.md: WARNING: document isn't included in any toctree" in done.stderr


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages()[1:]], ids=label)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    """On a code host, too, where Sphinx is not there to say so."""
    text = docpages.FENCED.sub("", page.read_text(encoding="utf-8"))
    for link in docpages.LINK.findall(text) + re.findall(r'src="([^"]+)"', text):
        if not link.startswith(("http:", "https:")):
            target, _, heading = link.partition("#")
            other = page.parent / target if target else page
            assert other.is_file(), link
            assert not heading or heading in docpages.anchors(other), link


@every_page
def test_every_block_says_what_it_is(page: Path) -> None:
    known = {"sh", "text", "", "python", "yaml", "toml", "json", "{toctree}"}
    assert {block.language for block in blocks(page)} <= known
    hidden = [line for block in blocks(page, "") for line in re.findall(r"^(?:learn|ganglion) .*", block.text, re.M)]
    assert hidden == [], "commands stand in blocks of the language sh"
    assert all(docpages.NOTE.fullmatch(block.note) for block in blocks(page) if block.note)
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- long") == sum(block.long for block in blocks(page))


# --- the commands -------------------------------------------------------------------------------------------------


def parsed(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """A command's name, and what click makes of the words behind it; raises where they are wrong."""
    name = "learn" if words[0] == "learn" else words[1]
    with (
        click.Context(cli, help_option_names=CONTEXT["help_option_names"]) as parent,
        cli.commands[name].make_context(name, list(words[1 if words[0] == "learn" else 2 :]), parent) as context,
    ):
        return name, context.params


@cache
def registry(plugins: tuple[str, ...] = ()) -> Registry:
    """What can be named, with some plugins; read once, as it takes a while."""
    return Registry().load(plugins)


def understand(words: Sequence[str]) -> None:
    """Resolve a command as far as that goes without carrying it out. Raises EngineError, ClickException."""
    if words[0] == "ganglion" and len(words) == 2:  # the bare name of a command, in running text
        assert words[1].startswith("-") or words[1] in cli.commands
        return
    name, given = parsed(words)
    names, tokens = split_words(given.get("words", ()))
    keys = parse_tokens(tokens)
    plugins = tuple(str(EXAMPLES / Path(file).name) for file in given.get("plugins", ()))
    if not all(Path(file).is_file() for file in plugins):
        return  # it is made by a command before
    if name == "compare":
        entries, dataset = (*names, None)[:2]
        suite = EXAMPLES / entries
        plan_comparison(registry(plugins), str(suite) if suite.is_file() else entries, dataset, keys)
    if name == "sweep":
        plan_sweep(registry(plugins), *(*names, None, None)[:2], keys)
    if name not in ("learn", "verify-resume"):
        return
    job = given["job"]
    if job is not None and not job.startswith("runs/"):
        loaded = read_job(named_job(job, job_folders()))
    elif names:
        loaded = None
    else:
        known = {fold(form) for info in describe(JobSettings) for form in (info.key, *info.also)}
        assert {fold(key) for key in keys} <= known
        return
    networks, dataset = (*names, None, None)[:2]
    Resolver(registry(plugins), request(networks, dataset, keys, loaded, plugins)).plan()


@every_page
def test_every_command_is_understood(page: Path, workplace: Path) -> None:
    fenced = [words for block in blocks(page, "sh") for words in commands(block)]
    for words in [*fenced, *inline_commands(page)]:
        if words[0] not in OTHERS:
            understand(words)


def shortened(words: list[str], tags: Sequence[str]) -> list[str]:
    """The same command with next to nothing to do; TAG is the run that was begun last."""
    words = [word.replace("TAG", tags[-1]) if "TAG" in word and tags else word for word in words]
    if words[0] != "learn":
        return words
    goes_on = words[1].startswith("tag=")
    kept = [word for word in words if fold(word.partition("=")[0]) not in {"iterations", "batchsize"}]
    if goes_on:
        return [*kept, "iterations=3"]
    traces = [] if any(word.startswith("traces=") for word in words) else ["traces=lines"]
    return [*kept, *(f"{key}={value}" for key, value in {**SHORT, **few_rows(words)}.items()), *traces]


def few_rows(words: Sequence[str]) -> dict[str, str]:
    """The key that leaves made data few rows to test on: exact distances between many take long."""
    made = {entry.name for entry in registry().all("dataset") if "test_size" in settings_of(entry.thing).model_fields}
    return {"testSize": "64"} if made & set(words) else {}


CHECKED: set[str] = set()  # what `ganglion check` was asked already; it stands on several pages


def asked_before(words: Sequence[str]) -> bool:
    """Whether this is a check that has been carried out."""
    asked = " ".join(words).replace("docs/examples/", "")
    again = words[1] == "check" and asked in CHECKED
    CHECKED.add(asked)
    return again


def tags_of_runs() -> list[str]:
    folder = Path(os.environ["GANGLION_RUNS"])
    return [path.name for path in sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime_ns)]


# --- the Python ---------------------------------------------------------------------------------------------------


def quickly(learn: Callable[..., Any]) -> Callable[..., Any]:
    """`learn` with next to nothing to do."""

    def short(networks: Any = None, dataset: Any = None, *keys: Any, **given: Any) -> Any:
        long = {"iterations", "batchsize"}
        mappings = [{key: value for key, value in each.items() if fold(key) not in long} for each in keys]
        kept = {key: value for key, value in given.items() if fold(key) not in long}
        rows = few_rows([dataset] if isinstance(dataset, str) else [])
        return learn(networks, dataset, *mappings, **kept, iterations=2, batch_size=8, threads=1, **rows)

    return short


# --- both, in the order of the page -------------------------------------------------------------------------------


@every_page
def test_commands_and_python_do_what_they_say(
    page: Path, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "learn", quickly(api.learn))
    (workplace / "docs").mkdir()
    (workplace / "docs" / "examples").symlink_to(workplace)
    shown = {file.read_text(encoding="utf-8") for file in EXAMPLES.glob("*.py")}  # the commands use these
    for block in blocks(page, "sh", "python"):
        if block.language == "sh" and not block.long:
            for words in commands(block):
                carry_out(words, capsys)
        elif block.text not in shown and not block.long:
            run_python(block.text, workplace)


def carry_out(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    named = words[0] if words[0] == "learn" else words[1] if words[0] == "ganglion" else ""
    if named in CARRIED_OUT:
        short = shortened(words, tags_of_runs())
        said = None if asked_before(short) else call(capsys, *short)
        assert said is None or said.code == 0, f"{' '.join(short)}\n{said.err}"


def run_python(text: str, folder: Path) -> None:
    """Run a block as a file, and the tests that it defines."""
    text = re.sub(r"resume\(iterations=\d+\)", "resume(iterations=3)", text)
    (folder / "block.py").write_text(text, encoding="utf-8")
    for name, thing in runpy.run_path(str(folder / "block.py")).items():
        if name.startswith("test_"):
            thing()


def test_the_loop_written_by_hand_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (workplace / "hand_written.py").read_text(encoding="utf-8")
    assert "ITERATIONS = 1000\n" in text
    (workplace / "short.py").write_text(text.replace("ITERATIONS = 1000\n", "ITERATIONS = 100\n"), encoding="utf-8")
    runpy.run_path("short.py")
    number, *losses = capsys.readouterr().out.split()
    assert number == "100" and all(0 < float(loss) < 3 for loss in losses)


def test_the_loop_and_the_job_have_the_same_networks_and_numbers(workplace: Path) -> None:
    """What the page claims: layers, loss, halves, Adam's numbers, batch."""
    text = (workplace / "hand_written.py").read_text(encoding="utf-8")
    (workplace / "short.py").write_text(text.replace("ITERATIONS = 1000\n", "ITERATIONS = 1\n"), encoding="utf-8")
    loop = runpy.run_path("short.py")
    given = {**SHORT, "strategy": "NSGAN", "traces": "lines"}
    learnt = api.learn("Generator,Discriminator", "Circle", given, quiet=True)
    keys = read_job(learnt.directory / "job.yaml")["settings"]
    assert (keys["objective"], keys["halves"], keys["size"]) == ("nonsaturating", "mean", str(len(loop["circle"])))
    for role in ("generator", "discriminator"):
        from safetensors.torch import load_file

        weights = load_file(learnt.directory / "checkpoints" / "2" / f"{role}.safetensors")
        assert [tuple(tensor.shape) for tensor in loop[role].state_dict().values()] == sorted_shapes(weights)
    (group,) = loop["optimizer_g"].param_groups
    preset = registry().get("strategy", "NSGAN").thing.preset
    assert (group["lr"], *group["betas"]) == (preset["learningRate"], preset["beta1"], preset["beta2"])
    assert (loop["real"].shape[0], preset["method"]) == (preset["batchSize"], "ADAM")


def sorted_shapes(weights: dict[str, Any]) -> list[tuple[int, ...]]:
    """Shapes in the order of the layers, each weight before its bias."""
    names = sorted(weights, key=lambda name: (int(re.findall(r"\d+", name)[0]), name.endswith("bias")))
    return [tuple(weights[name].shape) for name in names]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_every_example_is_python_with_a_sentence_and_stands_on_a_page(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    code = compile(text, file.name, "exec")
    assert code.co_consts[0] and len(code.co_consts[0].split()) > 3
    assert any(text in page.read_text(encoding="utf-8") for page in pages())


# --- what is said twice must be the same ----------------------------------------------------------------------------


def test_every_plugin_example_is_checked_by_the_kit_where_there_is_one() -> None:
    told = [words for page in pages() for block in blocks(page, "sh") for words in commands(block)]
    checked = [words[2] for words in told if words[:2] == ["ganglion", "check"]]
    named = {name.rpartition("/")[2].partition(".")[0].lower() for name in checked}
    assert {"calm_gan", "squeeze", "slim", "my_generator", "spiral", "centralise"} <= named


def test_the_middle_metric_is_what_it_says(workplace: Path) -> None:
    """Samples two deviations away from real rows, by hand: mean 3 against mean 1 of a deviation of 1."""
    import torch

    middle = runpy.run_path("middle.py")["Middle"]
    rows = torch.tensor([[0.0], [1.0], [2.0]])

    class Context:
        own_scale = staticmethod(lambda values: values)
        samples = staticmethod(lambda count: torch.full((count, 1), 3.0))

        def unseen(self) -> Any:
            return api.TensorDataset(api.DataSpec("vector", (1,)), rows)

    figures = middle().evaluate(Context()).values
    assert figures == {"distance": pytest.approx(2.0)}
