"""Words of an LLM as a terminal shows them."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text without control characters, by which an LLM's output could control a terminal."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t").strip()
