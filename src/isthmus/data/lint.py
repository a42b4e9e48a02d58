"""Reads whole sets as training would, and tells what is in them, what is wrong, and what would be skipped."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b, file_digest
from pathlib import Path
from statistics import median
from typing import Any

from isthmus.data.batching.pairs import Pair
from isthmus.data.conversations.marks import unserved_marks
from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError, Fault, data_faults
from isthmus.data.lint_media import LOOK
from isthmus.data.media.files import DEFAULT_LIMITS, read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.remarks import Remark, remarks
from isthmus.data.media.stored import StoredFile
from isthmus.data.sampling.seeds import permuted
from isthmus.modalities import CLOUD
from isthmus.types import Media

SLOWEST = 1.0
"""Frames a second below which a video is a finding: its delays are wrong, or it is a slide show."""

EXAMPLES = 20
"""How many findings of a kind are told in full; all are counted."""


class Severity(StrEnum):
    """What a finding means for training."""

    ERROR = "error"
    WARNING = "warning"


SEVERITIES: dict[str, Severity] = {
    **{str(fault): Severity.ERROR for fault in Fault},
    "duplicate conversation": Severity.WARNING,
    "duplicate medium": Severity.WARNING,
    "long text": Severity.WARNING,
    "only a prompt": Severity.WARNING,
    "slow video": Severity.WARNING,
    "tiny medium": Severity.WARNING,
    "turned picture": Severity.WARNING,
    "uneven colours": Severity.WARNING,
    **{str(kind): Severity.WARNING for kind in Remark},
}
"""Kind of finding -> severity. A conversation with an error is skipped, or ends the run; one with a warning is used."""


@dataclass
class Finding:
    """A kind of finding: how many there are, and the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Counts one."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(message)


@dataclass
class SourceReport:
    """What lint says of one set.

    Attributes:
        size: conversations in the set.
        read: how many of them lint looked at.
        usable: those without an error.
        kinds: what these hold, as ``text given``, ``image made``.
        findings: by kind, each one of :data:`SEVERITIES`.
        lengths: by measure: ``text characters`` and those of :mod:`isthmus.data.lint_media`.
        columns: of the first cloud, 3 or 6; 0 before there is one.
    """

    size: int
    read: int = 0
    usable: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Finding] = field(default_factory=dict)
    lengths: dict[str, array[float]] = field(default_factory=dict)
    columns: int = 0

    def count(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return sum(found.count for kind, found in self.findings.items() if SEVERITIES[kind] is severity)

    def add(self, kind: str, message: str) -> None:
        """One more finding of a kind."""
        self.findings.setdefault(kind, Finding()).add(message)

    def measure(self, name: str, value: float) -> None:
        """One more length."""
        self.lengths.setdefault(name, array("d")).append(value)

    def spread(self) -> dict[str, tuple[float, float, float]]:
        """Measure -> its least, median and largest."""
        return {name: (min(of), median(of), max(of)) for name, of in self.lengths.items()}

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            "size": self.size,
            "read": self.read,
            "usable": self.usable,
            "kinds": dict(sorted(self.kinds.items())),
            "findings": {
                kind: {"severity": SEVERITIES[kind], "count": found.count, "examples": found.examples}
                for kind, found in sorted(self.findings.items())
            },
            "lengths": {
                name: dict(zip(("min", "median", "max"), of, strict=True)) for name, of in self.spread().items()
            },
        }


