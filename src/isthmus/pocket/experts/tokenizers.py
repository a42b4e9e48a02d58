"""CLIP's byte-pair tokenizer for a small lexicon: its own class and files, with one token for every word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
"""CLIP's suffix of the last piece of a word."""


def byte_pairs(word: str, merges: Sequence[tuple[str, str]]) -> list[str]:
    """The pieces of a word: of all applicable merges the earliest is applied first, as in CLIP."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    pieces = [*word[:-1], word[-1] + WORD_END]
    while len(pieces) > 1:
        best = min(pairwise(pieces), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined: list[str] = []
        for piece in pieces:
            if joined and (joined[-1], piece) == best:
                joined[-1] += piece
            else:
                joined.append(piece)
        pieces = joined
    return pieces


def lexicon_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Merges that make each word one piece.

    Merges are only appended, so that those of earlier words keep precedence.
    """
    merges: list[tuple[str, str]] = []
    for word in words:
        while len(pieces := byte_pairs(word, merges)) > 1:
            merges.append((pieces[0], pieces[1]))
    return merges


def clip_tokenizer(words: Sequence[str], context: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose vocabulary is all bytes, the merges of ``words`` and, with the largest ids, begin and end.

    Args:
        words: lower-case ASCII words, each of which becomes one token; any other text is split into smaller pieces.
        context: the most ids of a text, begin and end included.

    Raises:
        ValueError: a word has other characters than lower-case ASCII letters.
    """
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    odd = [word for word in words if not (word.isascii() and word.isalpha() and word.islower())]
    if odd:
        raise ValueError(f"words: found {odd}; expected lower-case ASCII letters: CLIP splits at anything else")
    letters = list(bytes_to_unicode().values())
    merges = lexicon_merges(words)
    pieces = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges)]
    # Two merges may give the same piece ("on" + "e", "o" + "ne"): it keeps its first id, and ids have no gaps.
    ids = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, BEGIN, END]))}
    # The library's hint names only strings; its byte-pair model wants pairs.
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=context)  # type: ignore[arg-type]


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """``save_pretrained``, plus ``vocab.json`` and ``merges.txt``, which CLIP's published checkpoints have."""
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
