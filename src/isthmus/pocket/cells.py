"""Evaluation prompts: every cell of the any-to-any matrix, sums across media, and text-only prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator as Random

from isthmus.data.conversations.schema import Conversation
from isthmus.pocket import dialogues
from isthmus.pocket.conversations import checked, conversation, text_request
from isthmus.pocket.dialogues import OUTPUTS, Dialogue, Shown
from isthmus.pocket.language import SKILL_PROMPTS, SOURCES, draw_shown, in_words, said, skill_prompts
from isthmus.pocket.tasks import SUMS, PocketSource
from isthmus.pocket.world import Concept
from isthmus.pocket.worlds import World
from isthmus.types import Modality


class MatrixCells(PocketSource):
    """Prompts that end with the user's turn; ``details`` hold the expected answer.

    ``details`` hold ``task`` (``matrix``, ``arithmetic`` or ``text_only``), ``cell`` (such as ``image->audio``),
    ``output`` (the requested modality), ``expect`` (``digit``, ``colour`` and ``motion``, None unless both modalities
    have it; empty for text alone) and, if the answer is text, ``answer``, the canonical one. In every cell all digits
    occur equally often.

    Args:
        split: of the scans, and of the text for prompts without media.
        per_cell: prompts in each cell of the matrix and of the arithmetic.
        seed: of all random choices.
        inputs: rows of the matrix.
        outputs: its columns.
        arithmetic: whether to add sums of an image and a tone, as text, image and audio, if these are among the inputs
            and outputs.
        text_skill: number of prompts of the LLM's text-only test that follow (at most 600).
        world: the source of media; by default they are drawn.

    Raises:
        ValueError: an unknown split or modality, or a number out of range.
    """

    name = "matrix"

    def __init__(
        self,
        split: str = "test",
        per_cell: int = 40,
        seed: int = 0,
        inputs: Sequence[str] = SOURCES,
        outputs: Sequence[str] = OUTPUTS,
        arithmetic: bool = True,
        text_skill: int = 0,
        world: World | None = None,
    ) -> None:
        if per_cell < 1:
            raise ValueError(f"matrix.per_cell: found {per_cell}; expected at least 1. Fix: raise it.")
        if not 0 <= text_skill <= SKILL_PROMPTS:
            raise ValueError(f"matrix.text_skill: found {text_skill}; expected 0 to {SKILL_PROMPTS}. Fix: lower it.")
        self.inputs = checked(inputs, SOURCES, "matrix.inputs")
        self.outputs = checked(outputs, OUTPUTS, "matrix.outputs")
        self.per_cell = per_cell
        self.cells: list[tuple[Modality | None, Modality]] = [(i, o) for i in self.inputs for o in self.outputs]
        if arithmetic and {Modality.IMAGE, Modality.AUDIO} <= set(self.inputs):
            self.cells += [(None, output) for output in SUMS if output in self.outputs]
        super().__init__(split, per_cell * len(self.cells) + text_skill, seed, world)

    def __getitem__(self, index: int) -> Conversation:
        """The prompt.

        Raises:
            IndexError: outside the source.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: no item {index} among {len(self)}")
        place, number = divmod(index, self.per_cell)
        if place >= len(self.cells):
            _, dialogue = skill_prompts()[index - self.per_cell * len(self.cells)]
            dialogue = in_words(dialogue)
            details = _details("text_only", "text_only", Modality.TEXT, None, dialogue)
            random = np.random.default_rng(0)  # unused: there are no media
        else:
            given, output = self.cells[place]
            random = self.random(index)
            digit = number % 10
            if given is None:
                dialogue, expected = self.summed(output, digit, random), Concept(digit)
                details = _details("arithmetic", f"image+audio->{output}", output, expected, dialogue)
            else:
                dialogue, expected = self.asked(given, output, digit, random)
                details = _details("matrix", f"{given}->{output}", output, expected, dialogue)
        whole = conversation(dialogue, self.split, random, world=self.world)
        return Conversation(whole.prompt().messages, details)

    def asked(self, given: Modality, output: Modality, digit: int, random: Random) -> tuple[Dialogue, Concept]:
        """A prompt of a cell about a digit, with its answer, and the attributes that both modalities have."""

        def drawn() -> Dialogue:
            if given is Modality.TEXT and output is not Modality.TEXT:
                return (text_request(random, output, digit, self.world),)
            return (dialogues.make(random, draw_shown(random, digit, given, self.world), output),)

        dialogue = self.held_out(drawn, random)
        # A caption holds the attributes that both modalities have; for text to text these are all that the text names.
        shown = next(part for part in (*dialogue[0].assistant, *dialogue[0].user) if isinstance(part, Shown))
        return dialogue, shown.known

    def summed(self, output: Modality, total: int, random: Random) -> Dialogue:
        """A prompt for the sum of an image's and a tone's digits, with its answer."""
        first = int(random.integers(total + 1))
        places = (
            draw_shown(random, first, Modality.IMAGE, self.world),
            draw_shown(random, total - first, Modality.AUDIO, self.world),
        )
        return (dialogues.add(random, *places, total, output),)


def _details(task: str, cell: str, output: Modality, expected: Concept | None, dialogue: Dialogue) -> dict[str, Any]:
    details: dict[str, Any] = {"task": task, "cell": cell, "output": str(output), "expect": {}}
    if expected is not None:
        details["expect"] = {"digit": expected.digit, "colour": expected.colour, "motion": expected.motion}
    if output is Modality.TEXT:
        details["answer"] = said(dialogue[-1].assistant)
    return details
