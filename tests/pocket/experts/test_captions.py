"""What the image and video generators hear: every caption of the world, whole."""

from __future__ import annotations

from isthmus.pocket.experts.captions import CONTEXT, build_tokenizer, caption_concepts, tokenized
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS
from isthmus.types import Modality


def test_every_word_is_one_token() -> None:
    tokenizer = build_tokenizer()
    for word in ["a", "the", "tone", "of", "solid", "moving", *DIGITS, *COLOURS, *MOTIONS]:
        assert tokenizer.tokenize(word) == [f"{word}</w>"]


def test_no_caption_is_cut() -> None:
    tokenizer = build_tokenizer()
    captions = [concept.caption(Modality.VIDEO) for concept in caption_concepts()]
    lengths = [len(ids) for ids in tokenizer(captions).input_ids]
    assert max(lengths) <= CONTEXT
    rows = {tuple(row) for row in tokenized(tokenizer, captions).tolist()}
    assert len(rows) == len(captions) == len(set(captions))
