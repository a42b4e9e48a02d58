"""Chat templates by name: the very text of each family's turns, its targets, tokenizers without a begin token."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from isthmus.backbones import CausalBackbone, EncoderDecoderBackbone
from isthmus.backbones.chat_templates import TEMPLATES, read_template
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.types import Modality
from isthmus.vocabulary import MediaSegment, SignalSegment, TextSegment, Vocabulary

TOKENS: dict[str, tuple[str | None, str, list[str]]] = {
    "vicuna": ("<s>", "</s>", []),
    "llama-2": ("<s>", "</s>", []),
    "chatml": (None, "<|im_end|>", ["<|im_start|>"]),
    "glm-4": (None, "<|endoftext|>", ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>"]),
    "command-r": (
        "<BOS_TOKEN>",
        "<|END_OF_TURN_TOKEN|>",
        ["<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"],
    ),
    "plain": ("</s>", "</s>", []),  # OPT's begin token is its end token
    "t5": (None, "</s>", []),
    "nextgpt-v1": ("<s>", "</s>", []),
}
"""Template -> begin token, end token and the other special tokens of a family that it is for."""

TEXTS = {
    "vicuna": "<s>S USER: U ASSISTANT: A</s>USER: V ASSISTANT: B</s>",
    "llama-2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST] B </s>",
    "chatml": (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n"
    ),
    "glm-4": (
        "[gMASK]<sop><|system|>\nS<|user|>\nU<|assistant|>\nA<|endoftext|><|user|>\nV<|assistant|>\nB<|endoftext|>"
    ),
    "command-r": (
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>S<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>U<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>V<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>B<|END_OF_TURN_TOKEN|>"
    ),
    "plain": "</s>S\nUser: U\nAssistant: A</s>User: V\nAssistant: B</s>",
    "t5": "S</s>U</s>A</s>V</s>B</s>",
    "nextgpt-v1": "<s>S\n### Human: U\n### Assistant: A\n### Human: V\n### Assistant: B\n###",
}
STOPS = {"nextgpt-v1": ["\n###"]}
"""Template -> the texts that end an answer where no token does."""
CHAT = [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V"), ("assistant", "B")]


def byte_tokenizer(name: str) -> Any:
    """Bytes and a family's special tokens, with the template of this name."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    begin, end, others = TOKENS[name]
    pieces = list(dict.fromkeys([*([begin] if begin else []), end, *others, *bytes_to_unicode().values()]))
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special: dict[str, Any] = {"eos_token": end, "additional_special_tokens": others}
    if begin:
        special["bos_token"] = begin
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = TEMPLATES[name]
    return fast


def test_every_template_is_tested() -> None:
    assert set(TEXTS) == set(TOKENS) == set(TEMPLATES)


@pytest.mark.parametrize("name", TEXTS)
def test_turns_are_written_as_the_family_was_trained(name: str) -> None:
    messages = [{"role": role, "content": content} for role, content in CHAT]
    assert byte_tokenizer(name).apply_chat_template(messages, tokenize=False) == TEXTS[name]


