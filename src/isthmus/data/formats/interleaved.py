"""Documents of text and images in one order -> turns: what MMC4 and OBELICS share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.fields import Item, given


def document(pieces: Sequence[tuple[str, str]], where: str) -> list[dict[str, Any]]:
    """Pieces (``text`` or ``image``, its words or path) -> turns that alternate.

    Images are the user's turns, and the text after them the assistant's, so that all text with an image before it is
    trained upon. Text before the first image is said by the user; images that no text follows are left out.

    Raises:
        DataError: no text after an image.
    """
    messages: list[dict[str, Any]] = []
    content: list[Item] = []
    words: list[str] = []

    def answer() -> None:
        nonlocal content, words
        said = [{"type": "text", "text": "\n".join(words)}]
        if any(item["type"] == "image" for item in content):
            messages.append({"role": "user", "content": content})
            messages.append({"role": "assistant", "content": said})
            content = []
        else:
            content = content + said
        words = []

    for kind, value in pieces:
        if kind == "image":
            if words:
                answer()
            content.append(given("image", value))
        elif value.strip():
            words.append(value.strip())
    if words and any(item["type"] == "image" for item in content):
        answer()
    if not messages:
        raise fault(where, "found no text after an image", "images with text after them", "take the document out")
    return messages
