"""Several hosts on one machine: network namespaces with an address each, and a wire that can be cut or made slow.

Linux and root are needed. The wire carries packets between TUN devices here, so that no module of the kernel is.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
PACKET = 65536
NETWORK = "10.99.0"
MTU = 1400


def ip(*words: str) -> None:
    """Set up the network."""
    subprocess.run(["ip", *words], check=True)


@dataclass
class Host:
    """A network namespace; what runs in it are the processes of that host."""

    number: int
    device: int = -1
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its namespace, which tells this process's hosts from another's."""
        return f"gang{os.getpid()}-{self.number}"

    @property
    def address(self) -> str:
        """Where the others reach it."""
        return f"{NETWORK}.{self.number + 1}"

    def set_up(self) -> None:
        """Make the namespace and its end of the wire."""
        ip("netns", "add", self.name)
        self.device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        link = f"gt{os.getpid() % 100000}{self.number}"
        fcntl.ioctl(self.device, TUNSETIFF, struct.pack("16sH", link.encode(), TUN_WITHOUT_HEADER))
        ip("link", "set", link, "netns", self.name)
        within = ("-n", self.name)
        ip(*within, "addr", "add", f"{self.address}/24", "dev", link)
        ip(*within, "link", "set", link, "up", "mtu", str(MTU))
        ip(*within, "link", "set", "lo", "up")

    def start(self, *words: str, log: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
        """Start a command on this host, which shares no memory with another; what it says is added to `log`."""
        own_memory = ("sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh")
        with log.open("a") as told:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *own_memory, *words],
                stdout=told, stderr=told, text=True, env={**os.environ, **environment}, start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def processes(self) -> list[int]:
        """Whatever runs here."""
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [int(word) for word in found.stdout.split()]

    def signal(self, number: int) -> None:
        """Send a signal to all that runs here."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def tear_down(self) -> None:
        """End what runs here, and remove the host."""
        self.signal(signal.SIGKILL)
        for process in self.started:
            process.wait(30)
        with suppress(subprocess.CalledProcessError):
            ip("netns", "del", self.name)
        os.close(self.device)


class Wire:
    """What carries packets between hosts: after `delay` seconds, and not to or from those that are `cut` off."""

    def __init__(self, count: int) -> None:
        self.hosts = [Host(number) for number in range(count)]
        self.delay = 0.0
        self.cut: set[int] = set()
        self._over = False
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Wire:
        for host in self.hosts:
            host.set_up()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        for host in self.hosts:
            host.tear_down()

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        number, devices = 0, {host.device: host.number for host in self.hosts}
        while not self._over:
            wait = max(0.0, min(0.2, under_way[0][0] - time.monotonic())) if under_way else 0.2
            for device in select.select(list(devices), [], [], wait)[0]:
                with suppress(BlockingIOError):
                    packet = os.read(device, PACKET)
                    number += 1
                    heapq.heappush(under_way, (time.monotonic() + self.delay, number, devices[device], packet))
            while under_way and under_way[0][0] <= time.monotonic():
                self._deliver(*heapq.heappop(under_way)[2:])

    def _deliver(self, sender: int, packet: bytes) -> None:
        if packet[0] >> 4 != 4:  # IPv6 asks for neighbours; nobody here has such an address
            return
        receiver = int(socket.inet_ntoa(packet[16:20]).rpartition(".")[2]) - 1
        if 0 <= receiver < len(self.hosts) and not {sender, receiver} & self.cut:
            with suppress(OSError):
                os.write(self.hosts[receiver].device, packet)


def workers(host: Host) -> list[int]:
    """The processes of `learn` on a host, without the launcher, in the order they were started."""
    found = []
    for process in host.processes():
        with suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
            if "learn" in words and "torch.distributed.run" not in words:
                found.append(process)
    return sorted(found)


def refuse_others() -> None:
    """Exit with a sentence where hosts cannot be made."""
    if sys.platform != "linux" or os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        sys.exit("hosts are made of network namespaces: this needs Linux, root and /dev/net/tun")
