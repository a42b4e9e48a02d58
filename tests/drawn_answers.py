"""Prompts of the pocket world with replies that are drawn, right or wrong as told: what a judge must find out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus.evaluation.matrix.judge import Judge
from isthmus.model import Reply
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.judges.audio import AudioJudge
from isthmus.pocket.judges.image import ImageJudge
from isthmus.pocket.judges.points import PointsJudge
from isthmus.pocket.judges.text import TextJudge
from isthmus.pocket.judges.video import VideoJudge
from isthmus.pocket.world import COLOURS, MOTIONS, Concept, draw
from isthmus.types import Batch, Modality

VALUES = {"digit": 10, "colour": len(COLOURS), "motion": len(MOTIONS)}


def pocket_judges(repository: Path) -> dict[str, Judge]:
    """The judges as they are shipped."""
    folder = repository / "checkpoints/pocket/judges"
    return {
        "image": ImageJudge(folder),
        "video": VideoJudge(folder),
        "audio": AudioJudge(),
        "points": PointsJudge(folder),
        "text": TextJudge(),
    }


def batch_of(details: Sequence[Mapping[str, Any]]) -> Batch:
    """Prompts of which nothing but the details is read."""
    blank = torch.zeros(len(details), 1, dtype=torch.int64)
    return Batch(blank, blank.bool(), blank, details=[dict(own) for own in details])


def drawn_replies(source: MatrixCells, rows: Sequence[int], faults: Mapping[int, str]) -> tuple[Batch, list[Reply]]:
    """Prompts ``rows`` of the source and a reply to each, right but for the faults.

    ``faults`` by row: ``digit`` shows the next one, ``missing`` leaves out what was asked for, ``extra`` adds a medium
    that wasn't.
    """
    random = np.random.default_rng(5)
    replies = []
    for row in rows:
        details = source[row].details
        output, fault = Modality(details["output"]), faults.get(row)
        right = Concept(**details["expect"])
        wrong = Concept((right.digit + 1) % 10, right.colour, right.motion)
        shown = wrong if fault == "digit" else right
        reply = Reply([shown.caption(output)])
        if output is not Modality.TEXT:
            reply.content.append(draw(output, shown, "test", random))
        if fault == "missing":
            reply.content.pop()
        if fault == "extra":
            other = Modality.AUDIO if output is not Modality.AUDIO else Modality.IMAGE
            reply.content.append(draw(other, wrong, "test", random))
        replies.append(reply)
    return batch_of([source[row].details for row in rows]), replies
