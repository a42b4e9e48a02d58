"""A folder into which a test run's answers go as they come, and from which an interrupted run takes them up."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from isthmus.data.media.reply_files import as_content
from isthmus.evaluation.predictions.lines import DIGEST, StoredAnswer, drop_torn_lines, read_lines
from isthmus.model import Reply
from isthmus.types import Media, Modality

Place = tuple[str, int]
"""A conversation: its source's name, and its index in it."""

FACTS = ("ended", "tokens", "left_out")


class AnswerStore:
    """Answers in a folder: ``answers-RANK.jsonl`` of each process, and ``media/SOURCE/`` with files that lose nothing.

    A line is written after its media, so that whatever ends the process, an answer that has a line is whole.

    Args:
        folder: that all processes see.
        rank: of this process.

    Attributes:
        found: the answers that were there when the folder was last read, by their conversation.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.rank = rank
        self.found: dict[Place, StoredAnswer] = {}
        self._file: BinaryIO | None = None
        self._own: set[Place] = set()

    def mend(self) -> int:
        """Makes the folder, and drops what a killed process has left unfinished; the first process does, then all read.

        Returns:
            How many lines were dropped.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        return drop_torn_lines(self.folder)

    def read(self) -> None:
        """Reads what all processes have written.

        Raises:
            ValueError: a line isn't in its form, or doesn't name its conversation.
        """
        self.found = {}
        for answer in read_lines(self.folder):
            if answer.source is None or answer.index is None:
                raise ValueError(
                    f"{answer.where}: found an answer without source and index in a test run's own folder; expected "
                    "those of test runs alone. Fix: keep others' answers in a folder of their own "
                    "(isthmus evaluate --predictions), or begin anew with --overwrite."
                )
            # An answer whose media were lost is given once more, to the same names.
            if answer.is_whole():
                self.found.setdefault((answer.source, answer.index), answer)

    def has(self, place: Place) -> bool:
        """Whether the conversation has an answer, found or of this process."""
        return place in self.found or place in self._own

    def reply(self, place: Place) -> Reply:
        """A found answer, its media read from their files.

        Raises:
            DataError: a file is damaged.
        """
        answer = self.found[place]
        facts: dict[str, Any] = {name: answer.facts[name] for name in FACTS if name in answer.facts}
        forced = [Modality(name) for name in answer.facts.get("forced", [])]
        return Reply(answer.pieces(), forced, **facts)

    def add(self, answers: Sequence[tuple[Place, str, str, Reply]]) -> None:
        """Writes a batch's answers, and returns when they are on the disk.

        Args:
            answers: to each its conversation, the conversation's id and its digest.
        """
        lines = []
        for place, own, digest, reply in answers:
            content = [self._saved(item, place, number) for number, item in enumerate(as_content(reply.content))]
            line = {"source": place[0], "index": place[1], "id": own, "content": content, "forced": reply.forced}
            line |= {name: getattr(reply, name) for name in FACTS}
            lines.append(json.dumps(line | {DIGEST: digest}, ensure_ascii=False))
        if not lines:
            return
        if self._file is None:
            self._file = (self.folder / f"answers-{self.rank}.jsonl").open("ab")
        self._file.write("".join(f"{line}\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._own |= {place for place, *_ in answers}

    def close(self) -> None:
        """Closes this process's file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _saved(self, item: dict[str, Any], place: Place, number: int) -> dict[str, Any]:
        media = item.get(item["type"])
        if not isinstance(media, Media):
            return item
        source = quote(place[0], safe="").replace(".", "%2E")  # "..", for one, is no name of a folder
        name = f"media/{source}/{place[1]:07}-{number}{media.modality.spec.exact_ending}"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        media.modality.spec.write_exactly(media, path)
        return {"type": item["type"], item["type"]: name}
