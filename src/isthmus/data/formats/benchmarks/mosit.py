"""MosIT, NExT-GPT's dialogues with media on both sides, as a test: every answer of a dialogue is asked for.

Source: Wu et al., arXiv 2309.05519; https://github.com/NExT-GPT/NExT-GPT, ``data/IT_data/MosIT_data``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isthmus.data.errors import DataError, data_faults
from isthmus.data.formats.base import IndexedRecords
from isthmus.data.formats.benchmarks.base import Benchmark, HeldRecords
from isthmus.data.formats.fields import text
from isthmus.data.formats.nextgpt_instructions import NextGPTInstructions


class MosIT(Benchmark):
    """The dialogues of a JSON file of :class:`~isthmus.data.formats.nextgpt_instructions.NextGPTInstructions`.

    Each answer is a conversation of its own, after the turns before it as they are written. The details hold ``id``
    (the dialogue's and the answer's number, ``12/3``) and ``turn``; captions of media that are to be made stand in the
    expected message.

    Args:
        path: the JSON file.
        root: the folder of its media.
        folders: the folder below ``root`` by modality, as ``{image: images, audio: audios}``.
        each_answer: whether each answer is asked for, or a dialogue's last alone.
        target_files: whether the files of media that are to be made are read as references.

    Raises:
        ValueError: see :class:`~isthmus.data.formats.nextgpt_instructions.NextGPTInstructions`.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        folders: Mapping[str, str] | None = None,
        each_answer: bool = True,
        target_files: bool = True,
    ) -> None:
        self.dialogues = NextGPTInstructions(path, root, folders, target_files)
        own = self.dialogues.records
        records = HeldRecords(own.path, _answers(self.dialogues, own, each_answer))
        super().__init__(records, self.dialogues.root, {"each_answer": each_answer}, target_files=target_files)

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        number, end = raw
        record, place = self.dialogues.records.raw(number)
        messages = self.dialogues.chat(record, place, number)["messages"][:end]
        name = text(record, ["id"], place, default=str(number))
        return {"id": f"{name}/{end - 1}", "turn": end - 1, "messages": messages}


def _answers(source: NextGPTInstructions, records: IndexedRecords, each: bool) -> Iterator[tuple[str, Any]]:
    """(A dialogue's number, the number of its messages up to an answer); a dialogue that can't be read is its fault."""
    for number in range(len(records)):
        place = records.where(number).removeprefix(f"{records.path}:")
        try:
            with data_faults(records.where(number)):
                record, where = records.raw(number)
                roles = [message["role"] for message in source.chat(record, where, number)["messages"]]
        except DataError as error:
            yield f"line {place}", error
            continue
        ends = [end for end, role in enumerate(roles, 1) if role == "assistant"]
        # The first of an answer's messages in a row is the one that a prompt leads to.
        ends = [end for end in ends if end == 1 or roles[end - 2] != "assistant"]
        for end in ends if each else ends[-1:]:
            yield f"line {place}", (number, end)
