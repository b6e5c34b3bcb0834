"""The two ways in which loops written by hand get their batches of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


def loaded(rows: Tensor, batch_size: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """From a shuffling DataLoader over a TensorDataset, epoch after epoch."""
    pinned = torch.device(device).type == "cuda"
    loader = DataLoader(TensorDataset(rows), batch_size, shuffle=True, drop_last=True, pin_memory=pinned)
    while True:
        for (batch,) in loader:
            yield batch.to(device, non_blocking=True)


def gathered(rows: Tensor, batch_size: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """By one gather per batch from rows that are on the device."""
    rows = rows.to(device)
    while True:
        yield rows[torch.randint(len(rows), (batch_size,), device=device)]
