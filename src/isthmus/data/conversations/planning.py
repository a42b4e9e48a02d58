"""A conversation -> a plan of segments, written with the LLM's own chat template.

Each medium is written as one sentinel character, so that the template sees plain text; the rendered text is tokenised
once, the sentinel as a token of its own, and cut where it stands. Spellings of control tokens are kept from being read
as such in the same way (:mod:`isthmus.data.conversations.literal_text`). The template also says what to train on: an
assistant's turn is what ``render(messages up to and with it)`` adds to ``render(messages before it, with the generation
prompt)``, up to the first token that ends decoding.
"""

from __future__ import annotations

import copy
import json
from bisect import bisect_right
from collections.abc import Callable, Collection
from typing import Any, Literal

from isthmus.data.conversations.literal_text import LITERAL, LiteralText
from isthmus.data.conversations.schema import Conversation, MediumItem, Message, check_roles
from isthmus.data.conversations.thoughts import THOUGHTS, Thoughts, spans_without_thoughts, without_thoughts
from isthmus.data.conversations.tools import marked, names_of
from isthmus.data.errors import DataError, Fault, fault
from isthmus.data.media.remarks import Remark, remark
from isthmus.types import Modality
from isthmus.vocabulary import MediaSegment, Plan, Segment, SignalSegment, TextSegment, Vocabulary

Targets = Literal["all", "last", "none"]
"""Which of the assistant's turns are trained upon; one that opens the conversation answers nothing, and never is."""

SENTINEL = "\uf8e5"
"""Stands for a medium while a conversation is text. A private-use character: no text in any language holds it."""

NO_LENGTH = 10**30
"""What a tokenizer without a longest text says; others warn of longer ones."""

Span = tuple[int, int]
Turn = dict[str, Any]
Turns = list[Turn]
"""Turns as templates take them: role, content and ``tool_calls``, where there are any."""


