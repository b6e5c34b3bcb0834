"""Downloads: resumed, checked, placed at once, over https only; and what a person reads when there is no way."""

from __future__ import annotations

import gzip
import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganglion.datasets import idxpictures
from ganglion.datasets.download import Download, FetchError, Progress, _SecureRedirects, fetch, open_url
from ganglion.datasets.fashionmnist import FashionMNIST
from ganglion.datasets.mnist import MNIST
from ganglion.engine.api import DataContext, DataError

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URLS = ("https://one.example/file", "https://two.example/file")


class Answer(io.BytesIO):
    """What an opener returns; `declared` is the length that the header claims."""

    def __init__(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, url: str = URLS[0]
    ) -> None:
        super().__init__(body)
        self.status = status
        self.headers = {"Content-Length": str(len(body)), **(headers or {})}
        self.url = url

    def geturl(self) -> str:
        return self.url


class Server:
    """Serves CONTENT, with ranges; `stop_after` breaks each transfer off after that many bytes."""

    def __init__(self, content: bytes = CONTENT, stop_after: int | None = None, ranges: bool = True) -> None:
        self.content, self.stop_after, self.ranges = content, stop_after, ranges
        self.requests: list[tuple[str, str | None]] = []

    def __call__(self, request: urllib.request.Request) -> Answer:
        wanted = request.get_header("Range")
        self.requests.append((request.full_url, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(self.content):
            raise urllib.error.HTTPError(request.full_url, 416, "Range Not Satisfiable", {}, None)  # type: ignore[arg-type]
        body = self.content[start:]
        headers = {"Content-Length": str(len(body))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        return Answer(body[: self.stop_after], 206 if start else 200, headers)


def get(opener: Callable[..., Any], destination: Path, limit: int = 1 << 20, urls: tuple[str, ...] = URLS) -> list[str]:
    told: list[str] = []
    fetch(Download(urls, DIGEST, limit), destination, told.append, opener)
    assert destination.read_bytes() == CONTENT
    assert sorted(path.name for path in destination.parent.iterdir()) == [destination.name]
    return told


def test_a_file_is_fetched_and_placed(tmp_path: Path) -> None:
    server = Server()
    get(server, tmp_path / "new" / "file")
    assert server.requests == [(URLS[0], None)]


def test_a_broken_transfer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    server = Server(stop_after=100_000)
    get(server, tmp_path / "file")
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=200000-"]


def test_a_part_of_an_earlier_time_is_used(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    server = Server()
    get(server, tmp_path / "file")
    assert server.requests == [(URLS[0], "bytes=1000-")]


def test_a_complete_part_only_has_to_be_checked(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    get(Server(), tmp_path / "file")


@pytest.mark.parametrize("left", [b"something else", CONTENT + b"too much"])
def test_a_part_of_another_file_is_thrown_away(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file.part").write_bytes(left)
    get(Server(), tmp_path / "file", urls=URLS[:1])


def test_a_server_without_ranges_sends_all_again(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    get(Server(ranges=False), tmp_path / "file")


def test_the_second_mirror_is_tried(tmp_path: Path) -> None:
    good = Server()

    def opener(request: urllib.request.Request) -> Answer:
        if request.full_url == URLS[0]:
            raise urllib.error.URLError("no such host")
        return good(request)

    get(opener, tmp_path / "file")


def test_wrong_bytes_are_never_placed(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"one.example/file: wrong bytes arrived.*two.example/file: wrong bytes"):
        get(Server(content=CONTENT[:-1] + b"x"), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_transfer_that_never_gets_further_gives_up(tmp_path: Path) -> None:
    server = Server(stop_after=0)
    with pytest.raises(FetchError, match="broke off after 0 of 256000 bytes"):
        get(server, tmp_path / "file")
    assert len(server.requests) == 2  # once per mirror


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_a_file_is_refused(tmp_path: Path, declared: bool) -> None:
    answers: list[Answer] = []

    def opener(request: urllib.request.Request) -> Answer:
        answer = Answer(CONTENT * 10)
        if not declared:
            del answer.headers["Content-Length"]
        answers.append(answer)
        return answer

    with pytest.raises(FetchError, match="larger than the 300000 bytes"):
        get(opener, tmp_path / "file", limit=300_000)
    assert not (tmp_path / "file").exists()
    if declared:
        assert (tmp_path / "file.part").stat().st_size == 0


def test_only_https(tmp_path: Path) -> None:
    server = Server()
    with pytest.raises(FetchError, match=r"http://one.example/file is not an https address"):
        get(server, tmp_path / "file", urls=("http://one.example/file",))
    assert server.requests == []
    with pytest.raises(FetchError, match=r"http://elsewhere.example is not an https address"):
        get(lambda request: Answer(CONTENT, url="http://elsewhere.example"), tmp_path / "file")
    assert not (tmp_path / "file").exists()
    request = urllib.request.Request(URLS[0])
    with pytest.raises(FetchError, match=r"http://elsewhere.example/x is not"):
        _SecureRedirects().redirect_request(request, None, 302, "Found", {}, "http://elsewhere.example/x")
    assert _SecureRedirects().redirect_request(request, None, 302, "Found", {}, "https://elsewhere.example/x")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_the_real_opener_knows_no_other_scheme(url: str) -> None:
    with pytest.raises(urllib.error.URLError, match="unknown url type"):
        open_url(urllib.request.Request(url))


def test_two_processes_do_not_share_a_part(tmp_path: Path) -> None:
    outer, inner = Server(), Server()
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])

    def opener(request: urllib.request.Request) -> Answer:
        fetch(Download(URLS, DIGEST), tmp_path / "file", lambda text: None, inner)  # while the first one is under way
        assert (tmp_path / "file").read_bytes() == CONTENT
        return outer(request)

    get(opener, tmp_path / "file")
    assert (outer.requests, inner.requests) == ([(URLS[0], "bytes=1000-")], [(URLS[0], None)])


def test_progress_is_told_in_steps_and_not_more_than_once_a_second() -> None:
    told: list[str] = []
    clock = iter([0.0, 0.5, 1.1, 1.2, 3.0, 3.1, 4.2]).__next__
    progress = Progress("file", told.append, clock)
    for done in (100, 210, 590, 600, 610, 650):
        progress(done, 1000)
    assert told == ["downloading file: 20 % of 0.0 MB", "downloading file: 60 % of 0.0 MB"]


# --- the data sets that are downloaded -----------------------------------------------------------------------------


def idx(shape: tuple[int, ...], values: bytes) -> bytes:
    return bytes((0, 0, 8, len(shape))) + b"".join(length.to_bytes(4, "big") for length in shape) + values


def four_files(rows: int = 3, labels: bytes = bytes((0, 9, 5))) -> dict[str, bytes]:
    images, numbers = idx((rows, 28, 28), bytes(rows * 784)), idx((len(labels),), labels)
    return {f"{name}.gz": gzip.compress(images if "images" in name else numbers) for name in idxpictures.FILES}


def place(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def context(tmp_path: Path, told: list[str] | None = None) -> DataContext:
    return DataContext([tmp_path / "data"], tmp_path / "cache", 0, (told if told is not None else []).append)


def no_network(request: urllib.request.Request) -> Any:
    raise urllib.error.URLError("no route to host")


@pytest.mark.parametrize("folder", ["data/mnist", "data", "data/MNIST/raw", "cache/mnist"])
def test_files_are_found(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "opener", staticmethod(no_network))
    place(tmp_path / folder, four_files())
    train, _, test = MNIST(MNIST.Settings(), context(tmp_path)).load()
    assert test is not None and (len(train), len(test)) == (3, 3)
    assert train.spec.shape == (1, 28, 28) and train.spec.value_range == (0.0, 1.0)


def test_fashion_does_not_take_the_digits_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FashionMNIST, "opener", staticmethod(no_network))
    place(tmp_path / "data", four_files())
    with pytest.raises(DataError, match="FashionMNIST"):
        FashionMNIST(FashionMNIST.Settings(), context(tmp_path)).load()
    place(tmp_path / "data" / "fashionmnist", four_files())
    assert FashionMNIST(FashionMNIST.Settings(), context(tmp_path)).load().train.spec.classes[9] == "ankle boot"


def test_missing_files_are_downloaded_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, asked = four_files(), []

    def opener(request: urllib.request.Request) -> Answer:
        asked.append(request.full_url)
        return Answer(files[request.full_url.rsplit("/", 1)[1]])

    monkeypatch.setattr(MNIST, "opener", staticmethod(opener))
    monkeypatch.setattr(MNIST, "digests", {name: hashlib.sha256(body).hexdigest() for name, body in files.items()})
    first = "train-images-idx3-ubyte.gz"
    place(tmp_path / "cache" / "mnist", {first: files[first]})
    told: list[str] = []
    MNIST(MNIST.Settings(), context(tmp_path, told)).load()
    assert len(asked) == 3 and all(url.startswith("https://ossci-datasets.s3") for url in asked)
    assert sorted(path.name for path in (tmp_path / "cache" / "mnist").iterdir()) == sorted(files)
    assert len(told) == 3 and told[0].startswith("MNIST: downloading train-labels")
    MNIST(MNIST.Settings(), context(tmp_path)).load()
    assert len(asked) == 3


@pytest.mark.parametrize("download", [True, False])
def test_offline_names_the_ways_out_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    monkeypatch.setattr(MNIST, "opener", staticmethod(no_network))
    with pytest.raises(DataError) as caught:
        MNIST(MNIST.Settings(download=download), context(tmp_path)).load()
    message = str(caught.value)
    for part in (
        "GANGLION_DATA",
        "go online",
        "Digits",
        "train-images-idx3-ubyte.gz",
        str(tmp_path / "data" / "mnist"),
    ):
        assert part in message
    assert ("no route to host" if download else "download=false") in message and "\n" not in message


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "opener", staticmethod(no_network))
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="MNIST: cannot write to"):
        MNIST(MNIST.Settings(), context(tmp_path)).load()


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    place(tmp_path / "data" / "mnist", four_files(labels=bytes((0, 9))))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz: holds 2 labels for the 3 images"):
        MNIST(MNIST.Settings(), context(tmp_path)).load()
    place(tmp_path / "data" / "mnist", four_files(labels=bytes((0, 10, 1))))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz: label 10 in row 1, expected 0 to 9"):
        MNIST(MNIST.Settings(), context(tmp_path)).load()
    place(tmp_path / "data" / "mnist", four_files())
    wide = gzip.compress(idx((3, 14, 56), bytes(3 * 784)))
    place(tmp_path / "data" / "mnist", {"t10k-images-idx3-ubyte.gz": wide})
    with pytest.raises(DataError, match="training images are 28x28 and the test images 14x56"):
        MNIST(MNIST.Settings(), context(tmp_path)).load()
