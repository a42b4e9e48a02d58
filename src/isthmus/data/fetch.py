"""One process's part of a global batch, made in a worker."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch.utils.data import Dataset

from isthmus.data.collate import Collator
from isthmus.data.errors import DataError, Fault
from isthmus.data.samples import Sample
from isthmus.data.schedule import Reference, Schedule
from isthmus.data.sources import ConversationSource
from isthmus.types import Batch

OnError = Literal["raise", "skip"]
"""What a bad sample does: end the run, or be counted, reported and replaced by the next of its source."""

_ATTEMPTS = 100
"""This many bad samples in a row are no accident."""


@dataclass
class Fetched:
    """What a worker hands over. Errors travel as values: raised in a worker, they'd arrive as its traceback's text."""

    batch: Batch | None = None
    skipped: list[DataError] = field(default_factory=list)
    error: DataError | None = None


class Steps(Dataset[Fetched]):
    """Step number -> this process's part of the global batch. A pure function, whichever worker runs it."""

    def __init__(
        self,
        schedule: Schedule,
        sources: Mapping[str, ConversationSource],
        collator: Collator,
        rank: int,
        world: int,
        on_error: OnError,
    ) -> None:
        self.schedule = schedule
        self.sources = sources
        self.collator = collator
        self.rank = rank
        self.world = world
        self.on_error = on_error

    def __getitem__(self, step: int) -> Fetched:
        fetched = Fetched()
        references = self.schedule.batch(step)
        # A split's last batch may have fewer items than there are processes, and one without a batch would hold up all.
        own = references[self.rank :: self.world] or [replace(references[0], repeated=True)]
        try:
            fetched.batch = self.collator.batch([self._sample(reference, fetched.skipped) for reference in own])
        except DataError as error:
            fetched.error = error
        return fetched

    def _sample(self, reference: Reference, skipped: list[DataError]) -> Sample:
        source = self.sources[reference.source]
        items = range(len(source)) if reference.among is None else reference.among
        place = bisect_left(items, reference.index)
        for attempt in range(min(_ATTEMPTS, len(items))):
            index = items[(place + attempt) % len(items)]
            name = f"{reference.source}/{index}"
            try:
                conversation = source[index]
                details = {"id": name, "seed": reference.seed, **conversation.details, "source": reference.source}
                if reference.repeated or attempt:
                    details["repeated"] = True
                return self.collator.sample(replace(conversation, details=details))
            except ValueError as error:
                fault = DataError(error.fault if isinstance(error, DataError) else Fault.OTHER, f"{name}: {error}")
                if self.on_error == "raise":
                    raise fault from error
                skipped.append(fault)
        raise DataError(
            skipped[-1].fault,
            f"source '{reference.source}': found {len(skipped)} bad samples in a row from {reference.index} on, the "
            f"last being: {skipped[-1]}",
        )
