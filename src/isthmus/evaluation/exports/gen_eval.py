"""GenEval's folders: a prompt's record beside its pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from isthmus.evaluation.exports.files import AnswerFiles
from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.predictions.answered import Answered
from isthmus.writing import write_file


class GenEvalFolders(AnswerFiles):
    """Answers to :class:`isthmus.data.formats.benchmarks.GenEval` as its ``evaluate_images.py`` reads them.

        00000/metadata.jsonl       the prompt's line of evaluation_metadata.jsonl
        00000/samples/0000.png

    Source: the README of https://github.com/djghosh13/geneval.

    Args:
        folder: what ``evaluate_images.py`` is given.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, "image", "{prompt_index:05d}/samples/{sample:04d}.png")

    def name(self, answer: Answered) -> str:
        if not isinstance(answer.details.get("metadata"), dict):
            raise ValueError(
                f"{answer.source}: {answer.id}: found no detail 'metadata'; expected the prompt's record. Fix: give "
                "answers to isthmus.data.formats.benchmarks.GenEval."
            )
        return super().name(answer)

    def finish(self, answers: Sequence[Answered], processes: Processes) -> None:
        if processes.rank:
            return
        records = {answer.details["prompt_index"]: answer.details["metadata"] for answer in answers}
        for number, record in sorted(records.items()):
            folder = self.folder / f"{number:05d}"
            (folder / "samples").mkdir(parents=True, exist_ok=True)  # the scorer lists it, pictures or none
            write_file(folder / "metadata.jsonl", (json.dumps(record) + "\n").encode())
