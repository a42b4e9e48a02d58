"""Hosts on one machine: network namespaces with addresses of their own, joined by a switch over shaped links.

Needs Linux, iproute2, util-linux and the right to make namespaces (root, or CAP_NET_ADMIN with CAP_SYS_ADMIN). A
namespace here has no name: it lives as long as the processes in it, so that none is left behind, even where the process
that made it was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

INTERFACE = "wire"
"""What each host calls its end of the link."""


class Hosts:
    """Some hosts behind one switch, for a ``with`` block; at its end whatever runs on them is killed.

    Args:
        count: how many.
        rate: of each host's link, both ways, as ``tc`` writes it (``200mbit``); unshaped if None.
        delay: one way, as ``tc`` writes it (``2ms``). It needs the kernel's netem, which not every kernel has.

    Attributes:
        addresses: of each host.

    Raises:
        ValueError: namespaces can't be made here, or the kernel can't shape the link so.
    """

    def __init__(self, count: int = 2, rate: str | None = None, delay: str | None = None) -> None:
        self.addresses = [f"10.77.0.{host + 1}" for host in range(count)]
        self._shape = _shape(rate, delay)
        self._holders: list[subprocess.Popen[bytes]] = []
        self._running: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        if (missing := unsupported()) is not None:
            raise ValueError(f"hosts: found {missing}; expected namespaces. Fix: run as root on Linux with iproute2.")
        try:
            self._build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for holder in self._holders:
            for process_id in _others_in_namespace(holder.pid):
                _kill(process_id)
            holder.kill()
            holder.wait()
        for process in self._running:
            process.wait()
        self._running, self._holders = [], []

    def start(self, host: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """A command on a host; ``options`` are those of ``subprocess.Popen``."""
        # It dies with this process, which may be killed itself, and doesn't begin where that has happened already.
        lives = ["sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(os.getpid())]
        dies_too = ["setpriv", "--pdeathsig", "KILL", *lives]
        process = subprocess.Popen([*dies_too, *self.enter(host), *command], start_new_session=True, **options)
        self._running.append(process)
        return process

    def enter(self, host: int) -> list[str]:
        """What stands before a command so that it runs on a host."""
        return ["nsenter", f"--net={self.namespace(host)}"]

    def namespace(self, host: int) -> str:
        """The file that stands for a host's namespace."""
        return f"/proc/{self._holders[host + 1].pid}/ns/net"

    def cut(self, host: int) -> None:
        """Takes a host off the switch: what it sends is lost, and nothing reaches it."""
        self._on_switch("ip", "link", "set", f"port{host}", "down")

    def mend(self, host: int) -> None:
        """Puts it back."""
        self._on_switch("ip", "link", "set", f"port{host}", "up")

    def _build(self) -> None:
        self._hold()  # the switch
        self._on_switch("ip", "link", "add", "bridge", "type", "bridge")
        self._on_switch("ip", "link", "set", "bridge", "up")
        for host, address in enumerate(self.addresses):
            holder = self._hold()
            self._on_switch(
                *f"ip link add port{host} type veth peer name {INTERFACE} netns {holder.pid}".split(),
            )
            self._on_switch("ip", "link", "set", f"port{host}", "master", "bridge", "up")
            for command in (
                "ip link set lo up",
                f"ip address add {address}/24 dev {INTERFACE}",
                f"ip link set {INTERFACE} up",
                *[f"tc qdisc add dev {INTERFACE} root {self._shape}"] * bool(self._shape),
            ):
                _run(*self.enter(host), *command.split())
            if self._shape:
                self._on_switch(*f"tc qdisc add dev port{host} root {self._shape}".split())

    def _hold(self) -> subprocess.Popen[bytes]:
        """A process that keeps a namespace: it ends with its input, so at the latest with this process."""
        holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self._holders.append(holder)
        for _ in range(500):  # until it has left this process's namespace
            if os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"):
                return holder
            time.sleep(0.01)
        raise ValueError("hosts: found no namespace after 5 s; expected one. Fix: run as root on Linux.")

    def _on_switch(self, *command: str) -> None:
        _run(*self.enter(-1), *command)


def unsupported() -> str | None:
    """Why there can be no hosts here; None where there can."""
    for program in ("unshare", "nsenter", "setpriv", "ip", "tc"):
        if shutil.which(program) is None:
            return f"no {program}"
    for command in (["true"], "ip link add probe type veth peer name other".split()):
        tried = subprocess.run(["unshare", "--net", *command], capture_output=True, text=True, check=False)
        if tried.returncode:
            return tried.stderr.strip()
    return None


def can_delay() -> bool:
    """Whether the kernel has netem."""
    command = "unshare --net tc qdisc add dev lo root netem delay 1ms".split()
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _shape(rate: str | None, delay: str | None) -> str:
    if delay is not None:
        return f"netem delay {delay} limit 10000" + ("" if rate is None else f" rate {rate}")
    return "" if rate is None else f"tbf rate {rate} burst 32kb latency 200ms"


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ValueError(
            f"hosts: {' '.join(command)}: found {ran.stderr.strip()}; expected it to work. Fix: run as root, on a "
            "kernel with veth, bridge and the queueing discipline that is asked for."
        )


def _others_in_namespace(holder: int) -> list[int]:
    """The processes in a holder's namespace, the holder left out."""
    try:
        own = os.readlink(f"/proc/{holder}/ns/net")
    except OSError:
        return []
    if own == os.readlink("/proc/self/ns/net"):
        return []  # it never left ours, whose processes aren't the host's
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != holder:
            try:
                if os.readlink(f"/proc/{entry}/ns/net") == own:
                    found.append(int(entry))
            except OSError:  # it has ended
                continue
    return found


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
