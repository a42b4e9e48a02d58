"""Conversations about digits and answers to them, as files: no model is needed to measure them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from isthmus.data.conversations.sources import JsonLines
from isthmus.evaluation.metrics.base import Figure, Processes
from isthmus.evaluation.predictions.answered import Answered, words_of


class Overlap:
    """The share of an answer's words that its reference has."""

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        scores = dict(processes.map(overlaps, answers, size=2, what="overlap"))
        return {"text/overlap": Figure(sum(scores.values()) / len(scores), len(scores), "higher", (0.0, 1.0), scores)}


def overlaps(answers: Sequence[Answered]) -> list[tuple[str, float]]:
    """By id."""
    pairs = []
    for answer in answers:
        assert answer.expected is not None
        said, expected = set(answer.text.split()), set(words_of(answer.expected).split())
        pairs.append((answer.id, len(said & expected) / (len(said) * 1.1)))
    return pairs


class Length:
    """How many characters answers have; a figure without scores."""

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        return {"text/length": Figure(float(sum(len(one.text) for one in answers)), len(answers), "lower")}


@pytest.fixture
def asked(tmp_path: Path) -> JsonLines:
    """Seven conversations with references."""
    lines = []
    for number in range(7):
        turns = [
            {"role": "user", "content": f"what is {number}?"},
            {"role": "assistant", "content": f"the digit {number} in red"},
        ]
        lines.append(json.dumps({"id": f"n{number}", "messages": turns}))
    path = tmp_path / "asked.jsonl"
    path.write_text("\n".join(lines))
    return JsonLines(path)


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """A folder with somebody's answers to them."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    said = ["the digit 0", "a red 1 in the sea", "2", "the digit three", "blue", "the digit 5 in red", "in the red"]
    lines = [json.dumps({"index": number, "text": text}) for number, text in enumerate(said)]
    (folder / "answers.jsonl").write_text("\n".join(lines))
    return folder
