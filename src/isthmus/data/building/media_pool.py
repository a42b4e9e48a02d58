"""The captioned media from which dialogues are built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError, data_faults
from isthmus.modalities import Modality, known_media


@dataclass(frozen=True)
class Captioned:
    """A captioned medium of a set. It is read from the set each time it is used.

    Attributes:
        modality: of the medium.
        caption: its description.
        concept: its content: media with the same concept are interchangeable.
        source: the set.
        index: of the conversation there.
        place: index of the medium in the conversation.
    """

    modality: Modality
    caption: str
    concept: str
    source: ConversationSource
    index: int
    place: int

    def item(self, is_answer: bool) -> MediumItem:
        """The medium as an item of a turn; in an answer it has its caption.

        Raises:
            DataError: the medium can no longer be read.
        """
        medium = _media(self.source[self.index])[self.place][0]
        return MediumItem(self.modality, medium.media, self.caption if is_answer else None)


class MediaPool:
    """All media with files and captions of some sets, by modality and by concept.

    A medium's caption is its own, as for the assistant's media, or the answer, if the conversation is one medium of the
    user's and one answer of text. Its concept is the caption, or a field of the conversation, such as a label, if the
    conversation has that field and no other medium. Concepts are compared without case, whitespace and a final full
    stop.

    Args:
        sets: by name.
        concept: the field; captions are the concepts if None.
        progress: wraps each set's indices, for a progress bar.

    Attributes:
        concept: the field.
        by_modality: all media.
        shared: the media of each concept that has several modalities, by modality.
        faults: conversations that couldn't be read, by set.
        uncaptioned: conversations without a captioned medium, by set.

    Raises:
        ValueError: no set has a captioned medium, or no conversation has the field.
    """

    def __init__(
        self,
        sets: Mapping[str, ConversationSource],
        concept: str | None = None,
        progress: Callable[[str, Iterable[int]], Iterable[int]] = lambda name, indices: indices,
    ) -> None:
        self.concept = concept
        self.faults: Counter[str] = Counter()
        self.uncaptioned: Counter[str] = Counter()
        self.by_modality: dict[Modality, list[Captioned]] = {}
        self._alike: dict[str, dict[Modality, list[Captioned]]] = {}
        labelled = 0
        for name, source in sets.items():
            for index in progress(name, range(len(source))):
                try:
                    with data_faults(name):
                        conversation = source[index]
                except DataError:
                    self.faults[name] += 1
                    continue
                found = _media(conversation)
                label = _field(conversation, concept) if concept is not None and len(found) == 1 else None
                labelled += label is not None
                self.uncaptioned[name] += not any(caption for _, caption in found)
                for place, (medium, caption) in enumerate(found):
                    if caption:
                        self._add(Captioned(medium.modality, caption, _normal(label or caption), source, index, place))
        if not self.by_modality:
            raise ValueError(
                f"{', '.join(sets)}: found no medium with a file and a caption ({sum(self.faults.values())} "
                "conversations can't be read); expected some to build dialogues of. Fix: caption them, or name other "
                "sets."
            )
        if concept is not None and not labelled:
            raise ValueError(
                f"{', '.join(sets)}: found no conversation of one medium with a {concept!r}; expected it in some, "
                "to find media of the same content. Fix: name another field, or none to compare captions."
            )
        self.by_modality = {m: self.by_modality[m] for m in known_media() if m in self.by_modality}
        self.shared = [by_modality for by_modality in self._alike.values() if len(by_modality) > 1]

    def counts(self) -> dict[str, int]:
        """The number of media of each modality."""
        return {str(modality): len(own) for modality, own in self.by_modality.items()}

    def _add(self, captioned: Captioned) -> None:
        self.by_modality.setdefault(captioned.modality, []).append(captioned)
        alike = self._alike.setdefault(captioned.concept, {})
        alike.setdefault(captioned.modality, []).append(captioned)


def _normal(caption: str) -> str:
    return " ".join(caption.lower().split()).rstrip(".")


def _field(conversation: Conversation, name: str) -> str | None:
    found = conversation.details.get(name)
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) and str(found).strip() else None


def _media(conversation: Conversation) -> list[tuple[MediumItem, str | None]]:
    """Media with files, and their captions."""
    messages = [message for message in conversation.messages if message.role != "system"]
    items = [(message.role, item) for message in messages for item in message.content if isinstance(item, MediumItem)]
    texts = [item.text for message in messages[1:] for item in message.content if isinstance(item, TextItem)]
    is_description = (
        len(items) == 1 and [message.role for message in messages] == ["user", "assistant"] and items[0][0] == "user"
    )
    answer = " ".join(" ".join(texts).split()) if is_description else None
    found = ((item, item.caption if role == "assistant" else answer) for role, item in items)
    return [(item, caption) for item, caption in found if item.media is not None]
