"""Instruction data whose answers to the same prompt vary, so that rewards have alternatives to prefer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from numpy.random import Generator as Random

from isthmus.pocket.dialogues import OUTPUTS, Dialogue, Exchange, Part, Shown, pick
from isthmus.pocket.language import SOURCES
from isthmus.pocket.tasks import AnyToAny
from isthmus.pocket.world import COLOURS
from isthmus.pocket.worlds import World
from isthmus.types import Modality

COURTESIES = ("this is ", "now i can show you ", "you are welcome. this is ")
"""Beginnings of answers, in words of the embedded LLM's vocabulary."""


class VariedAnswers(AnyToAny):
    """Every input to every output, where answers may begin with a courtesy and choose an unspecified colour.

    Colours are chosen only in dialogues of one turn, since later turns would depend on them. Text answers to text are
    unchanged, since they are the LLM's own skill.

    Args:
        split: ``train``, ``validation`` or ``test``.
        size: number of conversations.
        seed: of all random choices.
        inputs: modalities of the user's turns; text and all media by default.
        outputs: requested modalities; text and all media by default.
        courteous: the share of answers that begin with a courtesy.
        coloured: the share of answers that choose a colour, among those whose medium may have any.
        world: the source of media; by default they are drawn.

    Raises:
        ValueError: a share outside 0 to 1.
    """

    name = "varied"

    def __init__(
        self,
        split: str = "train",
        size: int = 10_000,
        seed: int = 0,
        inputs: Sequence[str] = SOURCES,
        outputs: Sequence[str] = OUTPUTS,
        courteous: float = 0.5,
        coloured: float = 1.0,
        world: World | None = None,
    ) -> None:
        super().__init__(split, size, seed, inputs, outputs, world=world)
        for name, share in (("courteous", courteous), ("coloured", coloured)):
            if not 0 <= share <= 1:
                raise ValueError(f"varied.{name}: found {share}; expected a share from 0 to 1. Fix: correct it.")
        self.courteous = courteous
        self.coloured = coloured

    def dialogue(self, index: int, random: Random) -> Dialogue:
        turns = super().dialogue(index, random)
        if len(turns) == 1 and random.random() < self.coloured:
            colour = pick(random, COLOURS)
            turns = (replace(turns[0], assistant=_in_colour(turns[0].assistant, colour)),)
        return tuple(self._courteous(turn, random) for turn in turns)

    def _courteous(self, turn: Exchange, random: Random) -> Exchange:
        parts = (*turn.user, *turn.assistant)
        has_media = any(isinstance(part, Shown) and part.modality is not Modality.TEXT for part in parts)
        if not has_media or random.random() >= self.courteous:
            return turn
        first, *others = turn.assistant
        begun = (pick(random, COURTESIES) + first,) if isinstance(first, str) else (pick(random, COURTESIES), first)
        return replace(turn, assistant=(*begun, *others))


def _in_colour(parts: Sequence[Part], colour: str) -> tuple[Part, ...]:
    """The answer with this colour for images, videos and solids without one, in text and media."""
    renamed = {}
    for part in parts:
        if isinstance(part, Shown) and part.modality is not Modality.AUDIO and part.concept.colour is None:
            renamed[part.caption] = replace(part, concept=replace(part.concept, colour=colour))
    written: list[Part] = []
    for part in parts:
        if isinstance(part, Shown):
            written.append(renamed.get(part.caption, part))
            continue
        written.append(reduce(lambda text, names: text.replace(names[0], names[1].caption), renamed.items(), part))
    return tuple(written)
