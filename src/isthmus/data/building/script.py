"""One dialogue as it is written: templates are filled, and every medium that was shown is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from isthmus.data.building.media_pool import Captioned
from isthmus.data.building.templates import Templates
from isthmus.data.conversations.schema import ContentItem, Message, Role, TextItem

Filling = str | Captioned


class Script:
    """A dialogue in the making.

    Args:
        templates: for what media are called.

    Attributes:
        messages: the turns so far.
        shown: all media of these, in order.
    """

    def __init__(self, templates: Templates) -> None:
        self.templates = templates
        self.messages: list[Message] = []
        self.shown: list[Captioned] = []

    def add(self, role: Role, template: str, fillings: Mapping[str, Filling]) -> None:
        """A turn; text beside media is trimmed."""
        items: list[ContentItem] = []
        text = ""

        def end() -> None:
            nonlocal text
            if text.strip():
                items.append(TextItem(text.strip()))
            text = ""

        for literal, name, _, _ in Formatter().parse(template):
            # A caption that ends its sentence itself needs no second stop.
            text = text.rstrip(".") + literal if literal[:1] in (".", ",", ":", "?") else text + literal
            if name is None:
                continue
            filling = fillings[name]
            if isinstance(filling, str):
                text += filling
                continue
            end()
            items.append(filling.item(is_answer=role == "assistant"))
            self.shown.append(filling)
        end()
        self.messages.append(Message(role, tuple(items)))

    def ordinal(self, of: Captioned) -> str | None:
        """How one of the media that were shown is called among those of its modality; None if there's no such word."""
        own = [place for place, shown in enumerate(self.shown) if shown.modality is of.modality]
        at = own.index(next(place for place, shown in enumerate(self.shown) if shown is of))
        return self.templates.ordinals[at] if at < len(self.templates.ordinals) else None


def with_article(word: str) -> str:
    """The word behind ``a`` or ``an``, by its letter."""
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"
