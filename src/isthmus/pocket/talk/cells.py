"""The cells of the any-to-any matrix in natural wordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from numpy.random import Generator as Random

from isthmus.pocket import cells
from isthmus.pocket.dialogues import OUTPUTS, Dialogue, Shown
from isthmus.pocket.language import SOURCES
from isthmus.pocket.talk.exchanges import numbers, questions, turns
from isthmus.pocket.talk.exchanges.words_only import imagined
from isthmus.pocket.talk.sources import as_typed
from isthmus.pocket.world import Concept
from isthmus.pocket.worlds import World
from isthmus.types import Modality


class MatrixCells(cells.MatrixCells):
    """As :class:`isthmus.pocket.cells.MatrixCells`, asked as the talk world does, in wordings of the split.

    Args:
        split: of the scans and the wordings.
        per_cell: prompts in each cell of the matrix and of the arithmetic.
        seed: of all random choices.
        inputs: rows of the matrix.
        outputs: its columns.
        arithmetic: whether to add sums of an image and a tone, as text, image and audio, if these are among the inputs
            and outputs.
        world: the source of media; by default they are drawn.

    Raises:
        ValueError: an unknown split or modality, or a number out of range.
    """

    name = "talk_matrix"

    def __init__(
        self,
        split: str = "test",
        per_cell: int = 40,
        seed: int = 0,
        inputs: Sequence[str] = SOURCES,
        outputs: Sequence[str] = OUTPUTS,
        arithmetic: bool = True,
        world: World | None = None,
    ) -> None:
        super().__init__(split, per_cell, seed, inputs, outputs, arithmetic, 0, world)

    def asked(self, given: Modality, output: Modality, digit: int, random: Random) -> tuple[Dialogue, Concept]:
        if given is Modality.TEXT:
            if output is Modality.TEXT:
                exchange, concept = imagined(random, self.split, digit)
                return as_typed(random, (exchange,), self.split), concept
            exchange = turns.order(random, output, self.split, digit)
            (shown,) = (part for part in exchange.assistant if isinstance(part, Shown))
            return as_typed(random, (exchange,), self.split), shown.known
        shown = Shown(given, replace(self.world.concept(random), digit=digit))
        if output is Modality.TEXT:
            return as_typed(random, (questions.describe(random, shown, self.split),), self.split), shown.known
        exchange = turns.converted(random, shown, output, self.split)
        return as_typed(random, (exchange,), self.split), shown.known.restricted(output)

    def summed(self, output: Modality, total: int, random: Random) -> Dialogue:
        first = int(random.integers(total + 1))
        image = Shown(Modality.IMAGE, replace(self.world.concept(random), digit=first))
        audio = Shown(Modality.AUDIO, replace(self.world.concept(random), digit=total - first))
        return as_typed(random, (numbers.add(random, image, audio, output, self.split),), self.split)
