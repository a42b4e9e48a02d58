"""Preference data as sources of pairs: our own lines, and the JSON of common sets.

Our own form is a conversation that the prompt ends, and two answers to it:

    {"messages": [{"role": "user", "content": "draw a seven"}],
     "chosen": [{"type": "text", "text": "drawn"}, {"type": "image", "caption": "a red seven", "image": "good.png"}],
     "rejected": "no"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.batching.pairs import Pair, check_pair
from isthmus.data.conversations.schema import parse_conversation
from isthmus.data.conversations.sources import ConversationSource, JsonLines, media_named
from isthmus.data.errors import fault
from isthmus.types import Modality

Turns = list[dict[str, Any]]
SIDES = ("chosen", "rejected")
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


class PreferenceLines(ConversationSource):
    """Pairs of a file with one JSON object a line, or of one JSON list of objects.

    Each object holds ``messages``, which the user's turn ends, and under ``chosen`` and ``rejected`` an answer's
    content: a string, or a list of text and media. A subclass reads another set's objects.

    Args:
        path: the file.
        root: the folder that media paths are relative to and can't leave; the file's own folder where none is given.

    Raises:
        ValueError: no such file, or nothing in it.
    """

    def __init__(self, path: str | Path, root: str | Path | None = None) -> None:
        self._lines = JsonLines(path, root)
        self.name = self._lines.name

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def files(self) -> Sequence[Path]:
        return list(self._lines.files)

    def __getitem__(self, index: int) -> Pair:
        """A pair.

        Raises:
            DataError: the object isn't one of the set's, or its answers are equal or empty.
        """
        raw, where = self._object(index)
        turns, answers, details = self.read(raw, where)
        found = []
        for side in SIDES:
            content = answers[side]
            if (isinstance(content, str) and not content.strip()) or content in ([], None):
                raise fault(f"{where}: {side}", "found neither text nor media", "an answer", "fill it, or drop it")
            answer = {"role": "assistant", "content": content}
            found.append(parse_conversation({"messages": [*turns, answer]}, f"{where}: {side}", self._lines.root))
        pair = Pair(found[0].messages, dict(details), found[1].messages[-1])
        check_pair(pair, where)
        return pair

    def media_in(self, index: int) -> Collection[Modality]:
        turns, answers, _ = self.read(*self._object(index))
        return media_named([*turns, {"content": answers["chosen"]}])

    def where(self, index: int) -> str:
        return self._lines.where(index)

    def _object(self, index: int) -> tuple[Mapping[str, Any], str]:
        raw, where = self._lines.raw(index)
        if not isinstance(raw, Mapping):
            raise fault(where, f"found a {type(raw).__name__}", "an object with two answers", "correct it")
        return raw, where

    def read(self, raw: Mapping[str, Any], where: str) -> tuple[Turns, dict[str, Any], dict[str, Any]]:
        """An object -> the prompt's turns, the content of both answers by side, and details.

        Raises:
            DataError: a field is missing.
        """
        turns = wanted(raw, "messages", where)
        answers = {side: wanted(raw, side, where) for side in SIDES}
        if not isinstance(turns, list):
            raise fault(f"{where}: messages", f"found a {type(turns).__name__}", "a list of turns", "correct it")
        return turns, answers, {key: value for key, value in raw.items() if key not in ("messages", *SIDES)}


class PromptedPairs(PreferenceLines):
    """The forms that ``trl`` reads: ``prompt``, ``chosen`` and ``rejected``, each a string or a list of turns.

    Without a prompt, or where the prompt is a string that both answers' turns begin with once more, it is the turns
    that both answers begin with.
    """

    def read(self, raw: Mapping[str, Any], where: str) -> tuple[Turns, dict[str, Any], dict[str, Any]]:
        sides = {side: wanted(raw, side, where) for side in SIDES}
        prompt = raw.get("prompt")
        repeated = isinstance(prompt, str) and all(_begins_with(prompt, side) for side in sides.values())
        if "prompt" in raw and not repeated:
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt or [])
        else:
            turns = _common(sides["chosen"], sides["rejected"], where)
            sides = {side: value[len(turns) :] for side, value in sides.items()}
        return turns, {side: _one_answer(value, f"{where}: {side}") for side, value in sides.items()}, {}


class Transcripts(PreferenceLines):
    """HH-RLHF (arXiv 2204.05862): ``chosen`` and ``rejected`` are transcripts of Human and Assistant.

    They share all turns but the last.
    """

    def read(self, raw: Mapping[str, Any], where: str) -> tuple[Turns, dict[str, Any], dict[str, Any]]:
        sides = {side: _transcript(wanted(raw, side, where), f"{where}: {side}") for side in SIDES}
        turns = _common(sides["chosen"], sides["rejected"], where)
        return turns, {side: _one_answer(value[len(turns) :], f"{where}: {side}") for side, value in sides.items()}, {}


class ImageQuestions(PreferenceLines):
    """RLHF-V (arXiv 2312.00849) and sets like it: ``question``, ``chosen``, ``rejected`` and an image's path.

    The three texts stand in the object, or as JSON in its field ``text``; the path under ``image_path`` or ``image``.
    """

    def read(self, raw: Mapping[str, Any], where: str) -> tuple[Turns, dict[str, Any], dict[str, Any]]:
        inner = raw.get("text", raw)
        if isinstance(inner, str):
            try:
                inner = json.loads(inner)
            except ValueError as error:
                raise fault(f"{where}: text", f"found no JSON ({error})", "question and answers", "fix it") from error
        if not isinstance(inner, Mapping):
            raise fault(f"{where}: text", f"found a {type(inner).__name__}", "question and answers", "fix it")
        question = wanted(inner, "question", where)
        return _asked(question, _image(raw)), {side: wanted(inner, side, where) for side in SIDES}, {}


class RankedResponses(PreferenceLines):
    """Align-Anything (arXiv 2412.15838): two numbered responses, of which ``overall_response`` names the better one.

    ``question`` or ``prompt``, perhaps an image's path, ``response_1`` and ``response_2`` as texts or contents.
    """

    def read(self, raw: Mapping[str, Any], where: str) -> tuple[Turns, dict[str, Any], dict[str, Any]]:
        question = raw["question"] if "question" in raw else wanted(raw, "prompt", where)
        best = str(wanted(raw, "overall_response", where))
        if best not in ("1", "2"):
            raise fault(f"{where}: overall_response", f"found {best!r}", "1 or 2", "drop pairs without a preference")
        other = "2" if best == "1" else "1"
        sides = {"chosen": wanted(raw, f"response_{best}", where), "rejected": wanted(raw, f"response_{other}", where)}
        return _asked(question, _image(raw)), sides, {}


def wanted(raw: Mapping[str, Any], field: str, where: str) -> Any:
    """A field that must be there.

    Raises:
        DataError: it isn't.
    """
    if field not in raw:
        raise fault(where, f"found no '{field}' among {', '.join(map(str, raw)) or 'no fields'}", "one", "add it")
    return raw[field]


def _asked(question: Any, image: Any) -> Turns:
    content = [] if image is None else [{"type": "image", "image": image}]
    return [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]


def _image(raw: Mapping[str, Any]) -> Any:
    """A path; sets also store pictures as bytes, which the JSON that we read doesn't hold."""
    image = raw.get("image_path", raw.get("image"))
    return image.get("path") if isinstance(image, Mapping) else image


