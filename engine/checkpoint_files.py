"""The files of one checkpoint: made as bytes, checked against their manifest, and read back."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ganglion.engine.errors import DivergedError, StoreError
from ganglion.engine.files import cause
from ganglion.engine.trees import flatten, stored_tensor, unflatten

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 16 * 1024 * 1024  # bytes
STATE_PLAIN, STATE_TENSORS = "state.json", "state.safetensors"
ROLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
WEIGHTS = re.compile(r"(?P<role>[A-Za-z_][A-Za-z0-9_-]{0,99})(?P<averaged>\.ema)?\.safetensors")

Weights = Mapping[str, Tensor]


class Damaged(Exception):
    """A checkpoint is not what was written; the message names the file."""


class Vanished(Exception):
    """A checkpoint was moved or removed while it was being read."""


@dataclass(frozen=True)
class Checkpoint:
    """What was stored after `iteration` iterations; `notices` say which damaged ones were passed over on the way."""

    iteration: int
    directory: Path
    networks: dict[str, dict[str, Tensor]]
    averaged: dict[str, dict[str, Tensor]]
    state: Any = None
    notices: tuple[str, ...] = ()


# --- making -------------------------------------------------------------------------------------------------------


def serialise(
    iteration: int,
    networks: Mapping[str, Weights],
    averaged: Mapping[str, Weights],
    state: Any,
    unchecked: tuple[str, ...] = (),
) -> dict[str, bytes]:
    """All files of a checkpoint, the manifest last.

    Raises DivergedError where a floating-point tensor is not finite, but for names that begin as one of `unchecked`,
    and StoreError for what cannot be stored.
    """
    plain, tensors = flatten(state)
    groups = {f"{role}.safetensors": _weights(role, weights) for role, weights in networks.items()}
    groups |= {f"{role}.ema.safetensors": _weights(role, weights) for role, weights in averaged.items()}
    groups[STATE_TENSORS] = tensors
    for name, group in groups.items():
        _check_finite(name, group, unchecked)
    contents = {name: safetensors.torch.save(group) for name, group in groups.items()}
    contents[STATE_PLAIN] = json.dumps(plain, allow_nan=False).encode("ascii")
    contents[MANIFEST] = _manifest(iteration, contents)
    return contents


def _weights(role: str, weights: Weights) -> dict[str, Tensor]:
    """Copies that share nothing, as tied weights would be refused; loading them into the module ties them again."""
    if not ROLE.fullmatch(role) or role == "state":
        raise StoreError(f"role '{role}' cannot name a file: use letters, digits, '_' and '-', and not 'state'")
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise StoreError(f"{role}: '{name}' is {type(value).__name__}; networks are stored as tensors only")
    return {name: stored_tensor(value, f"{role}.{name}") for name, value in weights.items()}


def _check_finite(name: str, group: Weights, unchecked: tuple[str, ...]) -> None:
    for key, tensor in group.items():
        if not (tensor.is_floating_point() or tensor.is_complex()) or key.startswith(unchecked):
            continue
        values = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
        bad = values.numel() - int(torch.isfinite(values).sum())
        if bad:
            where = name.removesuffix(".safetensors")
            raise DivergedError(
                f"{where}: {bad} of {values.numel()} values of '{key}' are not finite; this state is not stored"
            )


def _manifest(iteration: int, contents: Mapping[str, bytes]) -> bytes:
    listed = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
    body = {"format": FORMAT, "iteration": iteration, "files": listed}
    return (json.dumps({**body, "check": _check(body)}, indent=1) + "\n").encode("ascii")


def _check(body: Mapping[str, Any]) -> str:
    """The manifest's own checksum, so that a flipped bit in it is not taken for another version's format."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode("ascii")).hexdigest()


# --- reading ------------------------------------------------------------------------------------------------------


def read_checkpoint(directory: Path, iteration: int, with_state: bool = True) -> Checkpoint:
    """Read and verify the checkpoint in `directory`. Raises Damaged, Vanished, or StoreError for a newer format."""
    with _Folder(directory) as folder:
        files = _read_manifest(folder, iteration)
        networks: dict[str, dict[str, Tensor]] = {}
        averaged: dict[str, dict[str, Tensor]] = {}
        for name, (size, digest) in files.items():
            match = WEIGHTS.fullmatch(name)
            if match and name != STATE_TENSORS:
                target = averaged if match["averaged"] else networks
                target[match["role"]] = _tensors(folder, name, folder.read(name, size, digest))
        state = _read_state(folder, files) if with_state else None
    return Checkpoint(iteration, directory, networks, averaged, state)


def _read_state(folder: _Folder, files: Mapping[str, tuple[int, str]]) -> Any:
    tensors = _tensors(folder, STATE_TENSORS, folder.read(STATE_TENSORS, *files[STATE_TENSORS]))
    try:
        return unflatten(json.loads(folder.read(STATE_PLAIN, *files[STATE_PLAIN])), tensors)
    except (ValueError, RecursionError, StoreError) as error:
        raise Damaged(f"{folder.path / STATE_PLAIN}: {error}") from error


def _tensors(folder: _Folder, name: str, data: bytes) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load(data))
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise Damaged(f"{folder.path / name}: {str(error).splitlines()[0]}") from error


def _read_manifest(folder: _Folder, iteration: int) -> dict[str, tuple[int, str]]:
    """Size and sha256 by file name."""
    path = folder.path / MANIFEST
    try:
        body = json.loads(folder.read(MANIFEST))
        check = body.pop("check")
        if check != _check(body):
            raise ValueError("its own checksum differs")
        if body["format"] > FORMAT:
            raise StoreError(f"{path}: format {body['format']} was written by a newer version; this one reads {FORMAT}")
        files = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in body["files"].items()}
        odd = [name for name in files if name != STATE_PLAIN and not WEIGHTS.fullmatch(name)]
        if odd:
            raise ValueError(f"it lists a file '{odd[0][:60]}' that no checkpoint has")
        if body["iteration"] != iteration or not {STATE_PLAIN, STATE_TENSORS} <= set(files):
            raise ValueError("it belongs to another checkpoint")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = "not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        raise Damaged(f"{path}: {reason}") from error
    return files


class _Folder:
    """An open directory: what is read from it stays one checkpoint, even while another takes over its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Vanished(str(path)) from error
        except OSError as error:
            raise StoreError(f"cannot read {path}: {cause(error)}") from error

    def __enter__(self) -> _Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def read(self, name: str, size: int | None = None, digest: str | None = None) -> bytes:
        """All of a file, which must have the size and sha256 given. Raises Damaged or Vanished."""
        path = self.path / name
        try:
            handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._handle)
            with os.fdopen(handle, "rb") as stream:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    raise Damaged(f"{path}: not a regular file")
                if status.st_size != size if size is not None else status.st_size > MANIFEST_LIMIT:
                    raise Damaged(f"{path}: {status.st_size} bytes where {size or f'at most {MANIFEST_LIMIT}'} are due")
                data = stream.read(status.st_size)
        except FileNotFoundError as error:
            raise (Vanished(str(path)) if self._moved() else Damaged(f"{path}: missing")) from error
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                raise StoreError(f"cannot read {path}: {cause(error)}") from error
            raise Damaged(f"{path}: {cause(error)}") from error
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise Damaged(f"{path}: its sha256 differs from the manifest's")
        return data

    def _moved(self) -> bool:
        try:
            here, opened = os.stat(self.path), os.fstat(self._handle)
        except OSError:
            return True
        return (here.st_dev, here.st_ino) != (opened.st_dev, opened.st_ino)
