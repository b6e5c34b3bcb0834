"""What a shell is told while a command is typed: from an index, in bash itself, whatever is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from ganglion.engine import completion, completionindex
from ganglion.engine.cli import cli, learn_command

BREAKS = " \t\n\"'><=;|&(:"  # bash's own


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with an index that was made in the background, because somebody asked and there was none."""
    cache = tmp_path_factory.mktemp("completion")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GANGLION_CACHE", str(cache))
        assert completionindex.read_index() == {}
        end = time.monotonic() + 240
        while not (cache / completionindex.NAME).exists():
            assert time.monotonic() < end, "no index was made"
            time.sleep(0.1)
    return cache


@pytest.fixture
def index(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That cache; nothing is made anew during the test."""
    monkeypatch.setenv("GANGLION_CACHE", str(built))
    (built / completionindex.BEGUN).touch()
    return built


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, as far as completion looks at them; the second is the newer."""
    folder = tmp_path / "runs"
    for number, (tag, strategy) in enumerate((("old-1", "WGAN"), ("new-1", "GAN"))):
        (folder / tag / "checkpoints" / "200").mkdir(parents=True)
        (folder / tag / "checkpoints" / "1000").mkdir()
        record = {"networks": ["Generator", "Discriminator"], "dataset": "Ring", "strategy": strategy}
        (folder / tag / "record.json").write_text(json.dumps(record))
        os.utime(folder / tag / "record.json", ns=(number, number))
    (folder / "no-run").mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


def told(line: str) -> list[str]:
    """What may stand in the place of the last word of a line, by click's own protocol."""
    program, *words = line.split(" ")
    command: Any = {"learn": learn_command, "ganglion": cli}[program]
    found = ShellComplete(command, {}, program, "_X").get_completions(words[:-1], words[-1])
    return [item.value for item in found]


def answered(line: str, shell: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that a shell's script is given; nothing else is ever said."""
    monkeypatch.setenv(completion.VARIABLE, shell)
    monkeypatch.setenv(completion.LINE, line)
    program = line.partition(" ")[0]
    capfd.readouterr()
    completion.answer(learn_command if program == "learn" else cli, program)
    captured = capfd.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


# --- what is told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ganglion verify", ["verify-resume"]),
        ("ganglion learn --jo", ["--job"]),
        ("learn Gen", ["Generator"]),
        ("learn gen", ["Generator"]),
        ("learn Generator,Disc", ["Generator,Discriminator"]),
        ("ganglion learn Generator,Disc", ["Generator,Discriminator"]),
        ("learn Generator,Discriminator Dig", ["Digits"]),
        ("learn Generator,Discriminator Digits stra", ["strategy="]),
        ("learn Generator,Discriminator Digits strategy=WGAN", ["strategy=WGAN", "strategy=WGAN_GP",
            "strategy=WGAN_LP"]),
        ("learn Generator,Discriminator Digits strategy=wgan-g", ["strategy=WGAN_GP"]),
        ("learn Generator,Discriminator Digits strategy=GAN realT", ["realTarget="]),
        ("learn Generator,Discriminator Digits strategy=NSGAN realT", []),
        ("learn Generator,Discriminator Digits strategy=GAN gener", ["generatorDim=", "generatorIterations=",
            "generatorTarget=", "generator."]),
        ("learn Generator,Discriminator Digits strategy=GAN generatorDim=3 generatorD", []),
        ("learn Generator,Discriminator Digits strategy=GAN generator.lea", ["generator.learningRate="]),
        ("learn Generator,Discriminator Digits strategy=GAN generator.method=ADAM generator.beta", ["generator.beta1=",
            "generator.beta2="]),
        ("learn Generator,Discriminator Digits strategy=GAN generator.method=ADAM discriminator.beta", []),
        ("learn Generator,Discriminator Digits strategy=GAN discriminator.Dropout", ["discriminator.Dropout.p="]),
        ("learn Generator,Discriminator Digits strategy=GAN penalty=R1 R1.we", ["R1.weight="]),
        ("learn Generator,Discriminator Digits strategy=GAN penalty=R1,G", ["penalty=R1,GP"]),
        ("learn Generator,Discriminator Digits strategy=GAN method=ADA", ["method=ADADELTA", "method=ADAGRAD",
            "method=ADAM", "method=ADAMW"]),
        ("learn Generator,Discriminator Digits strategy=GAN halves=", ["halves=sum", "halves=mean"]),
        ("learn Generator,Discriminator Digits strategy=GAN latentDim=n", ["latentDim=none"]),
        ("learn Generator,Discriminator Digits clean=t", ["clean=true"]),
        ("learn Generator,Discriminator Digits traces=lines,pic", ["traces=lines,pictures"]),
        ("learn Generator,Discriminator Ring mod", ["modes="]),
        ("learn --job mnist-cl", ["mnist-classes", "mnist-classifier"]),
        ("learn --job points strategy=GAN discriminator.meth", ["discriminator.method="]),
        ("ganglion compare GAN,ns", ["GAN,NSGAN"]),
        ("ganglion compare ring8", ["ring8-v1"]),
        ("ganglion compare GAN,NSGAN Rin", ["Ring"]),
        ("ganglion compare GAN,NSGAN Ring bud", ["budget="]),
        ("ganglion compare GAN,NSGAN Ring NSGAN.penal", ["NSGAN.penalty="]),
        ("ganglion compare GAN,NSGAN Ring seed", ["seeds="]),
        ("ganglion sweep Generator,Discriminator Rin", ["Ring"]),
        ("ganglion sweep Generator,Discriminator Ring strategy=NSGAN prune", ["pruner=", "pruneBy=", "pruneAfter="]),
        ("ganglion sweep Generator,Discriminator Ring sampler=t", ["sampler=tpe"]),
        ("ganglion show strat", ["strategy"]),
        ("ganglion show strategy wgan_l", ["WGAN_LP"]),
        ("ganglion show jo", ["job"]),
        ("ganglion list pen", ["penalty"]),
        ("ganglion check RpG", ["RpGAN"]),
        ("ganglion bench dia", ["dianne"]),
        ("ganglion completion z", ["zsh"]),
        ("learn Generator,Discriminator Digits nokey=", []),
    ],
)  # fmt: skip
def test_names_keys_and_values(line: str, expected: list[str], index: Path) -> None:
    assert told(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ganglion sample ", ["new-1", "old-1"]),
        ("ganglion sample o", ["old-1", "out="]),
        ("ganglion sample old-1 see", ["seed="]),
        ("ganglion sample old-1 checkpoint=", ["checkpoint=latest", "checkpoint=best", "checkpoint=1000",
            "checkpoint=200"]),
        ("learn tag=o", ["tag=old-1"]),
        ("learn tag=old-1 realT", []),
        ("learn tag=new-1 realT", ["realTarget="]),
        ("ganglion report old-1 n", ["new-1"]),
        ("ganglion evaluate new-1 metric=coverage-v1 neigh", ["neighbours="]),
        ("ganglion evaluate new-1 mod", ["modes="]),
    ],
)  # fmt: skip
def test_runs(line: str, expected: list[str], index: Path, runs: Path) -> None:
    assert told(line) == expected