def _transcript(text: Any, where: str) -> Turns:
    marks = list(TURN.finditer(text)) if isinstance(text, str) else []
    if not marks:
        raise fault(where, f"found {text!r:.60}", "a transcript of 'Human:' and 'Assistant:' turns", "fix it")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        {"role": ROLES[mark[1]], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]


def _common(chosen: Any, rejected: Any, where: str) -> Turns:
    """The turns that both sides begin with, the answer at their end left out."""
    if not isinstance(chosen, list) or not isinstance(rejected, list) or not chosen or not rejected:
        raise fault(where, "found no prompt, and answers that aren't lists of turns", "either", "add the prompt")
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    return chosen[:shared]


def _begins_with(prompt: str, side: Any) -> bool:
    """Whether the first turn of the user's in an answer's turns is the prompt."""
    turns = [turn for turn in side if isinstance(turn, Mapping)] if isinstance(side, list) else []
    first = next((turn.get("content") for turn in turns if turn.get("role") == "user"), None)
    return isinstance(first, str) and first.strip() == prompt.strip()


def _one_answer(value: Any, where: str) -> Any:
    """The content of an answer that is a string, or a list with one turn of the assistant's."""
    if isinstance(value, str):
        return value
    turn = value[0] if isinstance(value, list) and len(value) == 1 else None
    if not isinstance(turn, Mapping) or turn.get("role") != "assistant":
        what = f"{len(value)} turns" if isinstance(value, list) else f"a {type(value).__name__}"
        raise fault(where, f"found {what} after the shared ones", "one turn of the assistant's", "drop the pair")
    return turn.get("content")
