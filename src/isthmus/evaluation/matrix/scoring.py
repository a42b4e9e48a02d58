"""Scores replies: expected attributes, the judge's readings, and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.evaluation.matrix.judge import Judge, Reading
from isthmus.modalities import known_media
from isthmus.model.reply import Reply
from isthmus.types import Media, Modality

TASKS = ("matrix", "arithmetic", "text_only")
TALK_TASKS = ("natural", "spoken", "plain")
"""Tasks that :class:`isthmus.evaluation.TalkEvaluation` measures in the same run."""
BEFORE, AFTER = "before", "after"
"""The cells of ``text_only``: the LLM without adapters, and the tuned model."""
ANSWER = "answer"
"""The attribute of ``text_only``: an exact match of the whole answer."""


@dataclass(frozen=True)
class Expectation:
    """The expected answer, from a prompt's ``details``.

    Attributes:
        task: one of :data:`TASKS`.
        cell: ``image->text`` for the matrix, the output for arithmetic, before or after for text alone.
        output: the requested modality.
        values: the expected value of each scored attribute.
    """

    task: str
    cell: str
    output: Modality
    values: Reading

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Expectation:
        """Reads a prompt's details: ``task``, ``output`` and either ``cell`` and ``expect``, or ``answer``.

        Raises:
            ValueError: one of them is missing or unknown.
        """
        name = f"prompt {details.get('id', '')}".rstrip()
        task, output = details.get("task"), details.get("output")
        if task not in TASKS:
            raise ValueError(
                f"{name}: details.task: found {task!r}; expected {', '.join(TASKS)}. Fix: test on a source that gives "
                "expected answers, or remove the evaluation callback."
            )
        modalities = (Modality.TEXT, *known_media())
        if output not in modalities:
            raise ValueError(
                f"{name}: details.output: found {output!r}; expected {', '.join(modalities)}. Fix: name one."
            )
        if task == "text_only":
            if not isinstance(details.get("answer"), str):
                raise ValueError(f"{name}: details.answer: found no text; expected the right answer. Fix: give it.")
            return cls(task, AFTER, Modality.TEXT, {ANSWER: words(details["answer"])})
        expected = details.get("expect")
        if not isinstance(expected, Mapping) or all(value is None for value in expected.values()):
            raise ValueError(
                f"{name}: details.expect: found {expected!r}; expected attributes and values, such as {{'digit': 7}}. "
                "Fix: say what the answer must show."
            )
        cell = str(details.get("cell"))
        if task == "matrix" and cell not in [f"{given}->{output}" for given in modalities]:
            raise ValueError(
                f"{name}: details.cell: found {cell!r}; expected such as 'image->{output}'. Fix: join the input's and "
                "the output's modality by an arrow."
            )
        values = {str(key): value for key, value in expected.items() if value is not None}
        return cls(task, cell if task == "matrix" else str(output), Modality(output), values)


@dataclass(frozen=True)
class Verdict:
    """A scored reply.

    Attributes:
        expectation: the expected answer.
        reading: the judge's; empty if the reply has nothing of the modality.
        emitted: whether the reply has the requested modality.
        unrequested: whether it has other media.
    """

    expectation: Expectation
    reading: Reading
    emitted: bool
    unrequested: bool

    @property
    def right(self) -> dict[str, bool]:
        """Whether each expected attribute was read correctly; for a missing medium all are wrong."""
        return {name: self.reading.get(name) == value for name, value in self.expectation.values.items()}


def words(text: str) -> str:
    """The text with whitespace normalised to single spaces."""
    return " ".join(text.split())


def judge_replies(
    expectations: Sequence[Expectation], replies: Sequence[Reply], judges: Mapping[str, Judge]
) -> list[Verdict]:
    """Scores replies, those of one modality together.

    Raises:
        ValueError: a modality has no judge, or its judge doesn't read an attribute that is expected.
    """
    requested = [_requested(expected, reply) for expected, reply in zip(expectations, replies, strict=True)]
    readings: list[Reading] = [{} for _ in replies]
    for modality in (Modality.TEXT, *known_media()):
        rows = [row for row, own in enumerate(expectations) if own.output is modality and own.task != "text_only"]
        for row in rows:
            _check(expectations[row], judges)
        present = [row for row in rows if requested[row] is not None]
        if present:
            found = judges[modality].many([requested[row] for row in present])
            for row, reading in zip(present, found, strict=True):
                readings[row] = reading
    verdicts = []
    for row, (expected, reply) in enumerate(zip(expectations, replies, strict=True)):
        others = any(medium.modality is not expected.output for medium in reply.media())
        if expected.task == "text_only" and not others:  # with a medium it isn't an exact match
            readings[row] = {ANSWER: words(reply.text)}
        verdicts.append(Verdict(expected, readings[row], requested[row] is not None, others))
    return verdicts


def _requested(expected: Expectation, reply: Reply) -> Media | str | None:
    """The reply's text, or its first medium of the requested modality; None if there is none."""
    if expected.output is Modality.TEXT:
        return reply.text or None
    return next(iter(reply.media(expected.output)), None)


def _check(expected: Expectation, judges: Mapping[str, Judge]) -> None:
    judge = judges.get(expected.output)
    if judge is None:
        raise ValueError(
            f"judges: found {', '.join(judges) or 'none'}; expected one for {expected.output}, which "
            f"{expected.cell} asks for. Fix: give it a judge."
        )
    unread = [name for name in expected.values if name not in judge.attributes]
    if unread:
        raise ValueError(
            f"judges.{expected.output}: reads {', '.join(judge.attributes)}; expected {unread[0]} too, which a prompt "
            f"of {expected.cell} asks for. Fix: give another judge, or leave it out of the prompt's details.expect."
        )