def test_runs_are_those_of_the_folder_that_is_named(index: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_RUNS", "/nowhere")
    assert "new-1" not in told("ganglion sample ")
    assert told(f"ganglion sample --runs {runs} ") == ["new-1", "old-1"]


def test_every_command_has_an_answer(index: Path, runs: Path) -> None:
    """Also one that was added since: its words are completed without a line about completion."""
    for name, command in cli.commands.items():
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        if arguments and name not in ("new",):
            assert told(f"ganglion {name} "), name


def test_files(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("data/points.csv", "data/.hidden", "my points.csv", "mine.py"):
        (tmp_path / name).touch()
    assert told("learn MLP Table path=da") == ["path=data/"]
    assert told("learn MLP Table path=data/") == ["path=data/points.csv"]
    assert told("ganglion sample out=m") == ["out=mine.py", "out=my points.csv"]
    assert told("ganglion plugins --plugin m") == ["mine.py"]
    assert told("ganglion runs --runs ") == ["data/"]
    assert told("ganglion check mine") == ["mine.py"]


def test_without_a_data_set_or_a_strategy_keys_are_told_all_the_same(index: Path) -> None:
    assert "batchSize=" in told("learn Generator,Discriminator NoSuchData ")
    assert "strategy=" in told("learn Generator,Discriminator Digits ")
    assert "learningRate=" in told("learn MLP Digits ")


# --- how it is told -----------------------------------------------------------------------------------------------


def test_bash_is_told_what_follows_its_last_word_break(
    index: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names, data = "learn Generator,Disc", "learn Generator,Discriminator Digits "
    for breaks, value, pair in (
        (BREAKS, "WGAN_GP", "Generator,Discriminator"),
        (" ,", "strategy=WGAN_GP", "Discriminator"),
    ):
        monkeypatch.setenv(completion.BREAKS, breaks)
        assert answered(f"{data}strategy=WGAN_G", "bash", capfd, monkeypatch) == ["space", value]
        assert answered(names, "bash", capfd, monkeypatch) == ["nospace", pair]
    monkeypatch.setenv(completion.BREAKS, BREAKS)
    assert answered("learn --job=mnist-conv", "bash", capfd, monkeypatch) == ["space", "mnist-conv"]
    assert answered(f"{data}stra", "bash", capfd, monkeypatch) == ["nospace", "strategy="]


def test_zsh_and_fish_are_told_whole_words_and_what_they_mean(
    index: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "learn Generator,Discriminator Digits strategy=WGAN_G"
    for shell in ("zsh", "fish"):
        (space, value) = answered(line, shell, capfd, monkeypatch)
        word, meaning = value.split("\t")
        assert (space, word) == ("space", "strategy=WGAN_GP") and len(meaning) > 20
        assert answered("learn --job=mnist-conv", shell, capfd, monkeypatch)[1].startswith("--job=mnist-conv\t")


def test_names_of_files_are_quoted_for_bash(
    index: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b$(x).csv").touch()
    (tmp_path / "a b\x1b[2J.csv").touch()
    for typed in ("a", "a\\ ", "'a b"):
        assert answered(f"learn MLP Table path={typed}", "bash", capfd, monkeypatch)[1:] in (
            ["a\\ b\\$\\(x\\).csv"],
            ["path=a\\ b\\$\\(x\\).csv"],
        )


@pytest.mark.parametrize(
    "line",
    [
        "", "learn", "learn '", 'learn "Gen', "learn \\", "learn = ", "learn =", "learn ,", "learn ,,=,",
        "learn a=b=c=",
        "learn --job", "learn --job=", "learn --job= ", "learn --nonsense ", "learn -- ", "learn tag=../../etc ",
        "learn tag=\x00", "learn Generator,Discriminator Digits strategy= ", "learn . . .", "learn x y generator.",
        "ganglion", "ganglion --", "ganglion nonsense ", "ganglion show nonsense ", "ganglion compare , , ,",
        "ganglion sample ../x checkpoint=",
        "other thing ", "learn " + "x," * 5000, "learn \udcff", "ganglion learn learn learn learn=",
    ],
)  # fmt: skip
def test_nothing_that_is_typed_is_answered_with_an_error(
    line: str, index: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # an environment cannot hold all of these
    for shell in ("bash", "zsh", "fish", "nonsense"):
        os.environ.update({completion.VARIABLE: shell, completion.LINE: line, completion.BREAKS: BREAKS})
        completion.answer(cli, "ganglion")
        completion.answer(learn_command, "learn")
    assert capfd.readouterr().err == ""


# --- the index ----------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The processes that would be started to make an index."""
    begun: list[Any] = []

    def start(words: list[str], **options: Any) -> SimpleNamespace:
        begun.append(words)
        return SimpleNamespace(returncode=None)

    monkeypatch.setattr(subprocess, "Popen", start)
    yield begun


def test_a_broken_index_says_nothing_and_is_made_anew_once(started: list[Any]) -> None:
    cache = Path(os.environ["GANGLION_CACHE"])
    cache.mkdir()
    for text in ("", "{", "[]", "null", '{"format": 1}', '{"format": 9, "kinds": {}}', "\xff\xfe", "[" * 100_000):
        (cache / completionindex.NAME).write_text(text, encoding="latin-1")
        assert told("learn Gen") == []
        assert "learn" in told("ganglion ")
    assert started == [[sys.executable, "-m", "ganglion.engine.completionindex"]]


def test_an_index_of_something_else_still_helps_while_it_is_made_anew(built: Path, started: list[Any]) -> None:
    cache = Path(os.environ["GANGLION_CACHE"])
    cache.mkdir()
    found = json.loads((built / completionindex.NAME).read_text())
    for change in ({"python": "2.7"}, {"own": [1, 1]}, {"folders": {}}):
        (cache / completionindex.NAME).write_text(json.dumps({**found, "stamp": {**found["stamp"], **change}}))
        (cache / completionindex.BEGUN).unlink(missing_ok=True)
        assert told("learn Gen") == ["Generator"]
    assert len(started) == 3


def test_a_plugins_changed_file_makes_the_index_old(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.touch()
    before = completionindex.stamp([str(plugin)])
    assert completionindex.stamp([str(plugin)]) == before
    os.utime(plugin, ns=(1, 1))
    assert completionindex.stamp([str(plugin)]) != before


def test_a_cache_that_cannot_be_made_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANGLION_CACHE", str(tmp_path / "file" / "cache"))
    assert told("learn Gen") == []


def test_an_answer_takes_little_and_imports_neither_torch_nor_a_plugin(index: Path) -> None:
    """Processor seconds of the child: the wall clock of a busy machine says little."""
    code = (
        "import sys; from ganglion.engine.cli import learn_main\n"
        "try: learn_main()\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'pydantic', 'yaml', 'rich', 'pluggy'} & set(sys.modules)))"
    )
    line = "learn Generator,Discriminator Digits strategy=WGAN_G"
    environment = {**os.environ, completion.VARIABLE: "fish", completion.LINE: line}

    def seconds() -> float:
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        after = os.times()
        assert done.stdout.startswith("space\nstrategy=WGAN_GP\t") and done.stdout.endswith("\n[]\n")
        return (after.children_user - before.children_user) + (after.children_system - before.children_system)

    assert statistics.median(seconds() for _ in range(3)) < 0.3


# --- the shells themselves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_command_prints_the_script(shell: str, index: Path) -> None:
    result = CliRunner().invoke(cli, ["completion", shell], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout == completion.script(shell)
    assert f"{completion.VARIABLE}={shell}" in result.stdout
    program = shutil.which(shell)
    if program is not None:
        assert subprocess.run([program, "-n"], input=result.stdout, text=True, check=False).returncode == 0


def shims(folder: Path) -> None:
    """`ganglion` and `learn` that answer as the real ones do, and otherwise print their arguments."""
    folder.mkdir()
    for name, function in (("ganglion", "main"), ("learn", "learn_main")):
        code = f"from ganglion.engine.cli import {function}; {function}()"
        (folder / name).write_text(
            f'#!/bin/sh\n[ -n "$_GANGLION_COMPLETION" ] && exec "{sys.executable}" -c "{code}"\n'
            "for word; do printf '<%s>' \"$word\"; done; echo END\n"
        )
        (folder / name).chmod(0o755)


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_in_the_shell_itself(shell: str, index: Path, tmp_path: Path) -> None:
    """What is typed, tabs included, and the arguments that come of it."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    shims(tmp_path / "bin")
    (tmp_path / "my points.csv").touch()
    typed = {
        "learn Generator,Disc\t Dig\tstra\tWGAN_G\tgenerator.lea\t1e-4":
            "<Generator,Discriminator><Digits><strategy=WGAN_GP><generator.learningRate=1e-4>",
        "ganglion lea\t--job=mnist-conv\tbatchSi\t8": "<learn><--job=mnist-conv><batchSize=8>",
        "learn MLP Tab\tpath=my\t": "<MLP><Table><path=my points.csv>",
        "./bin/learn MLP Dig\t": "<MLP><Digits>",
    }  # fmt: skip
    with terminal(tmp_path, program, started_with(shell, tmp_path)) as (write, read):
        for line, expected in typed.items():
            write(line + "\r")
            assert expected in read("END"), line


def started_with(shell: str, folder: Path) -> list[str]:
    """Arguments with which a shell reads the script, and nothing of the person's own, before it asks."""
    script = completion.script(shell)
    if shell == "zsh":
        (folder / ".zshrc").write_text(f"PS1='$ '; autoload -Uz compinit; compinit -u -D\n{script}")
        return ["-i"]
    start = folder / "start"
    if shell == "fish":
        start.write_text(script)
        return ["--no-config", "-i", "-C", f"source {start}"]
    start.write_text(f"PS1='$ '; bind 'set enable-bracketed-paste off'\n{script}")
    return ["--noprofile", "--rcfile", str(start), "-i"]


@contextlib.contextmanager
def terminal(folder: Path, program: str, arguments: list[str]) -> Iterator[tuple[Any, Any]]:
    """An interactive shell: a function that types, one that reads up to a word that a command prints."""
    pid, handle = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
        os.environ |= {"TERM": "dumb", "HOME": str(folder), "ZDOTDIR": str(folder)}
        os.execv(program, [program, *arguments])
    seen = b""

    def read(word: str) -> str:
        nonlocal seen
        end = time.monotonic() + 90
        while f"{word}\r\n".encode() not in seen:
            assert time.monotonic() < end, seen.decode(errors="replace")
            if select.select([handle], [], [], 1)[0]:
                seen += os.read(handle, 65536)
        found, _, seen = seen.partition(f"{word}\r\n".encode())
        return found.decode(errors="replace")

    try:
        yield lambda text: os.write(handle, text.encode()), read
    finally:
        os.close(handle)
        os.waitpid(pid, 0)
