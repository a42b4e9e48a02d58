"""Sends a case over a connection of its own, and reads what comes back."""

from __future__ import annotations

import json
import re
import select
import socket
import time
from dataclasses import dataclass

from benchmarks.hostile.cases import Case

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
LONGEST = 120.0
"""Seconds after which a connection that is still open counts as hanging."""


@dataclass(frozen=True)
class Outcome:
    """Of a case.

    Attributes:
        case: what was sent.
        statuses: of the answers; empty if the server closed the connection without one.
        fault: what is wrong with that; "" if nothing.
        seconds: it took.
    """

    case: Case
    statuses: tuple[int, ...]
    fault: str
    seconds: float


def exchanged(port: int, case: Case) -> Outcome:
    """The outcome of a case at a server of this machine."""
    begun = time.monotonic()
    data, is_closed = b"", False
    with socket.create_connection(("127.0.0.1", port), timeout=LONGEST) as connection:
        try:
            for piece in case.pieces:
                if case.pause and select.select([connection], [], [], case.pause)[0]:
                    break
                connection.sendall(piece)
            is_closed = case.leaves
            while not case.leaves and time.monotonic() - begun < LONGEST:
                if not (received := connection.recv(1 << 16)):
                    is_closed = True
                    break
                data += received
        except TimeoutError:
            pass
        except OSError:  # closed while we sent
            is_closed = True
            data += _rest(connection)
    statuses = tuple(int(found) for found in STATUS.findall(data) if found != b"100")
    fault = "" if is_closed else "it hangs"
    if any(status >= 500 for status in statuses):
        fault = "a 5xx"
    elif len(statuses) == 1 and statuses[0] >= 400 and not case.is_page and not _is_error(data, case.is_call):
        fault = "another form than that of errors"
    return Outcome(case, statuses, fault, time.monotonic() - begun)


def _rest(connection: socket.socket) -> bytes:
    """What had arrived before the connection was reset."""
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def _is_error(data: bytes, is_call: bool) -> bool:
    """Whether an answer's body is an error of the API, or of JSON-RPC to an agent's call, or there's none (to HEAD)."""
    head, _, body = data.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    if not body or b"text/html" in head.lower():
        return True
    try:
        found = set(json.loads(body))
    except ValueError:
        return False
    return found == {"error"} or (is_call and found == {"jsonrpc", "id", "error"})