LATE = {
    "vicuna": "USER: U ASSISTANT: A</s>S USER: V ASSISTANT: B</s>",
    "llama-2": "<s>[INST] U [/INST] A </s><s>[INST] <<SYS>>\nS\n<</SYS>>\n\nV [/INST] B </s>",
    "plain": "</s>User: U\nAssistant: A</s>S\nUser: V\nAssistant: B</s>",
    "t5": "U</s>A</s>S</s>V</s>B</s>",
    "nextgpt-v1": "<s>### Human: U\n### Assistant: A\n### S\n### Human: V\n### Assistant: B\n###",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_later_system_turn_stands_where_it_is(name: str) -> None:
    tokenizer = byte_tokenizer(name)
    order = [CHAT[1], CHAT[2], CHAT[0], CHAT[3], CHAT[4]]
    messages = [{"role": role, "content": content} for role, content in order]
    written = str(tokenizer.apply_chat_template(messages, tokenize=False))
    assert written.endswith(LATE.get(name, ""))
    planner = Planner(tokenizer, Vocabulary(len(tokenizer)), stops=STOPS.get(name, ()))
    conversation = Conversation([Message(role, [TextItem(content)]) for role, content in order])
    ids = [i for s in planner.plan(conversation) if isinstance(s, TextSegment) for i in s.ids]
    assert tokenizer.decode(ids) == written
    prompt = planner.plan(Conversation(conversation.messages[:3]), "none", generation_prompt=True)
    assert "S" in tokenizer.decode([i for s in prompt if isinstance(s, TextSegment) for i in s.ids])


@pytest.mark.parametrize(
    "turns", [["system", "assistant"], ["user", "system", "assistant"], ["system", "system", "user"]]
)
def test_llama_2_writes_system_turns_that_no_user_follows(turns: list[str]) -> None:
    messages = [{"role": role, "content": f"words {i}."} for i, role in enumerate(turns)]
    written = str(byte_tokenizer("llama-2").apply_chat_template(messages, tokenize=False))
    assert [written.count(message["content"]) for message in messages] == [1] * len(turns)
    grown = byte_tokenizer("llama-2").apply_chat_template(messages[:-1], tokenize=False)
    assert turns[-1] == "user" or written.startswith(str(grown))


@pytest.mark.parametrize("name", TEXTS)
def test_answers_and_their_end_are_the_targets_and_a_prompt_ends_where_they_begin(name: str) -> None:
    tokenizer = byte_tokenizer(name)
    planner = Planner(tokenizer, Vocabulary(len(tokenizer)), stops=STOPS.get(name, ()))
    conversation = Conversation(
        [
            Message("user", [TextItem("see "), MediumItem(Modality.IMAGE, Path("x.png")), TextItem("now")]),
            Message("assistant", [TextItem("first"), MediumItem(Modality.AUDIO, caption="a")]),
            Message("user", [TextItem("again")]),
            Message("assistant", [TextItem("last")]),
        ]
    )
    plan = planner.plan(conversation)
    said = [
        token
        for segment in plan
        if isinstance(segment, TextSegment)
        for token, is_target in zip(segment.ids, segment.targets, strict=True)
        if is_target
    ]
    end = "".join(STOPS.get(name, [tokenizer.eos_token])).strip()
    assert "".join(tokenizer.decode(said).split()) == f"first{end}last{end}"
    kinds = [type(segment) for segment in plan if not isinstance(segment, TextSegment)]
    assert kinds == [MediaSegment, SignalSegment]
    ids = [token for segment in plan if isinstance(segment, TextSegment) for token in segment.ids]
    prompt = planner.plan(conversation.prompt(), targets="none", generation_prompt=True)
    asked = [token for segment in prompt if isinstance(segment, TextSegment) for token in segment.ids]
    assert asked == ids[: len(asked)]
    rest = tokenizer.decode(ids[len(asked) :])
    assert rest.strip() in (f"last{end}", f"last {end}", f"last\n{end}")


def test_an_answer_after_an_answer_is_what_its_prompt_begins() -> None:
    tokenizer = byte_tokenizer("nextgpt-v1")
    turns = [("user", "U"), ("assistant", "A"), ("assistant", "B")]
    messages = [{"role": role, "content": content} for role, content in turns]
    written = str(tokenizer.apply_chat_template(messages, tokenize=False))
    prompt = str(tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True))
    assert written == f"{prompt} B\n###" and prompt.endswith("A\n### Assistant:")


@pytest.mark.parametrize("name", ["vicuna", "command-r", "plain"])
def test_one_begin_token_stands_first(name: str) -> None:
    tokenizer = byte_tokenizer(name)
    planner = Planner(tokenizer, Vocabulary(len(tokenizer)))
    (segment,) = planner.plan(Conversation([Message("user", [TextItem("u")])]), "none", generation_prompt=True)
    assert isinstance(segment, TextSegment)
    assert segment.ids.count(tokenizer.bos_token_id) == 1 and segment.ids[0] == tokenizer.bos_token_id


def test_a_template_is_chosen_by_name_or_file_and_replaces_the_checkpoints_own(
    llm_folder: Any, kit: Any, tmp_path: Path
) -> None:
    own = CausalBackbone(llm_folder("qwen2")).tokenizer.chat_template
    named = CausalBackbone(llm_folder("qwen2"), chat_template="chatml").tokenizer.chat_template
    assert named == TEMPLATES["chatml"] != own
    written = "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
    (tmp_path / "mine.jinja").write_text(written)
    mine = EncoderDecoderBackbone(llm_folder("t5"), chat_template=str(tmp_path / "mine.jinja"))
    assert mine.tokenizer.chat_template == written


def test_a_template_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"chat_template: found 'vicuña'; .* or one of vicuna, llama-2, chatml"):
        read_template("vicuña")
    with pytest.raises(ValueError, match=r"a \.jinja file that exists"):
        read_template(str(tmp_path / "none.jinja"))


def test_a_checkpoint_without_a_template_says_how_to_name_one(llm_folder: Any, kit: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llm_folder("opt"), tmp_path / "opt"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"without a chat template.*the backbone's chat_template: vicuna.*plain, t5"):
        CausalBackbone(folder)
    assert CausalBackbone(folder, chat_template="plain").tokenizer.chat_template == TEMPLATES["plain"]
