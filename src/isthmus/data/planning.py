"""A conversation -> a plan of segments, written with the LLM's own chat template.

Each medium is written as one sentinel character, so that the template sees plain text; the rendered text is tokenised
once, the sentinel as a token of its own, and cut where it stands. What to train on is told by the template too: an
assistant's turn is what ``render(messages up to and with it)`` adds to ``render(messages before it, with the generation
prompt)``.
"""

from __future__ import annotations

import copy
import re
from bisect import bisect_right
from typing import Any, Literal

from isthmus.data.errors import DataError, Fault
from isthmus.data.schema import Conversation, MediumItem, Message, check_roles
from isthmus.types import Modality
from isthmus.vocabulary import MediaSegment, Plan, Segment, SignalSegment, TextSegment, Vocabulary

Targets = Literal["all", "last", "none"]
"""Which of the assistant's turns are trained upon."""

SENTINEL = "\uf8e5"
"""Stands for a medium while a conversation is text. A private-use character: no text in any language holds it."""

NO_LENGTH = 10**30
"""What a tokenizer without a longest text says; others warn of longer ones."""

Span = tuple[int, int]


class Planner:
    """Writes conversations as plans.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        vocabulary: ids of the new tokens.

    Raises:
        ValueError: the tokenizer is slow or has no chat template.
    """

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"tokenizer: found the slow {type(tokenizer).__name__}; expected a fast one, whose offsets tell "
                "target positions. "
                "Mend: save the checkpoint with a tokenizer.json."
            )
        if not tokenizer.chat_template:
            raise ValueError(
                "tokenizer: found no chat template; expected one, which writes turns the way the LLM was trained on. "
                "Mend: set tokenizer.chat_template (a chat_template.jinja beside tokenizer.json)."
            )
        from tokenizers import AddedToken

        self.vocabulary = vocabulary
        self._tokenizer = copy.deepcopy(tokenizer)
        self._tokenizer.model_max_length = NO_LENGTH  # whoever lays conversations out says how long they may be
        self._tokenizer.add_tokens([AddedToken(SENTINEL, normalized=False, special=True)], special_tokens=True)
        self._sentinel_id = int(self._tokenizer.convert_tokens_to_ids(SENTINEL))
        special = [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        # Longest first, so that an error names the token that was meant.
        self._reserved = re.compile("|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)))
        self._end = tokenizer.eos_token

    def plan(self, conversation: Conversation, targets: Targets = "all", generation_prompt: bool = False) -> Plan:
        """The conversation in reading order.

        Args:
            conversation: what to write.
            targets: which of the assistant's turns are trained upon.
            generation_prompt: whether to end where the assistant's next turn begins, as a prompt for decoding does.

        Raises:
            DataError: special tokens in text, a template that refuses or rewrites turns, or nothing to train on.
        """
        where = f"conversation {conversation.details.get('id', '')}".rstrip()
        check_roles(conversation, where)
        messages = [
            self._written(message, f"{where}: messages[{i}]") for i, message in enumerate(conversation.messages)
        ]
        if generation_prompt and messages[-1]["role"] == "assistant":
            raise DataError(
                Fault.SCHEMA,
                f"{where}: found an assistant's turn last; expected the user's before a prompt for generation. "
                "Mend: plan conversation.prompt().",
            )
        text = self._render(messages, generation_prompt, where)
        trained = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        trained = {"all": trained, "last": trained[-1:], "none": []}[targets]
        spans = [self._span(messages, i, text, where) for i in trained]
        segments = self._segments(conversation, text, spans, set(trained), where)
        if targets != "none" and not _has_target(segments):
            raise DataError(
                Fault.NO_TARGET,
                f"{where}: found nothing to train on (targets={targets!r}); expected an assistant's turn with words "
                "or media. "
                "Mend: add the answer, or take the conversation out.",
            )
        return segments

    def _written(self, message: Message, where: str) -> dict[str, str]:
        """One turn as the template takes it: text, a sentinel for each medium."""
        parts: list[str] = []
        for item in message.content:
            if isinstance(item, MediumItem):
                parts.append(SENTINEL)
                continue
            found = self._reserved.search(item.text)
            if found is not None:
                raise DataError(
                    Fault.RESERVED_TEXT,
                    f"{where}: found {found.group()!r} within text; expected none of the tokenizer's special tokens, "
                    "which would "
                    "end a turn or forge one. Mend: take it out of the text.",
                )
            parts.append(item.text)
        return {"role": message.role, "content": "".join(parts)}

    def _render(self, messages: list[dict[str, str]], generation_prompt: bool, where: str) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generation_prompt
            )
        except (TemplateError, ValueError, IndexError, KeyError) as error:
            roles = ", ".join(message["role"] for message in messages) or "none"
            raise DataError(
                Fault.TEMPLATE,
                f"{where}: the chat template refuses turns of {roles} ({error}); expected turns as the LLM was "
                "trained on. "
                "Mend: reorder the turns, or change the template.",
            ) from error
        return text

    def _span(self, messages: list[dict[str, str]], index: int, text: str, where: str) -> Span:
        """Where in the rendered text the turn lies that the model must write, its end token included."""
        before = self._render(messages[:index], True, where)
        after = self._render(messages[: index + 1], False, where)
        if not after.startswith(before) or not text.startswith(after):
            raise DataError(
                Fault.TEMPLATE,
                f"{where}: messages[{index}]: the chat template writes earlier turns anew when a later one follows; "
                "expected text that "
                "only grows, so that what is trained is what is decoded. Mend: use a template that leaves earlier "
                "turns alone.",
            )
        # What a template adds after the end token, mostly a line break, is the next turn's: decoding has stopped.
        end = text.rfind(self._end, len(before), len(after)) if self._end else -1
        return len(before), len(after) if end < 0 else end + len(self._end)

    def _segments(
        self, conversation: Conversation, text: str, spans: list[Span], trained: set[int], where: str
    ) -> Plan:
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        items = [
            (i, message.role, item)
            for i, message in enumerate(conversation.messages)
            for item in message.content
            if isinstance(item, MediumItem)
        ]
        places = [at for at, token in enumerate(ids) if token == self._sentinel_id]
        if len(places) != len(items):
            raise DataError(
                Fault.TEMPLATE,
                f"{where}: found {len(places)} places of media in the rendered text; expected {len(items)}. "
                "Mend: use a chat template that writes every turn once, and its content unchanged.",
            )
        segments: list[Segment] = []
        given, made, begin = 0, 0, 0
        for place, (turn, role, item) in zip(places, items, strict=True):
            segments += _text(ids[begin:place], offsets[begin:place], spans)
            begin = place + 1
            modality = Modality(item.modality)
            if role == "assistant":
                segments.append(SignalSegment(modality, made, turn in trained))
                made += 1
            else:
                segments.append(MediaSegment(modality, given))
                given += 1
        return (*segments, *_text(ids[begin:], offsets[begin:], spans))


def _text(ids: list[int], offsets: list[Span], spans: list[Span]) -> list[Segment]:
    """At most one segment; a token is a target where any of its characters is."""
    if not ids:
        return []
    starts = [start for start, _ in spans]
    targets: list[bool] = []
    for begin, end in offsets:
        at = (
            bisect_right(starts, max(begin, end - 1)) - 1
        )  # the last span that starts at or before the token's last character
        targets.append(at >= 0 and begin < spans[at][1])
    return [TextSegment(tuple(ids), tuple(targets))]


def _has_target(plan: Plan) -> bool:
    return any(
        segment.target
        if isinstance(segment, SignalSegment)
        else isinstance(segment, TextSegment) and any(segment.targets)
        for segment in plan
    )
