"""Words of an LLM as a terminal shows them."""

from __future__ import annotations

from unicodedata import bidirectional, category

_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Marks that turn the direction of what follows (Unicode's bidirectional classes)."""


def printable(text: str) -> str:
    """The text without what could control a terminal or turn its lines around. Spaces of any kind become plain ones."""
    return "".join(map(_shown, text)).strip()


def _shown(character: str) -> str:
    kind = category(character)
    if kind.startswith("Z"):
        return "\n" if kind != "Zs" else " "
    controls = kind in ("Cc", "Cs", "Co", "Cn") and character not in "\n\t"
    return "" if controls or bidirectional(character) in _TURNS else character
