"""Fetches a file in a worker, from a host on the list, by the address that was checked."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urljoin

from isthmus.data.errors import DataError, Fault, fault
from isthmus.serving.guard.addresses import Place, Resolve, place, resolved, system_resolve
from isthmus.serving.guard.worker import Ask, Facts

REDIRECTS = 3
PIECE = 1 << 16
HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "isthmus", "Connection": "close"}

Connect = Callable[[tuple[str, int], float], socket.socket]
"""An IP address and a port, and seconds for each step -> a connection."""


@dataclass(frozen=True)
class Fetcher:
    """The worker's side. How long it may take in all, its pool says.

    Attributes:
        hosts: of the list.
        most: bytes of a file.
        seconds: for each step of a connection.
        resolve: looks a name up.
        connect: connects to an IP address.
        authorities: a file of certificates that are trusted; the system's if None.
    """

    hosts: Sequence[str]
    most: int
    seconds: float
    resolve: Resolve = system_resolve
    connect: Connect = socket.create_connection
    authorities: str | None = None

    def __call__(self, task: Facts, ask: Ask) -> Facts:
        """Writes what ``url`` leads to into the file ``path``, under the name ``where``; says its type and name.

        Raises:
            DataError: the address or one that it leads on to may not be fetched, or it gives no file of its size.
        """
        url, where = task["url"], task["where"]
        for _ in range(REDIRECTS + 1):
            target = place(url, self.hosts, where)
            address = resolved(target.host, where, self.resolve)
            try:
                connection = _Connection(target, address, self)
                try:
                    response = connection.answer()
                    if response.status not in (301, 302, 303, 307, 308):
                        self._save(response, Path(task["path"]), where)
                        return {"type": response.headers.get_content_type(), "name": target.target.partition("?")[0]}
                    url = urljoin(url, response.headers.get("Location", ""))
                finally:
                    connection.close()
            except (OSError, HTTPException) as error:
                raise _failed(where, type(error).__name__) from error
        raise fault(where, f"found over {REDIRECTS} redirects", "the file", "give its own address", Fault.PATH)

    def _save(self, response: HTTPResponse, path: Path, where: str) -> None:
        if response.status != 200 or response.headers.get("Content-Encoding", "identity") != "identity":
            raise _failed(where, f"status {response.status}")
        size = 0
        with path.open("wb") as file:
            while piece := response.read1(PIECE):
                size += len(piece)
                if size > self.most:
                    raise fault(where, "found a larger file", f"at most {self.most} bytes", "shrink it", Fault.LIMIT)
                file.write(piece)
        if response.length:
            raise _failed(where, "it broke off")


class _Connection(http.client.HTTPSConnection):
    """A connection to an address that was checked, whose certificate must be the host's. No proxy is used."""

    def __init__(self, target: Place, address: str, fetcher: Fetcher) -> None:
        context = ssl.create_default_context(cafile=fetcher.authorities)
        super().__init__(target.host, 443, timeout=fetcher.seconds, context=context)
        self.target, self.address, self.fetcher, self.secured = target, address, fetcher, context

    def connect(self) -> None:
        """Connects by the address instead of looking the name up again."""
        plain = self.fetcher.connect((self.address, 443), self.fetcher.seconds)
        self.sock = self.secured.wrap_socket(plain, server_hostname=self.target.host)

    def answer(self) -> HTTPResponse:
        """The head of the answer."""
        self.request("GET", self.target.target, headers=HEADERS)
        return self.getresponse()


def _failed(where: str, reason: str) -> DataError:
    return fault(where, f"found an address that gives no file ({reason})", "one that does", "correct it", Fault.PATH)
