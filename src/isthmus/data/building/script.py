"""A dialogue during its construction: fills templates and records the media of each turn."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from isthmus.data.building.media_pool import Captioned
from isthmus.data.building.templates import Templates
from isthmus.data.conversations.schema import ContentItem, Message, Role, TextItem

Filling = str | Captioned


class Script:
    """A dialogue during its construction.

    Args:
        templates: give the names of media.

    Attributes:
        messages: the turns so far.
        media: all their media, in order.
    """

    def __init__(self, templates: Templates) -> None:
        self.templates = templates
        self.messages: list[Message] = []
        self.media: list[Captioned] = []

    def add(self, role: Role, template: str, fillings: Mapping[str, Filling]) -> None:
        """Adds a turn; text next to media is stripped."""
        items: list[ContentItem] = []
        text = ""

        def end() -> None:
            nonlocal text
            if text.strip():
                items.append(TextItem(text.strip()))
            text = ""

        for literal, name, _, _ in Formatter().parse(template):
            # A caption that ends with a full stop gets no further punctuation.
            text = text.rstrip(".") + literal if literal[:1] in (".", ",", ":", "?") else text + literal
            if name is None:
                continue
            filling = fillings[name]
            if isinstance(filling, str):
                text += filling
                continue
            end()
            items.append(filling.item(is_answer=role == "assistant"))
            self.media.append(filling)
        end()
        self.messages.append(Message(role, tuple(items)))

    def ordinal(self, of: Captioned) -> str | None:
        """The ordinal of a medium among those of its modality; None if the templates have too few ordinals."""
        own = [place for place, medium in enumerate(self.media) if medium.modality is of.modality]
        at = own.index(next(place for place, medium in enumerate(self.media) if medium is of))
        return self.templates.ordinals[at] if at < len(self.templates.ordinals) else None


def with_article(word: str) -> str:
    """The word with ``a`` or ``an``, chosen by its first letter."""
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"
