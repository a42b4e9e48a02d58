"""What answers that are decoded together share: the rows of a pass, memory for keys and values, and kept prompts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count as count_from

import torch
from torch import Tensor

from isthmus.backbones.attention.lanes import Lane, Lanes
from isthmus.backbones.attention.slot_pass import GRID
from isthmus.backbones.decoding.kept import Kept

WIDE = 128
"""Rows of a pass over prompts and runs of signal tokens."""
EVEN = 16
"""Rows of a pass over tokens are a multiple of it: torch computes the last few numbers of a tensor one by one, which
rounds otherwise than its vectors do, so that a row's place would matter."""


class Slots:
    """The slots of one LLM, with one adapter.

    Keys and values of prompts are kept for later prompts that begin likewise, in the blocks of
    :data:`~isthmus.backbones.attention.slot_pass.GRID` positions in which prompts are run anyway; so they are, bit for
    bit, what would be computed again. A block is found by a digest of the embeddings up to its end: words, projected
    media and signal tokens alike.

    Args:
        count: answers that are decoded at once.
        kept: what is kept; it may hold other things too.

    Attributes:
        rows: of a pass over single tokens.
        is_prepared: whether the LLM's adapter is set for answers, which takes a walk over all layers.
    """

    def __init__(self, count: int, kept: Kept | None = None) -> None:
        self.count = count
        self.rows = 1 if count == 1 else -(-count // EVEN) * EVEN
        self.is_prepared = False
        self.kept = Kept(0) if kept is None else kept
        self._turns = count_from(1)
        self._salt = uuid.uuid4().bytes
        self._lanes = Lanes()
        self._open: dict[object, Lane] = {}
        self._names: dict[object, list[bytes]] = {}

    def keep_only(self, answers: Sequence[object]) -> None:
        """Gives back the lanes of all other answers."""
        for answer in [each for each in self._open if each not in answers]:
            self._lanes.close(self._open.pop(answer))
            self._names.pop(answer, None)

    def lane(self, answer: object, length: int) -> Lane:
        """The lane of an answer, with room for so many positions."""
        lane = self._open[answer]
        self._lanes.lengthen(lane, length)
        return lane

    def turn(self) -> int:
        """A turn after all earlier ones."""
        return next(self._turns)

    def open(self, answer: object, prompt: Tensor) -> int:
        """Opens a lane for an answer, unless it has one, with what is kept of its prompt (T, E).

        Returns:
            The positions that need not be computed, less than T.
        """
        if answer in self._open:
            return 0
        lane = self._open[answer] = self._lanes.open(len(prompt))
        if not self.kept.budget:
            return 0
        names = self._names[answer] = self._digests(prompt)
        known: list[bytes] = []
        for name in names[: (len(prompt) - 1) // GRID]:
            block = self.kept.get(name)
            if block is None:
                break
            places = slice(len(known) * GRID, (len(known) + 1) * GRID)
            for layer, (keys, values) in block.items():
                held = lane.shelf.layer(layer, keys[None], values[None])
                held[0][lane.row, :, places], held[1][lane.row, :, places] = keys, values
            known.append(name)
        return len(known) * GRID

    def keep(self, answer: object) -> None:
        """Keeps the blocks of an answer's prompt, all of which has run."""
        lane, names = self._open[answer], self._names.pop(answer, [])
        # The last comes first: a beginning without its end is of use, an end without its beginning isn't.
        for at, name in reversed(list(enumerate(names))):
            if self.kept.get(name) is None:
                places = slice(at * GRID, (at + 1) * GRID)
                block = {
                    layer: (keys[lane.row, :, places].clone(), values[lane.row, :, places].clone())
                    for layer, (keys, values) in lane.shelf.states.items()
                }
                self.kept.keep(name, block, sum(each.nbytes for pair in block.values() for each in pair))

    def _digests(self, prompt: Tensor) -> list[bytes]:
        """Of the whole blocks of a prompt (T, E), each with all before it."""
        rows = prompt.detach().cpu().contiguous().view(torch.uint8).numpy()
        digests, digest = [], self._salt
        for start in range(0, len(rows) - GRID + 1, GRID):
            digest = blake2b(rows[start : start + GRID].data, key=digest, digest_size=32).digest()
            digests.append(digest)
        return digests
