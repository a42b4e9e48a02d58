"""Plans against the tokenizer's own rendering and whole-string tokenisation."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from data.conversations import (
    CHATML,
    REWRITING,
    SPECIAL,
    VICUNA,
    assistant,
    byte_level,
    metaspace,
    picture,
    tone,
    user,
    wrapped,
)
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from isthmus.data.conversations.literal_text import LITERAL
from isthmus.data.conversations.planning import SENTINEL, Planner
from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.errors import DataError, Fault
from isthmus.types import Modality
from isthmus.vocabulary import MediaSegment, Plan, SignalSegment, TextSegment, Vocabulary

TOKENIZERS = {"chatml": byte_level(), "vicuna": metaspace()}
PLANNERS = {name: Planner(tokenizer, Vocabulary(len(tokenizer))) for name, tokenizer in TOKENIZERS.items()}

texts = st.text(st.characters(codec="utf-8", exclude_characters=SENTINEL + LITERAL), max_size=30).filter(
    lambda text: not any(token in text for token in ("<s>", "</s>", "<pad>", "<unk>", "<|", "<0x"))
)
dialogues = st.lists(st.tuples(texts, texts), min_size=1, max_size=3)
IMAGE = MediumItem(Modality.IMAGE, picture(3), "a three")
AUDIO = MediumItem(Modality.AUDIO, tone(), "a tone")


def talk(turns: list[tuple[str, str]]) -> Conversation:
    return Conversation(tuple(message for asked, said in turns for message in (user(asked), assistant(said))))


def rendered(tokenizer: PreTrainedTokenizerFast, conversation: Conversation, prompt: bool = False) -> str:
    messages = [
        {
            "role": message.role,
            "content": "".join(item.text if isinstance(item, TextItem) else SENTINEL for item in message.content),
        }
        for message in conversation.messages
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert isinstance(text, str)
    return text


def text_of(plan: Plan) -> tuple[list[int], list[bool]]:
    segments = [segment for segment in plan if isinstance(segment, TextSegment)]
    return [i for s in segments for i in s.ids], [t for s in segments for t in s.targets]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(turns=dialogues)
def test_text_is_tokenised_as_a_whole(name: str, turns: list[tuple[str, str]]) -> None:
    tokenizer, conversation = TOKENIZERS[name], talk(turns)
    ids, targets = text_of(PLANNERS[name].plan(conversation))
    assert ids == tokenizer(rendered(tokenizer, conversation), add_special_tokens=False)["input_ids"]
    assert len(targets) == len(ids)


@given(turns=dialogues)
def test_targets_are_exactly_the_answers_and_their_end_tokens(turns: list[tuple[str, str]]) -> None:
    """A byte-level tokenizer decodes to the very text, so what is trained can be read."""
    tokenizer = TOKENIZERS["chatml"]
    plan = PLANNERS["chatml"].plan(talk(turns))
    ids, targets = text_of(plan)
    pieces: list[list[int]] = []
    for token, is_target, before in zip(ids, targets, [False, *targets], strict=False):
        if is_target and not before:
            pieces.append([])
        if is_target:
            pieces[-1].append(token)
    assert [tokenizer.decode(piece) for piece in pieces] == [said + "</s>" for _, said in turns]


@given(turns=dialogues)
def test_targets_of_a_spaced_template_lie_in_the_answers(turns: list[tuple[str, str]]) -> None:
    """Counted by characters: tokens from each answer's space to its end token, and none elsewhere."""
    tokenizer, conversation = TOKENIZERS["vicuna"], talk(turns)
    text = rendered(tokenizer, conversation)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    wanted = [False] * len(text)
    at = 0
    for i in range(len(turns)):
        at = len(rendered(tokenizer, Conversation(conversation.messages[: 2 * i + 1]), prompt=True))
        end = len(rendered(tokenizer, Conversation(conversation.messages[: 2 * i + 2])))
        wanted[at:end] = [True] * (end - at)
        assert text[at:end] == f" {turns[i][1]}</s>"
    _, targets = text_of(PLANNERS["vicuna"].plan(conversation))
    for (begin, end), is_target in zip(offsets, targets, strict=True):
        if begin < end:
            assert is_target == any(wanted[begin:end])


