"""The IDX reader: right files, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from ganglion.datasets.idx import read_idx
from ganglion.engine.api import DataError


def idx(shape: tuple[int, ...], values: bytes, kind: int = 8) -> bytes:
    header = bytes((0, 0, kind, len(shape))) + b"".join(length.to_bytes(4, "big") for length in shape)
    return header + values


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_values_come_back(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, idx((2, 2, 3), bytes(range(12))))
    assert torch.equal(read_idx(path, 3), torch.arange(12, dtype=torch.uint8).view(2, 2, 3))


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing where 00000803"),
        (b"PK\3\4" + bytes(40), "starts with 504b0304"),
        (idx((12,), bytes(12)), "starts with 00000801 where 00000803"),
        (idx((2, 2, 3), bytes(12), kind=13), "starts with 00000d03"),
        (idx((2, 2, 3), bytes(12))[:9], "truncated: its header has 9 of 16 bytes"),
        (idx((2, 2, 3), bytes(11)), "truncated"),
        (idx((2, 2, 3), bytes(13)), "corrupt"),
        (idx((0, 2, 3), b""), "declares 0x2x3"),
        (idx((2**31, 28, 28), bytes(12)), "declares 2147483648x28x28"),
        (idx((2**20, 28, 28), bytes(12)), "cannot hold"),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_declared_size_is_refused_before_anything_is_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "images.gz", idx((2**20, 28, 28), bytes(12)))
    monkeypatch.setattr("ganglion.datasets.idx._read_values", lambda *given: pytest.fail("allocated"))
    with pytest.raises(DataError, match="cannot hold"):
        read_idx(path, 3)


def test_truncated_and_corrupt_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(idx((50, 2, 3), bytes(range(256))[:300] + bytes(44)))
    path = tmp_path / "images.gz"
    path.write_bytes(packed[:-20])
    with pytest.raises(DataError, match="truncated or corrupt"):
        read_idx(path, 3)
    path.write_bytes(packed[:30] + bytes([packed[30] ^ 0xFF]) + packed[31:])
    with pytest.raises(DataError, match=r"truncated|corrupt"):
        read_idx(path, 3)
    path.write_bytes(packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:])  # the check sum
    with pytest.raises(DataError, match="truncated or corrupt"):
        read_idx(path, 3)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="truncated or corrupt"):
        read_idx(path, 3)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path / "images.gz", idx((4, 2, 3), bytes(50_000_000)))
    with pytest.raises(DataError, match="goes on after the 24 values"):
        read_idx(path, 3)


def test_a_folder_or_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(path, 3)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_more_than_the_limit(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, idx((2, 2, 3), bytes(range(12))))
    assert read_idx(path, 3, limit=12).numel() == 12
    with pytest.raises(DataError, match="declares 2x2x3 values, expected from 1 to 11 bytes"):
        read_idx(path, 3, limit=11)
