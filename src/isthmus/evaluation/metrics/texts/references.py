"""Where the reference texts of an answer stand: in a detail of its conversation, or in the expected message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.evaluation.predictions.answered import Answered, words_of


def references_of(answer: Answered, detail: str | None) -> list[str]:
    """The reference texts, at least one.

    Args:
        answer: whose references are asked for.
        detail: that holds a text, a number, or a list of them, or of mappings with ``answer``, as VQA's files have them
            None stands for the words of the expected message.

    Raises:
        ValueError: there are none, or they are no texts.
    """
    if detail is None:
        words = "" if answer.expected is None else words_of(answer.expected)
        if not words:
            raise ValueError(
                f"{answer.id}: found no words in the expected message; expected a reference. Fix: give the "
                "conversation an answer of the assistant's, or name the detail that holds its references."
            )
        return [words]
    value = detail_of(answer, detail)
    listed = value if isinstance(value, list | tuple) else [value]
    texts = [one.get("answer") if isinstance(one, Mapping) else one for one in listed]
    if not texts or not all(isinstance(one, str | int | float) and str(one).strip() for one in texts):
        raise ValueError(
            f"{answer.id}: details.{detail}: found {value!r:.80}; expected a text, or a list of at least one. Fix: "
            "give every test record its references."
        )
    return [str(one) for one in texts]


def detail_of(answer: Answered, detail: str) -> Any:
    """A detail of the conversation.

    Raises:
        ValueError: it has none of that name.
    """
    if answer.details.get(detail) is None:
        raise ValueError(
            f"{answer.id}: found no {detail!r} among {', '.join(answer.details) or 'no details'}; expected the detail "
            "that the metric names. Fix: name another in the metric's arguments, or give it to every test record."
        )
    return answer.details[detail]


def all_references(answers: Sequence[Answered], detail: str | None) -> list[list[str]]:
    """:func:`references_of` every answer.

    Raises:
        ValueError: an answer has none.
    """
    return [references_of(answer, detail) for answer in answers]
