"""Chooses the rows that are kept for testing."""

from __future__ import annotations

import torch
from torch import Tensor


def held_out(classes: Tensor, share: float, seed: int) -> Tensor:
    """A mask (rows,) of about `share` of the rows of each class (rows,); at least one row of each is not in it."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(len(classes), dtype=torch.bool)
    for value in torch.unique(classes):
        rows = (classes == value).nonzero().flatten()
        wanted = min(round(share * len(rows)), len(rows) - 1)
        mask[rows[torch.randperm(len(rows), generator=generator)[:wanted]]] = True
    return mask
