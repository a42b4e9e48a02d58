"""Thoughts in answers, between ``<think>`` and ``</think>``: learnt, left out, or shown and not learnt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

from isthmus.data.conversations.literal_text import LITERAL

Thoughts = Literal["keep", "drop", "untrained"]
"""``keep``: they are learnt as all of an answer; ``drop``: they are taken out; ``untrained``: they carry no loss."""
THOUGHTS: tuple[str, ...] = get_args(Thoughts)

_OPEN, _CLOSE = "\uf8e7", "\uf8e8"
"""Stand for marks that are control tokens of the tokenizer, and so literals of a conversation's text."""
# A template may end a prompt in the opening mark: the answer then begins within a thought.
_THOUGHT = re.compile(rf"(?:\A(?:(?!<think>|{_OPEN}).)*?|(?:<think>|{_OPEN}).*?)(?:</think>|{_CLOSE})\s*", re.DOTALL)


def without_thoughts(said: str) -> str:
    """An answer's words without its thoughts."""
    return _THOUGHT.sub("", said)


def spans_without_thoughts(text: str, literals: Sequence[str], span: tuple[int, int]) -> list[tuple[int, int]]:
    """What is left of an answer's span in a rendered conversation.

    Args:
        text: the conversation.
        literals: the spellings for which its literals stand, in order.
        span: of the answer.
    """
    marks = {"<think>": _OPEN, "</think>": _CLOSE}
    left = iter(literals)
    shown = "".join(marks.get(next(left), LITERAL) if letter == LITERAL else letter for letter in text)
    begin, end = span
    spans = []
    for thought in _THOUGHT.finditer(shown[begin:end]):
        spans.append((begin, span[0] + thought.start()))
        begin = span[0] + thought.end()
    return [piece for piece in [*spans, (begin, end)] if piece[0] < piece[1]]
