"""The order of conversations in a training stage: a pure function of (seed, stage, step), without state.

Sources are interleaved by their shares (:mod:`isthmus.data.sampling.interleaving`), and each is shuffled anew in each
pass, so that each item occurs once in a pass. With a grouping, modalities are interleaved, within every batch or from
batch to batch, and the sources within each modality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from isthmus.data.sampling.grouping import Grouping
from isthmus.data.sampling.interleaving import Interleaving
from isthmus.data.sampling.orders import Chunks
from isthmus.data.sampling.schedule import Reference
from isthmus.data.sampling.seeds import derive_seed
from isthmus.data.sampling.streams import Mixed, Walked


class Mixture:
    """The schedule of a training stage.

    Args:
        name: the stage; stages with other names have other orders.
        sizes: items in each source.
        weights: the share of each source throughout training; they needn't add up to one.
        batch_size: conversations in a global batch.
        steps: number of batches; or
        epochs: the length as a multiple of the total number of items.
        seed: of all orders.
        chunks: items of a source that are read close together.
        grouping: how modalities are distributed over batches; at random if None.

    Raises:
        ValueError: an unknown or empty source, a weight that isn't above zero, not exactly one length, or a grouping
            whose shares don't fit the sources.
    """

    def __init__(
        self,
        name: str,
        sizes: Mapping[str, int],
        weights: Mapping[str, float],
        batch_size: int,
        steps: int | None = None,
        epochs: float | None = None,
        seed: int = 0,
        chunks: Mapping[str, Chunks | None] | None = None,
        grouping: Grouping | None = None,
    ) -> None:
        where = f"stage '{name}'"
        _check(where, sizes, weights)
        if batch_size < 1:
            raise ValueError(f"{where}: batch_size: found {batch_size}; expected at least 1. Fix: raise it.")
        length = steps if steps is not None else epochs
        if (steps is None) == (epochs is None) or length is None or not 0 < length < math.inf:
            raise ValueError(
                f"{where}: found steps {steps} and epochs {epochs}; expected one of them, above 0. "
                "Fix: give the stage one length."
            )
        self.name = name
        self.batch_size = batch_size
        self.seed = seed
        own = {source: sizes[source] for source in sorted(weights)}
        near = {source: of for source, of in (chunks or {}).items() if of is not None and source in own}
        walks = {
            source: Walked(source, range(size), near.get(source), seed, (name, source)) for source, size in own.items()
        }
        mixed = Mixed(walks, weights, seed, name)
        items = Fraction(length).limit_denominator(1_000_000) * sum(own.values())
        self.steps = math.ceil(items / batch_size) if steps is None else steps
        shares = dict(zip(own, zip(own.values(), mixed.interleaving.shares, strict=True), strict=True))
        self.fingerprint = f"{name}: {shares}, {self.steps} steps of {batch_size}, seed {seed}"
        for source, of in near.items():
            self.fingerprint += f", {source} in windows of {of.window} of {len(of.sizes)} stretches"
        self._is_homogeneous = grouping is not None and grouping.kind == "homogeneous"
        self._groups = {"": mixed}
        if grouping is not None:
            exact = dict(zip(own, mixed.interleaving.shares, strict=True))
            self._groups = grouping.streams(walks, exact)
        shares_of_groups = {"": 1} if grouping is None else grouping.weights(where, self._groups)
        self._turns = Interleaving(shares_of_groups, seed, name, "modality")
        if grouping is not None:
            self.fingerprint += f", {grouping.kind} by {dict(zip(self._turns.names, self._turns.shares, strict=True))}"

    def __len__(self) -> int:
        return self.steps

    def batch(self, step: int) -> list[Reference]:
        """The global batch of a step, shuffled so that every process gets its share of every source."""
        size = self.batch_size
        if self._is_homogeneous:
            counts = self._turns.counts(step)
            at = self._turns.next(counts)
            due = self._groups[self._turns.names[at]].references(counts[at] * size, size)
        else:
            before, after = self._turns.counts(step * size), self._turns.counts((step + 1) * size)
            due = [
                reference
                for group, begin, end in zip(self._turns.names, before, after, strict=True)
                for reference in self._groups[group].references(begin, end - begin)
            ]
        # Even interleaving is periodic: unshuffled, rank 0 of 2 could get only the first of two sources.
        order = sorted(range(len(due)), key=lambda place: derive_seed(self.seed, self.name, step, place, "place"))
        return [due[place] for place in order]


def _check(where: str, sizes: Mapping[str, int], weights: Mapping[str, float]) -> None:
    if not weights:
        raise ValueError(
            f"{where}: mixture: found no source; expected some of {', '.join(sizes) or 'none'}. Fix: name one."
        )
    for source, weight in weights.items():
        if source not in sizes:
            raise ValueError(
                f"{where}: mixture: found '{source}'; the sources are {', '.join(sizes) or 'none'}. Fix: rename it."
            )
        if sizes[source] < 1:
            raise ValueError(
                f"{where}: source '{source}': found no items; expected at least one. Fix: fill it or leave it out."
            )
        if not 0 < weight < math.inf:
            raise ValueError(
                f"{where}: mixture.{source}: found {weight}; expected a weight above 0. Fix: leave the source out."
            )
