"""The command `dashboard`: checks what it is given, says where the page is, and serves it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ganglion.engine.errors import ConfigError, PluginError
from ganglion.engine.repository import Repository
from ganglion.engine.tables import clean_text, print_json

NEEDED = ("starlette", "uvicorn", "bokeh")


def dashboard(host: str, port: int, opening: bool, plugins: Sequence[str], runs: str | None, as_json: bool) -> None:
    """Serve the live page until Ctrl-C."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise PluginError(
            f"'ganglion dashboard' needs {' and '.join(missing)}, not installed: pip install ganglion[dashboard]"
        )
    from ganglion.engine.dashboard.guard import is_loopback
    from ganglion.engine.dashboard.serving import Address, choose_token, listen, serve

    root = _root(runs)
    token = choose_token()
    listening = listen(host, port)
    address = Address(host, int(listening.getsockname()[1]), token)
    if as_json:
        print_json({"url": address.url, "host": host, "port": address.port, "token": token, "runs": str(root)})
    else:
        print(address.url, flush=True)
    _say(f"the runs in {root}; Ctrl-C ends this page and no run")
    if not is_loopback(host):
        _say(
            f"--host {host}: who reaches this machine and has this address sees all runs and can start jobs; it "
            "travels unencrypted, so 'ssh -L' to a loopback page is safer"
        )
    if opening:
        import webbrowser

        webbrowser.open(address.url)
    serve(listening, address, root, tuple(plugins))


def _root(runs: str | None) -> Path:
    root = Repository(runs).root.absolute()
    if root.exists() and not root.is_dir():
        raise ConfigError(f"--runs {root}: it is a file, expected a folder of runs")
    return root


def _say(sentence: str) -> None:
    print(clean_text(sentence), file=sys.stderr, flush=True)
