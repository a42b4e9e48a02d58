"""What reads the attributes of a medium or of a text, so that answers can be scored."""

from __future__ import annotations

from typing import Any, Protocol

Reading = dict[str, int | str | None]
"""An attribute's name -> what was read; None where it isn't legible."""


class Judge(Protocol):
    """Reads attributes of one modality's media, or of text; independent of every part of the model that it judges.

    Attributes:
        attributes: the names in its readings, the one that matters most first.
    """

    attributes: tuple[str, ...]

    def many(self, media: Any) -> list[Reading]:
        """A sequence of media (of answers, for text) -> what each shows."""
