"""Captions -> a text conditioner's ids, of one length. Longer captions are truncated, with a warning."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

log = logging.getLogger(__name__)


def padded_ids(tokenizer: Any, captions: Sequence[str], length: int) -> Any:
    """The tokenizer's ``input_ids`` and ``attention_mask``, (B, length); truncates without a warning."""
    return tokenizer(list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt")


class CaptionIds:
    """Pads and truncates captions as the diffusers pipelines do.

    Args:
        tokenizer: the pipeline's.
        length: number of ids, begin and end tokens included.
        source: the generator's name in warnings.
    """

    def __init__(self, tokenizer: Any, length: int, source: str) -> None:
        self.tokenizer = tokenizer
        self.length = length
        self.source = source
        self.cut = 0

    def __call__(self, captions: Sequence[str]) -> Any:
        """The tokenizer's ``input_ids`` and ``attention_mask``, (B, length).

        Counts truncated captions, and logs a warning at the first, the second, the fourth, the eighth, ...
        """
        for caption in captions:
            found = len(self.tokenizer(caption, truncation=False, verbose=False).input_ids)
            if found > self.length:
                self.cut += 1
                if self.cut & (self.cut - 1) == 0:
                    log.warning(
                        "%s: %d captions so far are longer than %d tokens, and their ends aren't read; the last, of "
                        "%d, is '%.200s'. Shorten the captions.",
                        self.source,
                        self.cut,
                        self.length,
                        found,
                        caption,
                    )
        return padded_ids(self.tokenizer, captions, self.length)
