"""Finds the layout of a batch on the CPU, and checks it there, once: the forward trusts a batch that has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.layout import Beginnings, Layout, Places, Runs, Spans, on_device
from isthmus.types import IGNORED, Batch, MediaBatch, Modality, SignalBatch
from isthmus.vocabulary import MEDIA_POSITION, Vocabulary

Integers = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


def layout_of(batch: Batch, vocabulary: Vocabulary) -> Layout:
    """The layout of a batch by itself, without its rest and what is mixed into it.

    Collators do this in data workers, where the batch is on the CPU. A batch on another device is read from there.

    Raises:
        ValueError: media positions aren't where media are said to be, a run isn't where it is said to be, a label can't
            be predicted, an id has no row, or a row isn't right-padded.
    """
    ids, labels = _read(batch.ids), _read(batch.labels)
    mask: Flags = batch.mask.cpu().numpy()
    length = ids.shape[1]
    labelled = labels != IGNORED
    columns = _columns(labels, vocabulary)
    _check_rows(ids, mask, labelled, columns, vocabulary)
    media = {m: _places(own, length) for m, own in batch.media.items()}
    _check_media(ids, media, length)
    inside = _answered(ids, labelled, vocabulary)
    runs = {m: _runs(own, ids, inside, vocabulary, m) for m, own in batch.signals.items()}
    is_new = ids >= vocabulary.base_size
    is_tag = is_new & (ids < vocabulary.base_size + vocabulary.tag_rows)
    new = np.flatnonzero(is_new)
    targets = np.flatnonzero(labelled)
    lengths: list[int] = mask.sum(1).tolist()
    return Layout(
        lengths=lengths,
        first_media=_firsts(ids == MEDIA_POSITION),
        first_tag=_firsts(is_tag),
        first_signal=_firsts(is_new & ~is_tag),
        new=torch.from_numpy(new),
        new_rows=torch.from_numpy(ids.ravel()[new] - vocabulary.base_size),
        targets=torch.from_numpy(targets),
        columns=torch.from_numpy(columns.ravel()[targets]),
        target_counts=labelled.sum(1).tolist(),
        media=media,
        runs=runs,
        answers=_chunks(inside),
        length=length,
        beginnings=_beginnings(_told_apart(ids, batch.media, media), lengths),
    )


def _told_apart(ids: Integers, media: Mapping[Modality, MediaBatch], places: Mapping[Modality, Places]) -> Integers:
    """(B, T), the ids, with a number of its own for each position of each distinct medium."""
    found, largest = ids.copy().ravel(), MEDIA_POSITION
    for modality, own in places.items():
        index = media[modality].index
        medium, ranks = own.media.numpy(), own.ranks.numpy()
        distinct = medium if index is None else _read(index)[medium]
        if len(ranks):
            numbers = distinct * (ranks.max() + 1) + ranks
            found[own.positions.numpy()] = largest - 1 - numbers
            largest -= 1 + int(numbers.max())
    return found.reshape(ids.shape)


def _beginnings(rows: Integers, lengths: Sequence[int]) -> Beginnings:
    """Sorted as texts are, rows that begin alike are neighbours."""
    order = sorted(range(len(rows)), key=lambda row: rows[row].tobytes())
    common = [0]
    for one, other in pairwise(order):
        shorter = min(lengths[one], lengths[other])
        differs = rows[one, :shorter] != rows[other, :shorter]
        common.append(int(differs.argmax()) if differs.any() else shorter)
    return Beginnings(order, common)


def _check_rows(ids: Integers, mask: Flags, labelled: Flags, columns: Integers, vocabulary: Vocabulary) -> None:
    if wrong := int((labelled & (columns < 0)).sum() + labelled[:, 0].sum()):
        raise ValueError(
            f"batch.labels: found {wrong} labels that can't be predicted; expected ids of the LLM's vocabulary or "
            "first signal tokens, after the first position"
        )
    if unknown := int(((ids < MEDIA_POSITION) | (ids >= vocabulary.size)).sum()):
        raise ValueError(f"batch.ids: found {unknown} ids outside the vocabulary")
    if (~mask[:, 0]).any() or (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError("batch.mask: found rows that are empty or padded elsewhere than on the right")


def _check_media(ids: Integers, media: dict[Any, Places], length: int) -> None:
    given = sum(sum(own.lengths) for own in media.values())
    at = np.concatenate([own.positions.numpy() for own in media.values()]) if media else np.zeros(0, np.int64)
    found = np.flatnonzero(ids == MEDIA_POSITION)
    if len(found) != given or not np.array_equal(np.sort(at), found):
        misplaced = len(np.setdiff1d(at, found))
        raise ValueError(
            f"batch: found {len(found)} media positions for {given} projected rows, {misplaced} of them out of place; "
            "expected each medium's rows, starts and lengths to match. Collate with the projectors' own positions()."
        )


def _places(own: MediaBatch, length: int) -> Places:
    rows, starts, lengths = (_read(values) for values in (own.rows, own.starts, own.lengths))
    media = np.repeat(np.arange(len(rows)), lengths)
    ranks = np.arange(len(media)) - (np.cumsum(lengths) - lengths)[media]
    positions = rows[media] * length + starts[media] + ranks
    return Places(
        positions=torch.from_numpy(positions),
        media=torch.from_numpy(media),
        ranks=torch.from_numpy(ranks),
        rows=rows.tolist(),
        starts=starts.tolist(),
        lengths=lengths.tolist(),
    )


def _runs(own: SignalBatch, ids: Integers, inside: Flags, vocabulary: Vocabulary, modality: Modality) -> Runs:
    wanted, length = np.asarray(vocabulary.signal_ids(modality)), ids.shape[1]
    rows, columns = _read(own.rows)[:, None], _read(own.starts)[:, None] + np.arange(len(wanted))
    if (columns >= length).any() or (ids[rows, columns] != wanted).any():
        raise ValueError(f"batch.signals.{modality}: found runs that don't stand at their rows and starts in batch.ids")
    return Runs(
        torch.from_numpy(rows * length + columns),
        rows[:, 0].tolist(),
        _read(own.content_runs).tolist(),
        bool(inside[rows, columns].all()),
    )


def _answered(ids: Integers, labelled: Flags, vocabulary: Vocabulary) -> Flags:
    """(B, T): the positions of trained answers, which are chunks of labelled positions.

    Of a run of signal tokens only the first is labelled, and the rest belong to it. Turns that aren't trained upon
    carry no label.
    """
    inside = labelled.copy()
    for first, modality in vocabulary.starts().items():
        for row, column in np.argwhere(labelled & (ids == first)):
            inside[row, column : column + vocabulary.signal_counts[modality]] = True
    return inside


def _chunks(inside: Flags) -> Spans:
    """Where unbroken chunks (B, T) lie."""
    edges = np.diff(np.pad(inside.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    return Spans(rows.tolist(), starts.tolist(), (ends - starts).tolist())


def _columns(labels: Integers, vocabulary: Vocabulary) -> Integers:
    """Labels -> columns of the logits, negative where not predictable: the base vocabulary, then predicted new ids."""
    table = np.full(vocabulary.size - vocabulary.base_size, -1)
    for index, token in enumerate(vocabulary.predicted):
        table[token - vocabulary.base_size] = vocabulary.base_size + index
    offsets = (labels - vocabulary.base_size).clip(0, len(table) - 1)
    return np.where(labels >= vocabulary.size, -1, np.where(labels >= vocabulary.base_size, table[offsets], labels))


def _firsts(found: Flags) -> list[int]:
    """Of each row (B, T), the first place that is true; T if none is."""
    firsts: list[int] = np.where(found.any(1), found.argmax(1), found.shape[1]).tolist()
    return firsts


def _read(values: Tensor) -> Integers:
    found: Integers = values.cpu().numpy().astype(np.int64, copy=False)
    return found


def known_layout(batch: Batch) -> Layout:
    """The batch's layout, where it must have one by now."""
    assert batch.layout is not None, "the backbone's laid_out() comes first"
    return batch.layout


