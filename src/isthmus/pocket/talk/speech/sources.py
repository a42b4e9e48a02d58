"""Conversations with speech: a spoken digit to be told in words, a spoken request for a medium, and dictation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.random import Generator as Random

from isthmus.data.conversations.schema import ContentItem, Conversation, MediumItem, Message, TextItem
from isthmus.data.plain import built_in_prompts
from isthmus.data.sampling.seeds import derive_seed
from isthmus.paths import user_path
from isthmus.pocket.conversations import checked
from isthmus.pocket.dialogues import Exchange, Shown, with_articles
from isthmus.pocket.talk.exchanges.turns import order
from isthmus.pocket.talk.speech.espeak import spoken
from isthmus.pocket.talk.speech.voices import draw_voice
from isthmus.pocket.tasks import MADE, PocketSource
from isthmus.pocket.wording.grammar import Choices, put
from isthmus.pocket.world import DIGITS, Concept
from isthmus.types import Modality

FOLDER = "data/speech"
"""Where recordings are kept, unless a source says otherwise."""

DICTATED = ("digit", "request", "plain", "request", "request", "plain", "request", "request")
"""What is dictated, in turn."""

FIGURE = re.compile(r"(?<![\w.,])[0-9](?![\w.,]\w|\w)")
"""A digit that stands by itself."""

SAID = Choices(
    "{} / {} / {} / number {} / the number {} / the digit {} / it's {} / it is a {}",
    "a {} / this is {}",
    "one single {} / the figure {} / and now {}",
)
ASKED = Choices(
    """which digit did I say? / what digit did I say? / which number do you hear? / what number is spoken? / which
    digit is spoken here? / what did I say? / what number did you hear? / tell me [which|what] [digit|number] it
    [is|was] / [say|type|give me|name|repeat] the [digit|number][ in words| in letters|, please|] / put what I said
    into words / [transcribe|spell out] what I [said|say] / in words: what [did I say|was said]? / just the
    [digit|number], no sound / type what you [hear|heard]""",
    "which number was that? / tell me the digit that I said",
    "what's the number I just said? / which number is being spoken? / write down the digit you heard",
)


class Speech(PocketSource):
    """Conversations whose user speaks. Voices, speeds, heights and wordings of a split are its own.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: number of conversations.
        seed: of all random choices.
        folder: of the recordings, which are made on first use by espeak-ng and kept.
    """

    def __init__(self, split: str = "train", size: int = 10_000, seed: int = 0, folder: str | Path = FOLDER) -> None:
        super().__init__(split, size, seed)
        self.folder = user_path(folder)

    def __getitem__(self, index: int) -> Conversation:
        """The conversation, whose recording is made on first use.

        Raises:
            IndexError: outside the source.
        """
        _, recording, (rest, answer, details) = self.said(index)
        user: tuple[ContentItem, ...] = (recording, *((TextItem(rest),) if rest else ()))
        said = tuple(TextItem(p) if isinstance(p, str) else MediumItem(p.modality, None, p.caption) for p in answer)
        return Conversation((Message("user", user), Message("assistant", said)), details)

    def said(self, index: int) -> tuple[str, MediumItem, tuple[str, Sequence[str | Shown], dict[str, Any]]]:
        """Of item ``index`` the spoken words, their recording, and the rest of :meth:`turn`."""
        random = self.random(index)
        words, question, answer, details = self.turn(index, random)
        recording = MediumItem(Modality.AUDIO, spoken(words, draw_voice(self.split, random), self.folder))
        return words, recording, (question, answer, details)

    def turn(self, index: int, random: Random) -> tuple[str, str, Sequence[str | Shown], dict[str, Any]]:
        """Of item ``index`` the spoken words, those written after them, the answer, and what a test expects."""
        raise NotImplementedError  # a subclass's duty


class SpokenDigits(Speech):
    """Speech -> words: a digit is said, and the answer tells which. Digits alternate."""

    name = "spoken_digits"

    def turn(self, index: int, random: Random) -> tuple[str, str, Sequence[str | Shown], dict[str, Any]]:
        digit = index % 10
        words = with_articles(put(SAID.any(random, self.split), DIGITS[digit]))
        question = ASKED.own(random, self.split)
        details = {"task": "spoken", "kind": "digit", "media": [], "expect": [{"digit": digit}]}
        return words, question[0].upper() + question[1:], (f"You said {DIGITS[digit]}.",), details


class SpokenRequests(Speech):
    """Speech -> a medium: the request is spoken, and the answer makes what was asked for. Modalities alternate.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: number of conversations.
        seed: of all random choices.
        folder: of the recordings, which are made on first use by espeak-ng and kept.
        modalities: of the media; all four by default.
    """

    name = "spoken_requests"

    def __init__(
        self,
        split: str = "train",
        size: int = 10_000,
        seed: int = 0,
        folder: str | Path = FOLDER,
        modalities: Sequence[str] = MADE,
    ) -> None:
        super().__init__(split, size, seed, folder)
        self.modalities = checked(modalities, MADE, f"{self.name}.modalities")

    def turn(self, index: int, random: Random) -> tuple[str, str, Sequence[str | Shown], dict[str, Any]]:
        output = self.modalities[index % len(self.modalities)]
        asked: Exchange = order(random, output, self.split)
        media = [part for part in asked.assistant if isinstance(part, Shown)]
        details = {
            "task": "spoken",
            "kind": "request",
            "media": [str(shown.modality) for shown in media],
            "expect": [_attributes(shown.known) for shown in media],
        }
        return "".join(map(str, asked.user)), "", asked.assistant, details


class _SpokenPrompts(Speech):
    """Speech -> nothing yet: plain prompts of the built-in set, one after another."""

    name = "spoken_prompts"

    def __init__(self, split: str, size: int, seed: int, folder: str | Path) -> None:
        super().__init__(split, size, seed, folder)
        self.prompts = built_in_prompts(size, derive_seed(self.name, split, seed))

    def turn(self, index: int, random: Random) -> tuple[str, str, Sequence[str | Shown], dict[str, Any]]:
        return self.prompts[index].text, "", (), {}


class Dictation(PocketSource):
    """Speech -> its words, for stages that weigh ``spelling``: requests, plain prompts and, every eighth, a digit.

    Recordings of requests and digits are those of :class:`SpokenRequests` and :class:`SpokenDigits`, one after another.
    Plain prompts are the built-in set's (:func:`isthmus.data.plain.built_in_prompts`). Digits are written in letters:
    they sound alike however they were written.

    Arguments are those of :class:`Speech`.
    """

    name = "dictation"

    def __init__(self, split: str = "train", size: int = 10_000, seed: int = 0, folder: str | Path = FOLDER) -> None:
        super().__init__(split, size, seed)
        self.folder = user_path(folder)
        rounds = -(-size // len(DICTATED))
        kinds: dict[str, type[Speech]] = {"digit": SpokenDigits, "request": SpokenRequests, "plain": _SpokenPrompts}
        self.kinds = {
            name: kind(split, rounds * DICTATED.count(name), seed, self.folder) for name, kind in kinds.items()
        }

    def __getitem__(self, index: int) -> Conversation:
        """The conversation, whose recording is made on first use.

        Raises:
            IndexError: outside the source.
        """
        self.random(index)  # refuses an index outside
        turn, place = divmod(index, len(DICTATED))
        kind = DICTATED[place]
        words, recording, _ = self.kinds[kind].said(turn * DICTATED.count(kind) + DICTATED[:place].count(kind))
        words = FIGURE.sub(lambda found: DIGITS[int(found[0])], words)
        return Conversation((Message("user", (recording,)), Message("assistant", (TextItem(words),))))


def _attributes(concept: Concept) -> dict[str, Any]:
    named = {"digit": concept.digit, "colour": concept.colour, "motion": concept.motion}
    return {name: value for name, value in named.items() if value is not None}
