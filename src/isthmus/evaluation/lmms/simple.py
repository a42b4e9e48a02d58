"""lmms-eval's older interface, which ``--force_simple`` chooses: a text, and media before it.

It alone has choices that are scored by their likelihood, and questions with a drawn intermediate step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from isthmus.evaluation.lmms.answering import Question, batches, place_of
from isthmus.evaluation.lmms.base import LmmsModel
from isthmus.evaluation.lmms.contents import user_message
from isthmus.evaluation.lmms.drawing import Drawing
from isthmus.types import Media, Modality

STAGES = re.compile(r"\[GEN_PROMPT\](.*?)\[/GEN_PROMPT\].*?\[QUESTION\](.*?)\[/QUESTION\]", re.DOTALL)
"""What tasks with a drawn intermediate step ask: first for a picture, then about it."""


class SimpleModel(LmmsModel):
    """What ``--model isthmus --force_simple`` is. Its arguments are the base's."""

    is_simple = True

    def question(self, request: Any) -> Question:
        """See the base."""
        context, given, visuals, *_, number, task, split = request.args

        def shown() -> Any:
            return visuals(self.document(task, split, number)) if visuals else None

        return self._question(shown, context, given, number, task)

    def next_question(self, request: Any, turn: int, said: list[str], info: Any) -> tuple[Question | None, Any, Any]:
        """See the base."""
        _, given, _, text, number, task, split = request.args
        told = {"round_idx": turn, "previous_output": list(said), "previous_round_info": info}
        answer = text(self.document(task, split, number), **told)
        if not isinstance(answer, tuple) or len(answer) != 5:
            return None, said, info  # the task has a single turn
        shown, context, ends, kept, info = answer
        kept = said if kept is None else list(kept)
        return (None if ends else self._question(lambda: shown, context, given, number, task)), kept, info

    def generate_visual_cot(self, requests: Sequence[Any]) -> list[str]:
        """Draws the picture that each request asks for first, then answers with that picture beside its own."""
        said: list[str] = []
        with tqdm(desc="Drawing and answering", total=len(requests), disable=self.rank != 0) as progress:
            numbered = self._numbered([self.question(request) for request in requests])
            for chunk in batches(list(zip(requests, numbered, strict=True)), self.batch_size):
                asked = [question for _, question in chunk]
                stages = [STAGES.search(request.args[0]) for request, _ in chunk]
                first = [_reworded(own, found and found[1]) for own, found in zip(asked, stages, strict=True)]
                drawn = dict(self.answering().replies(first, [Modality.IMAGE]))
                last = [
                    _reworded(own, found and found[2], drawn[number].media())
                    for number, (own, found) in enumerate(zip(asked, stages, strict=True))
                ]
                replies = dict(self.answering().replies(last))
                said += [own.drawing.cut(replies[number].text) for number, own in enumerate(last)]
                progress.update(len(chunk))
        return said

    @staticmethod
    def _question(shown: Callable[[], Any], text: str, given: Mapping[str, Any], number: int, task: str) -> Question:
        place, drawing = place_of(task, number), Drawing.read(given, task)
        return Question(lambda: user_message(shown(), text, place), drawing, task, number)


def _reworded(question: Question, text: str | None, pictures: Sequence[Media] = ()) -> Question:
    """A question with further pictures, and with other words where there are any."""

    def messages() -> list[dict[str, Any]]:
        ((*shown, words),) = (message["content"] for message in question.messages())
        words = words if text is None else {"type": "text", "text": text.strip()}
        more = [{"type": "image", "image": picture} for picture in pictures]
        return [{"role": "user", "content": [*shown, *more, words]}]

    return replace(question, messages=messages)
