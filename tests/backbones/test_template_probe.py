"""What a chat template does to a dialogue is found when the LLM is read: repaired, told, or refused with its cause."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from isthmus.backbones import CausalBackbone
from isthmus.backbones.chat_templates import TEMPLATES
from isthmus.backbones.template_probe import probe_template
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.vocabulary import TextSegment, Vocabulary

ENDS = {"<eos>": 2, "<|im_end|>": 3, "<plain>": 4}

USER, ASSISTANT, OTHER = (
    "{% if m['role'] == 'user' %}USER: {{ m['content'] }} ",
    "{% elif m['role'] == 'assistant' %}ASSISTANT: {{ m['content'] }}{{ eos_token }}",
    "{% else %}{{ m['content'] }} {% endif %}",
)
PROMPT = "{% if add_generation_prompt %}ASSISTANT:{% endif %}"


def template(user: str = USER, answer: str = ASSISTANT, other: str = OTHER, prompt: str = PROMPT) -> str:
    return "{{ bos_token }}{% for m in messages %}" + user + answer + other + "{% endfor %}" + prompt


def tokenizer(chat_template: Any) -> Any:
    """Bytes, an end token, another special one and one that isn't special."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    pieces = ["<unk>", "<bos>", *ENDS, *bytes_to_unicode().values()]
    made = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_tokens([AddedToken("<plain>", special=False, normalized=False)])
    made.add_special_tokens([AddedToken("<|im_end|>", normalized=False)])
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    fast.chat_template = chat_template
    return fast


def test_a_text_that_ends_answers_is_named(caplog: pytest.LogCaptureFixture) -> None:
    made = tokenizer(TEMPLATES["nextgpt-v1"])
    with pytest.raises(ValueError, match=r"writes '\\n###' after an answer.*name the text.*by .* stop_strings"):
        probe_template(made, {2}, "llm")
    with caplog.at_level(logging.INFO):
        assert probe_template(made, {2}, "llm", ["\n###"]) == {2}
    assert not caplog.records


def probed(chat_template: Any, *ends: int) -> tuple[Any, set[int]]:
    made = tokenizer(chat_template)
    return made, probe_template(made, {2, *ends}, "llm")


def learnt(made: Any, ends: set[int], *turns: str) -> str:
    """What is trained of a conversation that the user begins."""
    roles = ["user", "assistant"] * len(turns)
    messages = tuple(Message(role, (TextItem(text),)) for role, text in zip(roles, turns, strict=False))  # type: ignore[arg-type]
    plan = Planner(made, Vocabulary(len(made)), ends).plan(Conversation(messages))
    text = [s for s in plan if isinstance(s, TextSegment)]
    return str(made.decode([i for s in text for i, target in zip(s.ids, s.targets, strict=True) if target]))