class Linter:
    """Lints sets, one after the other; duplicates are found across them too.

    Of each conversation and of each file, 16 bytes of hash and number are kept, and no content.

    Args:
        limits: caps on media, as in training.
        longest: characters of one text above which it is a finding.
        decode: whether media are read, or only looked for.
        prepare: what a model does with a conversation before it learns it; a fault that it raises is one of the
            conversation.
    """

    def __init__(
        self,
        limits: MediaLimits = DEFAULT_LIMITS,
        longest: int = 32_768,
        decode: bool = True,
        prepare: Callable[[Conversation], object] = lambda conversation: None,
    ) -> None:
        self.limits = limits
        self.longest = longest
        self.decode = decode
        self.prepare = prepare
        self._sources: list[ConversationSource] = []
        self._seen: dict[str, dict[int, int]] = {"duplicate conversation": {}, "duplicate medium": {}}
        self._files: dict[int, int] = {}  # path -> content

    def lint(
        self,
        source: ConversationSource,
        sample: int | None = None,
        progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    ) -> SourceReport:
        """Reads a set, in order.

        Args:
            source: the set.
            sample: how many conversations, drawn by a fixed seed; all where none is given.
            progress: wraps the indices, as a progress bar does.
        """
        size = len(source)
        report = self.begin(source)
        indices: Iterable[int] = range(size)
        if sample is not None and sample < size:
            indices = sorted(permuted(i, size, 0) for i in range(sample))
        for index in progress(indices):
            self.look(source, index, report)
        return report

    def begin(self, source: ConversationSource) -> SourceReport:
        """The report of another set, still empty; :meth:`look` fills it."""
        self._sources.append(source)
        return SourceReport(len(source))

    def look(
        self,
        source: ConversationSource,
        index: int,
        report: SourceReport,
        use: Callable[[Conversation], None] = lambda conversation: None,
    ) -> bool:
        """Reads one conversation and reports on it; returns whether it is usable.

        Args:
            source: the set that :meth:`begin` was last called with.
            index: the conversation.
            report: of the set.
            use: what is done with a conversation that has no fault; a fault that it raises is one of the conversation.
        """
        report.read += 1
        where = source.where(index)
        told: list[tuple[Remark, str]] = []
        try:
            with data_faults(where):
                with remarks() as told:
                    conversation = self._conversation(source, index, report)
                with remarks() as again:
                    self.prepare(conversation)
                read = {kind for kind, _ in told}  # what prepares may read the media once more
                told += [own for own in again if own[0] not in read]
                use(conversation)
        except DataError as error:
            said = str(error)
            report.add(error.fault, said if said.startswith(where) else f"{where}: {said}")
            return False
        finally:
            for kind, said in told:
                if kind is not Remark.MARK:  # looked for in texts, in sets of every kind
                    report.add(kind, said if said.startswith(where) else f"{where}: {said}")
        report.usable += 1
        return True

    def _conversation(self, source: ConversationSource, index: int, report: SourceReport) -> Conversation:
        where = source.where(index)
        conversation = source[index]
        if all(message.role != "assistant" for message in conversation.messages):
            # What a test asks, or a training by rewards; a stage on answers has nothing to learn from it.
            report.add("only a prompt", f"{where}: found no assistant's turn, which training on answers would skip")
        elif not _has_target(conversation):
            raise DataError(
                Fault.NO_TARGET,
                f"{where}: found no words and no media in an assistant's turn that is learnt; expected some. "
                "Fix: add the answer, or take the conversation out.",
            )
        whole = blake2b(digest_size=8)
        turns = (*conversation.messages, *([conversation.rejected] if isinstance(conversation, Pair) else []))
        # What a conversation holds counts only once all of it could be read.
        kinds, lengths = Counter[str](), list[tuple[str, float]]()
        words = " ".join(item.text for message in turns for item in message.content if isinstance(item, TextItem))
        for message in turns:
            whole.update(f"\0{message.role}".encode())
            side = "made" if message.role == "assistant" else "given"
            if message.calls:
                kinds["call made"] += len(message.calls)
            for item in message.content:
                if isinstance(item, TextItem):
                    kinds[f"text {side}"] += 1
                    lengths.append(("text characters", len(item.text)))
                    whole.update(b"\0t" + item.text.encode("utf-8", "surrogatepass"))
                    if len(item.text) > self.longest:
                        report.add("long text", f"{where}: found a text of {len(item.text)} characters")
                    continue
                kinds[f"{item.modality} {side}"] += 1
                whole.update(f"\0{item.modality}{item.caption}".encode("utf-8", "surrogatepass"))
                if item.media is not None:
                    whole.update(str(self._medium(item, kinds, lengths, words, where, report)).encode())
        report.kinds += kinds
        for name, value in lengths:
            report.measure(name, value)
        report.kinds["turns"] += len(conversation.messages)
        if unserved := unserved_marks(conversation):
            report.add(Remark.MARK, f"{where}: found {unserved} in a text, and no such medium: it is text")
        place = len(self._sources) - 1 << 40 | index
        self._double("duplicate conversation", int.from_bytes(whole.digest(), "big"), place, report)
        for rate in (value for name, value in lengths if name.endswith(" frames a second") and value < SLOWEST):
            report.add("slow video", f"{where}: found a video of {rate:.3g} frames a second")
        for message in turns:
            for item in message.content:
                if isinstance(item, MediumItem) and item.media is not None and self.decode:
                    self._double("duplicate medium", self._content(item.media), place, report, _name(item.media))
        return conversation

    def _medium(
        self,
        item: MediumItem,
        kinds: Counter[str],
        lengths: list[tuple[str, float]],
        words: str,
        where: str,
        report: SourceReport,
    ) -> int | str:
        """Reads a medium and measures it; returns the hash of its content, or its path where media aren't read."""
        assert item.media is not None
        if not self.decode:
            return _digest(item.media.array.tobytes()) if isinstance(item.media, Media) else str(item.media)
        media = item.media
        if not isinstance(media, Media):
            media = read_media(
                media, item.modality, self.limits, request=LOOK.get(item.modality.kind.name), rate=item.rate
            )
        spec = media.modality.spec
        kinds.update(spec.function("traits")(media, item.media))
        lengths += spec.function("measures")(media)
        for kind, said in spec.function("doubts")(media, item.media, words):
            report.add(kind, f"{where}: {_name(item.media)}: {said}")
        if media.modality.kind is CLOUD:
            columns = media.array.shape[1]
            report.columns = report.columns or columns
            if columns != report.columns:
                without = "without" if columns == 3 else "with"
                report.add("uneven colours", f"{where}: found a cloud {without} colours, unlike the first one")
        return self._content(item.media)

    def _content(self, media: Media | Path | StoredFile) -> int:
        if isinstance(media, Media):
            return _digest(media.array.tobytes())
        if isinstance(media, StoredFile):
            return _digest(media.data)
        key = _digest(str(media).encode("utf-8", "surrogateescape"))
        if key not in self._files:
            with media.open("rb") as file:
                content = file_digest(file, lambda: blake2b(digest_size=8)).digest()
            self._files[key] = int.from_bytes(content, "big")
        return self._files[key]

    def _double(self, kind: str, content: int, place: int, report: SourceReport, name: str = "") -> None:
        first = self._seen[kind].setdefault(content, place)
        if first == place:
            return
        earlier = self._sources[first >> 40].where(first & (1 << 40) - 1)
        here = self._sources[place >> 40].where(place & (1 << 40) - 1)
        report.add(kind, f"{here}: {name + ' is ' if name else ''}the same as at {earlier}")


def lint_all(
    sources: Mapping[str, ConversationSource],
    linter: Linter,
    sample: int | None = None,
    progress: Callable[[str, Iterable[int]], Iterable[int]] = lambda name, indices: indices,
) -> dict[str, SourceReport]:
    """Lints sets by name; ``progress`` wraps each one's indices."""
    return {
        name: linter.lint(source, sample, lambda indices, name=name: progress(name, indices))  # type: ignore[misc]
        for name, source in sources.items()
    }


def _has_target(conversation: Conversation) -> bool:
    return any(
        message.calls or any(isinstance(item, MediumItem) or item.text.strip() != "" for item in message.content)
        for message in conversation.messages[1:]  # what opens a conversation answers nothing
        if message.role == "assistant" and message.trains
    )


def _digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _name(media: Media | Path | StoredFile) -> str:
    return media.source if isinstance(media, Media) else str(media)
