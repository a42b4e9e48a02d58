"""Distributes modalities over batches: in fixed shares within each, or one modality for each batch."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from isthmus.data.sampling.streams import Mixed, Walked

Kind = Literal["balanced", "homogeneous"]


@dataclass(frozen=True)
class Grouping:
    """Groups conversations by their media (:func:`isthmus.data.conversations.sources.media_label`).

    Attributes:
        kind: ``balanced`` keeps each modality's share in every batch, up to whole conversations; ``homogeneous`` gives
            each batch one modality, so that each encoder and bridge runs for a whole batch or not at all.
        labels: each conversation's label, by source.
        shares: of each label; by default equal ones in ``balanced``, and those implied by the sources' weights in
            ``homogeneous``.
    """

    kind: Kind
    labels: Mapping[str, Sequence[str]]
    shares: Mapping[str, float] | None = None

    def streams(self, walks: Mapping[str, Walked], weights: Mapping[str, int]) -> dict[str, Mixed]:
        """The sources' items of each label, mixed by the sources' weights."""
        parts: dict[str, dict[str, array[int]]] = {}
        for source in walks:
            for item, label in enumerate(self.labels[source]):
                parts.setdefault(label, {}).setdefault(source, array("q")).append(item)
        streams = {}
        for label, by_source in sorted(parts.items()):
            own = {}
            for source, items in by_source.items():
                whole = walks[source]
                near = None if whole.chunks is None else whole.chunks.of(items)
                own[source] = Walked(source, items, near, whole.seed, (*whole.key, label))
            shares = {
                source: Fraction(weights[source] * len(items), len(walks[source].items))
                for source, items in by_source.items()
            }
            first = next(iter(walks.values()))
            streams[label] = Mixed(own, shares, first.seed, first.key[0], label)
        return streams

    def weights(self, where: str, streams: Mapping[str, Mixed]) -> dict[str, float | Fraction]:
        """The share of each label.

        Raises:
            ValueError: a label without a share, a share without a label, or one that isn't above 0.
        """
        if self.shares is None:
            return {label: stream.total if self.kind == "homogeneous" else 1 for label, stream in streams.items()}
        for label in streams:
            if label not in self.shares:
                raise ValueError(
                    f"{where}: modality_shares: found none of '{label}'; the sources hold {', '.join(streams)}. Fix: "
                    "give each a share."
                )
        for label, share in self.shares.items():
            if label not in streams or not 0 < share < math.inf:
                raise ValueError(
                    f"{where}: modality_shares.{label}: found {share}; expected a share above 0 of one of "
                    f"{', '.join(streams)}. Fix: correct it, or leave it out."
                )
        return dict(self.shares)
