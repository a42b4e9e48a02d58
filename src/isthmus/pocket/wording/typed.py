"""How people type: capitals, full stops, apostrophes and articles that come and go, short forms, and some slips."""

from __future__ import annotations

import re
from collections.abc import Sequence

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import Part, pick
from isthmus.pocket.world import DIGITS, Split

TEXTING = {
    "you": ("u",),
    "are": ("r",),
    "please": ("pls", "plz"),
    "picture": ("pic",),
    "thanks": ("thx",),
    "I": ("i",),
    "what is": ("whats",),
}
_TEXTED = re.compile(r"\b(?:" + "|".join(sorted(TEXTING, key=len, reverse=True)) + r")\b")
_ARTICLE = re.compile(r"\b(?:an?|the) (?=\w)", re.IGNORECASE)
SLIPS: dict[Split, float] = {"train": 0.15, "validation": 0.06, "test": 0.06}
"""The share of turns with a mistyped word. Training has more: a slip in the one word that names a medium decides."""
_LONG_WORD = re.compile(r"\b[a-z]{5,}\b")


def typed(random: Random, parts: Sequence[Part], split: Split) -> tuple[Part, ...]:
    """A turn as someone may type it. Media stay where they are; what they and the words say stays the same."""
    texts = [place for place, part in enumerate(parts) if isinstance(part, str) and part.strip()]
    written: list[Part] = list(parts)
    if not texts:
        return tuple(written)
    first, last = texts[0], texts[-1]
    written[first] = _begun(random, str(written[first]))
    # Words before a medium at the end of a turn end as they are: "what is this? <image>".
    if last == len(parts) - 1:
        written[last] = _ended(random, str(written[last]))
    manner = random.random() - SLIPS[split]
    if manner < 0.0:
        place = texts[random.integers(len(texts))]
        written[place] = _slipped(random, str(written[place]))
    elif manner < 0.06:
        written = [part.replace("'", "") if isinstance(part, str) else part for part in written]
    elif manner < 0.12:
        written = [
            _TEXTED.sub(lambda found: pick(random, TEXTING[found[0]]), p) if isinstance(p, str) else p for p in written
        ]
    elif manner < 0.14:
        written = [part.upper() if isinstance(part, str) else part for part in written]
    elif manner < 0.2:
        written[first] = _ARTICLE.sub("", str(written[first]), count=1)
    return tuple(written)


def _begun(random: Random, text: str) -> str:
    """With a capital letter in most turns."""
    head = len(text) - len(text.lstrip())
    return text[:head] + text[head].upper() + text[head + 1 :] if random.random() < 0.6 else text


def _ended(random: Random, text: str) -> str:
    """With the mark that belongs there in most turns, without any in others."""
    if text.endswith("?"):
        return text if random.random() < 0.75 else text[:-1]
    return text if text[-1] in ".!" else text + pick(random, (".", ".", ".", ".", "", "", "", "", "!", "..."))


def _slipped(random: Random, text: str) -> str:
    """With one longer word mistyped: two letters changed over, one left out or one doubled, never the first."""
    # A slip must not make another word of a digit: "three" is one step from "there".
    words = [found for found in _LONG_WORD.finditer(text) if found[0] not in DIGITS]
    if not words:
        return text
    word = words[random.integers(len(words))]
    letters = word[0]
    place = int(random.integers(1, len(letters) - 1))
    slip = (
        letters[:place] + letters[place + 1] + letters[place] + letters[place + 2 :],
        letters[:place] + letters[place + 1 :],
        letters[:place] + letters[place] + letters[place:],
    )[random.integers(3)]
    return text[: word.start()] + slip + text[word.end() :]
