"""VQAv2: open questions about COCO's pictures, each answered by ten people.

Source: Goyal et al., arXiv 1612.00837; the layout at https://visualqa.org/download.html and vqa_v2_format.html.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.benchmarks.base import (
    Benchmark,
    HeldRecords,
    asked,
    check_pattern,
    filled,
    read_lists,
    whole_number,
)
from isthmus.data.formats.fields import given, mapping, text

INSTRUCTION = "{question}\nAnswer the question using a single word or phrase."


class VQAv2(Benchmark):
    """Questions and, where they are public, the answers of ten people.

        {"data_subtype": "val2014", "questions": [{"question_id": 1000, "image_id": 1, "question": "What is it?"}]}
        {"annotations": [{"question_id": 1000, "answer_type": "other", "question_type": "what is",
          "multiple_choice_answer": "cat", "answers": [{"answer_id": 1, "answer": "cat", "answer_confidence": "yes"}]}]}

    The details hold ``answers`` (ten texts), ``answer``, ``answer_type`` and ``question_type``.

    Args:
        path: ``v2_OpenEnded_mscoco_val2014_questions.json``.
        annotations: ``v2_mscoco_val2014_annotations.json``; the questions of the test splits have none.
        root: the folder of the pictures, such as ``val2014``.
        file: a picture's name below ``root``, with ``{data_subtype}`` and ``{image_id}``.
        instruction: what is asked, with ``{question}``.

    Raises:
        ValueError: a file is of another form, a pattern of files with other names, or an instruction without
            ``{question}``.
    """

    def __init__(
        self,
        path: str | Path,
        annotations: str | Path | None = None,
        root: str | Path | None = None,
        file: str = "COCO_{data_subtype}_{image_id:012d}.jpg",
        instruction: str = INSTRUCTION,
    ) -> None:
        place, found = read_lists(path, ["questions"])
        answers, files = None, []
        if annotations is not None:
            other, told = read_lists(annotations, ["annotations"], _answer_alone)
            answers = {str(one.get("question_id")): one for one in told["annotations"] if isinstance(one, dict)}
            files = [other]
        filled(instruction, "instruction", question="")
        check_pattern(place, file, {"data_subtype": "", "image_id": 0})
        self.file, self.instruction = file, instruction
        self.subtype = str(found.get("data_subtype", ""))
        super().__init__(
            HeldRecords(place, _joined(found["questions"], answers)), root, {"instruction": instruction}, files
        )

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        name = self.file.format(data_subtype=self.subtype, image_id=whole_number(record, "image_id", where))
        known: dict[str, Any] = {"id": text(record, ["question_id"], where)}
        answer = None
        if "annotation" in record:
            told = record["annotation"]
            if told is None:
                raise fault(where, "found no annotation of this question", "one", "give the annotations of this split")
            answer = text(told, ["multiple_choice_answer"], where)
            known |= {"answers": _texts(told, where), "answer": answer}
            known |= {field: told[field] for field in ("answer_type", "question_type") if field in told}
        question = text(record, ["question"], where)
        words = filled(self.instruction, "instruction", question=question)
        content = [given("image", name), {"type": "text", "text": words}]
        return {**known, "question": question, "messages": asked(content, answer)}


def _answer_alone(found: dict[str, Any]) -> Any:
    """An answer's text in the place of its object: two million of these would take a gigabyte."""
    answer = found.get("answer")
    return sys.intern(answer) if "answer_id" in found and isinstance(answer, str) else found


def _joined(questions: list[Any], answers: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    for number, question in enumerate(questions):
        joined = question
        if isinstance(question, dict) and answers is not None:
            joined = {**question, "annotation": answers.get(str(question.get("question_id")))}
        yield f"questions[{number}]", joined


def _texts(told: Mapping[str, Any], where: str) -> list[str]:
    listed = told.get("answers")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) for one in listed):
        raise fault(f"{where}: answers", f"found {str(listed)[:40]!r}", "a list of answers", "copy the file anew")
    return listed
