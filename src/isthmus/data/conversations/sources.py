"""Where conversations come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.conversations.marks import told
from isthmus.data.conversations.records import JsonRecords
from isthmus.data.conversations.schema import Conversation, MediumItem, parse_conversation
from isthmus.data.errors import DataError, Fault, data_faults, fault
from isthmus.data.sampling.dealing import Load, load_of
from isthmus.data.sampling.orders import Chunks
from isthmus.modalities import is_medium, known_media
from isthmus.paths import user_path
from isthmus.types import Modality

TEXT = str(Modality.TEXT)


class ConversationSource:
    """A named, indexed collection of conversations. ``source[i]`` is the same conversation each time, in every process.

    Attributes:
        name: what errors and reports call it.
    """

    name: str

    def __len__(self) -> int:
        raise NotImplementedError  # a subclass's duty

    def __getitem__(self, index: int) -> Conversation:
        raise NotImplementedError  # a subclass's duty

    def where(self, index: int) -> str:
        """What a report calls the ``index``-th conversation: the file and line, where there is a file."""
        return f"{self.name}/{index}"

    @property
    def files(self) -> Sequence[Path]:
        """The files that say what is in it, or a folder of them; none where it is made as it is read."""
        return ()

    @property
    def choice(self) -> Mapping[str, Any]:
        """What decides over its conversations beside its files: instructions, seeds, how many are drawn."""
        return {}

    @property
    def chunks(self) -> Chunks | None:
        """Parts that are best read one after the other, where an order that jumps about would be slow."""
        return None

    def labels(self) -> Sequence[str]:
        """What media each conversation holds, as :func:`media_label` says it.

        Goes through the whole source, at some tens of microseconds a record where :meth:`media_in` reads no medium. A
        conversation that can't be read gets the commonest label of the others, so that it forms no group by itself: its
        fault is told when its turn in training comes.
        """
        found = [self._label(index) for index in range(len(self))]
        known = Counter(label for label in found if label is not None).most_common(1)
        return [label or (known[0][0] if known else TEXT) for label in found]

    def media_in(self, index: int) -> Collection[Modality]:
        """Of what modalities the ``index``-th conversation holds media, given or made.

        Here they are seen in the conversation; a source whose records name them answers without looking for a file.

        Raises:
            DataError: the record can't be read.
        """
        items = (item for message in self[index].messages for item in message.content)
        return {item.modality for item in items if isinstance(item, MediumItem)}

    def load(self, index: int) -> Load:
        """What the ``index``-th conversation will cost in training, as far as it is known without reading a medium.

        By default all of a source cost the same, so that each process gets as many of them.

        Raises:
            DataError: the record can't be read.
        """
        return {f"of {self.name}": 1.0}

    def _label(self, index: int) -> str | None:
        try:
            with data_faults(self.name):
                return media_label(self.media_in(index))
        except DataError:
            return None


def media_label(modalities: Collection[str]) -> str:
    """The media that are given or made in a conversation, as ``image`` or ``image+audio``; ``text`` where none is."""
    order = [str(modality) for modality in known_media()]
    known = [name for name in order if name in modalities]
    return "+".join([*known, *sorted(str(name) for name in modalities if name not in order)]) or TEXT


def media_named(messages: Any) -> set[Modality]:
    """The media in turns of the chat-content convention that nothing was checked of; what is no turn has none."""
    found = set()
    for message in messages if isinstance(messages, list | tuple) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for item in content if isinstance(content, list | tuple) else ():
            kind = item.get("type") if isinstance(item, Mapping) else None
            if is_medium(kind):
                found.add(Modality(kind))
    return found


def turns_load(messages: Any) -> Load:
    """The load of turns of the chat-content convention that nothing was checked of."""
    characters, given, made = 0, Counter[str](), Counter[str]()
    for message in messages if isinstance(messages, list | tuple) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        own = made if content is not None and message.get("role") == "assistant" else given
        for item in [content] if isinstance(content, str) else content if isinstance(content, list | tuple) else ():
            kind = item.get("type") if isinstance(item, Mapping) else None
            if is_medium(kind):
                own[str(kind)] += 1
            else:
                words = item.get("text") if isinstance(item, Mapping) else item
                characters += len(words) if isinstance(words, str) else 0
    return load_of(characters, given, made)


class JsonLines(ConversationSource):
    """A file with one conversation a line (:mod:`~isthmus.data.conversations.schema`), or an array of them.

    Only the lines' offsets are held. Blank lines are passed over. Parts such as ``{"type": "image"}`` that name no file
    take the record's ``images``, ``videos``, ``audios`` or ``points`` in order, as chat templates have it.

    Args:
        path: the file.
        root: the folder that media paths are relative to and can't leave; the file's own folder where none is given.

    Raises:
        ValueError: no folder at ``root``, or see :class:`~isthmus.data.conversations.records.Records`.
    """

    def __init__(self, path: str | Path, root: str | Path | None = None) -> None:
        self.records = JsonRecords(path)
        self.path = self.records.path
        self.root = self.path.parent if root is None else user_path(root)
        self.name = self.path.stem
        if not self.root.is_dir():
            raise ValueError(
                f"{self.path}: found no folder at root {self.root}; expected the one that holds the media. Fix: "
                "correct it."
            )

    def __len__(self) -> int:
        return len(self.records)

    @property
    def files(self) -> Sequence[Path]:
        return [self.path]

    def __getitem__(self, index: int) -> Conversation:
        """The conversation of the ``index``-th line that isn't blank.

        Raises:
            DataError: the line isn't JSON, or isn't a conversation; named with its number.
        """
        raw, where = self.raw(index)
        return told(parse_conversation(_with_listed(raw, where), where, self.root), where)

    def media_in(self, index: int) -> Collection[Modality]:
        raw, where = self.raw(index)
        turns = raw.get("messages") if isinstance(raw, Mapping) else None
        if not isinstance(turns, list):
            raise fault(where, "found no list of turns under 'messages'", "a conversation", "correct the line")
        return media_named(turns)

    def load(self, index: int) -> Load:
        raw, _ = self.raw(index)
        return turns_load(raw.get("messages")) if isinstance(raw, Mapping) else {}

    def where(self, index: int) -> str:
        return self.records.where(index)

    def raw(self, index: int) -> tuple[Any, str]:
        """What stands in the ``index``-th line that isn't blank, unparsed, and the line's name in errors.

        Raises:
            DataError: the line isn't JSON.
        """
        return self.records.raw(index)


def _with_listed(raw: Any, where: str) -> Any:
    """A record whose parts without a file have the files that it lists beside its turns.

    Raises:
        DataError: more of these, or fewer, than parts.
    """
    if not isinstance(raw, Mapping):
        return raw
    names = {str(kind): kind.spec.listed for kind in known_media()}
    waiting = {kind: list(raw[name]) for kind, name in names.items() if isinstance(raw.get(name), list)}
    turns = raw.get("messages")
    if not waiting or not isinstance(turns, list):
        return raw
    counts = {kind: len(files) for kind, files in waiting.items()}

    def with_file(part: Any) -> Any:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in waiting or part.get(kind) is not None:
            return part
        return {**part, kind: waiting[kind].pop(0) if waiting[kind] else None}

    filled = [
        {**turn, "content": [with_file(part) for part in turn["content"]]}
        if isinstance(turn, Mapping) and isinstance(turn.get("content"), list)
        else turn
        for turn in turns
    ]
    for kind, files in waiting.items():
        if 0 < len(files) < counts[kind]:
            raise DataError(
                Fault.SCHEMA,
                f"{where}: {names[kind]}: found {counts[kind]} for {counts[kind] - len(files)} parts of type {kind}; "
                "expected as many. Fix: add the parts, or take files out.",
            )
    # Lists of which no part took anything are details, as any other field.
    taken = {names[kind] for kind, files in waiting.items() if counts[kind] and not files}
    return {**{key: value for key, value in raw.items() if key not in taken}, "messages": filled}
