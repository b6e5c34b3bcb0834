"""A new plugin package: written from templates, whole or not at all."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from string import Template

from ganglion.engine.errors import ConfigError

TEMPLATES = Path(__file__).parent / "templates"
FORM = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


def new_strategy(name: str, folder: str) -> list[str]:
    """Write the package `ganglion-<name>` below `folder`; the lines say what to do with it. Raises ConfigError."""
    module = snake_case(name)
    package = f"ganglion-{module.replace('_', '-')}"
    _check_name(name, module)
    place = Path(folder).expanduser()
    target = place / package
    if not place.is_dir():
        raise ConfigError(f"there is no folder {place} to write {package} into")
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists already; choose another name, or another folder with --into")
    _check_registered(name)
    files = _filled({"name": name, "module": module, "package": package, "version": _own_version()})
    _write(files, target)
    return [
        f"written to {target}:",
        *(f"  {file}" for file in files),
        f"install it:      pip install -e {target}",
        f"test it:         python -m pytest {target}",
        f"learn with it:   learn Generator,Discriminator Circle strategy={name}",
        f"or as it is:     learn --plugin {target / module}.py Generator,Discriminator Circle strategy={name}",
    ]


def snake_case(name: str) -> str:
    """`MyWGAN` as `my_wgan`: the name of a module."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"_+", "_", parted).lower()


def _check_name(name: str, module: str) -> None:
    if not FORM.fullmatch(name) or keyword.iskeyword(name) or keyword.iskeyword(module):
        raise ConfigError(f"{name!r} cannot name a strategy's class: letters, digits and single '_', as in MyGAN")
    words = set(re.findall(r"\w+", (TEMPLATES / "module.py.template").read_text(encoding="utf-8")))
    if name in words:
        raise ConfigError(f"'{name}' stands for something else in the module that would be written; choose another")
    if module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None:
        raise ConfigError(f"'{name}' would hide the module '{module}', which is there already; choose another name")


def _check_registered(name: str) -> None:
    from ganglion.engine.registry import Registry

    registry = Registry().load()
    for kind, wanted in (("strategy", name), ("objective", f"{name}Objective")):
        try:
            entry = registry.get(kind, wanted)
        except ConfigError:
            continue
        raise ConfigError(f"there is a {kind} '{entry.name}' already (from: {entry.origin}); choose another name")


def _own_version() -> str:
    return ".".join(version("ganglion").split(".")[:2])


def _filled(words: dict[str, str]) -> dict[str, str]:
    """The text of every file, by name."""
    names = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        "module.py": f"{words['module']}.py",
        "test.py": f"test_{words['module']}.py",
    }
    return {
        name: Template((TEMPLATES / f"{source}.template").read_text(encoding="utf-8")).substitute(words)
        for source, name in names.items()
    }


def _write(files: dict[str, str], target: Path) -> None:
    """Write beside the target, then rename: there is never half a package."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.mkdir()
        for name, text in files.items():
            (beside / name).write_text(text, encoding="utf-8")
        beside.rename(target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
