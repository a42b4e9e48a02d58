"""PointLLM's test: 200 objects of Objaverse with captions of people.

Source: Xu et al., arXiv 2308.16911; https://huggingface.co/datasets/RunsenXu/PointLLM, and the questions of
``pointllm/eval/eval_objaverse.py`` of https://github.com/OpenRobotLab/PointLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.data.conversations.records import JsonRecords
from isthmus.data.errors import fault
from isthmus.data.formats.benchmarks.captioned import CaptionBenchmark
from isthmus.data.formats.fields import text, turns
from isthmus.types import Modality

INSTRUCTION = "Caption this 3D model in detail."


class PointLLMObjects(CaptionBenchmark):
    r"""Coloured clouds of 8,192 points.

        [{"object_id": "e85e", "conversations": [{"from": "human", "value": "<point>\nWhat is this?"},
          {"from": "gpt", "value": "A cartoon bear with ..."}]}]

    The details hold ``caption`` (the answer of the record) and ``id``.

    Args:
        path: ``PointLLM_brief_description_val_200_GT.json``.
        root: the folder of the clouds, ``objaverse_data``, which holds ``e85e_8192.npy``: (8192, 6), colours up to 1.
        points: in the names of the clouds' files.
        instruction: what is asked; of the record itself only the answer is read, as PointLLM does it.
    """

    modality = Modality.POINTS

    def __init__(
        self, path: str | Path, root: str | Path | None = None, points: int = 8192, instruction: str = INSTRUCTION
    ) -> None:
        self.points = points
        super().__init__(JsonRecords(path), root, "describe", instruction, choice={"points": points})

    def pair(self, record: Mapping[str, Any], where: str) -> tuple[str, list[str], dict[str, Any]]:
        name = text(record, ["object_id"], where)
        answers = [
            text(turn, ["value"], place)
            for turn, role, place in turns(record, ("conversations",), where)
            if role == "assistant"
        ]
        if not answers:
            raise fault(where, "found no turn of gpt", "the object's caption", "give the file with GT in its name")
        return f"{name}_{self.points}.npy", answers[:1], {"id": name}
