"""The interface of judges, which read the attributes of a medium or of a text to score answers."""

from __future__ import annotations

from typing import Any, Protocol

Reading = dict[str, int | str | None]
"""Values by attribute; None where the judge can't read one."""


class Judge(Protocol):
    """Reads attributes of one modality's media, or of text; independent of every part of the evaluated model.

    Attributes:
        attributes: the names in its readings, the most important first.
    """

    attributes: tuple[str, ...]

    def many(self, media: Any) -> list[Reading]:
        """A sequence of media (of answers, for text) -> the reading of each."""
