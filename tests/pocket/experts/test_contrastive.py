"""Media against captions: the loss beside a plain computation, the tokenizer, and what augmenting may not do."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from isthmus.pocket.experts.contrastive import (
    LONGEST,
    caption_rows,
    caption_tokenizer,
    contrastive_loss,
    moved,
    recalls,
)


def test_loss_equals_a_plain_computation() -> None:
    generator = torch.Generator().manual_seed(0)
    media, texts = (F.normalize(torch.randn(4, 8, generator=generator), dim=-1) for _ in range(2))
    texts = 5 * texts
    captions = torch.tensor([0, 1, 0, 2])
    expected = 0.0
    for own, others in ((media, texts), (texts, media)):
        for row in range(4):
            exponents = [math.exp(float(own[row] @ others[column])) for column in range(4)]
            right = [column for column in range(4) if captions[column] == captions[row]]
            expected -= sum(math.log(exponents[column] / sum(exponents)) for column in right) / len(right) / 8
    assert math.isclose(float(contrastive_loss(media, texts, captions)), expected, rel_tol=1e-5)


def test_equal_captions_do_not_repel_each_other() -> None:
    media = F.normalize(torch.eye(3)[[0, 0, 1]], dim=-1)
    together = contrastive_loss(media, 50 * media, torch.tensor([0, 0, 1]))
    apart = contrastive_loss(media, 50 * media, torch.tensor([0, 1, 2]))
    # At best half of the truth goes to each of two equal captions.
    assert math.isclose(float(together), 2 / 3 * math.log(2), rel_tol=1e-4)
    assert float(apart) > float(together) - 1e-6


def test_each_word_is_a_token_and_the_context_is_as_long_as_needed() -> None:
    captions = ["Red Heart", "keycap 10", "red heart", "\u4e09"]
    tokenizer = caption_tokenizer(captions)
    assert tokenizer.tokenize("red keycap") == ["red</w>", "keycap</w>"]
    ids, numbers = caption_rows(tokenizer, captions)
    assert ids.shape == (4, tokenizer.model_max_length)
    assert int((ids != 0).sum(1).max()) == tokenizer.model_max_length <= LONGEST
    assert numbers.tolist() == [0, 1, 2, 3] and torch.equal(ids[0], ids[2])
    # The text tower finds a text's end by its largest id.
    assert all(int(row.max()) == tokenizer.eos_token_id for row in ids)
    assert caption_rows(tokenizer, [" ".join(["red"] * 99)])[0].shape == (1, tokenizer.model_max_length)


def test_pictures_are_moved_a_little_and_never_mirrored() -> None:
    torch.manual_seed(0)
    pictures = torch.zeros(64, 3, 32, 32)
    pictures[..., 4:28, 4:8] = 1  # a bar on the left
    seen = moved(pictures)
    assert seen.shape == pictures.shape and not torch.equal(seen[0], seen[1])
    left, right = seen[..., :16].mean((1, 2, 3)), seen[..., 16:].mean((1, 2, 3))
    assert bool((left > right).all())


def test_recalls_are_of_media_among_captions() -> None:
    media = torch.eye(3)
    found = recalls("image", media, media[[1, 0, 2]], ["a", "b", "c"])
    assert found["image_recall_at_1"] == 1 / 3 and found["image_recall_at_5"] == 1 and found["image_n"] == 3
