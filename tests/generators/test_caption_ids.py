"""Captions are padded and cut as the library's pipelines do, and cutting is said."""

from __future__ import annotations

import logging

import pytest
import torch

from isthmus.generators.caption_ids import CaptionIds
from isthmus.pocket.experts.captions import build_tokenizer


def test_what_fits_is_the_tokenizers_own_and_quiet(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = build_tokenizer()
    captions = ["a red seven moving left", "a one", ""]
    found = CaptionIds(tokenizer, 8, "pipeline")(captions)
    expected = tokenizer(captions, padding="max_length", max_length=8, truncation=True, return_tensors="pt")
    assert torch.equal(found.input_ids, expected.input_ids)
    assert torch.equal(found.attention_mask, expected.attention_mask)
    assert not caplog.records


def test_a_caption_that_is_cut_is_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caption_ids = CaptionIds(build_tokenizer(), 8, "checkpoints/drawer")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            ids = caption_ids(["a red seven moving left a red one", "a one"]).input_ids
    assert ids.shape == (2, 8)
    assert caption_ids.cut == 5
    said = [record.getMessage() for record in caplog.records]
    assert [message.split(" captions")[0] for message in said] == [f"checkpoints/drawer: {n}" for n in (1, 2, 4)]
    assert "longer than 8 tokens" in said[0] and "a red seven moving left a red one" in said[0]
