"""Contrastive training of media and captions: the symmetric loss, and a tokenizer of the captions' words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.evaluation.retrieval.ranks import retrieval_report
from isthmus.pocket.experts.handwriting import uniform
from isthmus.pocket.experts.tokenizers import clip_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

LONGEST = 40
"""The most ids of a caption, begin and end included."""


def contrastive_loss(media: Tensor, texts: Tensor, captions: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy (arXiv 2103.00020, figure 3); media with equal captions share the target.

    Args:
        media: unit-length embeddings (B, D).
        texts: unit-length embeddings of their captions, times the logit scale, (B, D).
        captions: (B,) int64, the same number for equal captions.
    """
    logits = media @ texts.T
    same = (captions[:, None] == captions[None, :]).float()
    truth = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2


def caption_tokenizer(captions: Sequence[str]) -> CLIPTokenizer:
    """A CLIP tokenizer in which each word of the captions is a token, with the context length that they need.

    Any other text, including figures and punctuation, falls back to bytes. Captions longer than :data:`LONGEST` are
    truncated.
    """
    counts = Counter(word for caption in captions for word in re.findall("[a-z]+", caption.lower()))
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    lengths = [len(ids) for ids in clip_tokenizer(words, LONGEST)(list(captions))["input_ids"]]
    return clip_tokenizer(words, min(max(lengths), LONGEST))


def caption_rows(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids (n, T), zero-padded, and an index of each caption (n,), the same for equal ones."""
    length = tokenizer.model_max_length
    rows = tokenizer(list(captions), truncation=True, max_length=length)["input_ids"]
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    return ids, torch.tensor([numbers[caption] for caption in captions])


def moved(pictures: Tensor) -> Tensor:
    """Images (B, C, H, W) -> rotated by up to 12 degrees, stretched, shifted and brightened.

    They aren't mirrored, since captions name left and right. All channels are warped alike, and may hold a video.
    """
    count = len(pictures)
    angle, size = uniform(-0.21, 0.21, count), torch.exp(uniform(-0.25, 0.1, count, 2))
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 0, 1] = size[:, 0] * angle.cos(), -size[:, 1] * angle.sin()
    maps[:, 1, 0], maps[:, 1, 1] = size[:, 0] * angle.sin(), size[:, 1] * angle.cos()
    maps[:, :, 2] = uniform(-0.12, 0.12, count, 2)
    grid = F.affine_grid(maps, list(pictures.shape), align_corners=False)
    bent = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return bent * torch.exp(uniform(-0.15, 0.15, count, 1, 1, 1)) + uniform(-0.15, 0.15, count, 1, 1, 1)


def recalls(name: str, media: Tensor, texts: Tensor, captions: Sequence[str]) -> dict[str, float]:
    """``<name>_recall_at_1``, ``_5``, ``_10``, ``<name>_median_rank`` of captions by media, and ``<name>_n``.

    Args:
        name: of the modality.
        media: unit-length embeddings (n, D).
        texts: unit-length embeddings (n, D) of the captions.
        captions: the n captions.
    """
    report = retrieval_report(media @ texts.T, captions)
    found = report["medium_to_caption"]
    assert isinstance(found, dict)
    figures = {
        f"{name}_{key}": float(value) for key, value in found.items() if not key.endswith(("_interval", "_chance"))
    }
    return figures | {f"{name}_n": float(len(captions))}
