"""Connections of bounded number, heads, bodies and answers: clients that are slow on purpose hold nothing for long."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from isthmus.serving.errors import invalid
from isthmus.serving.guard.headers import guarded
from isthmus.serving.limits import ServingLimits

log = logging.getLogger(__name__)

HEAD_BYTES = 16 << 10
"""Of an unfinished request line and headers; more is refused."""
REST_SECONDS = 2.0
"""For what still comes of a body that was answered without being read."""
READING_SECONDS = 60.0
"""In which a client must read on in an answer."""


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 over connections that nobody can keep by doing nothing. A subclass sets ``limits``."""

    limits: ClassVar[ServingLimits]
    refused: ClassVar[int] = 0
    _phase: tuple[str, object] | None = None
    _timer: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Closes a connection beyond those that may be open."""
        super().connection_made(transport)
        self.access_log = self.config.access_log  # and not as handlers of other loggers happen to be: it logs paths
        if len(self.connections) > self.limits.connections:
            self._refuse()
            transport.abort()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all waiting."""
        super().connection_lost(exc)
        for timer in (self._timer, self._reading):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Takes bytes, which may be a part of anything."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The answer is out."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer comes."""
        super().pause_writing()
        self._reading = self.loop.call_later(READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read on."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, in the form of every error, unless an answer is under way already."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps(invalid(f"{msg} Fix: send HTTP/1.1.", code="invalid_http").body).encode()
        length = (b"content-length", str(len(body)).encode())
        headers = guarded([(b"content-type", b"application/json"), (b"connection", b"close"), length])
        events: list[Any] = [h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()]
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _refuse(self) -> None:
        """Counts a connection, and logs at most one line a second, whatever comes."""
        own = type(self)
        own.refused += 1
        if own.refused == 1:
            self.loop.call_later(1.0, own._tell)

    @classmethod
    def _tell(cls) -> None:
        log.warning("more than %d connections: %d were closed", cls.limits.connections, cls.refused)
        cls.refused = 0

    def _watch(self) -> None:
        """Gives the client a time for what it owes: a head, a body, or the rest of one that nobody reads any more.

        The time runs from the beginning of that phase, however its bytes come.
        """
        is_answered = self.cycle is None or self.cycle.response_complete
        if self.conn.their_state is h11.SEND_BODY:
            phase = "rest" if is_answered else "body"
        else:
            phase = "head" if is_answered else "none"
        if self._phase == (phase, self.cycle):
            return
        self._phase = (phase, self.cycle)
        if self._timer is not None:
            self._timer.cancel()
        # A body that a route reads in vain is answered with 408 a moment before.
        seconds = {"head": self.limits.head_seconds, "body": self.limits.body_seconds + 2, "rest": REST_SECONDS}
        if phase in seconds:
            self._timer = self.loop.call_later(seconds[phase], self.transport.abort)
