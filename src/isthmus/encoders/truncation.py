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
        """Counts one; a warning comes at the first, the second, the fourth, the eighth, ...

        Args:
            source: of the recording.
            seconds: how long it is.
            part: which part of it is encoded.
            fix: what to do about it.
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
