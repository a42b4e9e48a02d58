"""Checks a chat template on sample dialogues when an LLM is read: reports what can't be trained or decoded.

Published templates truncate text, omit turns, or end an answer with a token that decoding doesn't know. None of that
raises an error by itself: the loss decreases although text is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

_log = logging.getLogger(__name__)

Messages = list[dict[str, Any]]

SYSTEM, QUESTIONS, ANSWERS = "Orders 11.", ("Question 22.", "Question 33."), ("Answer 44.", "Answer 55.")
THOUGHT = "<think>Thought 66.</think>"

PARTS = (
    "{% set written = namespace(turns=[]) %}{% for turn in messages %}{% set written.turns = written.turns + "
    "[{'role': turn['role'], 'content': [{'type': 'text', 'text': turn['content']}]}] %}{% endfor %}"
    "{% set messages = written.turns %}"
)
"""A prefix for the template of a multimodal LLM, which expects each turn's content as a list of parts."""

_FIX = "Fix: choose one by the backbone's chat_template, a name or a .jinja file"


def probe_template(tokenizer: Any, ends: Collection[int], where: str, stops: Collection[str] = ()) -> set[int]:
    """Checks the tokenizer's chat template by its output, and fixes it if possible.

    A template that expects turns as lists of parts gets them. A special token that it writes right after an answer is
    added to those that end decoding. Features that only some conversations need (system turns, several answers) are
    logged if they fail; such conversations are refused one by one when they are planned.

    Args:
        tokenizer: with a chat template.
        ends: ids that are known to end an answer.
        where: the checkpoint, for errors.
        stops: texts that end an answer.

    Returns:
        The ids that end an answer.

    Raises:
        ValueError: the template raises on a question and its answer, omits text of them, doesn't begin an answer
            with its prompt's ending, or writes no token after an answer that can end decoding.
    """
    tokenizer.chat_template = tokenizer.get_chat_template()
    probe = _Probe(tokenizer, f"{where}: its chat template")
    asked, answered = _turns("ua")
    text = _whole(probe, [asked, answered])
    prompt = probe.render([asked], True)
    if not text.startswith(prompt):
        bare = probe.render([asked])
        cause = (
            f"ends a prompt with {prompt[len(bare) :]!r}, with which the answer that it writes doesn't begin "
            f"({text[len(bare) :]!r})"
            if text.startswith(bare) and prompt.startswith(bare)
            else f"rewrites the question when an answer follows ({prompt!r}, then {text!r})"
        )
        raise ValueError(
            f"{probe.where} {cause}; expected the same text in training and decoding. {_FIX} whose answers begin with "
            "its prompt's ending."
        )
    begun, _, tail = text[len(prompt) :].partition(ANSWERS[0])
    found, stop = _ends(tokenizer, ends, stops, tail, probe.where)
    if begun.strip():
        _log.warning(
            "%s doesn't end its prompt with %r, so that the model must write it before each answer, and replies will "
            "show it. %s whose prompt ends with it.", probe.where, begun, _FIX,
        )  # fmt: skip
    _check_longer(probe, text[: len(text) - len(tail) + stop])
    return found


def _whole(probe: _Probe, turns: Messages) -> str:
    """The template's text for a question and its answer, passed as texts or else as lists of parts."""
    words = [turn["content"] for turn in turns]
    text, refused = "", None
    try:
        text = probe.render(turns)
    except ValueError as error:
        refused = error
    missing = _missing(text, words)
    if not missing:
        return text
    own = probe.tokenizer.chat_template
    probe.tokenizer.chat_template = PARTS + own
    try:
        written = probe.render(turns)
    except ValueError:
        written = ""
    if not _missing(written, words):
        _log.info("%s expects turns as lists of parts, and gets them", probe.where)
        return written
    probe.tokenizer.chat_template = own
    raise refused or ValueError(
        f"{probe.where} omits {missing[0]!r} of a question and its answer, and writes {text!r}; expected the text of "
        f"every turn. {_FIX} that writes message['content']."
    )


def _ends(
    tokenizer: Any, known: Collection[int], stops: Collection[str], tail: str, where: str
) -> tuple[set[int], int]:
    """The ids that end an answer, including the tail's first special token; and its end position in the tail."""
    if stopped := [at + len(stop) for stop in stops if (at := tail.find(stop)) >= 0]:
        return set(known), min(stopped)
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    following = [
        (at, index)
        for index, token in added.items()
        if (token.special or index in known) and (at := tail.find(token.content)) >= 0
    ]
    if not following:
        names = ", ".join(repr(added[index].content) for index in sorted(known) if index in added) or "none"
        raise ValueError(
            f"{where} writes {tail!r} after an answer, without a token that ends decoding; expected one "
            f"({names}), or the model never learns to stop. {_FIX} that writes eos_token there; or name the text that "
            "ends an answer by the backbone's stop_strings."
        )
    at, index = min(following)
    if index not in known:
        _log.info("%s ends an answer with %r, which now ends decoding too", where, added[index].content)
    return {*known, index}, at + len(added[index].content)


def _check_longer(probe: _Probe, exchange: str) -> None:
    """Logs which longer conversations can't be planned. ``exchange``: the text of a question and its answer."""
    thoughtful = _turns("uaua")
    thoughtful[1]["content"] = THOUGHT + thoughtful[1]["content"]
    longer = {
        "several answers": _turns("uaua"),
        "a thought in an answer before the last": thoughtful,
        "system turns": _turns("sua"),
        "system turns after the first turn": _turns("uasua"),
    }
    for what, turns in longer.items():
        try:
            written = probe.render(turns)
        except ValueError as error:
            # The error says so for each such conversation too.
            _log.info("%s: conversations with %s are refused: %s", probe.where, what, error.__cause__)
            continue
        if missing := _missing(written, [turn["content"] for turn in turns]):
            _log.warning("%s omits %r: conversations with %s are refused", probe.where, missing[0], what)
        elif what == "several answers" and not written.startswith(exchange):
            _log.warning(
                "%s rewrites an answer when another turn follows: conversations with %s are refused if more than the "
                "last one is trained", probe.where, what,
            )  # fmt: skip


class _Probe:
    """Renders turns, and converts a template's exceptions to ValueErrors."""

    def __init__(self, tokenizer: Any, where: str) -> None:
        self.tokenizer = tokenizer
        self.where = where

    def render(self, messages: Messages, prompt: bool = False) -> str:
        """The template's text for the turns.

        Raises:
            ValueError: it raises on the turns, or can't be run.
        """
        try:
            text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # a template is a program that may raise anything
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"{self.where} refuses turns of {roles} ({type(error).__name__}: {error}); expected it to write them. "
                f"{_FIX}."
            ) from error
        return text


def _turns(shape: str) -> Messages:
    """``s``, ``u`` and ``a`` -> system, user and assistant turns, each with distinct text."""
    words = {"s": ("system", iter([SYSTEM])), "u": ("user", iter(QUESTIONS)), "a": ("assistant", iter(ANSWERS))}
    return [{"role": words[letter][0], "content": next(words[letter][1])} for letter in shape]


def _missing(text: str, words: list[str]) -> list[str]:
    return [word for word in words if word not in text]