class Planner:
    """Writes conversations as plans.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        vocabulary: ids of the new tokens.
        ends: ids that end an answer when it is decoded; the tokenizer's end token alone if None.
        reread: reads the tokenizer from its files. With it a planner is pickled as this function and the chat template,
            since the tokenizers of some LLMs take megabytes; without it the tokenizer itself is pickled.
        stops: texts that end an answer, beside ``ends``.
        thoughts: what becomes of ``<think>...</think>`` in answers (:mod:`isthmus.data.conversations.thoughts`).

    Raises:
        ValueError: the tokenizer is slow or has no chat template, or ``thoughts`` is unknown.
    """

    def __init__(
        self,
        tokenizer: Any,
        vocabulary: Vocabulary,
        ends: Collection[int] | None = None,
        reread: Callable[[], Any] | None = None,
        stops: Collection[str] = (),
        thoughts: Thoughts = "keep",
    ) -> None:
        if thoughts not in THOUGHTS:
            raise ValueError(f"thoughts: found {thoughts!r}; expected one of {', '.join(THOUGHTS)}. Fix: choose one.")
        self.thoughts = thoughts
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"tokenizer: found the slow {type(tokenizer).__name__}; expected a fast one, whose offsets tell "
                "target positions. "
                "Fix: save the checkpoint with a tokenizer.json."
            )
        if not tokenizer.chat_template:
            raise ValueError(
                "tokenizer: found no chat template; expected one, which writes turns the way the LLM was trained on. "
                "Fix: set tokenizer.chat_template (a chat_template.jinja beside tokenizer.json)."
            )
        from tokenizers import AddedToken

        self.vocabulary = vocabulary
        end_ids = {tokenizer.eos_token_id} if ends is None else set(ends)
        self._reread, self._end_ids, self._stops = reread, end_ids, tuple(stops)
        added = tokenizer.added_tokens_decoder
        self._ends = [*(added[token].content for token in end_ids if token in added), *stops]
        self._literal_text = LiteralText(tokenizer, (SENTINEL, LITERAL), end_ids)
        self._dropped: dict[tuple[str, ...], list[int]] = {}
        self._tokenizer = copy.deepcopy(tokenizer)
        self._tokenizer.model_max_length = NO_LENGTH  # whoever lays conversations out says how long they may be
        private = [AddedToken(character, normalized=False, special=True) for character in (SENTINEL, LITERAL)]
        self._tokenizer.add_tokens(private, special_tokens=True)
        self._sentinel_id, self._literal_id = self._tokenizer.convert_tokens_to_ids([SENTINEL, LITERAL])

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reread is None:
            return object.__new__, (type(self),), vars(self)
        return _reread, (
            self._reread,
            self._tokenizer.chat_template,
            self.vocabulary,
            self._end_ids,
            self._stops,
            self.thoughts,
        )

    def plan(self, conversation: Conversation, targets: Targets = "all", generation_prompt: bool = False) -> Plan:
        """The conversation in reading order.

        Args:
            conversation: what to write.
            targets: which of the assistant's turns are trained upon.
            generation_prompt: whether to end where the assistant's next turn begins, as a prompt for decoding does.

        Raises:
            DataError: a template that refuses, drops or rewrites turns, nothing to train on, or text that the tokenizer
                can write only as a control token.
        """
        where = f"conversation {conversation.details.get('id', '')}".rstrip()
        check_roles(conversation, where)
        literals: list[str] = []
        messages = [self._written(message, literals, where) for message in conversation.messages]
        tools = list(conversation.tools)
        self._check_plain(tools, where)
        if generation_prompt and messages[-1]["role"] == "assistant":
            expected = "the user's before a prompt for generation"
            raise fault(where, "found an assistant's turn last", expected, "plan conversation.prompt()")
        text = self._render(messages, generation_prompt, where, tools)
        self._check_whole(messages, text, generation_prompt, where)
        if tools and not any(name in text for name in names_of(tools)):
            remark(Remark.TOOLS, where, "found tools that the chat template leaves out")
        # A turn that nothing precedes, such as a greeting, answers nothing.
        trained = [i for i, message in enumerate(messages) if message["role"] == "assistant" and i > 0]
        trained = {"all": trained, "last": trained[-1:], "none": []}[targets]
        trained = [i for i in trained if conversation.messages[i].trains]
        spans = [self._span(messages, i, text, where, tools) for i in trained]
        if self.thoughts == "untrained":
            spans = [piece for span in spans for piece in spans_without_thoughts(text, literals, span)]
        segments = self._segments(conversation, text, literals, spans, set(trained), where)
        if targets != "none" and not _has_target(segments):
            found, fix = f"found nothing to train on (targets={targets!r})", "add it, or take the conversation out"
            raise fault(where, found, "an assistant's turn with words or media that is learnt", fix, Fault.NO_TARGET)
        return segments

    def _written(self, message: Message, literals: list[str], where: str) -> Turn:
        """One turn as the template takes it: text, a sentinel for each medium, a literal for each spelling."""
        parts: list[str] = []
        kept = without_thoughts if self.thoughts == "drop" and message.role == "assistant" else str
        words = ""  # neighbouring texts are one: what they spell together counts
        for item in message.content:
            if isinstance(item, MediumItem):
                parts += [self._literal_text.take_out(kept(words), literals), SENTINEL]
                words = ""
            else:
                words += item.text
        words = kept(words)
        turn = {"role": message.role, "content": "".join([*parts, self._literal_text.take_out(words, literals)])}
        if not message.calls:
            return turn
        self._check_plain(message.calls, where)
        return {**turn, "tool_calls": list(message.calls)}

    def _check_plain(self, value: Any, where: str) -> None:
        """Raises a DataError where calls or tools spell control tokens: where a template writes them isn't known."""
        spelled: list[str] = []
        self._literal_text.take_out(json.dumps(value, ensure_ascii=False) if value else "", spelled)
        if spelled:
            found = f"found {spelled[0]!r} within calls or tools"
            raise fault(where, found, "text that can't forge a turn", "take it out", Fault.RESERVED_TEXT)

    def _render(self, messages: Turns, generation_prompt: bool, where: str, tools: list[Any] | None = None) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generation_prompt, tools=tools or None
            )
        except (TemplateError, ValueError, TypeError, AttributeError, LookupError) as error:
            roles = ", ".join(message["role"] for message in messages) or "none"
            raise DataError(
                Fault.TEMPLATE,
                f"{where}: the chat template refuses turns of {roles} ({error}); expected turns as the LLM was "
                "trained on. "
                "Fix: reorder the turns, or change the template.",
            ) from error
        return text

    def _check_whole(self, messages: Turns, text: str, is_prompt: bool, where: str) -> None:
        """Raises a DataError where the template leaves out a turn, or words of it.

        Of a prompt, answers may be cut: many templates take the thoughts out of earlier ones.
        """
        roles = tuple(message["role"] + " calls" * ("tool_calls" in message) for message in messages)
        if roles not in self._dropped:
            marks = [f"words_of_turn_{i}." for i in range(len(roles))]
            turns = [marked(message, mark) for message, mark in zip(messages, marks, strict=True)]
            rendered = self._render(turns, False, where)
            self._dropped[roles] = [i for i, mark in enumerate(marks) if mark not in rendered]
        is_plain = not any(private in message["content"] for message in messages for private in (SENTINEL, LITERAL))
        at = 0
        for i, message in enumerate(messages):
            if is_prompt and message["role"] == "assistant":
                continue
            said = message["content"].strip()
            found = text.find(said, at)
            if i in self._dropped[roles] or (found < 0 and not (is_plain and said in text)):
                raise self._incomplete(message, i, i in self._dropped[roles], where)
            at = max(at, found + len(said))

    def _incomplete(self, message: Turn, index: int, is_dropped: bool, where: str) -> DataError:
        role, said = message["role"], message["content"].strip()
        if is_dropped and "tool_calls" in message:
            said = ", ".join(names_of(message["tool_calls"]))
            found, fix = "leaves out what the assistant calls", "take an LLM whose template knows tools"
        elif not is_dropped:
            found, fix = "changes or cuts words", "take out what it reacts to (such as thoughts)"
        elif role == "system":
            found = "leaves out a system turn" if index == 0 else "leaves out a system turn that isn't the first"
            fix = "put its words into the user's turn"
        else:
            found, fix = f"leaves out a turn of the {role}", "reorder the turns"
        shown = said.replace(SENTINEL, "[medium]").replace(LITERAL, "[...]")
        return DataError(
            Fault.TEMPLATE,
            f"{where}: messages[{index}]: the chat template {found} ({shown[:40]!r} isn't in what it writes); expected "
            f"every turn, its words unchanged. Fix: {fix}, or give the backbone another chat_template.",
        )

    def _span(self, messages: Turns, index: int, text: str, where: str, tools: list[Any]) -> Span:
        """Where in the rendered text the turn lies that the model must write, its end token included."""
        before = self._render(messages[:index], True, where, tools)
        after = self._render(messages[: index + 1], False, where, tools)
        # What a template adds after the end token is no part of the turn: decoding has stopped. Mostly it is a line
        # break; some templates close a conversation there, and leave that out where another turn follows.
        said = messages[index]["content"].strip()
        begin = max(after.find(said, len(before)), len(before)) + len(said)
        ends = [(at, len(end)) for end in self._ends if 0 <= (at := after.find(end, begin))]
        stop = sum(min(ends)) if ends else len(after)
        if not after.startswith(before) or not text.startswith(after[:stop]):
            raise fault(
                f"{where}: messages[{index}]",
                f"the chat template {self._rewrites(messages, index, before, after, tools)}",
                "text that only grows, so that what is trained is what is decoded",
                "use a template that leaves earlier turns alone, by the backbone's chat_template",
                Fault.TEMPLATE,
            )
        return len(before), stop

    def _rewrites(self, messages: Turns, index: int, before: str, after: str, tools: list[Any]) -> str:
        """Why a turn isn't what follows its prompt."""
        if after.startswith(before):
            return "writes earlier turns anew when a later one follows"
        if after.startswith(bare := self._render(messages[:index], False, "", tools)):
            return f"ends a prompt in {before[len(bare) :]!r}, with which the written answer doesn't begin"
        return "writes earlier turns anew when an answer follows"

    def _segments(
        self,
        conversation: Conversation,
        text: str,
        literals: list[str],
        spans: list[Span],
        trained: set[int],
        where: str,
    ) -> Plan:
        ids, offsets = self._encoded(text, literals, where)
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
                "Fix: use a chat template that writes every turn once, and its content unchanged.",
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

    def _encoded(self, text: str, literals: list[str], where: str) -> tuple[list[int], list[Span]]:
        """Ids and characters of the rendered text, the tokens of spellings in their literals' places."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        found: list[tuple[int, Span]] = list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
        count = sum(token == self._literal_id for token, _ in found)
        if count != len(literals):
            raise DataError(
                Fault.TEMPLATE,
                f"{where}: found {count} places of spelled control tokens in the rendered text; expected "
                f"{len(literals)} ({', '.join(map(repr, literals[:3]))}). Fix: use a chat template that writes every "
                "turn once, and its content unchanged.",
            )
        if literals:
            left = iter(literals)
            found = [
                (plain, place)
                for token, place in found
                for plain in (self._literal_text.ids(next(left), where) if token == self._literal_id else (token,))
            ]
        return [token for token, _ in found], [place for _, place in found]


def _reread(
    reread: Callable[[], Any],
    chat_template: str,
    vocabulary: Vocabulary,
    ends: Collection[int],
    stops: Collection[str],
    thoughts: Thoughts,
) -> Planner:
    tokenizer = reread()
    tokenizer.chat_template = chat_template
    return Planner(tokenizer, vocabulary, ends, reread, stops, thoughts)


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
