"""What a metric is: a function over stored answers, whose figures carry all that decides over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

from tqdm import tqdm

from isthmus.evaluation.predictions.answered import Answered
from isthmus.evaluation.processes import from_all, process_place

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        value: the number.
        n: how many conversations it was measured on.
        better: which values are better.
        interval: that holds the true value with probability 0.95.
        scores: by :attr:`~isthmus.evaluation.predictions.answered.Answered.id`, where ``value`` is their mean. Tests
            between runs and intervals come from them.
        protocol: all that decides over the value: the extractor and a hash of its weights, resizing, seed, versions of
            libraries. Figures are compared only where it is the same.
    """

    value: float
    n: int
    better: Literal["higher", "lower"]
    interval: tuple[float, float] | None = None
    scores: Mapping[str, float] | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)


class Processes:
    """Work that the processes of a run share. Chunks are the same however many there are, and so are the results.

    Args:
        shows: whether the first process shows a progress bar for each :meth:`map`.
    """

    def __init__(self, shows: bool = False) -> None:
        self.shows = shows

    @property
    def rank(self) -> int:
        """Of this process, from 0 on."""
        return process_place()[0]

    @property
    def count(self) -> int:
        """How many processes share the work."""
        return process_place()[1]

    def map(
        self, function: Callable[[Sequence[T]], Iterable[R]], items: Sequence[T], size: int, what: str = ""
    ) -> list[R]:
        """The results of all items in order, in every process; all must call this with the same items.

        Items are cut into chunks of ``size``, the last perhaps shorter, and chunk ``i`` is the work of process ``i``
        modulo their number. So ``function`` gets the same chunks from one process and from many.

        Args:
            function: a chunk -> its results, as many as there are items in it.
            items: the whole work.
            size: of a chunk.
            what: is done, for the progress bar.
        """
        assert size > 0, "a chunk holds at least one item"
        rank, count = self.rank, self.count
        starts = range(0, len(items), size)
        own: list[list[R]] = []
        with tqdm(starts, desc=what, leave=False, disable=rank > 0 or not self.shows) as bar:
            for start in islice(bar, rank, None, count):
                chunk = items[start : start + size]
                results = list(function(chunk))
                assert len(results) == len(chunk), f"{len(results)} results for {len(chunk)} items"
                own.append(results)
        chunks = from_all(own)
        return [result for place in range(len(starts)) for result in chunks[place % count][place // count]]


class Metric(Protocol):
    """One measurement over the answers of one test source; configs name it by ``class_path``."""

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, by ``modality/metric``, such as ``text/exact_match``; the test source's name is put before.

        All processes call it with the same answers and give the same figures. Heavy work goes through
        :meth:`Processes.map`.

        Raises:
            ValueError: an answer lacks what is measured, such as its reference.
        """
        ...
