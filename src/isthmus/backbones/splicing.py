"""Writes projected media into a batch's embeddings, by a layout that was computed on the CPU."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from isthmus.backbones.new_tokens import NewTokenRows
from isthmus.layout import Layout
from isthmus.types import Batch, Modality

Projected = Mapping[Modality, tuple[Tensor, Tensor]]
"""P (n, M, E) and its mask (n, M) by modality."""


def splice_media(embeddings: Tensor, layout: Layout, media: Projected) -> Tensor:
    """Writes every medium's valid positions to its placeholders in (B, T, E)."""
    flat = embeddings.flatten(0, 1)
    for modality, (projected, mask) in media.items():
        places = layout.media[modality]
        if not len(places.positions):
            continue
        # A medium's valid positions are adjacent in the sequence, even if its mask has gaps.
        order = mask.int().argsort(dim=1, descending=True, stable=True)
        sources = places.media * mask.shape[1] + order[places.media, places.ranks]
        valid = projected.flatten(0, 1).index_select(0, sources)
        flat = flat.index_copy(0, places.positions, valid.to(flat.dtype))
    return flat.view_as(embeddings)


def check_projected(layout: Layout, batch: Batch, media: Projected) -> None:
    """Checks that projected media and placeholders agree; otherwise scattering would corrupt the embeddings.

    The number of valid positions in a mask is known only on the device. A GPU compares it without synchronisation: if
    they differ, a device-side assertion stops a later operation.

    Raises:
        ValueError: they differ in modalities, in the number of media, or (on the CPU) in positions.
    """
    if media.keys() != layout.media.keys():
        raise ValueError(
            f"batch.media: found {_names(layout.media)}, but features were projected for {_names(media)}; expected the "
            "same modalities"
        )
    for modality, (_, mask) in media.items():
        lengths = layout.media[modality].lengths
        if len(lengths) != len(mask):
            raise ValueError(
                f"batch.media.{modality}: found {len(lengths)} media, but {len(mask)} were projected; expected as many"
            )
        message = f"batch.media.{modality}: found {sum(lengths)} media positions for"
        fix = "expected as many of each medium. Fix: collate with the projectors' own positions()."
        try:
            torch._assert_async((mask.sum(1) == batch.media[modality].lengths).all(), f"{message} other rows; {fix}")
        except RuntimeError as error:
            raise ValueError(f"{message} {int(mask.sum())} projected rows; {fix}") from error


def first_trained(layout: Layout, media: Projected, tokens: NewTokenRows) -> list[int]:
    """The first position of each row that needs a gradient; T if none does."""
    return layout.firsts(
        media=any(projected.requires_grad for projected, _ in media.values()),
        tags=tokens.media_tags.requires_grad,
        signals=tokens.signal_rows.requires_grad,
    )


def learning(embeddings: Tensor) -> Tensor:
    """Embeddings through which a backward pass goes, whether or not anything before them learns."""
    return embeddings.requires_grad_() if torch.is_grad_enabled() and not embeddings.requires_grad else embeddings


def _names(modalities: Mapping[Modality, object] | Mapping[str, object]) -> str:
    return ", ".join(modalities) or "none"
