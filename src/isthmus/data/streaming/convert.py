"""Sets of any format -> one set of shards or of JSON lines. What lint finds wrong is left out, and told likewise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.lint import SEVERITIES, Linter, Severity, SourceReport
from isthmus.data.sampling.seeds import derive_seed, permuted
from isthmus.data.streaming.records import Record, take_apart


class Writer(Protocol):
    """Where conversations go."""

    @property
    def progress(self) -> dict[str, Any]:
        """What an earlier run last marked; empty at the start."""

    def add(self, record: Record) -> None:
        """Writes one."""

    def mark(self, progress: dict[str, Any]) -> None:
        """Says how far the conversion has come with what was added."""

    def finish(self) -> None:
        """Makes the set whole."""


@dataclass
class Converted:
    """What became of one set.

    Attributes:
        read: conversations that were looked at.
        written: those that were written.
        skipped: how many weren't, by the kind of fault.
        report: what lint says of those that were read in this run.
        resumed: how many an earlier run, broken off, had read.
    """

    read: int = 0
    written: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    report: SourceReport = field(default_factory=lambda: SourceReport(0))
    resumed: int = 0

    def counts(self) -> dict[str, Any]:
        """The numbers, as JSON takes them."""
        return {"read": self.read, "written": self.written, "skipped": dict(self.skipped)}


def convert(
    sets: Mapping[str, ConversationSource],
    writer: Writer,
    linter: Linter,
    shuffle: int | None = None,
    progress: Callable[[str, Iterable[int]], Iterable[int]] = lambda name, indices: indices,
) -> dict[str, Converted]:
    """Converts sets one after the other, and goes on where an earlier run was broken off.

    Args:
        sets: by name.
        writer: where to.
        linter: judges each conversation.
        shuffle: a seed, to write each set in a drawn order; as it stands where none is given.
        progress: wraps each set's positions, as a progress bar does.

    Raises:
        DataError: what is written to can't be.
        ValueError: the sets have other sizes than those of the run that was broken off.
    """
    before = writer.progress
    sizes = {name: len(source) for name, source in sets.items()}
    if before and before["sizes"] != sizes:
        raise ValueError(
            f"found sets of {sizes} conversations; expected {before['sizes']}, as when the conversion began. Fix: "
            "remove what it wrote, and begin again."
        )
    done = {name: _resumed(before, name) for name in sets}
    for name, source in sets.items():
        own = done[name]
        own.report = linter.begin(source)
        for position in progress(name, range(own.read, len(source))):
            index = position
            if shuffle is not None:
                index = permuted(position, len(source), derive_seed("conversion", shuffle, name))
            _one(source, index, own, writer, linter)
            writer.mark({"sizes": sizes, "sets": {other: has.counts() for other, has in done.items()}})
    writer.finish()
    return done


def _one(source: ConversationSource, index: int, own: Converted, writer: Writer, linter: Linter) -> None:
    records: list[Record] = []

    def keep(conversation: Conversation) -> None:
        records.append(take_apart(conversation, source.where(index), linter.limits))

    before = Counter({kind: found.count for kind, found in own.report.findings.items()})
    usable = linter.look(source, index, own.report, keep)
    own.read += 1
    if usable:
        # Not within the look: a disk that is full is no fault of a conversation.
        writer.add(records[0])
        own.written += 1
        return
    after = Counter({kind: found.count for kind, found in own.report.findings.items()})
    faults = [kind for kind in after - before if SEVERITIES[kind] is Severity.ERROR]
    own.skipped[faults[0]] += 1


def _resumed(before: Mapping[str, Any], name: str) -> Converted:
    told: dict[str, Any] = before["sets"][name] if before else {"read": 0, "written": 0, "skipped": {}}
    return Converted(told["read"], told["written"], Counter(told["skipped"]), resumed=told["read"])