@pytest.mark.parametrize("name", TOKENIZERS)
@given(before=texts, after=texts, said=texts)
def test_media_cut_the_text_where_a_special_token_would(name: str, before: str, after: str, said: str) -> None:
    tokenizer = TOKENIZERS[name]
    conversation = Conversation((user(before, IMAGE, after), assistant(said, AUDIO)))
    plan = PLANNERS[name].plan(conversation)
    assert [s for s in plan if not isinstance(s, TextSegment)] == [
        MediaSegment(Modality.IMAGE, 0),
        SignalSegment(Modality.AUDIO, 0, True),
    ]
    marked = rendered(tokenizer, conversation).replace(SENTINEL, "<pad>")
    assert marked.count("<pad>") == 2
    whole = tokenizer(marked, add_special_tokens=False)["input_ids"]
    assert text_of(plan)[0] == [token for token in whole if token != tokenizer.pad_token_id]


def test_media_are_numbered_by_side_in_reading_order() -> None:
    conversation = Conversation(
        (
            user(IMAGE, AUDIO, "which?"),
            assistant("this: ", IMAGE, " and ", AUDIO),
            user("again ", AUDIO),
            assistant(IMAGE),
        )
    )
    for targets, trained in (("all", [True, True, True]), ("last", [False, False, True]), ("none", [False] * 3)):
        plan = PLANNERS["chatml"].plan(conversation, targets)  # type: ignore[arg-type]
        media = [s for s in plan if not isinstance(s, TextSegment)]
        assert media == [
            MediaSegment(Modality.IMAGE, 0),
            MediaSegment(Modality.AUDIO, 1),
            SignalSegment(Modality.IMAGE, 0, trained[0]),
            SignalSegment(Modality.AUDIO, 1, trained[1]),
            MediaSegment(Modality.AUDIO, 2),
            SignalSegment(Modality.IMAGE, 2, trained[2]),
        ]
        decoded = TOKENIZERS["chatml"].decode([i for i, t in zip(*text_of(plan), strict=True) if t])
        assert decoded == {"all": "this:  and </s></s>", "last": "</s>", "none": ""}[targets]


def test_a_prompt_ends_where_the_answer_begins() -> None:
    tokenizer, conversation = TOKENIZERS["chatml"], Conversation((user("draw ", IMAGE),))
    plan = PLANNERS["chatml"].plan(conversation, "none", generation_prompt=True)
    ids, targets = text_of(plan)
    assert tokenizer.decode(ids).endswith("<|assistant|>\n") and not any(targets)
    full = PLANNERS["chatml"].plan(Conversation((*conversation.messages, assistant("yes"))))
    assert text_of(full)[0][: len(ids)] == ids


