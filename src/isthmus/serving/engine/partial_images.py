"""Which pictures are shown before they are done, and after which of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.backbones.base import Answer, SignalRun
from isthmus.generators.steps import Estimates, evenly_spaced
from isthmus.serving.engine.jobs import Job, PartialImage
from isthmus.types import Modality


@dataclass
class _Picture:
    """That somebody wants to see: of this job, so many-th of its answer, and how often it was shown."""

    job: Job
    number: int
    shown: int = 0

    def is_due(self, done: int, total: int) -> bool:
        """Whether it has been shown less often than it should after so many of all steps.

        Samplers of second order may pass two such steps at once; it is then shown after the next one again.
        """
        due = sum(step <= done for step in evenly_spaced(total, self.job.partial_images))
        return self.shown < due and done < total and not self.job.is_over


class PartialImages:
    """Of answers whose media of one modality are made together.

    Args:
        answers: with their jobs.
        modality: of the media.
    """

    def __init__(self, answers: Sequence[tuple[Job, Answer]], modality: Modality) -> None:
        self._pictures: dict[tuple[int, int], _Picture] = {}
        for row, (job, answer) in enumerate(answers):
            if modality is Modality.IMAGE and job.partial_images:
                runs = [
                    place
                    for place, piece in enumerate(answer.pieces)
                    if isinstance(piece, SignalRun) and piece.modality is modality
                ]
                self._pictures |= {(row, place): _Picture(job, number) for number, place in enumerate(runs)}

    def show(self, done: int, total: int, estimates: Estimates) -> None:
        """Emits those that are due after so many steps; nothing is decoded for others."""
        if due := [place for place, picture in self._pictures.items() if picture.is_due(done, total)]:
            for place, medium in estimates(due).items():
                picture = self._pictures[place]
                picture.job.emit(PartialImage(medium, picture.number, picture.shown))
                picture.shown += 1
