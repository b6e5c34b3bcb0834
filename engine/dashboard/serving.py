"""Starting the server: a socket of its own, one line with the address, and an end that waits for no browser."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import uvicorn

from ganglion.engine.dashboard.app import Dashboard
from ganglion.engine.errors import ConfigError
from ganglion.engine.files import cause

VARIABLE = "GANGLION_DASHBOARD_TOKEN"
SHORTEST = 16  # characters of a token that a person chooses
GRACE = 2  # seconds that open streams have at the end


class Address(NamedTuple):
    """Where a server listens, and the token without which it answers nobody."""

    host: str
    port: int
    token: str

    @property
    def url(self) -> str:
        """What to open in a browser on this machine."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0") else "::1" if self.host == "::" else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/?token={self.token}"


class Server(uvicorn.Server):
    """Ends its streams at once when it is told to stop."""

    def __init__(self, config: uvicorn.Config, dashboard: Dashboard) -> None:
        super().__init__(config)
        self.dashboard = dashboard

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.dashboard.watcher.drop_all()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError where there is no such address, or the port is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"--host {host}: no address of this machine is called that") from None
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"--port {port}: another program listens there; take another one, or --port 0 for any that is free"
            ) from None
        raise ConfigError(f"--host {host} --port {port}: cannot listen there ({cause(error)})") from None
    listening.listen(128)
    return listening


def choose_token() -> str:
    """A random token; or the one that GANGLION_DASHBOARD_TOKEN holds, so that pages outlive a restart."""
    token = os.environ.get(VARIABLE, "").strip()
    if token and (len(token) < SHORTEST or not all(sign.isalnum() or sign in "-_" for sign in token)):
        raise ConfigError(f"{VARIABLE}: expected at least {SHORTEST} letters, digits, '-' or '_', or nothing at all")
    return token or secrets.token_urlsafe(32)


def serve(listening: socket.socket, address: Address, root: Path, plugins: tuple[str, ...]) -> None:
    """Serve until a signal ends it."""
    dashboard = Dashboard(root, plugins)
    config = uvicorn.Config(
        dashboard.application(address.token, address.host, address.port),
        log_config=None,
        log_level="critical",
        access_log=False,  # the first address that is asked for holds the token
        server_header=False,
        proxy_headers=False,
        ws="none",
        http="h11",
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=400,
    )
    Server(config, dashboard).run(sockets=[listening])
