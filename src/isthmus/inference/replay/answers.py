"""The file of answers so far: what a run that is broken off leaves, and the next one goes on from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.writing import write_file

SO_FAR = ".answers"
"""What is added to the name of the file of conversations."""

Answered = tuple[str, bool, int]
"""An answer's words, whether the limit of tokens cut it, and its tokens."""


class AnswersFile:
    """``OUT.answers``: a line that says whose answers follow, and a line an answer.

    Args:
        out: what is written in the end.
        settings: all that the answers depend on.

    Raises:
        ValueError: the file holds answers under other settings.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.path = out.with_name(out.name + SO_FAR)
        head = json.dumps(dict(settings), sort_keys=True) + "\n"
        # A line that its writer didn't end is no answer; it may end within a character. Answers may hold U+2028, which
        # Python's splitlines() takes for a line's end.
        whole, end, _ = (self.path.read_bytes() if self.path.is_file() else b"").rpartition(b"\n")
        lines = [f"{line}\n" for line in whole.decode().split("\n")] if end else []
        if lines and lines[0] != head:
            raise ValueError(
                f"{self.path}: found answers of a run with other prompts, another LLM or other settings; expected "
                "those of this run, to go on from them. Fix: run it as before, or delete this file."
            )
        self._lines = lines or [head]

    def __len__(self) -> int:
        """How many answers there are."""
        return len(self._lines) - 1

    def begin(self, count: int) -> None:
        """Keeps the first so many answers; further ones are appended to them.

        Raises:
            ValueError: the file can't be written.
        """
        self._lines = self._lines[: count + 1]
        write_file(self.path, "".join(self._lines).encode())

    def append(self, answers: Sequence[Answered]) -> None:
        """Adds answers, and sees to it that they are on the disk."""
        new = [json.dumps(list(answer), ensure_ascii=False) + "\n" for answer in answers]
        self._lines += new
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(new))
            file.flush()
            os.fsync(file.fileno())

    def all(self) -> Iterator[Answered]:
        """Every answer, in order."""
        for line in self._lines[1:]:
            text, is_cut, tokens = json.loads(line)
            yield text, is_cut, tokens

    def remove(self) -> None:
        """Deletes the file, once all that is wanted of it is written elsewhere."""
        self.path.unlink()
