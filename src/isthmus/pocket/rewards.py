"""Rewards that the judges of the pocket world give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.data.schema import Conversation
from isthmus.evaluation.judge import Judge
from isthmus.evaluation.scoring import Expectation, judge_replies
from isthmus.model import Reply
from isthmus.pocket.judges.audio import AudioJudge
from isthmus.pocket.judges.image import ImageJudge
from isthmus.pocket.judges.points import PointsJudge
from isthmus.pocket.judges.text import TextJudge
from isthmus.pocket.judges.video import VideoJudge
from isthmus.pocket.world import COLOURS
from isthmus.types import Modality


class JudgesVerdict:
    """The share of what a prompt expects that the judges read in the reply; less for media that nobody asked for.

    For prompts of :class:`isthmus.pocket.cells.MatrixCells`, whose details say what they expect.

    Args:
        folder: the judges' weights.
        unrequested: what media that weren't asked for cost.
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

    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        """The reward."""
        (verdict,) = judge_replies([Expectation.of(prompt.details)], [reply], self.judges)
        right = list(verdict.right.values())
        return sum(right) / len(right) - self.unrequested * verdict.unrequested


class OneColour:
    """The share of a reply's images that are in one colour; 0 without any.

    Args:
        folder: the judges' weights.
        colour: the word.

    Raises:
        ValueError: no such colour.
    """

    def __init__(self, folder: str | Path, colour: str = "blue") -> None:
        if colour not in COLOURS:
            raise ValueError(f"one_colour.colour: found {colour!r}; expected {', '.join(COLOURS)}. Mend: choose one.")
        self.judge = ImageJudge(folder)
        self.colour = colour

    def __call__(self, prompt: Conversation, reply: Reply) -> float:
        """The reward."""
        images = reply.media(Modality.IMAGE)
        if not images:
            return 0.0
        return sum(reading["colour"] == self.colour for reading in self.judge.many(images)) / len(images)
