"""Selects rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from isthmus.types import Batch, Features, MediaBatch, Modality


def rows_of(
    batch: Batch, rows: Sequence[int], features: Mapping[Modality, Features]
) -> tuple[Batch, dict[Modality, Features]]:
    """Rows of a batch whose media have been encoded, and F of the media in them.

    Args:
        batch: without trained runs.
        rows: indices, at least one.
        features: F of the batch's distinct media by modality.
    """
    assert not batch.signals, "trained runs aren't supported"
    picked = torch.tensor(list(rows), device=batch.ids.device)
    length = int(batch.mask[picked].sum(1).max())
    place = torch.zeros(len(batch), dtype=torch.int64, device=picked.device)
    place[picked] = torch.arange(len(picked), device=picked.device)
    media, own = {}, {}
    for modality, held in batch.media.items():
        here = torch.isin(held.rows, picked).nonzero()[:, 0]
        if not len(here):
            continue
        index = torch.arange(len(held.rows), device=picked.device) if held.index is None else held.index
        distinct, index = index[here].unique(return_inverse=True)
        media[modality] = MediaBatch({}, place[held.rows[here]], held.starts[here], held.lengths[here], None, index)
        own[modality] = Features(features[modality].tokens[distinct], features[modality].mask[distinct])
    taken = Batch(
        batch.ids[picked, :length],
        batch.mask[picked, :length],
        batch.labels[picked, :length],
        media,
        {},
        [batch.details[row] for row in rows] if batch.details else [],
        [batch.texts[row] for row in rows] if batch.texts else [],
    )
    return taken, own