def target_labels(batch: Batch) -> Tensor:
    """(P,) the labels of a batch that has its layout."""
    return batch.labels.flatten()[known_layout(batch).targets]


def target_places(layout: Layout, rows: Sequence[int], device: torch.device) -> Tensor:
    """(p,) where the targets of these rows stand among the batch's P, row by row."""
    ends = list(accumulate(layout.target_counts))
    return on_device([at for row in rows for at in range(ends[row] - layout.target_counts[row], ends[row])], device)


def rows_in_words(batch: Batch, rows: Sequence[int]) -> Batch:
    """Rows of a batch that has its layout, with their own; they hold neither media nor trained runs.

    Nothing waits for the batch's device.
    """
    layout, device = known_layout(batch), batch.ids.device
    lengths, counts = [layout.lengths[row] for row in rows], [layout.target_counts[row] for row in rows]
    picked, longest = on_device(list(rows), device), max(lengths)
    among = target_places(layout, rows, device)
    # Of each target how far its position moves: its row's place changes, and so does the length of rows.
    moved = [place * longest - row * layout.length for place, row in enumerate(rows)]
    shifts = on_device([by for by, count in zip(moved, counts, strict=True) for _ in range(count)], device, torch.int64)
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    spans = layout.answers
    answers = [
        (place, start, length)
        for place, row in enumerate(rows)
        for own, start, length in zip(spans.rows, spans.starts, spans.lengths, strict=True)
        if own == row
    ]
    none = [longest] * len(lengths)
    own = Layout(
        lengths=lengths,
        first_media=none,
        first_tag=none,
        first_signal=none,
        new=nothing,
        new_rows=nothing,
        targets=layout.targets[among] + shifts,
        columns=layout.columns[among],
        target_counts=counts,
        media={},
        runs={},
        answers=Spans(*([span[part] for span in answers] for part in range(3))),
        length=longest,
        beginnings=layout.beginnings.of(rows),
    )
    ids, mask, labels = (whole[picked, :longest] for whole in (batch.ids, batch.mask, batch.labels))
    return Batch(ids, mask, labels, layout=own)


def with_layouts(batch: Batch, vocabulary: Vocabulary) -> Batch:
    """The batch with the layouts of all its parts, and of what is mixed into it."""
    batch.layout = layout_of(batch, vocabulary)
    for part in (*batch.rest, *([] if batch.mixed is None else [batch.mixed])):
        with_layouts(part, vocabulary)
    return batch
