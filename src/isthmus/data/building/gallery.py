"""The captioned media that dialogues are built of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from isthmus.data.errors import DataError
from isthmus.data.schema import Conversation, MediumItem, TextItem
from isthmus.data.sources import ConversationSource
from isthmus.types import MEDIA, Modality


@dataclass(frozen=True)
class Captioned:
    """A medium that stands in a set, with what it shows. It is read anew each time it is wanted.

    Attributes:
        modality: of the medium.
        caption: what it shows.
        source: the set.
        index: of the conversation there.
        place: which of the conversation's media it is.
    """

    modality: Modality
    caption: str
    source: ConversationSource
    index: int
    place: int

    def item(self, is_answer: bool) -> MediumItem:
        """It as a part of a turn; as a part of an answer it has its caption.

        Raises:
            DataError: it can no longer be read.
        """
        medium = _media(self.source[self.index])[self.place][0]
        return MediumItem(self.modality, medium.media, self.caption if is_answer else None)


class Gallery:
    """All media with files and captions of some sets, by modality and by what they show.

    A medium's caption is its own, as the assistant's media have it, or, where the user gives one medium and gets one
    answer in words alone, this answer. Captions that differ in case, blanks or a full stop alone are the same: media of
    several modalities with one caption can stand for one another.

    Args:
        sets: by name.
        progress: wraps each set's positions, as a progress bar does.

    Attributes:
        faults: conversations that couldn't be read, by set.
        uncaptioned: conversations without a captioned medium, by set.

    Raises:
        ValueError: no set has a captioned medium.
    """

    def __init__(
        self,
        sets: Mapping[str, ConversationSource],
        progress: Callable[[str, Iterable[int]], Iterable[int]] = lambda name, indices: indices,
    ) -> None:
        self.faults: Counter[str] = Counter()
        self.uncaptioned: Counter[str] = Counter()
        self.by_modality: dict[Modality, list[Captioned]] = {}
        self._alike: dict[str, dict[Modality, list[Captioned]]] = {}
        for name, source in sets.items():
            for index in progress(name, range(len(source))):
                try:
                    found = _media(source[index])
                except DataError:
                    self.faults[name] += 1
                    continue
                self.uncaptioned[name] += not any(caption for _, caption in found)
                for place, (medium, caption) in enumerate(found):
                    if caption:
                        self._add(Captioned(medium.modality, caption, source, index, place))
        if not self.by_modality:
            raise ValueError(
                f"{', '.join(sets)}: found no medium with a file and a caption ({sum(self.faults.values())} "
                "conversations can't be read); expected some to build dialogues of. Mend: caption them, or name other "
                "sets."
            )
        self.by_modality = {modality: self.by_modality[modality] for modality in MEDIA if modality in self.by_modality}
        self.shared = [by_modality for by_modality in self._alike.values() if len(by_modality) > 1]

    def counts(self) -> dict[str, int]:
        """How many media of each modality there are."""
        return {str(modality): len(own) for modality, own in self.by_modality.items()}

    def others(self, of: Captioned) -> dict[Modality, Sequence[Captioned]]:
        """Media of other modalities that show the same."""
        alike = self._alike[_normal(of.caption)]
        return {modality: own for modality, own in alike.items() if modality is not of.modality}

    def _add(self, captioned: Captioned) -> None:
        self.by_modality.setdefault(captioned.modality, []).append(captioned)
        alike = self._alike.setdefault(_normal(captioned.caption), {})
        alike.setdefault(captioned.modality, []).append(captioned)


def _normal(caption: str) -> str:
    return " ".join(caption.lower().split()).rstrip(".")


def _media(conversation: Conversation) -> list[tuple[MediumItem, str | None]]:
    """Media with files, and their captions."""
    messages = [message for message in conversation.messages if message.role != "system"]
    items = [(message.role, item) for message in messages for item in message.content if isinstance(item, MediumItem)]
    said = [item.text for message in messages[1:] for item in message.content if isinstance(item, TextItem)]
    is_description = (
        len(items) == 1 and [message.role for message in messages] == ["user", "assistant"] and items[0][0] == "user"
    )
    answer = " ".join(" ".join(said).split()) if is_description else None
    found = ((item, item.caption if role == "assistant" else answer) for role, item in items)
    return [(item, caption) for item, caption in found if item.media is not None]
