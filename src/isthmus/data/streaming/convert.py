"""Converts sets of any format to shards or JSON lines. Conversations with lint errors are left out and reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.lint import SEVERITIES, Linter, Severity, SourceReport
from isthmus.data.sampling.seeds import derive_seed, permuted
from isthmus.data.streaming.records import Record, as_record


class Writer(Protocol):
    """The interface of writers of conversations."""

    @property
    def progress(self) -> dict[str, Any]:
        """The last progress that an earlier run marked; empty at the start."""

    def add(self, record: Record) -> None:
        """Writes a conversation."""

    def mark(self, progress: dict[str, Any]) -> None:
        """Records the progress of the conversion after the conversations added so far."""

    def finish(self) -> None:
        """Completes the set."""


@dataclass
class Converted:
    """The result for one set.

    Attributes:
        read: number of conversations read.
        written: number of conversations written.
        skipped: number of others, by the kind of fault.
        report: lint's report on those read in this run.
        resumed: number of conversations that an interrupted run had read.
    """

    read: int = 0
    written: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    report: SourceReport = field(default_factory=lambda: SourceReport(0))
    resumed: int = 0

    def counts(self) -> dict[str, Any]:
        """The numbers as plain data for JSON."""
        return {"read": self.read, "written": self.written, "skipped": dict(self.skipped)}


def convert(
    sets: Mapping[str, ConversationSource],
    writer: Writer,
    linter: Linter,
    shuffle: int | None = None,
    progress: Callable[[str, Iterable[int]], Iterable[int]] = lambda name, indices: indices,
) -> dict[str, Converted]:
    """Converts sets one after the other, and resumes an interrupted conversion.

    Args:
        sets: by name.
        writer: writes the conversations.
        linter: checks each conversation.
        shuffle: a seed, to write each set in a random order; in its own order if None.
        progress: wraps each set's indices, for a progress bar.

    Raises:
        DataError: the target can't be written to.
        ValueError: the sets have other sizes than in the interrupted run.
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
        records.append(as_record(conversation, source.where(index), linter.limits))

    before = Counter({kind: found.count for kind, found in own.report.findings.items()})
    usable = linter.look(source, index, own.report, keep)
    own.read += 1
    if usable:
        # Outside the linter, since a full disk isn't a fault of the conversation.
        writer.add(records[0])
        own.written += 1
        return
    after = Counter({kind: found.count for kind, found in own.report.findings.items()})
    faults = [kind for kind in after - before if SEVERITIES[kind] is Severity.ERROR]
    own.skipped[faults[0]] += 1


def _resumed(before: Mapping[str, Any], name: str) -> Converted:
    counts: dict[str, Any] = before["sets"][name] if before else {"read": 0, "written": 0, "skipped": {}}
    return Converted(counts["read"], counts["written"], Counter(counts["skipped"]), resumed=counts["read"])
