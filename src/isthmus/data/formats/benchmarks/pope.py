"""POPE: whether a picture holds an object, yes or no, which tells what a model makes up.

Source: Li et al., arXiv 2305.10355, and ``output/coco`` of https://github.com/AoiDragon/POPE (also RUCAIBox/POPE).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.data.conversations.records import JsonRecords
from isthmus.data.errors import fault
from isthmus.data.formats.benchmarks.base import Benchmark, asked, filled
from isthmus.data.formats.fields import given, mapping, text

INSTRUCTION = "{question}\nAnswer the question using a single word or phrase."


class Pope(Benchmark):
    """Questions of one of the three kinds: random, popular or adversarial.

        {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a snowboard in the image?",
         "label": "yes"}

    The details hold ``label``, ``yes`` or ``no``.

    Args:
        path: ``coco_pope_random.json``, ``coco_pope_popular.json`` or ``coco_pope_adversarial.json``: JSON lines.
        root: the folder of the pictures, ``val2014``.
        instruction: what is asked, with ``{question}``.

    Raises:
        ValueError: an instruction without ``{question}``; or see
            :class:`~isthmus.data.conversations.records.Records`.
    """

    def __init__(self, path: str | Path, root: str | Path | None = None, instruction: str = INSTRUCTION) -> None:
        filled(instruction, "instruction", question="")
        self.instruction = instruction
        super().__init__(JsonRecords(path), root, {"instruction": instruction})

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        label = text(record, ["label"], where).strip().lower()
        if label not in ("yes", "no"):
            raise fault(f"{where}: label", f"found {label[:40]!r}", "yes or no", "correct the label")
        question = text(record, ["text"], where)
        words = filled(self.instruction, "instruction", question=question)
        content = [given("image", text(record, ["image"], where)), {"type": "text", "text": words}]
        known = {"id": text(record, ["question_id"], where, default=str(index)), "label": label, "question": question}
        return {**known, "messages": asked(content, label)}
