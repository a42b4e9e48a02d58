"""Which conversation stands where in a stage: a pure function of (seed, stage, step), with no state to lose.

Sources are interleaved evenly: the k-th item of a source with share w is due at (k + 1 - u) / w, u being its own seeded
phase, and items are taken in the order in which they are due. So after n items a source has given n w, within one or
so, and how many it has given is known for any n at once. Each source is walked in a new order each pass, so that each
item comes once a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from isthmus.data.schedule import Reference
from isthmus.data.seeds import derive_seed, permuted

_PHASES = 997
"""In how many parts a phase divides the wait between two items."""


class Mixture:
    """The schedule of a training stage.

    Args:
        name: the stage; stages with other names walk in other orders.
        sizes: items in each source.
        weights: the share of each source in every stretch of training; they needn't add up to one.
        batch_size: conversations in a global batch.
        steps: how many batches; or
        epochs: as many as draw this many times the number of items in the sources together.
        seed: of all orders.

    Raises:
        ValueError: an unknown or empty source, a weight that isn't above zero, not exactly one length.
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
    ) -> None:
        where = f"stage '{name}'"
        if not weights:
            raise ValueError(
                f"{where}: mixture: found no source; expected some of {', '.join(sizes) or 'none'}. Mend: name one."
            )
        for source, weight in weights.items():
            if source not in sizes:
                raise ValueError(
                    f"{where}: mixture: found '{source}'; the sources are {', '.join(sizes) or 'none'}. "
                    "Mend: rename it."
                )
            if sizes[source] < 1:
                raise ValueError(
                    f"{where}: source '{source}': found no items; expected at least one. Mend: fill it or leave it out."
                )
            if not 0 < weight < math.inf:
                raise ValueError(
                    f"{where}: mixture.{source}: found {weight}; expected a weight above 0. Mend: leave the source out."
                )
        if batch_size < 1:
            raise ValueError(f"{where}: batch_size: found {batch_size}; expected at least 1. Mend: raise it.")
        length = steps if steps is not None else epochs
        if (steps is None) == (epochs is None) or length is None or not 0 < length < math.inf:
            raise ValueError(
                f"{where}: found steps {steps} and epochs {epochs}; expected one of them, above 0. "
                "Mend: give the stage one length."
            )
        self.name = name
        self.batch_size = batch_size
        self.seed = seed
        self._names = sorted(weights)
        self._sizes = [sizes[source] for source in self._names]
        # Whole numbers: with floats, a tie could fall one way when counted from the start, the other from the middle.
        exact = [
            Fraction(weights[source]).limit_denominator(1_000_000) or Fraction(1, 1_000_000) for source in self._names
        ]
        common = math.lcm(*(share.denominator for share in exact))
        self._shares = [int(share * common) for share in exact]
        self._phases = [derive_seed(seed, name, source, "phase") % (_PHASES - 1) + 1 for source in self._names]
        # A time in units in which every source's items are due at whole numbers.
        unit = math.lcm(*self._shares)
        self._waits = [unit // share for share in self._shares]
        items = Fraction(length).limit_denominator(1_000_000) * sum(self._sizes)
        self.steps = math.ceil(items / batch_size) if steps is None else steps
        self.fingerprint = (
            f"{name}: {dict(zip(self._names, zip(self._sizes, self._shares, strict=True), strict=True))}, "
            f"{self.steps} steps of {batch_size}, seed {seed}"
        )

    def __len__(self) -> int:
        return self.steps

    def batch(self, step: int) -> list[Reference]:
        """The global batch of a step, in an order that gives every process its share of every source."""
        counts = self._counts(step * self.batch_size)
        due: list[tuple[int, int]] = []
        for _ in range(self.batch_size):
            source = self._next(counts)
            due.append((source, counts[source]))
            counts[source] += 1
        # Even interleaving has a beat; unshuffled, rank 0 of 2 could see nothing but the first of two sources.
        order = sorted(range(len(due)), key=lambda place: derive_seed(self.seed, self.name, step, place, "place"))
        return [self._reference(*due[place]) for place in order]

    def _counts(self, items: int) -> list[int]:
        """How many of the first ``items`` came from each source."""
        # By this time fewer than `items` are due: every source is less than one ahead of its share.
        time, total = max(0, items - len(self._names)), sum(self._shares)
        counts = [
            (time * share * _PHASES + phase * total) // (total * _PHASES)
            for share, phase in zip(self._shares, self._phases, strict=True)
        ]
        while sum(counts) < items:
            counts[self._next(counts)] += 1
        assert sum(counts) == items
        return counts

    def _next(self, counts: list[int]) -> int:
        """The source whose next item is due first; of two at once, the first by name."""
        due = [
            ((count + 1) * _PHASES - phase) * wait
            for count, phase, wait in zip(counts, self._phases, self._waits, strict=True)
        ]
        return due.index(min(due))

    def _reference(self, source: int, ordinal: int) -> Reference:
        name, size = self._names[source], self._sizes[source]
        walk, position = divmod(ordinal, size)
        index = permuted(position, size, derive_seed(self.seed, self.name, name, walk))
        return Reference(name, index, derive_seed(self.seed, self.name, name, ordinal))
