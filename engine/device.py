"""Devices by name: what `device=` means on this machine."""

from __future__ import annotations

import os

import torch

from ganglion.engine.errors import ConfigError

FORMS = "auto, cpu, cuda, cuda:N, mps"


def find_device(name: str, key: str = "device") -> torch.device:
    """The device that `name` means; `auto` is the first accelerator there is, or the CPU. Raises ConfigError."""
    text = name.strip().lower()
    if text == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        raise ConfigError(f"{key}={name}: no such device; there are: {FORMS}") from None
    if device.type == "cuda":
        return _cuda(device, f"{key}={name}")
    if device.type == "mps" and not _has_mps():
        raise ConfigError(
            f"{key}={name}: this machine has no Apple GPU that torch can use; use {key}=cpu or {key}=auto"
        )
    if device.type not in ("cpu", "mps", "meta"):
        raise ConfigError(f"{key}={name}: Ganglion does not run on '{device.type}'; there are: {FORMS}")
    return torch.device(device.type) if device.type == "cpu" else device


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cuda(device: torch.device, asked: str) -> torch.device:
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or count == 0:
        raise ConfigError(f"{asked}: torch sees no CUDA GPU on this machine; use device=cpu or device=auto")
    index = device.index or 0
    if index >= count:
        raise ConfigError(f"{asked}: this machine has {count} CUDA GPU{'s' if count > 1 else ''}, numbered from 0")
    return torch.device("cuda", index)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