def fault(planner: Planner, conversation: Conversation, **arguments: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        planner.plan(conversation, **arguments)
    assert "expected" in str(caught.value) and "Fix: " in str(caught.value)
    return caught.value


SPELLED = [
    *SPECIAL,
    SENTINEL,
    LITERAL,
    "<image>",
    "</image>",
    "[image 0]",
    "<|user|",
    "|>",
    "<",
    "/s>",
    "\n",
    " ",
    "é7",
]
spelled = st.lists(st.one_of(st.sampled_from(SPELLED), st.text(max_size=3)), max_size=8).map("".join)
pieces = st.lists(st.one_of(spelled, st.just(IMAGE)), max_size=3)


def whole(plan: Plan) -> list[int | MediaSegment | SignalSegment]:
    """Ids and media in reading order."""
    return [item for s in plan for item in (s.ids if isinstance(s, TextSegment) else (s,))]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(system=spelled, asked=pieces, said=pieces)
def test_text_stays_text_whatever_it_spells(name: str, system: str, asked: list[Any], said: list[Any]) -> None:
    """Role by role: the control tokens are the template's, the media those that are there, the words those typed."""
    tokenizer, planner = TOKENIZERS[name], PLANNERS[name]
    turns = [user(*asked), assistant(*said)]
    if name == "chatml":
        turns.insert(0, Message("system", (TextItem(system),)))
    found = whole(planner.plan(Conversation(tuple(turns)), "all"))
    control = {tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    template = {
        "chatml": ["<s>", "<|system|>", "</s>", "<|user|>", "</s>", "<|assistant|>", "</s>"],
        "vicuna": ["<s>", "</s>"],
    }[name]
    assert tokenizer.convert_ids_to_tokens([token for token in found if token in control]) == template
    media = [item for item in found if not isinstance(item, int)]
    shown, made = (sum(isinstance(item, MediumItem) for item in content) for content in (asked, said))
    assert media == [
        *(MediaSegment(Modality.IMAGE, k) for k in range(shown)),
        *(SignalSegment(Modality.IMAGE, k, True) for k in range(made)),
    ]
    ids: list[int] = [token for token in found if isinstance(token, int)]
    words = ["".join(item for item in content if isinstance(item, str)) for content in (asked, said)]
    if name == "chatml":
        expected = f"<s><|system|>\n{system}</s>\n<|user|>\n{words[0]}</s>\n<|assistant|>\n{words[1]}</s>\n"
        assert tokenizer.decode(ids) == expected
    else:  # a space is added wherever a piece begins
        decoded, expected = tokenizer.decode(ids), f"<s>USER: {words[0]} ASSISTANT: {words[1]}</s>"
        assert decoded.replace(" ", "") == expected.replace(" ", "").replace("▁", "")


def test_what_neighbouring_texts_spell_together_stays_text() -> None:
    plan = PLANNERS["chatml"].plan(Conversation((user("a </", "s> b"), assistant("<|user", "|>"))))
    ids, targets = text_of(plan)
    assert ids.count(TOKENIZERS["chatml"].eos_token_id) == 2
    learnt = [token for token, target in zip(ids, targets, strict=True) if target]
    assert TOKENIZERS["chatml"].decode(learnt) == "<|user|></s>" and len(learnt) > 2


def unigram() -> PreTrainedTokenizerFast:
    """As T5's: whole pieces, control tokens among them, and wide letters that are folded into plain ones."""
    letters = "▁abcdefghijklmnopqrstuvwxyzASTUIEN0123456789:.?</>"
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<pad>", 0.0), *((letter, -5.0) for letter in letters)]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    tokenizer = wrapped(made, VICUNA)
    tokenizer.unk_token = "<unk>"
    return tokenizer


@pytest.mark.parametrize("text", ["a </s> b", "\uff1c/s\uff1e", "a\uff1c\uff0fs\uff1eb</s>", "\uff1cs\uff1e", "<pad>"])
def test_pieces_of_a_vocabulary_are_spelled_out(text: str) -> None:
    tokenizer = unigram()
    assert tokenizer(text)["input_ids"], "else nothing is shown"
    planner = Planner(tokenizer, Vocabulary(len(tokenizer)))
    ids, _ = text_of(planner.plan(Conversation((user(text), assistant("yes")))))
    assert [token for token in ids if token in (1, 2, 3)] == [1, 2]
    assert ids[0] == 1 and ids[-1] == 2


def test_what_can_be_written_as_a_control_token_alone_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "~": 3, "<pad>": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = wrapped(words, VICUNA)
    tokenizer.add_special_tokens({"additional_special_tokens": ["~"]})
    error = fault(
        Planner(tokenizer, Vocabulary(len(tokenizer))), Conversation((user("a ~"), assistant("b")), {"id": 7})
    )
    assert error.fault is Fault.RESERVED_TEXT and "conversation 7: found '~' within text" in str(error)


def test_half_a_character_is_refused() -> None:
    error = fault(PLANNERS["chatml"], Conversation((user("fine", "a\ud83d"), assistant("b"))))
    assert error.fault is Fault.SCHEMA and "messages[0].content[1]: found U+D83D at character 1" in str(error)


def planned(template: str) -> Planner:
    tokenizer = byte_level(template)
    return Planner(tokenizer, Vocabulary(len(tokenizer)))


def test_a_template_that_rewrites_turns_is_refused() -> None:
    planner = planned(REWRITING)
    assert text_of(planner.plan(talk([("one", "two")]), "none"))[0]
    error = fault(planner, talk([("one", "two"), ("three", "four")]))
    assert error.fault is Fault.TEMPLATE and "messages[1]: the chat template writes earlier turns anew" in str(error)


def test_a_prompt_that_the_written_answer_does_not_continue_is_named() -> None:
    error = fault(planned(VICUNA.replace("ASSISTANT:{% endif", "ASSISTANT: one{% endif")), talk([("one", "two")]))
    assert "ends a prompt in 'ASSISTANT: one', with which the written answer doesn't begin" in str(error)


SILENT = VICUNA.replace("{{ raise_exception('no system turn') }}", "")
EARLY = "{% if messages[0].role == 'system' %}{{ messages[0].content }} {% endif %}" + SILENT
THOUGHTLESS = SILENT.replace("ASSISTANT: {{ m.content }}", "ASSISTANT: {{ m.content.split('</think>')[-1] }}")


def test_turns_and_words_that_vanish_are_refused_by_name() -> None:
    ordered = Message("system", (TextItem("a"),))  # a single letter stands everywhere in a template
    asked, answered = user("hi"), assistant("yes")
    error = fault(planned(SILENT), Conversation((ordered, asked, answered)))
    assert error.fault is Fault.TEMPLATE and "messages[0]: the chat template leaves out a system turn ('a'" in str(
        error
    )
    assert planned(EARLY).plan(Conversation((ordered, asked, answered)))
    late = Conversation((asked, answered, ordered, asked, answered))
    assert "messages[2]: the chat template leaves out a system turn that isn't the first" in str(
        fault(planned(EARLY), late)
    )
    mute = planned("{% for m in messages if m.role != 'user' %}{{ m.content }}{{ eos_token }}{% endfor %}")
    assert "messages[0]: the chat template leaves out a turn of the user" in str(fault(mute, talk([("hi", "yes")])))
    thought = Conversation((asked, assistant("<think>so</think>yes")))
    assert "messages[1]: the chat template changes or cuts words" in str(fault(planned(THOUGHTLESS), thought))


def test_of_a_prompt_earlier_answers_may_be_cut_and_questions_not() -> None:
    thought = Conversation((user("hi"), assistant("<think>so</think>yes"), user("more")))
    ids, _ = text_of(planned(THOUGHTLESS).plan(thought, "none", generation_prompt=True))
    assert "ASSISTANT: yes</s>" in TOKENIZERS["chatml"].decode(ids)
    silent = Conversation((Message("system", (TextItem("be brief"),)), user("hi")))
    assert "leaves out a system turn" in str(fault(planned(SILENT), silent, targets="none", generation_prompt=True))


def test_white_space_at_a_turns_ends_may_go() -> None:
    ids, targets = text_of(planned(CHATML.replace("m.content", "m.content | trim")).plan(talk([(" hi \n", " yes\n")])))
    learnt = [token for token, target in zip(ids, targets, strict=True) if target]
    assert TOKENIZERS["chatml"].decode(learnt) == "yes</s>"


def test_a_template_that_drops_media_is_refused() -> None:
    error = fault(
        planned("{% for m in messages %}{{ m.role }}{{ eos_token }}{% endfor %}"), Conversation((user(IMAGE),))
    )
    assert "messages[0]: the chat template leaves out a turn of the user ('[medium]'" in str(error)
    twice = planned("{% for m in messages %}{{ m.content }} {{ m.content }}{{ eos_token }}{% endfor %}")
    error = fault(twice, Conversation((user(IMAGE),)), targets="none")
    assert "found 2 places of media in the rendered text; expected 1" in str(error)
    error = fault(twice, Conversation((user("</s>"),)), targets="none")
    assert "found 2 places of spelled control tokens in the rendered text; expected 1 ('</s>')" in str(error)


def test_an_answer_ends_at_the_first_token_that_ends_decoding() -> None:
    tokenizer = byte_level(CHATML.replace("{{ eos_token }}", "<|system|></s>"))
    ends = tokenizer.convert_tokens_to_ids(["</s>", "<|system|>"])
    for known, expected in ((ends, "yes<|system|>"), (None, "yes<|system|></s>")):
        ids, targets = text_of(Planner(tokenizer, Vocabulary(len(tokenizer)), known).plan(talk([("hi", "yes")])))
        learnt = [token for token, target in zip(ids, targets, strict=True) if target]
        assert tokenizer.decode(learnt) == expected


def test_a_greeting_answers_nothing() -> None:
    plan = PLANNERS["chatml"].plan(Conversation((assistant("hi", IMAGE), user("who?"), assistant("me"))))
    ids, targets = text_of(plan)
    learnt = [token for token, target in zip(ids, targets, strict=True) if target]
    assert TOKENIZERS["chatml"].decode(learnt) == "me</s>" and SignalSegment(Modality.IMAGE, 0, False) in plan
    assert fault(PLANNERS["chatml"], Conversation((assistant("hi"),))).fault is Fault.NO_TARGET


def test_what_a_template_refuses_is_one_error() -> None:
    conversation = Conversation((Message("system", (TextItem("be brief"),)), user("hi"), assistant("hi")))
    error = fault(PLANNERS["vicuna"], conversation)
    assert error.fault is Fault.TEMPLATE and "no system turn" in str(error)


def test_nothing_to_train_on_is_an_error() -> None:
    assert fault(PLANNERS["chatml"], Conversation((user("hi"),))).fault is Fault.NO_TARGET
    without_end = byte_level(CHATML.replace("{{ eos_token }}", ""))
    planner = Planner(without_end, Vocabulary(len(without_end)))
    silent = Conversation((user("hi"), assistant("")))
    assert any(text_of(PLANNERS["chatml"].plan(silent))[1]), "the end token alone can be learnt"
    assert text_of(planner.plan(silent))[1].count(True) == 1, "so can the line break that ends this template's turns"


def test_a_prompt_after_an_answer_is_refused() -> None:
    error = fault(PLANNERS["chatml"], talk([("a", "b")]), targets="none", generation_prompt=True)
    assert "an assistant's turn last" in str(error)


def test_unfit_conversations_and_tokenizers_are_refused() -> None:
    assert "no messages" in str(fault(PLANNERS["chatml"], Conversation(())))
    odd = Conversation((Message("wizard", (TextItem("x"),)),))  # type: ignore[arg-type]
    assert "found 'wizard'" in str(fault(PLANNERS["chatml"], odd))
    text = Conversation((user(MediumItem(Modality.TEXT)),))
    assert "image, video, audio, points" in str(fault(PLANNERS["chatml"], text))
    bare = byte_level()
    bare.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        Planner(bare, Vocabulary(len(bare)))
    with pytest.raises(ValueError, match="slow"):
        Planner(object(), Vocabulary(10))


def test_the_callers_tokenizer_stays_as_it_was() -> None:
    tokenizer = byte_level()
    size = len(tokenizer)
    Planner(tokenizer, Vocabulary(size))
    assert len(tokenizer) == size and SENTINEL not in tokenizer.get_vocab()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_pickled_planner_plans_alike_and_may_leave_its_tokenizer_behind(name: str, tmp_path: Path) -> None:
    tokenizer, conversation = TOKENIZERS[name], talk([("a seven", "yes </s> no")])
    tokenizer.save_pretrained(tmp_path)
    reread = partial(PreTrainedTokenizerFast.from_pretrained, tmp_path)
    whole = Planner(tokenizer, Vocabulary(len(tokenizer)))
    light = Planner(tokenizer, Vocabulary(len(tokenizer)), reread=reread)
    expected = whole.plan(conversation)
    for planner in (whole, light):
        assert pickle.loads(pickle.dumps(planner)).plan(conversation) == expected
    assert len(pickle.dumps(light)) < 2000 < len(pickle.dumps(whole))
