"""What this machine offers, and what to do about what is wrong: `ganglion doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ganglion.engine.errors import fold

if TYPE_CHECKING:
    from ganglion.engine.registry import Registry

OLDEST_PYTHON = (3, 11)
TESTED_TORCH = ("2.13", "2.14")  # half-open, as in pyproject.toml
LITTLE_SPACE = 1 << 30  # bytes


class Finding(NamedTuple):
    """One thing that was looked at; what is not `good` says in `found` what to do about it."""

    what: str
    found: str
    good: bool = True


def examine(runs: str | None) -> list[Finding]:
    """Look at everything that a run needs; nothing is changed."""
    versions = list(_versions())
    if _torch_error() is not None:  # nothing else can be looked at
        return versions
    from ganglion.engine.registry import Registry

    registry = Registry().load()
    return [*versions, *_processors(), *_data(registry), _cache(), _runs(runs), *_plugins(registry), _terminal()]


# --- versions and devices -----------------------------------------------------------------------------------------


def _versions() -> Iterator[Finding]:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield Finding("Python", f"{found}: too old; make an environment with Python {oldest} or later", False)
    else:
        yield Finding("Python", found)
    yield _ganglion()
    yield _torch()


def _ganglion() -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    place = Path(__file__).parent.parent
    try:
        return Finding("Ganglion", f"{version('ganglion')} ({place})")
    except PackageNotFoundError:
        return Finding("Ganglion", f"{place} is not installed: pip install -e {place}", False)


def _torch() -> Finding:
    first, beyond = TESTED_TORCH
    advice = f"pip install 'torch>={first},<{beyond}'"
    error = _torch_error()
    if error is not None:
        return Finding("torch", f"it cannot be loaded ({error}): {advice}", False)
    import torch

    number = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2] if part.isdigit())
    tested = tuple(map(int, first.split("."))) <= number < tuple(map(int, beyond.split(".")))
    return Finding("torch", torch.__version__ if tested else f"{torch.__version__} is not tested: {advice}", tested)


def _torch_error() -> str | None:
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        return " ".join(str(error).split())
    return None


def _processors() -> Iterator[Finding]:
    import torch

    from ganglion.engine.device import usable_cores

    cores = usable_cores()
    devices = [f"cpu ({torch.backends.cpu.get_cpu_capability()})"]
    if torch.cuda.is_available():
        devices += [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    yield Finding("devices", ", ".join(devices))
    threads = f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    yield Finding("processor", f"{cores} core{'s' if cores > 1 else ''} for this process, torch uses {threads}")
    named = os.environ.get("CXX")
    compiler = next((path for name in (named, "c++", "g++", "clang++") if name and (path := shutil.which(name))), None)
    yield Finding("C++ compiler", compiler or "none (not needed)")


# --- folders ------------------------------------------------------------------------------------------------------


def _data(registry: Registry) -> Iterator[Finding]:
    from ganglion.engine.folders import DATA_VARIABLE, data_folders

    named = data_folders()
    if not named:
        yield Finding("data", f"{DATA_VARIABLE} is not set: data sets are made, embedded, or downloaded to the cache")
    for folder in named:
        if not folder.is_dir():
            yield Finding(f"data {folder}", f"there is no such folder; make it, or correct {DATA_VARIABLE}", False)
        elif not os.access(folder, os.R_OK | os.X_OK):
            yield Finding(f"data {folder}", f"it may not be read; change its rights, or {DATA_VARIABLE}", False)
        else:
            yield Finding(
                f"data {folder}", ", ".join(_data_sets(folder, registry)) or "no folder of a known data set in it"
            )


def _data_sets(folder: Path, registry: Registry) -> list[str]:
    """Names of the data sets that a sub-folder is called after; those that are given a path have no folder."""
    from ganglion.engine.resolution import settings_of

    inside = {fold(entry.name) for entry in folder.iterdir() if entry.is_dir()}
    named = [entry for entry in registry.all("dataset") if "path" not in settings_of(entry.thing).model_fields]
    return [entry.name for entry in named if fold(entry.name) in inside]


def _cache() -> Finding:
    from ganglion.engine.folders import CACHE_VARIABLE, cache_folder

    return _writable("cache", cache_folder(), f"name another folder with {CACHE_VARIABLE}")


def _runs(runs: str | None) -> Finding:
    from ganglion.engine.repository import VARIABLE, Repository

    return _writable("runs", Repository(runs).root.absolute(), f"name another folder with --runs or {VARIABLE}")


def _writable(what: str, folder: Path, advice: str) -> Finding:
    """Whether files can be made in `folder`, or in the nearest folder above where it would be made."""
    above = folder
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    try:
        with tempfile.TemporaryFile(dir=above) as file:
            file.write(b"x")
        free = shutil.disk_usage(above).free
    except OSError as error:
        reason = "it is not a folder" if above.exists() and not above.is_dir() else error.strerror or str(error)
        where = "" if above == folder else f" ({above})"
        return Finding(what, f"{folder} cannot be written{where}: {reason}; {advice}", False)
    size = f"{free / (1 << 30):.1f} GiB free"
    if free < LITTLE_SPACE:
        return Finding(what, f"{folder}: only {size}; remove something, or {advice}", False)
    return Finding(what, f"{folder}{'' if above == folder else ' (not made yet)'}, {size}")


# --- plugins and the terminal -------------------------------------------------------------------------------------


def _plugins(registry: Registry) -> Iterator[Finding]:
    from ganglion.engine.registry import BUILT_IN

    sound = [f"{plugin.name} ({plugin.origin})" for plugin in registry.plugins if plugin.error is None]
    yield Finding("plugins", ", ".join(sound) or "none besides the built-in ones")
    for plugin in registry.quarantined():
        name = plugin.origin.removeprefix("package ")
        advice = "install Ganglion anew" if plugin.origin == BUILT_IN else f"update it, or pip uninstall {name}"
        yield Finding(f"plugin {plugin.name}", f"{plugin.origin}: {plugin.error}; {advice}", False)


def _terminal() -> Finding:
    from rich.console import Console

    console = Console(stderr=True)
    kind = "live display" if console.is_terminal and not console.is_dumb_terminal else "plain lines"
    colours = console.color_system or "no"
    return Finding("terminal", f"{kind}, {console.width} columns, {colours} colours, {console.encoding}")
