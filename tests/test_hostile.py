"""What comes from outside is data, never code, never a command to the terminal, never more than fits in memory."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import resource
import struct
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from commandline import tiny
from faultbench import Bench, Ended, in_child, obeyed, warm
from faults import PLUGIN, frail_words
from PIL import Image

from ganglion.engine.errors import ConfigError, DataError, StoreError

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("engine", "strategies", "networks", "datasets")


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What the forked processes share is imported before the first fork."""
    warm()


# --- the sources --------------------------------------------------------------------------------------------------

MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "codeop"}
NAMES = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    ("torch", "load"), ("torch", "save"), ("np", "load"), ("numpy", "load"), ("os", "system"), ("os", "popen"),
    ("yaml", "unsafe_load"), ("yaml", "full_load"), ("yaml", "load_all"), ("tarfile", "open"),
    ("shutil", "unpack_archive"),
}  # fmt: skip
LOADERS = {"PlainLoader", "TextLoader", "SafeLoader", "yaml.SafeLoader"}
NEVER = {"extractall", "extract", "loads_pickle", "UnsafeLoader", "FullLoader", "find_class"}


def findings(text: str) -> Iterator[str]:
    """Everything in a source that runs data as code, or lets them choose where they are written."""
    for node in ast.walk(ast.parse(text)):
        where = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"{where}: imports {name}" for name in names if name.partition(".")[0] in MODULES)
        if isinstance(node, ast.Attribute):
            pair = (getattr(node.value, "id", ""), node.attr)
            if pair in ATTRIBUTES or node.attr in NEVER:
                yield f"{where}: {'.'.join(pair)}"
        if isinstance(node, ast.Call):
            yield from (f"{where}: {problem}" for problem in _call_problems(node))


