"""lmms-eval's chat interface: a task gives whole messages, with text and media in any mix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isthmus.evaluation.lmms.answering import Question, place_of
from isthmus.evaluation.lmms.base import LmmsModel
from isthmus.evaluation.lmms.contents import read_messages
from isthmus.evaluation.lmms.drawing import Drawing


class ChatModel(LmmsModel):
    """What ``--model isthmus`` is. Its arguments are the base's."""

    is_simple = False

    def question(self, request: Any) -> Question:
        """See the base."""
        _, messages, given, number, task, split = request.args
        return self._question(lambda: messages(self.document(task, split, number)), given, number, task)

    def next_question(self, request: Any, turn: int, said: list[str], info: Any) -> tuple[Question | None, Any, Any]:
        """See the base."""
        _, messages, given, number, task, split = request.args
        told = {"round_idx": turn, "previous_output": list(said), "previous_round_info": info}
        answer = messages(self.document(task, split, number), **told)
        if not isinstance(answer, tuple) or len(answer) != 4:
            return None, said, info  # the task has a single turn
        shown, ends, kept, info = answer
        kept = said if kept is None else list(kept)
        return (None if ends else self._question(lambda: shown, given, number, task)), kept, info

    @staticmethod
    def _question(shown: Callable[[], Any], given: Mapping[str, Any], number: int, task: str) -> Question:
        place, drawing = place_of(task, number), Drawing.read(given, task)
        return Question(lambda: read_messages(shown(), place), drawing, task, number)
