"""An answer of the whole model: text and media, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from isthmus.types import Media, Modality


@dataclass
class Reply:
    """What the model says and makes.

    Attributes:
        content: pieces of text and media in the order in which they were given.
        forced: media that were required but that the LLM didn't ask for by itself.
        ended: ``end``, or ``length`` where the limit cut the text.
        tokens: how many tokens were decoded.
        ids: what was written, token by token: the end token, where it came, and whole runs included.
        left_out: how many of the conversation's oldest messages the LLM's context had no room for.
    """

    content: list[str | Media] = field(default_factory=list)
    forced: list[Modality] = field(default_factory=list)
    ended: str = "end"
    tokens: int = 0
    ids: list[int] = field(default_factory=list)
    left_out: int = 0

    @property
    def text(self) -> str:
        """All text, joined."""
        words = [piece.strip() for piece in self.content if isinstance(piece, str)]
        return " ".join(piece for piece in words if piece)

    def media(self, modality: Modality | None = None) -> list[Media]:
        """The media, or those of one modality."""
        media = [piece for piece in self.content if isinstance(piece, Media)]
        return media if modality is None else [medium for medium in media if medium.modality is modality]