def _call_problems(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in NAMES:
        yield f"calls {name}"
    if name == "yaml.load":
        loader = keywords.get("Loader") or (ast.unparse(node.args[1]) if len(node.args) > 1 else "none")
        if loader not in LOADERS:
            yield f"yaml.load with {loader}"
    if keywords.get("shell", "False") != "False":
        yield "a shell"
    if keywords.get("allow_pickle", "False") != "False":
        yield "allow_pickle"


def test_no_source_runs_data_as_code() -> None:
    sources = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [f"{path.relative_to(ROOT)}: {what}" for path in sources for what in findings(path.read_text())]
    assert len(sources) > 100 and found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from marshal import loads", "eval(x)", "exec('a')", "yaml.load(t)",
        "yaml.load(t, yaml.Loader)", "torch.load(p)", "np.load(p, allow_pickle=True)", "f(allow_pickle=a)",
        "os.system(c)", "run(c, shell=True)",
        "z.extractall(d)", "import dill.source",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert list(findings(text))


# --- the process --------------------------------------------------------------------------------------------------


def test_nothing_listens_connects_or_unpickles(tmp_path: Path) -> None:
    """Seen by Python's own audit hook, while a run learns, is sampled, judged and listed."""
    told = tmp_path / "told.json"
    watched = ("socket.bind", "socket.listen", "socket.connect", "pickle.find_class", "os.system", "os.exec")

    def watch() -> None:
        seen: Counter[str] = Counter()

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in watched:
                seen[event] += 1
                told.write_text(json.dumps(seen))

        sys.addaudithook(hook)
        told.write_text("{}")

    words = tiny("tag=mine", "traces=lines,terminal,pictures")
    runs = ["--runs", str(tmp_path / "runs")]
    for line in (
        [words[0], *runs, *words[1:]], ["ganglion", "sample", *runs, "mine"], ["ganglion", "evaluate", *runs, "mine"],
        ["ganglion", "runs", *runs], ["ganglion", "list"],
    ):  # fmt: skip
        ended = in_child(*line, before=watch)
        assert ended.code == 0, ended
        assert json.loads(told.read_text()) == {}, line


def test_the_audit_hook_would_see_it(tmp_path: Path) -> None:
    code = "import socket\nwith socket.socket() as s: s.bind(('127.0.0.1', 0)); s.listen()\n"
    seen: list[str] = []
    child = os.fork()
    if child == 0:
        sys.addaudithook(lambda event, arguments: seen.append(event))
        exec(code)  # a test may
        os._exit(len({"socket.bind", "socket.listen"} & set(seen)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) >= 1


# --- the terminal -------------------------------------------------------------------------------------------------

ESCAPE = "\x1b[31m\x1b]0;owned\x07\x9b2J\u202e"


def harmless(ended: Ended, code: int = 0) -> Ended:
    """Nothing in the output of a process is a command to a terminal."""
    assert ended.code == code, ended
    text = ended.out + ended.err
    assert text and not [character for character in text if obeyed(character)], repr(text)
    return ended


def test_names_of_progress_and_figures_of_plugins(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    said = harmless(in_child(*frail_words(bench, "mine", 4, "traces=terminal,lines")))
    assert "loss" in said.err
    runs, plugin = ["--runs", str(bench.runs)], ["--plugin", str(PLUGIN)]
    assert "figure" in harmless(in_child("ganglion", "evaluate", *runs, *plugin, "mine", "metric=frail-v1")).out
    for line in (["list", *plugin], ["show", *plugin, "strategy", "Frail"], ["plugins", *plugin], ["runs", *runs]):
        harmless(in_child("ganglion", *line))


def test_errors_and_texts_of_plugins(tmp_path: Path) -> None:
    source = (
        "from ganglion.engine import api\n"
        f"class Bad(api.LearningStrategy):\n    '''Bad {ESCAPE!r}.'''\n    roles = ('network',)\n"
        f"    class Settings(api.Settings):\n        key: int = api.setting(1, 'a key' + {ESCAPE!r})\n"
        f"    @classmethod\n    def shapes(cls, settings, spec): raise ValueError({ESCAPE!r} + '\\nsecond line')\n"
        "    def process_iteration(self, i): ...\n"
        f"Bad.__doc__ = 'Bad' + {ESCAPE!r}\n"
        "@api.hookimpl\ndef register_strategies(register): register('Bad', Bad)\n"
    )
    (tmp_path / "bad.py").write_text(source)
    plugin = ["--plugin", str(tmp_path / "bad.py")]
    for line in (["list", "strategy"], ["show", "strategy", "Bad"]):
        assert "Bad" in harmless(in_child("ganglion", *line, *plugin)).out
    words = tiny("strategy=Bad", names=("MLP", "Circle"))
    said = harmless(in_child(words[0], *plugin, *words[1:]), 1)
    assert "Traceback" in said.err and said.sentence.startswith(
        "learn: a mistake in a plugin or in Ganglion itself: Value"
    )


def test_columns_labels_and_paths(tmp_path: Path) -> None:
    table = tmp_path / f"a{ESCAPE.replace('/', '')}.csv"
    table.write_text(f"x{ESCAPE},y,class{ESCAPE}\n" + "".join(f"{i},{i},c{ESCAPE}{i % 2}\n" for i in range(40)))
    keys = {
        "strategy": "GAN",
        "batchSize": 8,
        "threads": 1,
        "iterations": 2,
        "samples": 4,
        "traces": "terminal,pictures",
    }
    tokens = (f"path={table}", f"target=class{ESCAPE}", "classification=true", "tag=mine")
    words = tiny(*tokens, names=("Generator,Discriminator", "Table"), keys=keys)
    runs = ["--runs", str(tmp_path / f"runs{ESCAPE.replace('/', '')}")]
    harmless(in_child(words[0], *runs, *words[1:]))
    harmless(in_child("ganglion", "sample", *runs, "mine", f"out={tmp_path}/{ESCAPE}.csv"))
    harmless(in_child("ganglion", "runs", *runs))
    wrong = tiny(f"path={table}", f"columns=y{ESCAPE}", names=("Generator,Discriminator", "Table"), keys=keys)
    harmless(in_child(*wrong), 2)


def test_a_record_that_somebody_wrote(tmp_path: Path) -> None:
    words = tiny("tag=mine")
    runs = ["--runs", str(tmp_path)]
    assert in_child(words[0], *runs, *words[1:]).code == 0
    record = json.loads((tmp_path / "mine" / "record.json").read_text())
    record.update(strategy=ESCAPE, dataset=[ESCAPE], networks={"a": ESCAPE}, status=ESCAPE, started=ESCAPE)
    (tmp_path / "mine" / "record.json").write_text(json.dumps(record))
    harmless(in_child("ganglion", "runs", *runs))


# --- memory -------------------------------------------------------------------------------------------------------

ROOM = 600 << 20  # bytes that a refusal may take beyond what is there; every bomb below declares more
PEAK = 150 << 10  # KiB that it may touch


def _idx_header(count: int) -> bytes:
    return bytes((0, 0, 8, 3)) + struct.pack(">III", count, 28, 28)


def _npz(shape: tuple[int, ...], content: bytes, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        archive.writestr("x.npy", header.getvalue() + content)
    return stream.getvalue()


def _png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    parts = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _lying_zip() -> bytes:
    """The directory of the archive declares another size than what is packed there."""
    good = bytearray(_npz((4,), bytes(32)))
    at = good.rindex(b"PK\x01\x02") + 24
    good[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    return bytes(good)


YAML = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def _with_bomb(before: str, after: str) -> bytes:
    """A YAML file, one of whose mappings grows to hundreds of millions of values."""
    return f"{before}\n  {YAML.strip().replace(chr(10), chr(10) + '  ')}\n{after}\n".encode()


BOMBS: dict[str, Callable[[], bytes]] = {
    "declared.idx": lambda: _idx_header(2**31) + bytes(100),
    "declared.idx.gz": lambda: gzip.compress(_idx_header(1_300_000) + bytes(100)),
    "packed.idx.gz": lambda: gzip.compress(_idx_header(2) + bytes(50_000_000)),
    "declared.npz": lambda: _npz((2**31, 4), bytes(64)),
    "overflow.npz": lambda: _npz((2**62, 2**62), bytes(64)),
    "lying.npz": _lying_zip,
    "bzip2.npz": lambda: _npz((2**23,), bytes(2**26), zipfile.ZIP_BZIP2),
    "lzma.npz": lambda: _npz((2**23,), bytes(2**26), zipfile.ZIP_LZMA),
    "declared.png": lambda: _png(30_000, 30_000),
    "allowed.png": lambda: _png(8_000, 8_000),
    "quote.csv": lambda: b'a,b\n1,"' + b"2" * 5_000_000,
    "job.yaml": lambda: _with_bomb("networks: MLP\ndataset: Digits\nsettings:", ""),
    "suite.yaml": lambda: _with_bomb("dataset: Ring\nsettings:", "entries: {A: {strategy: GAN}}"),
    "network.yaml": lambda: _with_bomb("name: Mine\ndoc: x\nconstants:", "layers: [Tanh]"),
    "large.yaml": lambda: b"networks: MLP\n" + b"#" * 3_000_000,
}  # fmt: skip


def _line(path: Path) -> list[str]:
    """The command line that reads a file."""
    if path.name == "suite.yaml":
        return ["ganglion", "compare", str(path)]
    if path.name == "network.yaml":
        return tiny(names=(f"Generator,{path}", "Circle"))
    if path.suffix == ".yaml":
        return ["learn", "--job", str(path)]
    if path.suffix == ".png":
        return tiny(
            f"path={path.parent}", names=("DCGANGenerator,DCGANDiscriminator", "Images"), keys={"strategy": "GAN"}
        )
    return tiny(f"path={path}", names=("Generator,Discriminator", "Table"), keys={"strategy": "GAN"})


def _poor(told: Path) -> Callable[[], None]:
    """Little memory from here on, and the peak told at the end."""

    def before() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
        start, leave = _peak(), os._exit
        os._exit = lambda code: (told.write_text(str(_peak() - start)), leave(code))  # type: ignore[assignment]

    return before


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("name", [name for name in BOMBS if ".idx" not in name])
def test_a_bomb_is_refused_before_it_goes_off(name: str, tmp_path: Path) -> None:
    path, told = tmp_path / "data" / name, tmp_path / "told"
    path.parent.mkdir()
    path.write_bytes(BOMBS[name]())
    ended = in_child(*_line(path), before=_poor(told), seconds=30)
    harmless(ended, 2)
    assert ended.err.count("\n") == 1 and "memory" not in ended.err, ended.err
    assert int(told.read_text()) < PEAK


@pytest.mark.parametrize("name", [name for name in BOMBS if ".idx" in name])
def test_an_idx_bomb_is_refused_before_it_goes_off(name: str, tmp_path: Path) -> None:
    from ganglion.datasets.idx import read_idx

    (tmp_path / name).write_bytes(BOMBS[name]())
    before = _peak()
    with pytest.raises(DataError, match=name):
        read_idx(tmp_path / name, 3)
    assert _peak() - before < PEAK


# --- places -------------------------------------------------------------------------------------------------------


def test_members_of_an_archive_are_names_of_columns_not_of_files(tmp_path: Path) -> None:
    from ganglion.datasets.npzfile import read_npz

    inside = tmp_path / "inside"
    inside.mkdir()
    array = io.BytesIO()
    np.save(array, np.arange(3))
    with zipfile.ZipFile(inside / "x.npz", "w") as archive:
        for member in ("../up.npy", "/etc/absolute.npy", "a/../../b.npy"):
            archive.writestr(member, array.getvalue())
    assert read_npz(inside / "x.npz").names == ("../up", "/etc/absolute", "a/../../b")
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["inside", "x.npz"]


def test_a_metric_cannot_choose_where_its_figures_are_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert in_child(*frail_words(bench, "mine", 2)).code == 0
    before = sorted(tmp_path.rglob("*"))

    ended = in_child(
        "ganglion", "evaluate", "--runs", str(bench.runs), "--plugin", str(PLUGIN), "mine", "metric=frail-v1",
        before=lambda: os.environ.update(FRAIL_NAME="../../../away"),
    )  # fmt: skip
    assert ended.code == 2 and "expected a plain name" in ended.err, ended
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path not in before] == []


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/etc/x", "a\0b", "state", "x" * 200, "\x1b[31m"])
def test_roles_tags_and_labels_cannot_leave_their_folder(name: str, tmp_path: Path) -> None:
    from ganglion.engine.checkpoint_files import serialise
    from ganglion.engine.repository import Repository
    from ganglion.engine.suites import parse_suite

    with pytest.raises(StoreError, match="cannot name a file"):
        serialise(0, {name: {}}, {}, {})
    if name != "state":
        with pytest.raises(ConfigError):
            Repository(tmp_path).run(name)
    assert "A" in parse_suite("entries: {A: {strategy: GAN}}").entries
    assert list(tmp_path.iterdir()) == []


def test_a_palette_and_frames_do_not_get_round_the_limit(tmp_path: Path) -> None:
    from ganglion.datasets.pictures import read_picture

    Image.new("1", (4000, 4000)).save(tmp_path / "flat.png")  # really that large, and small when packed
    assert read_picture(tmp_path / "flat.png", 1, 4).shape == (1, 4, 4)
    data = (tmp_path / "flat.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:60])
    with pytest.raises(DataError, match="4000x4000 pixels, which a file of 60 bytes cannot hold"):
        read_picture(tmp_path / "cut.png", 1, 4)
