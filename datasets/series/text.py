"""Text: windows of characters, one-hot, from a text file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.places import find_path
from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataContext,
    DataError,
    Dataset,
    DatasetFactory,
    DataSpec,
    Settings,
    Splits,
    hookimpl,
    setting,
)

LIMIT = 1 << 28  # bytes
MOST = 1024  # different characters


class TextSettings(Settings):
    """Settings of Text."""

    path: str = setting("", "the text file (UTF-8), as it is or below a data folder")
    length: int = setting(50, "characters of a window", unit="characters", ge=2)
    stride: int = setting(1, "from the beginning of a window to that of the next", unit="characters", ge=1)
    test_share: float = setting(0.1, "share at the end of the text that is kept for testing", ge=0, lt=1)


class Characters(Dataset):
    """Windows (length, alphabet) of one-hot characters, gathered from the text's character numbers (characters,)."""

    def __init__(self, spec: DataSpec, codes: Tensor, starts: Tensor) -> None:
        self.spec = spec
        self.codes = codes
        self.starts = starts
        self.steps = torch.arange(spec.shape[0], device=codes.device)
        self.table = torch.eye(spec.shape[1], dtype=torch.get_default_dtype(), device=codes.device)

    def __len__(self) -> int:
        return len(self.starts)

    def rows(self, indices: Tensor) -> Batch:
        starts = self.starts.index_select(0, indices.to(self.starts.device))
        return Batch(self.table[self.codes[starts[:, None] + self.steps]])

    def to(self, device: torch.device) -> Characters:
        return Characters(self.spec, self.codes.to(device), self.starts.to(device))


class Text(DatasetFactory):
    """Windows of a text's characters, each step one-hot over the characters that occur; the end is the test part.

    Made for `strategy=BPTT criterion=NLL`, a network that foretells the next character; `ganglion sample` then writes
    text. The features are named after the characters.
    """

    Settings = TextSettings

    def __init__(self, settings: Any, context: DataContext) -> None:
        super().__init__(settings, context)
        self.alphabet: tuple[str, ...] = ()  # known once the file has been loaded

    def load(self) -> Splits:
        text = self._read()
        self.alphabet = tuple(sorted(set(text)))
        if not 2 <= len(self.alphabet) <= MOST:
            raise DataError(
                f"{self.settings.path}: the text has {len(self.alphabet)} different characters, expected 2 to {MOST}"
            )
        number = {character: place for place, character in enumerate(self.alphabet)}
        codes = torch.tensor([number[character] for character in text], dtype=torch.int64)
        length, share = self.settings.length, self.settings.test_share
        border = len(text) - round(share * len(text))
        spec = DataSpec("sequence", (length, len(self.alphabet)), (0.0, 1.0), features=self.alphabet, text=True)
        parts = [self._part(spec, codes, 0, border), self._part(spec, codes, border, len(text)) if share else None]
        assert parts[0] is not None
        return Splits(train=parts[0], test=parts[1])

    def _part(self, spec: DataSpec, codes: Tensor, start: int, stop: int) -> Characters:
        length = self.settings.length
        if stop - start < length:
            name = "test" if start else "training"
            raise DataError(
                f"{self.settings.path}: the {name} part has {stop - start} characters, fewer than the {length} of a "
                "window; choose a smaller length, or another testShare"
            )
        return Characters(spec, codes, torch.arange(start, stop - length + 1, self.settings.stride))

    def _read(self) -> str:
        if not self.settings.path:
            raise ConfigError("Text: no file named; give path=FILE, a text in UTF-8")
        path = find_path("Text", self.settings.path, self.context, folder=False)
        try:
            if path.stat().st_size > LIMIT:
                raise DataError(f"{path}: {path.stat().st_size} bytes, expected at most {LIMIT}")
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start} is not UTF-8; save the text as UTF-8") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


@hookimpl
def register_datasets(register: Any) -> None:
    """Text."""
    register("Text", Text)
