"""Recordings that are longer than what an expert encodes: counted and logged."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Truncation:
    """Counts the recordings of which only a part is encoded.

    Args:
        encoder: its name in warnings.
    """

    def __init__(self, encoder: str) -> None:
        self.encoder = encoder
        self.count = 0

    def __call__(self, source: str, seconds: float, part: str, fix: str) -> None:
        """Counts a recording, and logs a warning at the first, the second, the fourth, the eighth, ...

        Args:
            source: the recording's source.
            seconds: its length.
            part: the part of it that is encoded.
            fix: advice on how to encode more of it.
        """
        self.count += 1
        if self.count & (self.count - 1) == 0:
            log.warning(
                "%s: %d recordings so far are longer than what it encodes; of the last, %s of %.1f s, %s encoded. %s.",
                self.encoder,
                self.count,
                source,
                seconds,
                part,
                fix,
            )
