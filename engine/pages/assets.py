"""The files that pages are made of: our stylesheet and scripts, and Bokeh's script from where it is installed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ganglion.engine.errors import PluginError
from ganglion.engine.files import read_text

SCRIPTS = ("parts.js", "curves.js", "chart.js", "charts.js")  # in this order, after Bokeh's


@cache
def asset(name: str) -> str:
    """The text of one of our own files: page.css, or one of SCRIPTS."""
    return read_text(Path(__file__).with_name(name))


def bokeh_path(wanted_by: str) -> Path:
    """Bokeh's script, without importing Bokeh. Raises PluginError where it is not installed.

    `wanted_by` is what needs it and the extra to install: "report" or "dashboard".
    """
    spec = find_spec("bokeh")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "server" / "static" / "js" / "bokeh.min.js"
        if path.is_file():
            return path
    raise PluginError(
        f"ganglion {wanted_by} needs the bokeh package, which is not installed: pip install ganglion[{wanted_by}]"
    )
