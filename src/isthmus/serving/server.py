"""Runs the application until a signal ends it."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from isthmus.serving.app import Door
from isthmus.serving.guard.connections import HEAD_BYTES, BoundedProtocol
from isthmus.serving.limits import ServingLimits

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def configured(app: ASGIApp, host: str, port: int, limits: ServingLimits | None = None) -> uvicorn.Config:
    """How the application is served: over bounded connections, without the server's name, and with our own log."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=type("Bounded", (BoundedProtocol,), {"limits": limits or ServingLimits()}),
        ws="none",
        h11_max_incomplete_event_size=HEAD_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # else whoever asks from this machine says from which address
    )


class Server(uvicorn.Server):
    """Waits at its end for what is answered, but not for pages that people have left open.

    Args:
        app: the application.
        host: the address that it listens at.
        port: its port; 0 takes a free one.
        limits: of connections.
    """

    def __init__(self, app: Door, host: str, port: int, limits: ServingLimits) -> None:
        super().__init__(configured(app, host, port, limits))
        self.leave = app.leave

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.leave()
        await super().shutdown(sockets)


def serve(app: Door, host: str, port: int, has_keys: bool, limits: ServingLimits) -> None:
    """Serves until SIGTERM or SIGINT: then new connections are refused, and what runs or waits is answered.

    Args:
        app: the application.
        host: the address that it listens at.
        port: its port; 0 takes a free one.
        has_keys: whether clients must have a key.
        limits: of connections.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("mcp").setLevel(logging.WARNING)  # it has a line for each request, which we have, too
    if host not in LOOPBACK and not has_keys:
        logging.getLogger(__name__).warning("%s: whoever reaches this address may use it; --api_keys limits that", host)

    def ended(number: int, frame: FrameType | None) -> None:
        """Uvicorn raises the signal again when it has stopped; the process then ends by itself, with code 0."""

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended)
    Server(app, host, port, limits).run()
