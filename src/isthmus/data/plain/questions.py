"""Plain questions with exact facts, whose subjects are held out of the prompts of replay."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain, zip_longest

import yaml


@dataclass(frozen=True)
class PlainQuestion:
    """A question that a few words answer.

    Attributes:
        text: the question.
        answers: of which one must stand in an answer, as whole words.
        subject: words that a prompt about the same fact has.
        kind: what kind of fact it is, such as ``capitals``.
    """

    text: str
    answers: tuple[str, ...]
    subject: frozenset[str]
    kind: str


@cache
def plain_questions() -> tuple[PlainQuestion, ...]:
    """All questions, their kinds in turn, so that the first ones are a fair sample."""
    content = yaml.safe_load(files("isthmus.data.plain").joinpath("questions.yaml").read_text(encoding="utf-8"))
    by_kind = [
        [
            PlainQuestion(text, tuple(answers), frozenset(map(str.lower, subject)), kind)
            for text, answers, subject in rows
        ]
        for kind, rows in content.items()
    ]
    in_turn = chain.from_iterable(zip_longest(*by_kind))
    return tuple(question for question in in_turn if question is not None)


def held_out(prompt: str) -> bool:
    """Whether a prompt has all words of a question's subject, and so may train what the question tests."""
    words = set(_words(prompt))
    return any(question.subject <= words for question in plain_questions())


def states_one(text: str, answers: Iterable[str]) -> bool:
    """Whether a text has one of the answers, its words whole and in a row, whatever their case and what is between."""
    said = f" {' '.join(_words(text))} "
    return any(f" {' '.join(_words(answer))} " in said for answer in answers)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
