"""Where a batch's media, runs and labels stand: checked against what was projected, before anything is scattered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.backbones.new_tokens import NewTokenRows
from isthmus.types import IGNORED, Batch, Modality
from isthmus.vocabulary import MEDIA_POSITION, Vocabulary

Projected = Mapping[Modality, tuple[Tensor, Tensor]]
"""By modality P (n, M, E) and its mask (n, M)."""


@dataclass(frozen=True)
class Extents:
    """How far the rows of a batch reach.

    Attributes:
        lengths: valid positions of each row.
        firsts: of each row, the first position of an input that trains (a projected medium, a tag or a signal token
            whose rows train); T if none does.
    """

    lengths: list[int]
    firsts: list[int]


def splice_media(embeddings: Tensor, batch: Batch, media: Projected) -> Tensor:
    """Writes every medium's valid positions over its places in (B, T, E). The batch has passed :func:`check_batch`."""
    for modality, (projected, mask) in media.items():
        places = batch.media[modality]
        valid = mask.nonzero(as_tuple=True)
        rows = places.rows[valid[0]]
        columns = _columns(places.starts, mask)[valid]
        embeddings = embeddings.index_put((rows, columns), projected[valid].to(embeddings.dtype))
    return embeddings


def run_positions(rows: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Index (r, 1) and (r, S) that picks the positions of r runs from (B, T, ...)."""
    return rows[:, None], starts[:, None] + torch.arange(length, device=starts.device)


def check_batch(batch: Batch, media: Projected, vocabulary: Vocabulary, tokens: NewTokenRows) -> Extents:
    """Checks the batch, and finds how long each row is and where in it a gradient has to reach.

    All that must be known on the CPU is read from the device in one transfer.

    Returns:
        Both, by row.

    Raises:
        ValueError: media positions and projected rows differ in number or place (scattering anyway would silently
            corrupt the embeddings), a run isn't where it is said to be, a label can't be predicted, an id has no row,
            or a row isn't right-padded.
    """
    ids, length = batch.ids, batch.ids.shape[1]
    if media.keys() != batch.media.keys():
        raise ValueError(
            f"batch.media: found {_names(batch.media)}, but features were projected for {_names(media)}; expected the "
            "same modalities"
        )
    is_media, is_new = ids == MEDIA_POSITION, ids >= vocabulary.base_size
    facts: dict[str, Tensor] = {
        "media": is_media.sum(),
        "unknown ids": ((ids < MEDIA_POSITION) | (ids >= vocabulary.size)).sum(),
        "padding": (~batch.mask[:, 0]).sum() + (batch.mask[:, 1:] & ~batch.mask[:, :-1]).sum(),
    }
    labelled = batch.labels != IGNORED
    predictable = tokens.columns(batch.labels) >= 0
    facts["labels"] = (labelled & ~predictable).sum() + labelled[:, 0].sum()
    for modality, (_, mask) in media.items():
        places = batch.media[modality]
        if len(places.rows) != len(mask):
            raise ValueError(
                f"batch.media.{modality}: found {len(places.rows)} media, but {len(mask)} were projected; expected as "
                "many"
            )
        columns = _columns(places.starts, mask)
        found = is_media[places.rows[:, None], columns.clamp(max=length - 1)] & (columns < length)
        facts[f"{modality} projected"] = mask.sum()
        facts[f"{modality} misplaced"] = (mask & ~found).sum() + (mask.sum(1) != places.lengths).sum()
    for modality, runs in batch.signals.items():
        rows, columns = run_positions(runs.rows, runs.starts, vocabulary.signal_counts[modality])
        wanted = (
            torch.arange(vocabulary.signal_counts[modality], device=ids.device) + vocabulary.signal_ids(modality)[0]
        )
        facts[f"{modality} runs"] = ((ids[rows, columns.clamp(max=length - 1)] != wanted) | (columns >= length)).sum()
    is_tag = is_new & (ids < vocabulary.base_size + vocabulary.tag_rows)
    trains = torch.zeros_like(is_new)
    if any(projected.requires_grad for projected, _ in media.values()):
        trains |= is_media
    if tokens.media_tags.requires_grad:
        trains |= is_tag
    if tokens.signal_rows.requires_grad:
        trains |= is_new & ~is_tag
    firsts = torch.where(trains, torch.arange(length, device=ids.device), length).amin(1)
    read: list[int] = torch.cat([torch.stack(list(facts.values())), batch.mask.sum(1), firsts]).tolist()
    values = dict(zip(facts, read, strict=False))
    _judge(values, media, batch)
    extents = read[len(facts) :]
    return Extents(extents[: len(ids)], extents[len(ids) :])


def _judge(values: dict[str, int], media: Projected, batch: Batch) -> None:
    projected = sum(values[f"{modality} projected"] for modality in media)
    misplaced = sum(values[f"{modality} misplaced"] for modality in media)
    if values["media"] != projected or misplaced:
        raise ValueError(
            f"batch: found {values['media']} media positions for {projected} projected rows, {misplaced} of them out "
            "of place; expected each "
            "medium's rows, starts and lengths to match. Collate with the projectors' own positions()."
        )
    for modality in batch.signals:
        if values[f"{modality} runs"]:
            raise ValueError(
                f"batch.signals.{modality}: found runs that don't stand at their rows and starts in batch.ids"
            )
    if values["labels"]:
        raise ValueError(
            f"batch.labels: found {values['labels']} labels that can't be predicted; expected ids of the LLM's "
            "vocabulary or first signal tokens, "
            "after the first position"
        )
    if values["unknown ids"]:
        raise ValueError(f"batch.ids: found {values['unknown ids']} ids outside the vocabulary")
    if values["padding"]:
        raise ValueError("batch.mask: found rows that are empty or padded elsewhere than on the right")


def _columns(starts: Tensor, mask: Tensor) -> Tensor:
    """(n, M): the sequence position of each projected position; the valid ones of a medium stand side by side."""
    return starts[:, None] + (mask.cumsum(1) - 1).clamp(min=0)


def _names(modalities: Mapping[Modality, object]) -> str:
    return ", ".join(modalities) or "none"
