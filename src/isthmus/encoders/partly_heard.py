"""Recordings that are longer than what an expert hears of one: counted, and said to be."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class PartlyHeard:
    """Counts the recordings of which a part isn't heard.

    Args:
        listener: names the encoder in warnings.
    """

    def __init__(self, listener: str) -> None:
        self.listener = listener
        self.count = 0

    def __call__(self, source: str, seconds: float, heard: str, fix: str) -> None:
        """Counts one; a warning comes at the first, the second, the fourth, the eighth, ...

        Args:
            source: of the recording.
            seconds: how long it is.
            heard: which part of it is heard.
            fix: what to do about it.
        """
        self.count += 1
        if self.count & (self.count - 1) == 0:
            log.warning(
                "%s: %d recordings so far are longer than what it hears; of the last, %s of %.1f s, %s heard. %s.",
                self.listener,
                self.count,
                source,
                seconds,
                heard,
                fix,
            )
