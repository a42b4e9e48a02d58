"""The answers to a test source, joined with its conversations as they are asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, overload

from isthmus.data.conversations.sources import ConversationSource
from isthmus.evaluation.predictions.answered import Answered, answered, conversation_id
from isthmus.evaluation.predictions.lines import DIGEST, StoredAnswer, read_lines

ADDED = ("id", "seed", "source", "repeated")
"""Details that a batch adds, and the id, which is compared by itself."""
KEPT = 512
"""So many conversations are kept: metrics pass over them several times."""


class Answers(Sequence[Answered]):
    """The answers to one test source, in its order. The latest conversations are kept, so that a large set needn't fit.

    Args:
        name: the source's.
        source: the conversations.
        stored: by index.
    """

    def __init__(self, name: str, source: ConversationSource, stored: Mapping[int, StoredAnswer]) -> None:
        self.name = name
        self.source = source
        self.stored = stored
        self.indices = sorted(stored)
        self._conversation = lru_cache(KEPT)(source.__getitem__)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> Answered: ...

    @overload
    def __getitem__(self, place: slice) -> list[Answered]: ...

    def __getitem__(self, place: int | slice) -> Answered | list[Answered]:
        """An answer and its conversation.

        Raises:
            DataError: the conversation or a file of the answer can't be read.
            ValueError: the answer is to another conversation.
        """
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        index = self.indices[place]
        conversation, stored = self._conversation(index), self.stored[index]
        check_same(stored, self.name, index, conversation.details)
        return answered(self.name, index, self._ids[index], conversation, stored.text, tuple(stored.files))

    def __iter__(self) -> Iterator[Answered]:
        return (self[place] for place in range(len(self)))

    def ids(self) -> list[tuple[int, str]]:
        """Index and id of each conversation."""
        return list(self._ids.items())

    @cached_property
    def _ids(self) -> dict[int, str]:
        """Index -> id; conversations whose answers say it aren't read.

        Scores are by id, so one that several conversations have is told apart by their indices.
        """
        found = {
            index: conversation_id(self.name, index, self.source[index].details) if own is None else own
            for index in self.indices
            for own in [self.stored[index].id]
        }
        count = Counter(found.values())
        return {index: own if count[own] == 1 else f"{own}#{index}" for index, own in found.items()}


def check_same(stored: StoredAnswer, name: str, index: int, details: Mapping[str, Any]) -> None:
    """Holds an answer against the conversation in its place, as far as its line says of which it is.

    Raises:
        ValueError: it is another one.
    """
    own, digest = conversation_id(name, index, details), stored.facts.get(DIGEST)
    if (stored.id is not None and stored.id != own) or (digest and digest != details_digest(details)):
        found = f"an answer to {stored.id!r}" if stored.id != own else f"an answer to another {own!r}"
        raise ValueError(
            f"{stored.where}: found {found}; expected {own!r} as it is in the data, conversation {index} of '{name}'. "
            "Fix: measure on the data that was answered; a test run that answers anew takes --overwrite."
        )


def details_digest(details: Mapping[str, Any]) -> str:
    """A digest of the plain values of a conversation's details, without what a batch adds to them.

    A batch has them at hand. Of files the content is in :mod:`~isthmus.evaluation.predictions.origin`.
    """
    own = {name: value for name, value in details.items() if name not in ADDED}
    return sha256(json.dumps(own, sort_keys=True, default=lambda one: type(one).__name__).encode()).hexdigest()[:16]


def read_answers(folder: Path, sources: Mapping[str, ConversationSource]) -> dict[str, Answers]:
    """As :func:`stored_answers`, of sources whose every conversation is answered.

    Raises:
        ValueError: as there, or a conversation has no answer.
    """
    found = stored_answers(folder, sources)
    for name, answers in found.items():
        if len(answers) < len(sources[name]):
            first = next(index for index in range(len(sources[name])) if index not in answers.stored)
            raise ValueError(
                f"{folder}: found answers to {len(answers)} of {len(sources[name])} conversations of '{name}', none to "
                f"{name}/{first}; expected one to each. Fix: answer the rest, or measure on fewer conversations."
            )
    return found


def stored_answers(folder: Path, sources: Mapping[str, ConversationSource]) -> dict[str, Answers]:
    """The answers in a folder of JSON lines, a test run's or anybody's, to the conversations of test sources.

    Raises:
        ValueError: there are none, a conversation has two, or an answer is to no conversation.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: found no such folder; expected one with answers as *.jsonl. Fix: name it.")
    own = [answer for answer in read_lines(folder) if answer.source is None or answer.source in sources]
    if not own:
        raise ValueError(
            f"{folder}: found no answer to {', '.join(sources)} in *.jsonl files; expected one to each conversation. "
            "Fix: name the folder that holds the lines, or the sources that they answer (docs/evaluation.md)."
        )
    found: dict[str, dict[int, StoredAnswer]] = {name: {} for name in sources}
    ids: dict[str, dict[str, int]] = {}
    for answer in own:
        name = answer.source or _only(sources, answer)
        if answer.index is None and name not in ids:
            ids[name] = _ids(name, sources[name])
        index = ids[name].get(str(answer.id), -1) if answer.index is None else answer.index
        if not 0 <= index < len(sources[name]):
            what = repr(answer.id) if answer.index is None else f"index {answer.index}"
            raise ValueError(
                f"{answer.where}: found an answer to {what}; expected a conversation of '{name}', which has "
                f"{len(sources[name])}. Fix: correct the line, or measure on the data that was answered."
            )
        if index in found[name]:
            if DIGEST in answer.facts:  # a test run's, given once more to the same names after its media were lost
                continue
            raise ValueError(
                f"{answer.where}: found a second answer to {name}/{index} (the first: {found[name][index].where}); "
                "expected one of each. Fix: delete one of the lines."
            )
        found[name][index] = answer
    return {name: Answers(name, sources[name], stored) for name, stored in found.items() if stored}


def _only(sources: Mapping[str, ConversationSource], answer: StoredAnswer) -> str:
    if len(sources) > 1:
        raise ValueError(
            f"{answer.where}: found no source; expected one of {', '.join(sources)}, since there are several. Fix: add "
            '"source" to each line.'
        )
    return next(iter(sources))


def _ids(name: str, source: ConversationSource) -> dict[str, int]:
    """Id -> index.

    Raises:
        ValueError: two conversations have the same id.
    """
    found: dict[str, int] = {}
    for index in range(len(source)):
        own = conversation_id(name, index, source[index].details)
        if own in found:
            raise ValueError(
                f"'{name}': found the id {own!r} twice, at {found[own]} and {index}; expected each once, since answers "
                'name ids. Fix: name the conversations by "index".'
            )
        found[own] = index
    return found
