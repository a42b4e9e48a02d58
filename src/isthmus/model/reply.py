"""An answer of the whole model: text and media, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from isthmus.backbones.base import joined
from isthmus.data.media.reply_files import save_pieces
from isthmus.display.pages import fragment
from isthmus.paths import user_path
from isthmus.types import Media, Modality


@dataclass
class Reply:
    """What the model says and makes. A notebook shows it: words, pictures, films, sounds to play, turning clouds.

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
        return joined(piece for piece in self.content if isinstance(piece, str))

    def media(self, modality: Modality | None = None) -> list[Media]:
        """The media, or those of one modality."""
        media = [piece for piece in self.content if isinstance(piece, Media)]
        return media if modality is None else [medium for medium in media if medium.modality is modality]

    def save(self, folder: str | Path) -> list[Path]:
        """Writes ``reply.json`` and each medium into a folder, and returns the paths of the media.

        ``reply.json`` holds ``content`` in the chat-content convention, with file names, and what else is known of the
        reply. Nothing is overwritten: an earlier reply's record becomes ``reply-001.json``, and its media keep their
        names.

        Raises:
            ValueError: a file can't be written.
        """
        facts = {"forced": self.forced, "ended": self.ended, "tokens": self.tokens, "left_out": self.left_out}
        return save_pieces(self.content, facts, user_path(folder))

    def _repr_html_(self) -> str:
        """For notebooks: the pieces in order. All text is escaped, and nothing is fetched."""
        notes = [f"The {modality} was required; the model didn't give it by itself." for modality in self.forced]
        if self.ended == "length":
            notes.append("The text was cut off at its limit of tokens.")
        if self.left_out:
            notes.append(f"{self.left_out} messages at the beginning weren't read.")
        return fragment(self.content, notes)
