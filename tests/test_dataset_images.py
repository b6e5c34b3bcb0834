"""Images: folders of pictures, good ones and every kind of bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganglion.datasets.images import Images
from ganglion.engine.api import ConfigError, DataContext, DataError


def make(path: Path | str, folders: tuple[Path, ...] = (), **settings: Any) -> Images:
    return Images(
        Images.Settings(path=str(path), **settings), DataContext(folders, Path("no cache"), 0, lambda text: None)
    )


def picture(path: Path, size: tuple[int, int] = (6, 4), color: Any = (255, 0, 51), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


def test_pictures_of_every_format_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.bmp", "d.gif", "e.webp"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("not a picture")
    splits = make(tmp_path, test_share=0).load()
    assert splits.test is None and len(splits.train) == 5
    assert splits.train.spec.shape == (3, 4, 6) and splits.train.spec.classes == ()
    batch = splits.train.rows(torch.arange(5))
    assert batch.target is None
    assert batch.input[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert (batch.input - batch.input[0]).abs().max() < 0.05


def test_sub_folders_are_classes_and_the_test_part_has_all_of_them(tmp_path: Path) -> None:
    for count, name, color in ((10, "dogs", 200), (20, "cats", 100)):
        for number in range(count):
            picture(tmp_path / name / f"{number:02}.png", color=color, mode="L")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".git").mkdir()
    splits = make(tmp_path, channels=1, test_share=0.2).load()
    assert splits.train.spec.classes == ("cats", "dogs") and splits.train.spec.shape == (1, 4, 6)
    assert splits.test is not None
    for part, counts in ((splits.train, [16, 8]), (splits.test, [4, 2])):
        batch = part.rows(torch.arange(len(part)))
        assert batch.target is not None and batch.target.bincount().tolist() == counts
        assert torch.equal((batch.input[:, 0, 0, 0] * 255).round(), torch.where(batch.target == 0, 100.0, 200.0))
    assert splits.train.input.untyped_storage().data_ptr() == splits.test.input.untyped_storage().data_ptr()


def test_size_resizes_and_cuts_the_middle(tmp_path: Path) -> None:
    stripes = np.zeros((4, 12, 3), dtype=np.uint8)
    stripes[:, 4:8] = 255
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    picture(tmp_path / "tall.png", (4, 30), "white")
    data = make(tmp_path, size=4, test_share=0).load().train
    assert data.spec.shape == (3, 4, 4)
    assert data.rows(torch.arange(2)).input.min() == 1.0  # the white middle of both


def test_pictures_of_different_size_are_both_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", (5, 4))
    with pytest.raises(DataError, match=r"b\.png has 5x4 pixels and .*a\.png has 6x4.*size="):
        make(tmp_path, test_share=0).load()


def test_transparency_palettes_and_16_bits(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (2, 2), (0, 0, 0, 0), "RGBA")
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "b.png", transparency=bytes((255, 0)))
    Image.fromarray(np.full((2, 2), 0x8000, dtype=np.uint16)).save(tmp_path / "c.png")
    rows = make(tmp_path, test_share=0).load().train.input
    assert [row[:, 0, 0].tolist() for row in rows] == [[255, 255, 255], [255, 0, 0], [128, 128, 128]]


@pytest.mark.parametrize("cut", [0, 5, 40, -30])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.bmp"])
def test_a_truncated_picture_is_named(tmp_path: Path, name: str, cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:cut])
    with pytest.raises(DataError, match=name) as caught:
        make(tmp_path).load()
    assert "\n" not in str(caught.value)


def test_a_corrupt_picture_and_a_disguised_file(tmp_path: Path) -> None:
    content = bytearray(picture(tmp_path / "a.png").read_bytes())
    content[40] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: not a readable picture"):
        make(tmp_path).load()
    picture(tmp_path / "a.tiff")
    (tmp_path / "a.tiff").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: not a readable picture"):
        make(tmp_path).load()


@pytest.mark.parametrize("side", [8001, 10_000, 20_000])
def test_a_picture_that_would_fill_the_memory(tmp_path: Path, side: int) -> None:
    path = picture(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[16:24] = side.to_bytes(4, "big") * 2  # the declared width and height
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: the picture is larger than the 64000000 pixels"):
        make(tmp_path).load()


def test_too_many_pictures_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganglion.datasets.images.BYTE_LIMIT", 100)
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"2 pictures take 0.0 GB of memory: choose a smaller size="):
        make(tmp_path).load()


def test_folders_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Images needs path="):
        make("").load()
    with pytest.raises(DataError, match="path=nowhere does not exist here, nor in "):
        make("nowhere", (tmp_path,)).load()
    with pytest.raises(DataError, match="holds no pictures"):
        make(tmp_path).load()
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is not a folder"):
        make(tmp_path / "a.png").load()
    picture(tmp_path / "dogs" / "b.png")
    with pytest.raises(DataError, match=r"has pictures \(a\.png\) and sub-folders with pictures \(dogs\)"):
        make(tmp_path).load()
    assert len(make("dogs", (tmp_path,)).load().train) == 1
