"""How long a request is still worked for: until its time is up, or its client has left."""

from __future__ import annotations

import threading
import time

from isthmus.serving.errors import ApiError


class Patience:
    """Of one request. Threads that work for it look at it between their steps.

    Args:
        seconds: in which it must be answered.
        begun: when it came, by the monotonic clock; now if None.
    """

    def __init__(self, seconds: float, begun: float | None = None) -> None:
        self.seconds = seconds
        self._until = (time.monotonic() if begun is None else begun) + seconds
        self._ended = threading.Event()

    @property
    def left(self) -> float:
        """Seconds."""
        return 0.0 if self._ended.is_set() else max(0.0, self._until - time.monotonic())

    def end(self) -> None:
        """Nobody waits any more."""
        self._ended.set()

    def check(self) -> None:
        """Nothing, while there's time.

        Raises:
            ApiError: there's none left.
        """
        if not self.left:
            raise self.late()

    def late(self) -> ApiError:
        """What a client is told that waits in vain."""
        found = f"seconds: found no answer after {self.seconds:g} s; expected one"
        return ApiError(504, f"{found}. Fix: ask for less, or try again later.", code="timeout")
