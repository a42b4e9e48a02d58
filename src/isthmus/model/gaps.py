"""Closing the gaps that media leave in a batch when they turn out to have fewer tokens than there was room for.

Batches are laid out before any encoder runs. An encoder that finds by listening how many tokens a medium has can only
say then how many there may be. What it doesn't use is taken out of the sequence here, so that no position of the LLM
stands for nothing, and none is attended to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from isthmus.types import IGNORED, Batch, Modality


def without_gaps(batch: Batch, masks: Mapping[Modality, Tensor]) -> Batch:
    """The batch with each medium's unused positions removed, and what stands behind them moved up.

    It stays (B, T), right-padded, and nothing is read from the device. Labels keep their order. Its layout has to be
    found anew: where such media are, a step waits for the device once.

    Args:
        batch: laid out with the most positions that each medium may take.
        masks: (n, M) of what was projected, for those modalities that may take fewer; the others are left alone.
    """
    if not masks:
        return batch
    columns = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    unused = torch.zeros_like(batch.ids)
    for modality, mask in masks.items():
        places = batch.media[modality]
        used, end = places.starts + mask.sum(1), places.starts + places.lengths
        own = (columns >= used[:, None]) & (columns < end[:, None])
        unused = unused.index_add(0, places.rows, own.long())
    kept = batch.mask & (unused == 0)
    order = kept.int().argsort(dim=1, descending=True, stable=True)
    mask = columns < kept.sum(1, keepdim=True)
    moved = unused.cumsum(1)

    def place(rows: Tensor, starts: Tensor) -> Tensor:
        return starts - moved[rows, starts] + unused[rows, starts]

    media = {
        modality: replace(
            own,
            starts=place(own.rows, own.starts),
            lengths=masks[modality].sum(1) if modality in masks else own.lengths,
        )
        for modality, own in batch.media.items()
    }
    signals = {modality: replace(own, starts=place(own.rows, own.starts)) for modality, own in batch.signals.items()}
    return replace(
        batch,
        ids=batch.ids.gather(1, order).masked_fill(~mask, 0),
        mask=mask,
        labels=batch.labels.gather(1, order).masked_fill(~mask, IGNORED),
        media=media,
        signals=signals,
        layout=None,
    )
