"""Captions -> a text conditioner's ids, of one length. What is too long is cut, and said to be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

log = logging.getLogger(__name__)


def padded_ids(tokenizer: Any, captions: Sequence[str], length: int) -> Any:
    """The tokenizer's ``input_ids`` and ``attention_mask``, (B, length); what is too long is cut without a word."""
    return tokenizer(list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt")


class CaptionIds:
    """Pads and cuts captions as the diffusers pipelines do.

    Args:
        tokenizer: the pipeline's.
        length: ids a caption takes, begin and end included.
        source: names the generator in warnings.
    """

    def __init__(self, tokenizer: Any, length: int, source: str) -> None:
        self.tokenizer = tokenizer
        self.length = length
        self.source = source
        self.cut = 0

    def __call__(self, captions: Sequence[str]) -> Any:
        """The tokenizer's ``input_ids`` and ``attention_mask``, (B, length).

        Cut captions are counted; a warning comes at the first, the second, the fourth, the eighth, ...
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
