"""Preference pairs of the pocket world: the right answer, and one with a wrong attribute or without its medium."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from numpy.random import Generator as Random

from isthmus.data.batching.pairs import Pair
from isthmus.pocket.conversations import conversation
from isthmus.pocket.dialogues import DONE, Dialogue, Exchange, Part, Shown
from isthmus.pocket.language import SOURCES
from isthmus.pocket.tasks import AnyToAny, Arithmetic, PocketSource, TextOnly
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS, Concept
from isthmus.types import Modality

OUTPUTS = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)


class PreferredAnswers(PocketSource):
    """Instruction data whose last answer has a rejected counterpart.

    Seven in ten rejected answers have another digit, colour or motion, in text and medium; the others, if a medium was
    requested, have only its caption.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: number of pairs.
        seed: of all random choices.
        inputs: modalities of the user's turns; text and all media by default.
        outputs: requested modalities; by default text, image, video and audio, or those of sums.
        with_content: whether the answers' media are drawn too, which the media term of DPO needs.
        task: the kind of request: ``any_to_any``, ``arithmetic``, or ``text``, which has neither inputs nor outputs.

    Raises:
        ValueError: an unknown task, or inputs or outputs for ``text``.
    """

    name = "preferences"

    def __init__(
        self,
        split: str = "train",
        size: int = 10_000,
        seed: int = 0,
        inputs: Sequence[str] = SOURCES,
        outputs: Sequence[str] | None = None,
        with_content: bool = True,
        task: str = "any_to_any",
    ) -> None:
        super().__init__(split, size, seed)
        self.with_content = with_content
        self._answered = _answered(task, split, size, seed, inputs, outputs)

    def dialogue(self, index: int, random: Random) -> Dialogue:
        return self._answered.dialogue(index, random)

    def __getitem__(self, index: int) -> Pair:
        """The pair with its media; those of the rejected answer show other scans."""
        random = self.random(index)
        dialogue = self.dialogue(index, random)
        chosen = conversation(dialogue, self.split, random, self.with_content)
        worse = (Exchange(("",), worse_answer(dialogue[-1].assistant, random)),)
        rejected = conversation(worse, self.split, random, self.with_content)
        return Pair(chosen.messages, chosen.details, rejected.messages[-1])


def _answered(
    task: str, split: str, size: int, seed: int, inputs: Sequence[str], outputs: Sequence[str] | None
) -> PocketSource:
    match task:
        case "any_to_any":
            return AnyToAny(split, size, seed, inputs, OUTPUTS if outputs is None else outputs)
        case "arithmetic":
            return Arithmetic(split, size, seed, inputs, outputs)
        case "text":
            if outputs is not None or tuple(inputs) != SOURCES:
                raise ValueError(
                    "preferences: found inputs or outputs for the task 'text'; expected neither: it has no media. "
                    "Fix: leave them out."
                )
            return TextOnly(split, size, seed)
        case _:
            raise ValueError(
                f"preferences.task: found {task!r}; expected any_to_any, arithmetic or text. Fix: choose one."
            )


def worse_answer(parts: Sequence[Part], random: Random) -> tuple[Part, ...]:
    """The answer with another digit, colour or motion, or without its media."""
    if random.random() < 0.3 and any(isinstance(part, Shown) for part in parts):
        said = "".join(part for part in parts if isinstance(part, str))
        return (re.sub(rf", ({'|'.join(DONE.values())})", "", said),)
    words = {word for part in parts for word in (part if isinstance(part, str) else part.caption).split()}
    kinds = [kind for kind in (DIGITS, COLOURS, tuple(MOTIONS)) if words & set(kind)]
    if not kinds:
        return (DIGITS[random.integers(10)],)
    kind = kinds[random.integers(len(kinds))]
    shift = int(random.integers(1, len(kind)))
    other = {word: kind[(place + shift) % len(kind)] for place, word in enumerate(kind)}
    return tuple(_changed(part, other) for part in parts)


def _changed(part: Part, other: Mapping[str, str]) -> Part:
    if isinstance(part, str):
        return re.sub(r"\w+", lambda word: other.get(word[0], word[0]), part)
    was = part.concept
    digit = DIGITS.index(other.get(DIGITS[was.digit], DIGITS[was.digit]))
    colour, motion = ((None if word is None else other.get(word, word)) for word in (was.colour, was.motion))
    return Shown(part.modality, Concept(digit, colour, motion))
