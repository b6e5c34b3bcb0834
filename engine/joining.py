"""How the processes of one job meet, how long they wait for one another, and which of them says what went wrong."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple

from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store, _set_pg_timeout
from torch.distributed.rendezvous import rendezvous

from ganglion.engine.errors import RunError
from ganglion.engine.launcher import Launch, by_torchrun, restarts
from ganglion.engine.processes import Part, being, leave

ANSWER = 5.0  # seconds after which the place where processes meet counts as gone
LEADER_FIRST = 1.0  # seconds that others leave to the first process to say what went wrong
PAUSE = 0.05  # seconds between two looks at who has come
ADDRESS_OF = 0x8915  # SIOCGIFADDR, Linux's question for the address of a network interface


_again: bool | None = None  # whether a launch had started the job before this process, once that was asked


class Meeting(NamedTuple):
    """The processes of one start, and what they can write down for one another."""

    part: Part
    store: Store | None
    again: bool  # whether this launch has started the job before


class Told(NamedTuple):
    """What went wrong first, and whether this process is the one that says so."""

    sentence: str
    says: bool


@contextmanager
def joined(launch: Launch, backend: str, patience: float) -> Iterator[Meeting]:
    """Join the other processes of a launch; `patience` is how long one waits for another, in seconds.

    Raises RunError where they cannot be reached.
    """
    wait = timedelta(seconds=patience)
    try:
        store = next(rendezvous("env://", timeout=wait))[0]
        name, again = _meet(store, launch, patience)
        own = PrefixStore(name, store)
        with _interface(launch.address):
            distributed.init_process_group(backend, store=own, rank=launch.rank, world_size=launch.count, timeout=wait)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:200].rstrip(".")
        raise RunError(
            f"process {launch.rank + 1} of {launch.count} cannot reach the others at {launch.address}:{launch.port} "
            f"within {patience:g} s ({reason}); is the address right, and open to this host?"
        ) from None
    with being(Part(launch.rank, launch.count)) as part:
        yield Meeting(part, own, again)


def started_before(patience: float) -> bool:
    """Whether the launch that has started this only process has started the job before."""
    if restarts() or not by_torchrun():
        return restarts() > 0
    try:
        return _starts(next(rendezvous("env://", timeout=timedelta(seconds=patience)))[0])
    except (RuntimeError, ValueError, OSError):
        return False


def be_patient(seconds: float) -> None:
    """How long this process waits for another from now on."""
    _set_pg_timeout(timedelta(seconds=seconds))


# --- meeting ------------------------------------------------------------------------------------------------------


def _starts(store: Store) -> bool:
    """Count the start of this process where the launcher keeps its numbers; whether there was one before.

    A process may learn several times, one job after another: that is one start.
    """
    global _again  # noqa: PLW0603
    if _again is None:
        _again = int(store.add("ganglion/starts", 1)) > 1
    return _again


def _meet(store: Store, launch: Launch, patience: float) -> tuple[str, bool]:
    """A name that only the processes of this start share, and whether the job was started before.

    A launcher's store outlives a start, and hosts that join later count their restarts from nought: what an earlier
    start has left there would lead to processes that are gone. So all sign in, and the first writes down whom it sees,
    until each has found itself in the list.
    """
    sign = f"{uuid.uuid4().hex}.{restarts()}"
    until = time.monotonic() + patience
    store.set(f"ganglion/here/{launch.rank}", sign)
    step = _lead_meeting(store, launch, sign) if launch.rank == 0 else _follow_meeting(store, launch, sign)
    for found in step:
        if found:
            told = json.loads(found)
            return str(told["name"]), bool(told["again"])
        if time.monotonic() > until:
            raise OSError("not all of them have come")
        time.sleep(PAUSE)
    raise AssertionError("a meeting looks until its time is over")


def _lead_meeting(store: Store, launch: Launch, sign: str) -> Iterator[str]:
    others = [f"ganglion/here/{rank}" for rank in range(1, launch.count)]
    again, listed, content = _starts(store), [""], ""
    while True:
        signs = [sign, *(store.get(key).decode() for key in others)] if store.check(others) else []
        if signs and signs != listed:
            listed = signs
            again = again or any(not each.endswith(".0") for each in signs)
            name = f"ganglion/{uuid.uuid4().hex}"
            content = json.dumps({"name": name, "again": again, "signs": signs})
            store.set("ganglion/list", content)
        if signs and store.check([f"{name}/agreed/{rank}" for rank in range(1, launch.count)]):
            store.set(f"{name}/go", "1")
            yield content
        yield ""


def _follow_meeting(store: Store, launch: Launch, sign: str) -> Iterator[str]:
    agreed = ""
    while True:
        content = store.get("ganglion/list").decode() if store.check(["ganglion/list"]) else "{}"
        told = json.loads(content)
        name = str(told.get("name"))
        if sign in told.get("signs", []):
            if name != agreed:
                agreed = name
                store.set(f"{name}/agreed/{launch.rank}", "1")
            if store.check([f"{name}/go"]):
                yield content
        yield ""


@contextmanager
def _interface(address: str) -> Iterator[None]:
    """Let gloo listen where `address` is reached from: the name of a host often stands for its loopback alone."""
    name = None if "GLOO_SOCKET_IFNAME" in os.environ else _interface_towards(address)
    if name is None:
        yield
        return
    os.environ["GLOO_SOCKET_IFNAME"] = name
    try:
        yield
    finally:
        del os.environ["GLOO_SOCKET_IFNAME"]


def _interface_towards(address: str) -> str | None:
    """The network interface from which an address is reached; None where that cannot be told."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # nothing is sent
        own = probe.getsockname()[0]
        if own.startswith("127.") and os.environ.get("GROUP_WORLD_SIZE") != "1":
            return None  # other hosts could not come to it
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                asked = fcntl.ioctl(probe.fileno(), ADDRESS_OF, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(asked[20:24]) == own:
                    return name
    return None


# --- who says what went wrong -----------------------------------------------------------------------------------


def tell_once(meeting: Meeting, sentence: str) -> Told:
    """Write down what went wrong; what the first that failed wrote, and whether this process is to say it.

    The first process shows the run, so it says it where it still can; otherwise the first that asks.
    """
    answer: list[Told] = []

    def ask() -> None:
        with suppress(RuntimeError, ValueError, OSError):
            answer.append(_asked(meeting, sentence))

    _in_time(ask)
    return answer[0] if answer else Told(sentence, True)


def _asked(meeting: Meeting, sentence: str) -> Told:
    store, first = meeting.store, meeting.part.rank == 0
    if store is None:
        return Told(sentence, True)
    if first:
        store.set("leader", "failed")
    why = store.compare_set("why", "", sentence).decode()
    leave()  # the others may wait for this process, and learn now that they need not
    if not first:
        _soon(lambda: store.check(["leader"]))
        says = not store.check(["leader"]) and int(store.add("said", 1)) == 1
        store.add("seen", 1)
        return Told(why, says)
    says = int(store.add("said", 1)) == 1
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # it is this process that keeps what is written
        _soon(lambda: int(store.add("seen", 0)) == meeting.part.count - 1)
    return Told(why, says)


def _soon(true: Callable[[], bool]) -> None:
    until = time.monotonic() + LEADER_FIRST
    while time.monotonic() < until and not true():
        time.sleep(PAUSE)


def _in_time(work: Callable[[], None]) -> None:
    """Do something that may never end, for a few seconds: who cannot be reached does not answer."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(ANSWER)