@pytest.mark.parametrize("name", ["vicuna", "llama-2", "plain", "t5", "chatml"])
def test_the_packages_own_pass_without_a_word(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        made, ends = probed(TEMPLATES[name])
    assert ends == {2} and made.chat_template == TEMPLATES[name] and not caplog.records


def test_a_template_of_parts_is_given_parts(caplog: pytest.LogCaptureFixture) -> None:
    """A multimodal LLM's: with plain strings, every word vanishes."""
    parts = template().replace("{{ m['content'] }}", "{% for c in m['content'] %}{{ c['text'] }}{% endfor %}")
    with caplog.at_level(logging.INFO):
        made, ends = probed(parts)
    assert "expects turns as lists of parts" in caplog.text
    assert learnt(made, ends, "hi", "yes", "so?", "no") == " yes<eos> no<eos>"
    strict = parts.replace("c['text']", "c['text'] if c is mapping else raise_exception('parts')")
    assert learnt(*probed(strict), "hi", "yes") == " yes<eos>"


@pytest.mark.parametrize(
    ("written", "end"), [("<|im_end|>\n", 3), ("\n<|im_end|><plain>", 3), ("<plain><|im_end|>", 3)]
)
def test_an_end_of_turn_that_decoding_does_not_know_is_learnt_and_ends_it(
    written: str, end: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        made, ends = probed(template(answer=ASSISTANT.replace("{{ eos_token }}", written)))
    assert ends == {2, end} and [record.levelname for record in caplog.records] == ["INFO"]
    assert "ends an answer with '<|im_end|>', which now ends decoding too" in caplog.text
    said = learnt(made, ends, "hi", "yes", "so?", "no")
    assert said.count("<|im_end|>") == 2 and said.endswith("<|im_end|>")


def test_a_known_end_adds_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        made, ends = probed(template(answer=ASSISTANT.replace("{{ eos_token }}", "<plain>\n<|im_end|>")), 4)
    assert ends == {2, 4} and not caplog.records and learnt(made, ends, "hi", "yes") == " yes<plain>"


def test_what_closes_a_conversation_is_no_part_of_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """As Phi-4-mini's: the end token once, where no prompt follows."""
    closing = template(
        answer=ASSISTANT.replace("{{ eos_token }}", "<|im_end|>"),
        prompt="{% if add_generation_prompt %}ASSISTANT:{% else %}{{ eos_token }}{% endif %}",
    )
    with caplog.at_level(logging.WARNING):
        made, ends = probed(closing)
    assert ends == {2, 3} and not caplog.records
    assert learnt(made, ends, "hi", "yes", "so?", "no") == " yes<|im_end|> no<|im_end|>"


REFUSED = {
    "nothing ends an answer": (
        template(answer=ASSISTANT.replace("{{ eos_token }}", " ")),
        r"writes ' ' after an answer, without a token that ends decoding; expected one \('<eos>'\)",
    ),
    "nothing follows": (template(answer="<|im_end|>" + ASSISTANT.replace("{{ eos_token }}", "")), "writes '' after"),
    "no special token ends it": (template(answer=ASSISTANT.replace("{{ eos_token }}", "<plain>")), "writes '<plain>'"),
    "a prompt with a word more": (
        template(prompt="{% if add_generation_prompt %}ASSISTANT: one{% endif %}"),
        r"ends a prompt with 'ASSISTANT: one', with which the answer that it writes doesn't begin \('ASSISTANT: A",
    ),
    "rewritten": (
        template(user=USER.replace("USER:", "USER{% if loop.last %} NOW{% endif %}:")), "rewrites the question"),
    "no answers": (template(answer="{% elif m['role'] == 'assistant' %}{{ eos_token }}"), "omits 'Answer 44.'"),
    "no questions": (template(user="{% if m['role'] == 'user' %}"), r"omits 'Question 22\.'"),
    "changed words": (template(user=USER.replace("t']", "t'] | upper")), r"omits 'Question 22\.'"),
    "refuses all": ("{{ raise_exception('no') }}", r"refuses turns of user, assistant \(TemplateError: no"),
    "cannot run": ("{{ 1 + 'a' }}", r"refuses turns of user, assistant \(TypeError"),
    "no template": ("{% for %}", r"refuses turns of user, assistant \(TemplateSyntaxError"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_with_its_cause(case: str) -> None:
    written, cause = REFUSED[case]
    with pytest.raises(ValueError, match=rf"^llm: its chat template {cause}.* Fix: choose one by .* chat_template"):
        probed(written)
    assert tokenizer(written).chat_template == written


FIRST = "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}"
SOME = {
    "drops system turns": (template(other="{% endif %}"), "WARNING", "'Orders 11.': conversations with system turns a"),
    "drops later ones": (
        FIRST + template(other="{% endif %}"), "WARNING", "11.': conversations with system turns after the first"),
    "refuses system turns": (
        template(other="{% else %}{{ raise_exception('no') }}{% endif %}"), "INFO", "system turns are refused: no"),
    "writes answers anew": (
        template(answer=ASSISTANT.replace("{{ m", "{% if loop.last %}<think></think> {% endif %}{{ m")),
        "WARNING", "rewrites an answer when another turn follows"),
    "cuts thoughts": (
        template(answer=ASSISTANT.replace("m['content']", "m['content'].split('</think>')[-1]")),
        "WARNING", "conversations with a thought in an answer before the last are refused"),
    "has no prompt": (template(prompt=""), "WARNING", "doesn't end its prompt with 'ASSISTANT: '"),
}  # fmt: skip


@pytest.mark.parametrize("case", SOME)
def test_what_some_conversations_need_is_told(case: str, caplog: pytest.LogCaptureFixture) -> None:
    written, level, said = SOME[case]
    with caplog.at_level(logging.INFO):
        _, ends = probed(written)
    assert ends == {2} and (level, True) in [
        (record.levelname, said in record.getMessage()) for record in caplog.records
    ]


def test_what_templates_call_is_there() -> None:
    calls = (
        "{% if tools %}{{ tools }}{% endif %}{{ strftime_now('%Y') }}"
        "{% if messages[0].tool_calls is defined %}x{% endif %}"
        "{% if documents is defined and documents %}x{% endif %}"
    )
    made, ends = probed(calls + template())
    assert ends == {2} and learnt(made, ends, "hi", "yes") == " yes<eos>"
    assert probed({"default": template(), "tool_use": "x"})[1] == {2}


def test_a_checkpoint_is_probed_when_it_is_read(llm_folder: Any, kit: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llm_folder("llama"), tmp_path / "llama"))
    assert CausalBackbone(folder).ends() == {2}
    own = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(own.replace("</s>", ""), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"backbone checkpoint .*llama: its chat template writes .* without a token that ends decoding"
    ):
        CausalBackbone(folder)
    (folder / "chat_template.jinja").write_text(own.replace("</s>", "|user|"), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}), encoding="utf-8")
    with pytest.raises(ValueError, match="without a token that ends decoding"):
        CausalBackbone(folder)
    (folder / "chat_template.jinja").write_text(own.replace("</s>", "<unk>"), encoding="utf-8")
    assert CausalBackbone(folder).ends() == {2, 3}
    (folder / "generation_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"its generation_config\.json can't be read"):
        CausalBackbone(folder)
