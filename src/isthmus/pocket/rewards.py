"""Rewards computed by the judges of the pocket world."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from isthmus.data.conversations.schema import Conversation
from isthmus.evaluation.matrix.judge import Judge
from isthmus.evaluation.matrix.scoring import Expectation, judge_replies
from isthmus.model import Reply
from isthmus.pocket.judges.audio import AudioJudge
from isthmus.pocket.judges.image import ImageJudge
from isthmus.pocket.judges.points import PointsJudge
from isthmus.pocket.judges.text import TextJudge
from isthmus.pocket.judges.video import VideoJudge
from isthmus.pocket.world import COLOURS
from isthmus.training.rewards import Reward
from isthmus.types import Modality


class JudgesVerdict(Reward):
    """The share of expected attributes that the judges read in the reply, minus a penalty for unrequested media.

    For prompts of :class:`isthmus.pocket.cells.MatrixCells`, whose details hold the expected attributes.

    Args:
        folder: of the judges' weights.
        unrequested: the penalty for unrequested media.
    """

    def __init__(self, folder: str | Path, unrequested: float = 0.5) -> None:
        judges: dict[str, Any] = {
            "text": TextJudge(),
            "image": ImageJudge(folder),
            "video": VideoJudge(folder),
            "audio": AudioJudge(),
            "points": PointsJudge(folder),
        }
        self.judges: dict[str, Judge] = judges
        self.unrequested = unrequested

    def judge(self, prompts: Sequence[Conversation], replies: Sequence[Reply]) -> list[float]:
        """Media of one modality are read together."""
        verdicts = judge_replies([Expectation.of(prompt.details) for prompt in prompts], replies, self.judges)
        right = [list(verdict.right.values()) for verdict in verdicts]
        return [
            sum(own) / len(own) - self.unrequested * verdict.unrequested
            for own, verdict in zip(right, verdicts, strict=True)
        ]


class OneColour(Reward):
    """The share of a reply's images that have a given colour; 0 without images.

    Args:
        folder: of the judges' weights.
        colour: its name.

    Raises:
        ValueError: the colour is unknown.
    """

    def __init__(self, folder: str | Path, colour: str = "blue") -> None:
        if colour not in COLOURS:
            raise ValueError(f"one_colour.colour: found {colour!r}; expected {', '.join(COLOURS)}. Fix: choose one.")
        self.reader = ImageJudge(folder)
        self.colour = colour

    def judge(self, prompts: Sequence[Conversation], replies: Sequence[Reply]) -> list[float]:
        """All images are read together."""
        images = [reply.media(Modality.IMAGE) for reply in replies]
        found = [medium for own in images for medium in own]
        readings = iter(self.reader.many(found) if found else [])
        right = [[reading["colour"] == self.colour for reading in islice(readings, len(own))] for own in images]
        return [sum(own) / max(len(own), 1) for own in right]
