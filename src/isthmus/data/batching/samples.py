"""Samples, which are conversations as model inputs, and their stacking into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from isthmus.data.errors import DataError, Fault
from isthmus.modalities import known_media
from isthmus.types import IGNORED, Batch, Encoded, MediaBatch, Modality, SignalBatch


@dataclass
class SampleMedium:
    """An input medium of a sample: its preprocessed tensors, its positions, and its cache entry.

    Media that share one ``inputs`` object are the same medium at several positions, and are stacked once.
    """

    modality: Modality
    inputs: dict[str, Tensor]
    start: int
    length: int
    cached: Encoded | None = None

    @property
    def is_held(self) -> bool:
        """Whether a cache holds its features, so that it has no inputs."""
        return self.cached is not None and self.cached.tokens is not None


@dataclass
class SampleRun:
    """A trained signal run of a sample."""

    modality: Modality
    start: int
    caption: str
    content: dict[str, Tensor] | None
    seed: int


@dataclass
class Sample:
    """A conversation as model inputs: ids and labels (T,), media, trained runs, and the text of trained turns.

    ``left_out``: number of messages that were left out because of the sequence's limit. ``key`` and ``states``: under
    which the states of its runs are kept, and these by modality, (k, S, E), if they are known.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    media: list[SampleMedium] = field(default_factory=list)
    runs: list[SampleRun] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    left_out: int = 0
    key: str = ""
    states: dict[Modality, Tensor] | None = None


def stack(samples: Sequence[Sample]) -> Batch:
    """Right-pads and stacks, (B, T).

    Raises:
        DataError: media of one modality whose preprocessed tensors differ in shape.
    """
    assert samples, "a batch has at least one sample"
    size = (len(samples), max(len(sample.ids) for sample in samples))
    ids = torch.zeros(size, dtype=torch.int64)
    mask = torch.zeros(size, dtype=torch.bool)
    labels = torch.full(size, IGNORED, dtype=torch.int64)
    for row, sample in enumerate(samples):
        length = len(sample.ids)
        ids[row, :length] = torch.tensor(sample.ids)
        labels[row, :length] = torch.tensor(sample.labels)
        mask[row, :length] = True
    media = [(row, medium) for row, sample in enumerate(samples) for medium in sample.media]
    runs = [(row, run) for row, sample in enumerate(samples) for run in sample.runs]
    return Batch(
        ids,
        mask,
        labels,
        {m: _media_batch(own) for m in known_media() if (own := [pair for pair in media if pair[1].modality is m])},
        {m: _signal_batch(done) for m in known_media() if (done := [pair for pair in runs if pair[1].modality is m])},
        [sample.details for sample in samples],
        [sample.text for sample in samples],
        left_out=[sample.left_out for sample in samples] if any(sample.left_out for sample in samples) else [],
        keys=[sample.key for sample in samples] if any(sample.key for sample in samples) else [],
        states=_states(samples),
    )


def _states(samples: Sequence[Sample]) -> dict[Modality, Tensor] | None:
    """By modality S (r, S, E) of a batch whose samples all have theirs."""
    held = [sample.states for sample in samples if sample.states is not None]
    if len(held) < len(samples):
        return None
    return {m: torch.cat([own[m] for own in held if m in own]) for m in known_media() if any(m in own for own in held)}


def split_evenly(lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Indices of items by part: at most ``parts`` parts of similar total length.

    Greedy: items in descending order of length, each to the part with the smallest total so far.
    """
    groups: list[list[int]] = [[] for _ in range(min(parts, len(lengths)))]
    sums = [0] * len(groups)
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        shortest = min(range(len(groups)), key=lambda part: (sums[part], part))
        groups[shortest].append(place)
        sums[shortest] += lengths[place]
    return [sorted(part) for part in groups]


def stack_pieces(samples: Sequence[Sample], parts: int) -> Batch:
    """As :func:`stack`, in at most ``parts`` micro-batches, of which the first holds the others.

    Samples whose states are known are apart from those that the LLM must read.
    """
    pieces = []
    for is_known in (False, True):
        own = [sample for sample in samples if (sample.states is not None) == is_known]
        groups = split_evenly([len(sample.ids) for sample in own], parts)
        pieces += [stack([own[place] for place in part]) for part in groups]
    first, *rest = pieces
    return replace(first, rest=rest)


def _media_batch(media: list[tuple[int, SampleMedium]]) -> MediaBatch:
    distinct = {id(medium.inputs): medium for _, medium in media}
    order = {key: at for at, key in enumerate(distinct)}
    own = list(distinct.values())
    return MediaBatch(
        _stack([medium.inputs for medium in own if not medium.is_held], f"inputs of {own[0].modality}"),
        torch.tensor([row for row, _ in media]),
        torch.tensor([medium.start for _, medium in media]),
        torch.tensor([medium.length for _, medium in media]),
        None if own[0].cached is None else [medium.cached for medium in own if medium.cached is not None],
        None if len(own) == len(media) else torch.tensor([order[id(medium.inputs)] for _, medium in media]),
    )


def _signal_batch(runs: list[tuple[int, SampleRun]]) -> SignalBatch:
    contents = [(at, run.content) for at, (_, run) in enumerate(runs) if run.content is not None]
    return SignalBatch(
        torch.tensor([row for row, _ in runs]),
        torch.tensor([run.start for _, run in runs]),
        [run.caption for _, run in runs],
        _stack([content for _, content in contents], f"contents of {runs[0][1].modality}"),
        torch.tensor([at for at, _ in contents], dtype=torch.int64),
        torch.tensor([run.seed for _, run in runs], dtype=torch.int64),
    )


def _stack(items: Sequence[Mapping[str, Tensor]], what: str) -> dict[str, Tensor]:
    stacked: dict[str, Tensor] = {}
    keys = sorted({str(sorted(item)) for item in items})
    if len(keys) > 1:
        raise DataError(
            Fault.SHAPE,
            f"{what}: found the tensors {' and '.join(keys)} in one batch; expected the same ones for every medium. "
            "Fix: let preprocessing return the same tensors for every medium.",
        )
    for key in items[0] if items else ():
        shapes = sorted({tuple(item[key].shape) for item in items})
        if len(shapes) > 1:
            raise DataError(
                Fault.SHAPE,
                f"{what}: found '{key}' of the shapes {', '.join(map(str, shapes))} in one batch; expected one shape. "
                "Fix: let preprocessing crop or pad to a fixed size.",
            )
        stacked[key] = torch.stack([item[key] for item in items])
    return stacked
