"""Text that spells a control token stays text: what a user types can't end a turn, forge one or stand for a medium.

A tokenizer finds its special tokens in a string wherever they are spelled. A rendered conversation must have those that
the template wrote, and no others. So each spelling in a turn's text is replaced by one private character, a *literal*,
before the template sees it, and the literal's token by the spelling's own tokens afterwards, as plain text.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any

from isthmus.data.errors import DataError, Fault

LITERAL = "\uf8e6"
"""Stands for a spelling while a conversation is text. A private-use character: no text in any language holds it."""


class LiteralText:
    """Takes spellings of control tokens out of texts, and writes them as plain text.

    Args:
        tokenizer: a fast tokenizer, as it was before private characters became tokens.
        private: characters that mean something while a conversation is text; typed, they are spellings too.
        ends: ids that end an answer.
    """

    def __init__(self, tokenizer: Any, private: Collection[str], ends: Collection[int]) -> None:
        self._plain = copy.deepcopy(tokenizer.backend_tokenizer)
        self._plain.encode_special_tokens = True
        self._plain.no_truncation()
        self._plain.no_padding()
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        control = {index for index, token in added.items() if token.special or index in ends}
        # Longest first, so that a token isn't taken for a shorter one that it begins with.
        ordered = sorted({*private, *(added[index].content for index in control)}, key=len, reverse=True)
        self._spelling = re.compile("|".join(map(re.escape, ordered)))
        # An unknown character's token controls nothing, unless it is the end token as well (GPT-2).
        self._control = control - ({tokenizer.unk_token_id} - {tokenizer.bos_token_id, tokenizer.eos_token_id, *ends})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._plain.encode_special_tokens = True  # a pickled tokenizer forgets it

    def take_out(self, text: str, literals: list[str]) -> str:
        """The text with :data:`LITERAL` for each spelling; the spellings are appended to ``literals``."""
        written: list[str] = []
        last = 0
        for found in self._spelling.finditer(text):
            written += [self._folded(text[last : found.start()], literals), LITERAL]
            literals.append(found.group())
            last = found.end()
        return "".join([*written, self._folded(text[last:], literals)])

    def ids(self, spelling: str, where: str) -> list[int]:
        """A spelling's tokens as plain text, none of which controls anything.

        Raises:
            DataError: the tokenizer has no other way to write it.
        """
        # A vocabulary of whole pieces may hold the token itself; character by character it isn't met.
        for pieces in ([spelling], list(spelling)):
            ids = [token for piece in pieces for token in self._plain.encode(piece, add_special_tokens=False).ids]
            if not self._control.intersection(ids):
                return ids
        raise DataError(
            Fault.RESERVED_TEXT,
            f"{where}: found {spelling!r} within text, which this tokenizer can write only as the control token that "
            "it spells; expected text that can't end a turn or forge one. Fix: take it out of the text.",
        )

    def _folded(self, text: str, literals: list[str]) -> str:
        """A text that only its normalised form makes a spelling (wide letters under NFKC) is one literal as a whole."""
        normalizer = self._plain.normalizer
        if not text or normalizer is None or not self._spelling.search(normalizer.normalize_str(text)):
            return text
        literals.append(text)
        return LITERAL
