"""Makes one process's part of a global batch, in a worker."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Literal

from torch.utils.data import Dataset

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.samples import Sample
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError, data_faults
from isthmus.data.sampling.dealing import Dealer, Load
from isthmus.data.sampling.schedule import Reference, Schedule
from isthmus.types import Batch

OnError = Literal["raise", "skip"]
"""Whether a bad sample ends the run, or is counted, reported and replaced by the next of its source."""

_ATTEMPTS = 100
"""After this many bad samples in a row, the run ends in any case."""


@dataclass
class Fetched:
    """A worker's result. Errors are returned as values: raised, only their traceback's text would arrive."""

    batch: Batch | None = None
    skipped: list[DataError] = field(default_factory=list)
    error: DataError | None = None

    def pin_memory(self) -> Fetched:
        """Called by ``DataLoader`` if it pins memory."""
        return replace(self, batch=None if self.batch is None else self.batch.pin_memory())


class Steps(Dataset[Fetched]):
    """Step number -> this process's part of the global batch: a pure function, the same in every worker.

    Args:
        schedule: gives the conversations of each step.
        sources: by name.
        collator: makes the batches.
        rank: this process's.
        world: number of processes.
        on_error: what becomes of a bad sample.
        balanced: whether processes get the same work (:class:`~isthmus.data.sampling.dealing.Dealer`); otherwise this
            one takes items rank, rank + world, ...
    """

    def __init__(
        self,
        schedule: Schedule,
        sources: Mapping[str, ConversationSource],
        collator: Collator,
        rank: int,
        world: int,
        on_error: OnError,
        balanced: bool = False,
    ) -> None:
        self.schedule = schedule
        self.sources = sources
        self.collator = collator
        self.rank = rank
        self.world = world
        self.on_error = on_error
        self._dealer = Dealer(schedule, self._load, world) if balanced and world > 1 else None

    def _load(self, reference: Reference) -> Load:
        source = self.sources[reference.source]
        try:
            with data_faults(source.name):
                return source.load(reference.index)
        except DataError:
            return {}  # its fault is told where it is read to be learnt from

    def __getitem__(self, step: int) -> Fetched:
        fetched = Fetched()
        own = self._own(step)
        try:
            fetched.batch = self._stacked([self._candidates(reference, fetched.skipped) for reference in own], fetched)
        except DataError as error:
            fetched.error = error
        return fetched

    def _own(self, step: int) -> list[Reference]:
        if self._dealer is not None:
            return self._dealer.share(step, self.rank)
        references = self.schedule.batch(step)
        # A split's last batch may have fewer items than processes, and collective operations need a batch in each.
        return references[self.rank :: self.world] or [replace(references[0], repeated=True)]

    def _stacked(self, places: Sequence[Iterator[Candidate]], fetched: Fetched) -> Batch:
        """A batch of the first sample of each position that can be stacked with the others."""
        chosen = [next(place) for place in places]
        while True:
            samples = [candidate.sample for candidate in chosen]
            try:
                with data_faults(f"a batch of {self.schedule.name}"):
                    return self.collator.batch(samples)
            except DataError:
                faults = odd_samples(samples, self.collator)
                if not faults:
                    raise
                for at, fault in faults.items():
                    self._bad(fault, chosen[at].source, chosen[at].index, fetched.skipped)
                    chosen[at] = next(places[at])

    def _candidates(self, reference: Reference, skipped: list[DataError]) -> Iterator[Candidate]:
        """Candidates for a position: the reference's own sample, then the next ones of its group and of its source."""
        source = self.sources[reference.source]
        items = range(len(source)) if reference.among is None else reference.among
        attempts = 0
        for index in islice(_from(reference.index, items, len(source)), _ATTEMPTS):
            attempts += 1
            name = f"{reference.source}/{index}"
            try:
                with data_faults(name):
                    conversation = source[index]
                    details = {"id": name, "seed": reference.seed, **conversation.details, "source": reference.source}
                    if reference.repeated or attempts > 1:
                        details["repeated"] = True
                    sample = self.collator.sample(replace(conversation, details=details))
            except DataError as error:
                self._bad(error, reference.source, index, skipped)
            else:
                yield Candidate(sample, reference.source, index)
        raise DataError(
            skipped[-1].fault,
            f"source '{reference.source}': found {attempts} bad samples in a row from {reference.index} on, the "
            f"last being: {skipped[-1]}",
        )

    def _bad(self, error: DataError, source: str, index: int, skipped: list[DataError]) -> None:
        """Counts a bad sample, or ends the run with an error that gives the sample's location in its source."""
        name, place = f"{source}/{index}", self.sources[source].where(index)
        text = str(error).removeprefix(f"{name}: ")
        fault = DataError(error.fault, f"{name if place == name or place in text else f'{name} ({place})'}: {text}")
        if self.on_error == "raise":
            raise fault from error.__cause__ or error
        skipped.append(fault)


def _from(index: int, items: Sequence[int], size: int) -> Iterator[int]:
    """These items of a source, from ``index`` on and round, and then its others, which a small group is short of."""
    place = bisect_left(items, index)
    yield from (items[(place + step) % len(items)] for step in range(len(items)))
    if len(items) < size:
        known = set(items)
        yield from (other for other in chain(range(index, size), range(index)) if other not in known)


@dataclass
class Candidate:
    """A sample and its source."""

    sample: Sample
    source: str
    index: int


def odd_samples(samples: Sequence[Sample], collator: Collator) -> dict[int, DataError]:
    """The samples of a batch that can't be stacked with the majority, with their faults.

    Samples are grouped so that each group can be stacked; the first of the largest groups is kept.

    Args:
        samples: of a batch that couldn't be stacked.
        collator: stacks them.
    """
    whole = copy(collator)
    whole.micro_batches = 1  # micro-batches are stacked separately, so that conflicts between them would be missed

    def fault(places: Sequence[int]) -> DataError | None:
        try:
            with data_faults("a batch"):
                whole.batch([samples[place] for place in places])
        except DataError as error:
            return error
        return None

    faults: dict[int, DataError] = {}
    groups: list[list[int]] = []
    for place in range(len(samples)):
        if (alone := fault([place])) is not None:
            faults[place] = alone
            continue
        fitting = next((group for group in groups if fault([*group, place]) is None), None)
        if fitting is None:
            groups.append([place])
        else:
            fitting.append(place)
    kept = max(groups, key=len, default=[])
    for group in groups:
        for place in group if group is not kept else ():
            faults[place] = fault([kept[0], place]) or fault([*kept, place]) or faults[place]
    return dict(sorted(faults.items()))
