"""Open questions: whether a reply's key words or numbers hold the answer, as MMMU's official script decides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
"""Behind which a sentence says what it comes to; the reply's last sentence also behind an equals sign."""
ALONE = (":", ",", ".", "!", "?", ";", "'")
_WITH_COMMAS = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
_SCIENTIFIC = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
_PLAIN = re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")

Form = str | float


def answers_openly(reply: str, expected: Sequence[str]) -> bool:
    """Whether a reply holds one of the expected texts, or equals one of the expected numbers to two decimals."""
    known = [form for one in expected for form in _forms(one)]
    texts = [one for one in known if isinstance(one, str)]
    for said in _said(reply):
        if any(one in said for one in texts) if isinstance(said, str) else said in known:
            return True
    return False


def _said(reply: str) -> Iterator[Form]:
    """What a reply states: the end of each sentence behind the word nearest to it, and the numbers there."""
    lower = reply.strip().strip(".").lower()
    sentences = lower.split("\n")  # capitals, by which the official script also parts sentences, are gone by then
    ends = []
    for place, sentence in enumerate(sentences):
        keys = (*KEYS, "=") if place == len(sentences) - 1 else KEYS
        shortest = ""
        for key in keys:
            rest = sentence.split(key)[-1].strip()
            if key in sentence and (not shortest or len(rest) < len(shortest)):
                shortest = rest
        if shortest and shortest not in ALONE:
            ends.append(shortest)
    for end in ends or [lower]:
        yield from _forms(end)
        for pattern in (_WITH_COMMAS, _SCIENTIFIC, _PLAIN):
            for number in pattern.findall(end):
                yield from _forms(number)


def _forms(text: str) -> list[Form]:
    """A number to two decimals; or lower-case text, of which a single letter must stand beside a space."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lower = text.lower()
        return [f" {lower}", f"{lower} "] if len(lower) == 1 else [lower]
