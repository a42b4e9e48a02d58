"""Tool calls in the template's own roles; turns without a loss; thoughts kept, dropped or not learnt."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from data.conversations import CHATML, assistant, byte_level, user

from isthmus.backbones.chat_templates import TEMPLATES
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, Message, TextItem, parse_conversation
from isthmus.data.conversations.thoughts import THOUGHTS
from isthmus.data.errors import DataError, Fault
from isthmus.data.media.remarks import Remark, remarks
from isthmus.vocabulary import TextSegment, Vocabulary

TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}{% endfor %}\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}"
    "[{{ call.function.name }} {{ call.function.arguments | tojson }}]{% endfor %}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALK = {
    "messages": [
        {"role": "user", "content": "w?"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "look", "arguments": {"at": "sky"}}]},
        {"role": "tool", "content": "sunny"},
        {"role": "assistant", "content": "it is sunny"},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "description": "looks"}}],
}


def planner(template: str = TOOLS, **settings: Any) -> Planner:
    tokenizer = byte_level()
    tokenizer.chat_template = template
    return Planner(tokenizer, Vocabulary(len(tokenizer)), **settings)


def learnt(own: Planner, conversation: Conversation) -> str:
    """What is a target, as text."""
    segments = [segment for segment in own.plan(conversation) if isinstance(segment, TextSegment)]
    ids = [i for s in segments for i, target in zip(s.ids, s.targets, strict=True) if target]
    return str(byte_level().decode(ids)).replace("</s>", "|")


def test_calls_are_learnt_and_what_they_bring_is_shown() -> None:
    talk = parse_conversation(TALK)
    own = planner()
    assert learnt(own, talk) == '[look {"at": "sky"}]|it is sunny|'
    (segment,) = own.plan(talk)
    assert isinstance(segment, TextSegment)
    text = str(byte_level().decode(segment.ids))
    assert "<|im_start|>tool\nsunny</s>" in text and '"description": "looks"' in text.partition("w?")[0]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_knows_no_tools_refuses_them(name: str) -> None:
    said = r"the chat template (refuses turns of user, assistant, tool|leaves out what the assistant calls \('look')"
    with pytest.raises(DataError, match=said) as raised:
        planner(TEMPLATES[name]).plan(parse_conversation(TALK))
    assert raised.value.fault is Fault.TEMPLATE


def test_tools_that_a_template_leaves_out_are_told() -> None:
    plain = {**TALK, "messages": [TALK["messages"][0], TALK["messages"][3]]}  # type: ignore[index]
    with remarks() as told:
        planner(CHATML).plan(parse_conversation(plain))
        planner().plan(parse_conversation(plain))
    assert [kind for kind, _ in told] == [Remark.TOOLS]


def test_calls_can_not_forge_a_turn() -> None:
    messages = [
        TALK["messages"][0],
        {"role": "assistant", "tool_calls": [{"name": "look", "arguments": {"a": "</s>"}}]},
    ]  # type: ignore[index]
    with pytest.raises(DataError, match=r"found '</s>' within calls or tools") as raised:
        planner().plan(parse_conversation({"messages": messages}))
    assert raised.value.fault is Fault.RESERVED_TEXT


def test_turns_without_a_loss_are_shown_and_not_learnt() -> None:
    turns = [user("a"), Message("assistant", (TextItem("no"),), trains=False), user("b"), assistant("yes")]
    own = planner(CHATML)
    assert learnt(own, Conversation(tuple(turns))) == "yes|"
    with pytest.raises(DataError, match="found nothing to train on"):
        own.plan(Conversation(tuple(turns[:2])))
    with pytest.raises(DataError, match="found nothing to train on"):
        own.plan(Conversation((*turns[2:], *turns[:2])), "last")


THOUGHT = "<think>Hm.\nSo.</think>\n\nYes.<think>And?</think> No."


@pytest.mark.parametrize(
    ("thoughts", "wanted"), [("keep", f"{THOUGHT}|"), ("drop", "Yes.No.|"), ("untrained", "Yes.No.|")]
)
def test_thoughts_are_kept_dropped_or_not_learnt(thoughts: Any, wanted: str) -> None:
    own = pickle.loads(pickle.dumps(planner(CHATML, thoughts=thoughts)))
    talk = Conversation((user("<think>mine</think>"), assistant(THOUGHT)))
    assert learnt(own, talk) == wanted
    (segment,) = own.plan(talk)
    text = byte_level().decode(segment.ids)
    assert ("Hm." in text) is (thoughts != "drop") and "mine" in text, "the user's words stay"


def test_an_answer_may_begin_within_a_thought() -> None:
    """As behind a template whose prompts end in the opening mark."""
    talk = Conversation((user("a"), assistant("hm</think>yes")))
    assert {thoughts: learnt(planner(CHATML, thoughts=thoughts), talk) for thoughts in THOUGHTS} == {
        "keep": "hm</think>yes|",
        "drop": "yes|",
        "untrained": "yes|",
    }
    with pytest.raises(ValueError, match="thoughts: found 'hide'; expected one of keep, drop, untrained"):
        planner(CHATML, thoughts="hide")
