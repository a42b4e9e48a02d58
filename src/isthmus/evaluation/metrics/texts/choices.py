"""Multiple choice: which letter a reply names, read as MMMU's official script does."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.scores import require_answers, share_figure
from isthmus.evaluation.metrics.texts.open_answers import answers_openly
from isthmus.evaluation.metrics.texts.references import detail_of, references_of
from isthmus.evaluation.predictions.answered import Answered

LONG = 5
"""Words above which a reply that names no letter is searched for the choices' own words."""


class MultipleChoice(Metric):
    """``text/accuracy``, and ``text/letters_read``: the share of replies to questions with choices that name one.

    A reply that names no choice is given one by a draw that its id seeds, as the official script draws, so that chance
    is what chance gives. Questions without choices are compared by their words and numbers. Source: X. Yue et al., CVPR
    2024, and the script of https://github.com/MMMU-Benchmark/MMMU.

    Args:
        answer: the detail that holds the right choice's letter, a text or a list of them.
        choices: the detail that holds the choices' texts, in order; a question without any is an open one.
    """

    def __init__(self, answer: str = "answer", choices: str = "choices") -> None:
        self.answer = answer
        self.choices = choices

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, with each answer's score.

        Raises:
            ValueError: a conversation has no answer, or one that isn't among its choices.
        """
        require_answers(answers)
        right, named, asked = [], [], []
        for answer in answers:
            expected = references_of(answer, self.answer)
            if not answer.details.get(self.choices):
                right.append(answers_openly(answer.text, expected))
                continue
            choices = self._choices(answer, expected)
            letter = letter_of(answer.text, choices)
            asked.append(answer)
            named.append(letter is not None)
            right.append((letter or random.Random(answer.id).choice(list(choices))) in expected)
        protocol = {"answer": self.answer, "choices": self.choices, "normalisation": "MMMU", "unread": "drawn"}
        figures = {"text/accuracy": share_figure(answers, right, protocol)}
        return figures | ({"text/letters_read": share_figure(asked, named, protocol)} if asked else {})

    def _choices(self, answer: Answered, expected: Sequence[str]) -> dict[str, str]:
        """Letter -> text."""
        listed = detail_of(answer, self.choices)
        if not isinstance(listed, list | tuple) or len(listed) > len(ascii_uppercase):
            raise ValueError(
                f"{answer.id}: details.{self.choices}: found {listed!r:.80}; expected a list of at most "
                f"{len(ascii_uppercase)} texts. Fix: list the choices."
            )
        choices = dict(zip(ascii_uppercase, map(str, listed), strict=False))
        if wrong := [one for one in expected if one not in choices]:
            raise ValueError(
                f"{answer.id}: details.{self.answer}: found {wrong[0]!r:.40}; expected one of {', '.join(choices)}. "
                "Fix: give the letter of the right choice."
            )
        return choices


def letter_of(reply: str, choices: Mapping[str, str]) -> str | None:
    """The letter that a reply names last: in brackets, else between spaces, else by the choice's words; None if none.

    Args:
        reply: the model's.
        choices: letter -> the choice's text.
    """
    for mark in ",.!?;:'":
        reply = reply.strip(mark)
    padded = f" {reply} "
    ways = [{letter: f"({letter})" for letter in choices}, {letter: f" {letter} " for letter in choices}]
    for sought in ways:
        if found := {letter: padded.rfind(form) for letter, form in sought.items() if form in padded}:
            return max(found, key=lambda letter: found[letter])
    if len(padded.split()) <= LONG:
        return None
    lower = padded.lower()
    places = {letter: lower.rfind(text.lower()) for letter, text in choices.items() if text.lower() in lower}
    return max(places, key=lambda letter: places[letter]) if places else None
