"""Devices by name: what `device=` means on this machine."""

from __future__ import annotations

import os

import torch

from ganglion.engine.errors import ConfigError
from ganglion.engine.processes import this_process

FORMS = "auto, cpu, cuda, cuda:N, mps"


def find_device(name: str, key: str = "device") -> torch.device:
    """The device that `name` means; `auto` is the first accelerator there is, or the CPU. Raises ConfigError.

    Of several processes that share a job, each has a GPU of its own: the one that `auto` and `cuda` mean there.
    """
    text = name.strip().lower()
    if text == "auto":
        return torch.device("cuda", _own_gpu(f"{key}={name}")) if torch.cuda.is_available() else _without_cuda()
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
    if this_process().count > 1 and device.index not in (None, _own_gpu(asked)):
        raise ConfigError(f"{asked}: each process has a GPU of its own; give device=auto, which means that one")
    index = _own_gpu(asked) if device.index is None else device.index
    if index >= count:
        raise ConfigError(f"{asked}: this machine has {count} CUDA GPU{'s' if count > 1 else ''}, numbered from 0")
    return torch.device("cuda", index)


def take_own_gpu() -> None:
    """Let this process, one of several on this machine, use the GPU of its number, where there is one."""
    if _number() < torch.cuda.device_count():
        torch.cuda.set_device(_number())


def stored_name(device: torch.device) -> str:
    """How a run remembers a device: where each process has its own GPU, without the number of this one's."""
    return device.type if this_process().count > 1 else str(device)


def _number() -> int:
    """Which of the processes of this machine this is."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _own_gpu(asked: str) -> int:
    if this_process().count == 1:
        return 0
    if "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            f"{asked}: LOCAL_RANK is not set, which says which GPU of its machine each of several processes has; start "
            f"them with torchrun, which sets it, or use device=cpu"
        )
    number, count = _number(), torch.cuda.device_count()
    if number >= count:
        raise ConfigError(
            f"{asked}: each process needs a GPU of its own, and this machine has {count}; start "
            f"--nproc-per-node={count}, or use device=cpu"
        )
    return number


def _without_cuda() -> torch.device:
    return torch.device("mps" if _has_mps() else "cpu")


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
