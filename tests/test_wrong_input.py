"""Wrong command lines, job files, network files and plugins: one sentence that helps, exit code 2, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import PAIR, TINY, TINY_DIGITS, call, refused, tiny

Capture = pytest.CaptureFixture[str]

# --- names and keys -----------------------------------------------------------------------------------------------

UNKNOWN = {
    "strategy=GUN": ("unknown strategy 'GUN'", "did you mean 'GAN'?"),
    "strategy=[red]x[/red]": ("unknown strategy '[red]x[/red]'", "there are: ", "FeedForward"),
    "strategy=nowhere.py:MyGAN": ("plugin nowhere.py", "does not exist"),
    "batchsise=8": ("unknown key 'batchsise'", "did you mean 'batchSize' of the job?"),
    "generator.learningRat=1": ("'generator.learningRat'", "did you mean 'generator.learningRate'"),
    "generater.learningRate=1": ("'generater.learningRate'", "did you mean 'generator.learningRate'?"),
    "discriminator.Dropout.q=0.3": ("'discriminator.Dropout.q'", "did you mean 'discriminator.Dropout.p'"),
    "Dropot.p=0.3": ("unknown key 'Dropot.p'", "did you mean 'Dropout.p'"),
    "R1.weight=2": ("unknown key 'R1.weight'",),
    "xyzzy=1": ("unknown key 'xyzzy'", "ganglion show"),
    "sampling=UNIFROM": ("unknown sampling 'UNIFROM'", "did you mean 'UNIFORM'?"),
    "objective=hing": ("unknown objective 'hing'", "did you mean 'hinge'?"),
    "penalty=R3": ("unknown penalty 'R3'", "R1"),
    "penalty=R1,R1": ("penalty=R1,R1: R1 is named twice",),
    "penalty=GP penaltyWeight=inf": ("penaltyWeight=inf", "GP"),
    "penalty=GP penaltyWeight=-1": ("penaltyWeight=-1", "GP"),
    "method=ADAMM": ("'ADAMM'", "did you mean 'ADAM'?"),
    "method=Clamp": ("method=Clamp", "not a method", "ADAM"),
    "traces=terminall": ("unknown trace 'terminall'", "did you mean 'terminal'?"),
    "processors=method,clampp": ("processors", "'clampp'"),
    "fixed=generater": ("fixed=generater", "did you mean 'generator'?"),
    "initTag=nothing": ("there is no run 'nothing'",),
    "schedule=generater*3": ("schedule 'generater*3'", "generator"),
}


@pytest.mark.parametrize("token", UNKNOWN)
def test_an_unknown_name_or_key_is_answered_with_the_nearest(token: str, capsys: Capture) -> None:
    refused(capsys, tiny(token), *UNKNOWN[token])


def test_unknown_networks_data_sets_and_criteria(capsys: Capture) -> None:
    refused(
        capsys, tiny(names=("Generater,Discriminator", "Circle")), "network 'Generater'", "did you mean 'Generator'?"
    )
    refused(capsys, tiny(names=(PAIR, "Crcle")), "unknown dataset 'Crcle'", "did you mean 'Circle'?")
    digits = tiny("criterion=MSEE", names=("MLP", "Digits"), keys=TINY_DIGITS)
    refused(capsys, digits, "unknown criterion 'MSEE'", "did you mean 'MSE'?")


# --- values -------------------------------------------------------------------------------------------------------

BAD_VALUES = [
    *[f"batchSize={value}" for value in ("abc", "-3", "0", "1.5", "1e400", "", "1_0", "٣", "nan")],
    *[f"learningRate={value}" for value in ("abc", "0", "-1", "1e400", "inf", "nan", "", "1_0.5")],
    "momentum=1", "momentum=nan", "iterations=-2", "iterations=nan", "seed=-1", "seed=0x10", "size=0", "size=none",
    "noise=normale", "halves=thirds", "clean=maybe", "traceInterval=0", "keep=-1", "nanFactor=2", "threads=0",
    "threads=100000", "clipNorm=-1", "storeSeconds=inf", "lossThreshold=nan", "decayType=steep", "std=-1",
    "generator.learningRate=fast", "Circle.std=-1", "range=abc", "hflip=2", "generatorDim=1e400",
]  # fmt: skip


@pytest.mark.parametrize("token", BAD_VALUES)
def test_a_bad_value_is_named_with_what_is_expected(token: str, capsys: Capture) -> None:
    sentence = refused(capsys, tiny(token), f"learn: {token}", "expect")
    assert len(sentence) > len(f"learn: {token}: expects ") + 3


def test_a_layer_argument_out_of_bounds(capsys: Capture) -> None:
    refused(capsys, tiny("discriminator.Dropout.p=2"), "Dropout", "between 0 and 1", "Dropout.p=2")
    refused(capsys, tiny("Dropout.p=abc"), "Dropout.p=abc", "expects float")


def test_values_that_ask_for_more_than_there_is(capsys: Capture) -> None:
    refused(capsys, tiny("batchSize=65"), "batchSize=65 is more than the 64 rows")
    refused(capsys, tiny("size=1e12"), "not enough memory", "smaller data set")
    refused(capsys, tiny("generatorDim=1e9"), "network Generator as generator", "2147483648 parameters")


def test_samplings_that_need_what_is_not_there(capsys: Capture) -> None:
    refused(capsys, tiny("sampling=WEIGHTED"), "sampling WEIGHTED", "weightedRanges", "probabilities")
    refused(capsys, tiny("sampling=UNIFORMCLASS"), "UNIFORMCLASS", "no class labels", "use UNIFORM")
    refused(capsys, tiny("validationSet=0,8"), "validationSet", "strategy GAN has no loss on unseen rows")


def test_devices_that_are_not_there(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(capsys, tiny("device=cuda"), "device=cuda", "sees no CUDA GPU", "device=cpu")
    refused(capsys, tiny("device=foo"), "device=foo", "no such device", "auto, cpu, cuda")
    refused(capsys, tiny("discriminator.device=cuda:7"), "discriminator.device=cuda:7")
    refused(capsys, tiny("device="), "device=")
    refused(capsys, tiny("device=meta"), "device=meta")
    refused(capsys, tiny("discriminator.device=meta"), "meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    refused(capsys, tiny("discriminator.device=cuda:7"), "discriminator.device=cuda:7", "2 CUDA GPUs, numbered from 0")


# --- the form of the command line ---------------------------------------------------------------------------------

FORMS = {
    "learn": ("no networks and no data set", "learn Generator,Discriminator Digits"),
    "learn Generator": ("no data set",),
    "learn strategy=GAN": ("no networks",),
    f"learn {PAIR} Circle Digits": ("'Digits'", "expected key=value", "batchSize=64"),
    f"learn {PAIR} Circle batchSize=3 Digits": ("'Digits'", "expected key=value"),
    f"learn {PAIR} Circle =3": ("'=3'", "expected key=value"),
    f"learn {PAIR} Circle seed=1 seed=1": ("'seed=1'", "given twice"),
    f"learn {PAIR} Circle seed=1 Seed=2": ("'Seed=2'", "given twice", "'seed=1'"),
    f"learn {PAIR} Circle learningRate=1 learning_rate=2": ("given twice", "'learningRate=1'"),
    f"learn {PAIR} Circle strategy=GAN iterations=1 maxIterations=2": ("'iterations' and 'maxIterations'", "once"),
    f"learn {PAIR} Circle strategy=GAN iterations=1 epochs=2": ("iterations and epochs",),
    f"learn {PAIR} Circle strategy=": ("strategy=", "a name is missing", "ganglion list strategy"),
    f"learn {PAIR} Circle dataset=Ring": ("dataset=Ring", "Circle is named already"),
    f"learn {PAIR} Circle networks=MLP": ("networks=MLP", f"{PAIR} is named already"),
    "learn ,Discriminator Circle": ("',Discriminator'", "a name is missing"),
    "learn Generator, Circle": ("'Generator,'", "a name is missing"),
    f"learn {PAIR} Circle": ("FeedForward takes 1 network", "no strategy= is given"),
    "learn Generator Circle strategy=GAN": ("GAN takes 2 networks (generator, discriminator)", "1 is named"),
    f"learn {PAIR},MLP Circle strategy=GAN": ("takes 2 networks", "3 are named: Generator, Discriminator, MLP"),
    "learn tag=nothing": ("there is no run 'nothing'",),
    "learn --nonsense": ("no such option", "--nonsense"),
    "learn --runs": ("--runs", "requires an argument", "learn --help"),
    "learn --job nothing": ("no job file 'nothing'", "mnist-classifier"),
    "learn --job mnist-clasifier": ("no job file", "did you mean 'mnist-classifier'?"),
    "ganglion lern": ("no such command 'lern'", "did you mean 'learn'?"),
    "ganglion --nonsense": ("no such option", "ganglion --help"),
    "ganglion show": ("missing argument", "KIND", "ganglion show --help"),
    "ganglion show strategy": ("name one", "there are: ", "FeedForward"),
    "ganglion show strategy GUN": ("unknown strategy 'GUN'", "did you mean 'GAN'?"),
    "ganglion show strategie GAN": ("unknown kind 'strategie'", "did you mean 'strategy'?"),
    "ganglion show metric accuracyy": ("unknown metric 'accuracyy'", "there are: ", "classification"),
    "ganglion show trace terminall": ("unknown trace 'terminall'", "did you mean 'terminal'?"),
    "ganglion list nonsense": ("unknown kind 'nonsense'", "there are: criterion"),
    "ganglion runs extra": ("unexpected extra argument", "extra", "ganglion runs --help"),
    "ganglion new network Mine": ("'network' is not 'strategy'",),
    "ganglion new strategy 1x": ("'1x' cannot name",),
    "ganglion plugins --plugin missing.py": ("plugin missing.py", "does not exist"),
}


@pytest.mark.parametrize("line", FORMS)
def test_a_misspelt_command_line_is_answered_in_one_sentence(line: str, capsys: Capture) -> None:
    refused(capsys, line.split(), *FORMS[line])


def test_what_is_quoted_reaches_the_terminal_as_plain_text(capsys: Capture) -> None:
    escape = "\x1b[31m\x1b]0;owned\x07\u202e"
    for words in (
        tiny(f"{escape}key=1"), tiny(f"{escape}token"), tiny(f"seed={escape}"), tiny(f"tag=a{escape}b"),
        tiny(f"strategy={escape}GAM"), tiny(names=(PAIR, f"{escape}Circl")), ["ganglion", f"{escape}lern"],
        ["ganglion", "show", "strategy", f"{escape}GUN"], ["ganglion", "sample", "nothing", f"{escape}x=1"],
        ["learn", f"--{escape}", "x"],
    ):  # fmt: skip
        sentence = refused(capsys, words)
        assert "\x1b" not in sentence and "\u202e" not in sentence and "\x07" not in sentence
    assert "[red]" in refused(capsys, tiny("[red]key[/red]=1"))  # markup is text, neither lost nor obeyed


def test_undecodable_and_terminal_bytes_through_the_installed_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ganglion.engine", "learn", PAIR, "Circle", b"strategy=\xff\x1b[31mGAM"]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 2 and ended.stdout == b""
    assert ended.stderr.startswith(b"ganglion: unknown strategy") and ended.stderr.count(b"\n") == 1
    assert b"\x1b" not in ended.stderr


# --- networks -----------------------------------------------------------------------------------------------------


def test_networks_in_the_wrong_order(capsys: Capture) -> None:
    for pair in ("Discriminator,Generator", "DianneDiscriminator,DianneGenerator", "Generator,Generator"):
        refused(capsys, tiny(names=(pair, "Circle")), "is made for the", "in the order generator,discriminator")


def test_networks_that_do_not_fit_the_data(capsys: Capture) -> None:
    refused(
        capsys, tiny(names=("Generator,CNN", "Circle")), "network CNN as discriminator", "no variant for vector data"
    )
    refused(capsys, tiny(names=("DCGANGenerator,Discriminator", "Circle")), "DCGANGenerator as generator", "images")
    refused(capsys, tiny(names=("MLP", "Circle"), keys=TINY_DIGITS), "FeedForward needs targets", "autoencode=true")


HEAD = "name: Mine\ndoc: A test.\n"
DEFINITIONS = {
    f"{HEAD}layers:\n\t- Linear: 8\n": ("line 4", "a tab", "blanks"),
    f"{HEAD}layers:\n  - Linaer: 8\n": ("layers[0] (Linaer)", "unknown layer", "did you mean 'Linear'?"),
    f"{HEAD}layers:\n  - Linear: {{out_featurs: 8}}\n": ("'out_featurs'", "did you mean 'out_features'?"),
    f"{HEAD}layers:\n  - Linear: wide\n": ("out_features expects int", "'wide'"),
    f"{HEAD}layers:\n  - Linear: -8\n": ("out_features must be above 0",),
    f"{HEAD}layers:\n  - !!python/object/apply:os.system ['true']\n": ("line 4", "!!python/object", "refused"),
    f"{HEAD}layers:\n  - Linear: ${{latnet}}\n": ("unknown value 'latnet'", "output.size"),
    f"{HEAD}layers:\n  - Linear: ${{9**9**9}}\n": ("not allowed in ${...}",),
    HEAD: ("expects either 'layers' or 'variants'",),
    f"{HEAD}layrs:\n  - Linear: 1\n": ("unknown key 'layrs'", "did you mean 'layers'?"),
    f"{HEAD}layers: []\n": ("gives rows of shape (2,)", "'discriminator' wants (1,)"),
    f"{HEAD}layers:\n  - Linear: {{in_features: 7, out_features: 1}}\n": ("layers[0] (Linear)", "does not fit", "7x1"),
    f"{HEAD}layers:\n  - Linear: 3\n": ("gives rows of shape (3,)", "wants (1,)"),
    f"{HEAD}layers:\n  - Linear: 1\n  - Sigmoid\n": ("ends in a Sigmoid", "outputs: probability"),
    f"{HEAD}layers:\n  - Conv2d: {{out_channels: 3, kernel_size: 3}}\n": ("needs rows of 3 dimensions",),
    f"{HEAD}layers:\n  - Linear: 1000000000\n": ("would have more than",),
    f'{HEAD}layers:\n  - "\\e[31mX": 8\n': ("unknown layer 'X'",),
    f"{HEAD}roles: 3\nlayers:\n  - Linear: 1\n": ("roles: expects a list of names",),
    "": ("a definition is a mapping",),
}


@pytest.mark.parametrize("text", DEFINITIONS)
def test_a_wrong_network_file_is_answered_with_its_place(text: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    refused(capsys, tiny(names=(f"Generator,{file}", "Circle")), str(file), *DEFINITIONS[text])


def test_network_files_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    refused(capsys, tiny(names=("Generator,missing.yaml", "Circle")), "missing.yaml", "no such file")
    (tmp_path / "bytes.yaml").write_bytes(bytes(range(256)))
    refused(capsys, tiny(names=(f"Generator,{tmp_path / 'bytes.yaml'}", "Circle")), "byte 128 is not UTF-8 text")
    (tmp_path / "folder.yaml").mkdir()
    refused(capsys, tiny(names=(f"Generator,{tmp_path / 'folder.yaml'}", "Circle")), "folder.yaml")
    refused(capsys, tiny(names=("Generator,nowhere.py:Mine", "Circle")), "plugin nowhere.py", "does not exist")


# --- job files ----------------------------------------------------------------------------------------------------

JOB = f"networks: {PAIR}\ndataset: Circle\nstrategy: GAN\n"
SETTINGS = "settings:\n" + "".join(f"  {key}: {value}\n" for key, value in TINY.items() if key != "strategy")
JOBS = {
    "": ("expected networks, dataset, strategy",),
    "- a\n": ("expected networks, dataset, strategy",),
    f"{JOB}settings:\n\tsize: 64\n": ("line 5", "a tab"),
    f"{JOB}{SETTINGS}stratgy: GAN\n": ("unknown entry 'stratgy'", "did you mean 'strategy'?"),
    f"{JOB}{SETTINGS}format: 2\n": ("format 2", "not one that this version reads (1)"),
    f"{JOB}settings: [1, 2]\n": ("a mapping of settings",),
    f"{JOB}settings: !!python/object/apply:os.system ['true']\n": ("line 4", "python/object"),
    f"{JOB}{SETTINGS}  seed: abc\n": ("seed=abc (from the job file)", "expects int"),
    f"{JOB}{SETTINGS}  sizze: 3\n": ("unknown key 'sizze' (from the job file)", "did you mean 'size'"),
    f"{JOB}{SETTINGS}  size: 3\n": ("line 12", "the key 'size' is given twice"),
    f"{JOB}{SETTINGS}dataset: Ring\n": ("the key 'dataset' is given twice",),
    f"{JOB}{SETTINGS}  tag: mine\n": ("'tag'", "give it on the command line"),
    f"{JOB}{SETTINGS}  generator:\n    learningRate: 1\n": (
        "'generator' is not a key with a value",
        "generator.method",
    ),
    f"{SETTINGS}networks: {{a: b}}\ndataset: Circle\n": ("networks: expected a list of names",),
    f"{SETTINGS}networks: MLP\ndataset: [Circle]\n": ("dataset: expected one name",),
    f"{SETTINGS}networks: MLP\n": ("no data set",),
    f"{SETTINGS}dataset: Circle\n": ("no networks",),
    "a: " + "[" * 5000: ("not YAML",),
}


@pytest.mark.parametrize("text", JOBS, ids=range(len(JOBS)))
def test_a_wrong_job_file_is_answered_in_one_sentence(text: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    refused(capsys, ["learn", "--job", str(file)], *JOBS[text])


def test_job_files_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    refused(capsys, ["learn", "--job", str(tmp_path / "missing.yaml")], "there is no job file", "missing.yaml")
    refused(capsys, ["learn", "--job", str(tmp_path)], str(tmp_path), "is a folder")
    refused(capsys, ["learn", "--job", "x" * 5000], "there is no job file")
    (tmp_path / "bytes.yaml").write_bytes(bytes(range(256)))
    refused(capsys, ["learn", "--job", str(tmp_path / "bytes.yaml")], "byte 128 is not UTF-8 text")


# --- plugins ------------------------------------------------------------------------------------------------------

HOOK = "from ganglion.engine.api import hookimpl\n@hookimpl\ndef register_{}(register): {}\n"
PLUGINS = {
    "def broken(:\n": ("SyntaxError", "line 1"),
    "raise RuntimeError('\\x1b[31mboom')\n": ("RuntimeError: boom",),
    "import sys; sys.exit(3)\n": ("SystemExit: 3",),
    "import a_module_that_nobody_has\n": ("ModuleNotFoundError", "a_module_that_nobody_has"),
    HOOK.format("strategis", "pass"): ("no hook 'register_strategis'", "did you mean 'register_strategies'?"),
    HOOK.format("strategies", "register('Mine', int)"): ("strategy 'Mine'", "subclass of LearningStrategy"),
    "\x00": ("null bytes",),
}


@pytest.mark.parametrize("text", PLUGINS, ids=range(len(PLUGINS)))
def test_a_plugin_file_that_cannot_be_loaded(text: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    words = tiny()
    refused(capsys, [words[0], "--plugin", str(file), *words[1:]], f"plugin {file}", *PLUGINS[text])


def test_a_plugin_that_takes_a_name_which_is_taken(tmp_path: Path, capsys: Capture) -> None:
    source = "from ganglion.strategies.gan import GAN\n" + HOOK.format("strategies", "register('WGAN', GAN)")
    (tmp_path / "mine.py").write_text(source)
    words = tiny("strategy=WGAN")
    refused(capsys, [words[0], "--plugin", str(tmp_path / "mine.py"), *words[1:]], "mine.py", "WGAN", "built-in")


def test_plugins_that_are_not_there(tmp_path: Path, capsys: Capture) -> None:
    words = tiny()
    for plugin, parts in {
        "missing.py": ("plugin missing.py", "does not exist"),
        "a_module_that_nobody_has": ("a_module_that_nobody_has",),
        str(tmp_path): ("is a folder",),
    }.items():
        refused(capsys, [words[0], "--plugin", plugin, *words[1:]], *parts)
    (tmp_path / "empty.py").write_text("")
    refused(capsys, tiny(f"strategy={tmp_path / 'empty.py'}:Mine"), "empty.py has no 'Mine'")
    refused(capsys, tiny(f"strategy={tmp_path / 'empty.py'}"), "empty.py", ":MyName")


def test_a_bug_keeps_its_traceback(tmp_path: Path, capsys: Capture) -> None:
    """Only what the engine raises on purpose is one sentence: a plugin's author needs to see where it went wrong."""
    source = (
        "from ganglion.strategies.gan import GAN\nfrom ganglion.engine.api import LearningStrategy\n"
        "class Buggy(LearningStrategy):\n    '''A bug.'''\n    roles = ('network',)\n"
        "    @classmethod\n    def shapes(cls, settings, spec): raise ZeroDivisionError('oops')\n"
        "    def process_iteration(self, i): ...\n"
    )
    (tmp_path / "buggy.py").write_text(source)
    with pytest.raises(ZeroDivisionError, match="oops"):
        call(capsys, *tiny(f"strategy={tmp_path / 'buggy.py'}:Buggy", names=("MLP", "Circle")))
    assert not os.path.exists(os.environ["GANGLION_RUNS"])


def test_a_misspelt_strategy_key_is_named_before_the_default_strategy_confuses(capsys: Capture) -> None:
    refused(
        capsys, ["learn", PAIR, "Circle", "strategi=GAN"], "the key 'strategi' is unknown", "did you mean 'strategy'?"
    )
