"""Counts of right answers by cell and attribute, summed over processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics import Metric

from isthmus.evaluation.matrix.scoring import AFTER, ANSWER, BEFORE, Verdict
from isthmus.modalities import known_media
from isthmus.types import Modality

Place = tuple[str, str]
"""A task and one of its cells."""


def all_places() -> tuple[Place, ...]:
    """Every cell there can be, of the modalities that are known by now."""
    modalities = (Modality.TEXT, *known_media())
    return (
        *(("matrix", f"{given}->{output}") for given in modalities for output in modalities),
        *(("arithmetic", str(output)) for output in modalities),
        ("text_only", BEFORE),
        ("text_only", AFTER),
    )


@dataclass
class Count:
    """The counts of one cell.

    Attributes:
        n: number of prompts.
        emitted: replies with the requested modality.
        unrequested: replies with other media.
        scored: prompts that expect each attribute.
        right: those where it was right.
    """

    n: int
    emitted: int
    unrequested: int
    scored: dict[str, int] = field(default_factory=dict)
    right: dict[str, int] = field(default_factory=dict)


class Tally(Metric):
    """A table of counts with a row for every possible cell, so that it has the same shape in all processes.

    Args:
        attributes: the scored ones, without the exact match of text-only answers.
    """

    full_state_update = False

    def __init__(self, attributes: Sequence[str]) -> None:
        super().__init__()
        self.attributes = (*dict.fromkeys(attributes), ANSWER)
        self.places = all_places()
        self.counts: Tensor
        self.add_state("counts", torch.zeros(len(self.places), 3 + 2 * len(self.attributes), dtype=torch.int64), "sum")

    def update(self, verdicts: Sequence[Verdict]) -> None:
        """Adds scored replies."""
        for verdict in verdicts:
            row = self.places.index((verdict.expectation.task, verdict.expectation.cell))
            columns = [0, *([1] if verdict.emitted else []), *([2] if verdict.unrequested else [])]
            for name, is_right in verdict.right.items():
                column = 3 + 2 * self.attributes.index(name)
                columns += [column, column + 1] if is_right else [column]
            self.counts[row, columns] += 1

    def compute(self) -> Tensor:
        """(cells, 3 + 2 attributes) int64, summed over processes; all of them must call it."""
        return self.counts.clone()

    def cells(self) -> dict[Place, Count]:
        """The cells that had prompts; all processes must call it."""
        found: dict[Place, Count] = {}
        for place, row in zip(self.places, self.compute().tolist(), strict=True):
            if row[0]:
                pairs = dict(zip(self.attributes, zip(row[3::2], row[4::2], strict=True), strict=True))
                scored = {name: scored for name, (scored, _) in pairs.items() if scored}
                found[place] = Count(row[0], row[1], row[2], scored, {name: pairs[name][1] for name in scored})
        return found
