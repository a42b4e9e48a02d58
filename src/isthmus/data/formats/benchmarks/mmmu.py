"""MMMU: questions of college exams with up to seven pictures, most with options.

Source: Yue et al., arXiv 2311.16502, https://huggingface.co/datasets/MMMU/MMMU; the wording of a question with options
is that of ``configs/llava1.5.yaml`` of https://github.com/MMMU-Benchmark/MMMU.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.benchmarks.base import asked, filled
from isthmus.data.formats.endings import ending_of
from isthmus.data.formats.fields import Item, text
from isthmus.data.formats.hugging_face import HuggingFace
from isthmus.data.media.stored import StoredFile

CHOICES = "{question}\n\n{options}\n\nAnswer with the option's letter from the given choices directly."
OPEN = "{question}\n\nAnswer the question using a single word or phrase."
PICTURES = 7
"""Columns ``image_1`` to ``image_7``."""

_MARK = re.compile(r"<image (\d+)>")
_SUBJECT = re.compile(r"^[a-z]+_(.+)_\d+$")


class MMMU(HuggingFace):
    """The Parquet files as they lie on the hub: a folder a subject, in each one file a split.

        Accounting/validation-00000-of-00001.parquet
        {"id": "validation_Accounting_1", "question": "<image 1> What is it?", "options": "['one', 'two']",
         "answer": "B", "question_type": "multiple-choice", "image_1": {"bytes": ...}, ..., "subfield": "Audit"}

    Pictures stand where ``<image 1>`` is, in the question and in the options. The details hold ``choices`` (the texts
    of the options) and ``answer`` (a letter; of an open question a list of what is accepted), and ``subject``. Needs
    the extra ``datasets``.

    Args:
        path: the folder; or one subject's, or with ``hub`` the set's name, of which ``subset`` is one subject.
        splits: of ``dev``, ``validation`` and ``test``, the last of which has no answers.
        instruction: for questions with options, with ``{question}`` and ``{options}``.
        open_instruction: for the others, with ``{question}``.
        hub: see :class:`~isthmus.data.formats.hugging_face.HuggingFace`, as the next two.
        subset: a subject.
        revision: of the set.

    Raises:
        ValueError: as :class:`~isthmus.data.formats.hugging_face.HuggingFace`, or an instruction without its parts.
    """

    def __init__(
        self,
        path: str | Path,
        splits: Sequence[str] = ("validation",),
        instruction: str = CHOICES,
        open_instruction: str = OPEN,
        hub: bool = False,
        subset: str | None = None,
        revision: str | None = None,
    ) -> None:
        filled(instruction, "instruction", question="", options="")
        filled(open_instruction, "open_instruction", question="")
        roles: dict[str, str | list[str]] = {"image": [f"image_{number}" for number in range(1, PICTURES + 1)]}
        roles |= {"question": "question", "answer": "answer", "id": "id"}
        super().__init__(path, columns=roles, splits=splits, hub=hub, subset=subset, revision=revision)
        self.splits, self.instruction, self.open_instruction = list(splits), instruction, open_instruction

    @property
    def choice(self) -> Mapping[str, Any]:
        return {"splits": self.splits, "instruction": self.instruction, "open_instruction": self.open_instruction}

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        pictures = {number: raw.get(f"image_{number}") for number in range(1, PICTURES + 1)}
        options = _listed(text(raw, ["options"], where, default=""), f"{where}: options")
        question = text(raw, ["question"], where)
        answer = text(raw, ["answer"], where, default="?")
        letters = [chr(ord("A") + place) for place in range(len(options))]
        known: dict[str, Any] = {
            name: raw[name] for name in ("question_type", "subfield", "topic_difficulty") if name in raw
        }
        known |= {"id": text(raw, ["id"], where), "question": question}
        if found := _SUBJECT.match(known["id"]):
            known["subject"] = found[1]
        is_open = str(raw.get("question_type")) == "open" or not options
        if is_open:
            said = filled(self.open_instruction, "open_instruction", question=question)
            accepted = _listed(answer, f"{where}: answer") if answer.startswith("[") else [answer]
            if not accepted:
                raise fault(f"{where}: answer", "found none", "what is accepted", "copy the set anew")
            known |= {"answer": accepted}
        else:
            lines = "\n".join(f"({letter}) {option}" for letter, option in zip(letters, options, strict=True))
            said = filled(self.instruction, "instruction", question=question, options=lines)
            known |= {"choices": options, "answer": answer}
            accepted = [answer]
        hidden = answer == "?"  # of the test split
        if not is_open and not hidden and answer not in letters:
            raise fault(f"{where}: answer", f"found {answer[:40]!r}", f"one of {', '.join(letters)}", "correct it")
        if hidden:
            del known["answer"]
        return {**known, "messages": asked(_placed(said, pictures, where), None if hidden else accepted[0])}


def _placed(words: str, pictures: Mapping[int, Any], where: str) -> list[Item]:
    """Words and the pictures at their marks; those without a mark come first."""
    marked = {int(mark[1]) for mark in _MARK.finditer(words)}
    items = [_item(own, number, where) for number, own in pictures.items() if own is not None and number not in marked]
    last = 0
    for mark in _MARK.finditer(words):
        own = pictures.get(int(mark[1]))
        if own is None:
            raise fault(where, f"found {mark[0]} and no picture image_{mark[1]}", "one for each mark", "copy it anew")
        items += [*_words(words[last : mark.start()]), _item(own, int(mark[1]), where)]
        last = mark.end()
    return items + _words(words[last:])


def _words(piece: str) -> list[Item]:
    return [{"type": "text", "text": piece}] if piece.strip() else []


def _item(picture: Any, number: int, where: str) -> Item:
    data = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(data, bytes):
        raise fault(
            f"{where}: image_{number}", f"found {type(data).__name__}", "a picture's bytes", "give the Parquet files"
        )
    return {"type": "image", "image": StoredFile(f"{where}: image_{number}{ending_of(data, 'png')}", data)}


def _listed(written: str, where: str) -> list[str]:
    """Texts that are written as a Python list, which no code of the set is run for."""
    try:
        found = ast.literal_eval(written) if written.strip() else []
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise fault(where, f"found {written[:40]!r}", "a list of texts", "copy the set anew") from error
    if not isinstance(found, list | tuple):
        raise fault(where, f"found {written[:40]!r}", "a list of texts", "copy the set anew")
    return [str(one) for one in found]
