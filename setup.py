"""Map the four top-level folders, with every sub-package they hold, into the `ganglion` namespace."""

from setuptools import find_namespace_packages, setup

FOLDERS = ("engine", "strategies", "networks", "datasets")

setup(
    package_dir={f"ganglion.{folder}": folder for folder in FOLDERS},
    packages=[
        f"ganglion.{name}"
        for folder in FOLDERS
        for name in (folder, *(f"{folder}.{package}" for package in find_namespace_packages(folder)))
        if "__pycache__" not in name
    ],
)
