"""Which of an LLM's answers are worth training on, and how one that the limit cut is ended."""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum

from isthmus.modalities import known_media

SHORTEST_CUT = 4
"""Words that an answer must still have after its unfinished last sentence is taken off."""
RUN, DISTINCT = 3, 0.75
"""Of an answer's runs of three words, at least this share must differ from one another."""
OFTEN = 3
"""Times that a line of an answer may stand in it before the answer counts as repetitive."""

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)")
_MARKER = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s*$")
_REFUSAL = re.compile(
    r"\b(?:as an ai\b|i(?:'m| am) (?:just |only )?an ai\b|language model|i(?:'m| am) (?:so )?(?:sorry|unable)|"
    r"i apologi[sz]e|i (?:can ?not|can't) (?:help|assist|provide|answer)|i don't have (?:access|personal|the ability))",
    re.IGNORECASE,
)
_MEDIA = (
    "picture", "photo", "photograph", "drawing", "sketch", "illustration", "diagram", "painting", "film", "clip",
    "animation", "recording", "song", "melody", "tune", "tone", "point cloud", "3d model",
)  # fmt: skip


class Rejection(StrEnum):
    """Why an answer isn't kept."""

    EMPTY = "empty"
    CUT = "cut in its first sentence"
    REPETITIVE = "repetitive"
    REFUSAL = "a refusal"
    MEDIUM = "names a medium"


def kept_answer(answer: str, is_cut: bool) -> str | Rejection:
    """The answer as it is trained on, or why it isn't.

    An answer that names a medium would teach the tuned model to speak of pictures and sounds without making them; a
    refusal would teach it to decline what it can answer.

    Args:
        answer: the LLM's words.
        is_cut: whether the limit of tokens ended it; it then ends with its last whole sentence.
    """
    text = _whole(answer.strip()) if is_cut else answer.strip()
    if not re.search(r"\w", text):
        return Rejection.CUT if is_cut and answer.strip() else Rejection.EMPTY
    if is_cut and len(text.split()) < SHORTEST_CUT:
        return Rejection.CUT
    if _is_repetitive(text):
        return Rejection.REPETITIVE
    if _REFUSAL.search(text):
        return Rejection.REFUSAL
    if _media().search(text):
        return Rejection.MEDIUM
    return text


def _whole(text: str) -> str:
    """The text up to the end of its last whole sentence; a list's last number alone is no sentence."""
    ends = [end.end() for end in _SENTENCE_END.finditer(text)]
    while ends:
        whole = text[: ends[-1]]
        if not _MARKER.match(whole.rpartition("\n")[2]):
            return whole
        ends.pop()
    return ""


def _is_repetitive(text: str) -> bool:
    words = re.findall(r"\w+", text.lower())
    runs = [tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)]
    if len(runs) > RUN and len(set(runs)) < DISTINCT * len(runs):
        return True
    lines = Counter(line.strip().lower() for line in text.splitlines() if line.strip())
    return any(count > OFTEN for count in lines.values())


def _media() -> re.Pattern[str]:
    """Words for media, those of every known modality among them."""
    names = {*_MEDIA, *(kind.spec.word for kind in known_media())}
    return re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, names)))})s?\b", re.IGNORECASE)
