"""Conversations beyond the LLM's context: what is left out, what is computed, and what isn't computed again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny_world import tiny_experts, tiny_model

from isthmus.backbones.base import Sampling
from isthmus.data.media.reply_files import as_content
from isthmus.inference.pipeline import Pipeline
from isthmus.inference.session import Session
from isthmus.model import AnyToAny
from isthmus.pocket.world import Concept, draw
from isthmus.types import Media, Modality

CONTEXT, TURNS = 512, 20
SHORT = Sampling(max_new_tokens=6)
KINDS = (Modality.IMAGE, Modality.AUDIO, Modality.POINTS, Modality.VIDEO)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AnyToAny:
    """Tiny experts around an LLM of 512 positions; batches of training are held to a tenth of that."""
    experts = tiny_experts(tmp_path_factory.mktemp("experts"))
    config = json.loads((experts["llama"] / "config.json").read_text())
    (experts["llama"] / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    model = tiny_model(experts, max_tokens=50)
    model.configure_model()
    rows: Any = model.backbone.language_model.rows
    rows.run_starts.data.normal_(0, 0.6, generator=torch.Generator().manual_seed(1))
    return model


@pytest.fixture
def work(model: AnyToAny) -> Iterator[Counter[str]]:
    """Counts media that are preprocessed and encoded, and positions that the LLM runs."""
    counts: Counter[str] = Counter()
    side: Any = model.input_side

    def encoded(_: Any, given: Any, features: Any) -> None:
        counts["encoded"] += len(features.tokens)

    def run(_: Any, __: Any, given: Any) -> None:
        counts["positions"] += given["inputs_embeds"].shape[1]

    with pytest.MonkeyPatch.context() as patch:
        for encoder in side.encoders:
            plain = encoder.preprocess

            def preprocess(medium: Media, plain: Any = plain) -> Any:
                counts["preprocessed"] += 1
                return plain(medium)

            patch.setattr(encoder, "preprocess", preprocess)
        llm: Any = model.backbone.language_model
        hooks = [encoder.register_forward_hook(encoded) for encoder in side.encoders]
        hooks.append(llm.llm.base_model.register_forward_pre_hook(run, with_kwargs=True))
        yield counts
        for hook in hooks:
            hook.remove()


def medium(number: int, kind: Modality | None = None) -> Media:
    kind = KINDS[number % 4] if kind is None else kind
    return draw(kind, Concept(number % 10, "red", "left"), "test", np.random.default_rng(number))


def shown(number: int, words: str = "draw it") -> list[dict[str, Any]]:
    return as_content([medium(number), f"{words} {number}"])


def prompt_length(model: AnyToAny, session: Session, content: Any, require: list[Modality]) -> int:
    """Positions of the next prompt, laid out without the session's memory."""
    from isthmus.data.conversations.schema import parse_conversation

    messages = [*session._read(), {"role": "user", "content": content}]
    conversation = parse_conversation({"messages": messages}, captions_required=False)
    return int(model.prompts([conversation], SHORT, [require]).mask.sum())


def test_twenty_turns_with_media_in_a_context_of_512(model: AnyToAny, work: Counter[str]) -> None:
    session = Pipeline(model, SHORT).session()
    left_out = []
    for turn in range(TURNS):
        before = work["encoded"], work["preprocessed"]
        reply = session.say(shown(turn), ["image", "audio"])
        assert (work["encoded"], work["preprocessed"]) == (before[0] + 1, before[1] + 1), f"turn {turn}: one is new"
        assert reply.media(Modality.IMAGE) and reply.media(Modality.AUDIO) and reply.left_out % 2 == 0
        left_out.append(reply.left_out)
    assert work["encoded"] == work["preprocessed"] == TURNS
    assert left_out == sorted(left_out) and left_out[0] == 0 < left_out[-1] < 2 * TURNS
    assert len(session.messages) == 2 * TURNS and next(m["role"] for m in session._read()) == "user"
    assert len(session.memory.media) == TURNS - left_out[-1] // 2, "what is left out isn't kept"


def test_a_turn_runs_its_new_positions_alone_and_answers_as_without_memory(model: AnyToAny, work: Counter[str]) -> None:
    session, plain = Pipeline(model, SHORT).session(), Pipeline(model, SHORT)
    known = 0
    for turn in range(5):
        content = shown(turn, "say")
        length = prompt_length(model, session, content, [Modality.IMAGE])
        (fresh,) = plain([[*session.messages, {"role": "user", "content": content}]], [["image"]], turn)
        before = work["positions"]
        reply = session.say(content, ["image"])
        assert reply.left_out == 0 and reply.ids == fresh.ids and reply.text == fresh.text
        for mine, its in zip(reply.media(), fresh.media(), strict=True):
            assert np.abs(mine.array.astype(float) - its.array.astype(float)).max() <= 1
        # The answer is laid out anew by the template, but for what was written as it was decoded.
        assert work["positions"] - before <= (length - known) + 2 * reply.tokens
        known = length


def test_what_no_longer_fits_is_left_out_by_whole_exchanges(model: AnyToAny) -> None:
    turns: list[dict[str, Any]] = [{"role": "system", "content": "be brief"}]
    for turn in range(30):
        turns += [{"role": "user", "content": shown(turn)}, {"role": "assistant", "content": f"it is {turn}"}]
    messages = [*turns, {"role": "user", "content": "and?"}]
    reply = model.chat(messages, sampling=SHORT)
    gone = reply.left_out
    assert gone % 2 == 0 and 0 < gone < 60
    same = model.chat([turns[0], *turns[1 + gone :], messages[-1]], sampling=SHORT)
    assert same.left_out == 0 and same.ids == reply.ids, "the system's message stays, and no more goes than has to"
    more = model.chat([turns[0], *turns[gone - 1 :], messages[-1]], sampling=SHORT)
    assert more.left_out == 2
    (piped, short) = Pipeline(model, SHORT)([messages, [{"role": "user", "content": "hi"}]])
    assert (piped.left_out, short.left_out) == (gone, 0) and piped.text == reply.text
    lowered = model.chat(messages, sampling=Sampling(max_new_tokens=6, context=300))
    assert lowered.left_out > gone


def test_a_last_turn_that_is_too_long_by_itself(model: AnyToAny) -> None:
    session = Pipeline(model, SHORT).session()
    session.say(shown(1))
    state = (list(session.messages), session.left_out, session.memory.media)
    with pytest.raises(
        ValueError, match=r"found 6\d\d tokens in its last turn alone; expected at most 509, .* Fix: shorten the turn"
    ):
        session.say("x" * 600)
    assert (session.messages, session.left_out, session.memory.media) == state
    nearly = session.say("x" * 480)  # no full room for an answer, but some
    assert nearly.left_out == 2


def test_a_failed_turn_leaves_what_is_kept(
    model: AnyToAny, work: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, other = Pipeline(model, SHORT).session(), Pipeline(model, SHORT).session()
    for one in (session, other):
        one.say(shown(1))
        one.say(shown(2))
    side: Any = model.output_side
    with monkeypatch.context() as patch:
        patch.setattr(side.generator(Modality.IMAGE), "generate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.say(shown(3), ["image"])
    assert session.memory.media.keys() == other.memory.media.keys()
    work.clear()
    assert session.say(shown(4)).ids == other.say(shown(4)).ids
    assert work["encoded"] == 2 and work["preprocessed"] == 2, "one a session"
    session.reset()
    assert not session.memory.media and session.say(shown(2)).ids == Pipeline(model, SHORT).session().say(shown(2)).ids


def test_the_same_medium_is_encoded_once_whoever_holds_it(model: AnyToAny, work: Counter[str]) -> None:
    session = Pipeline(model, SHORT).session()
    session.say(as_content([medium(1), "a"]))
    session.say(as_content([medium(1), "b"]))  # another object, equal in content
    assert work["encoded"] == 1
    with pytest.raises(ValueError, match="found 2 requests; a memory is of one conversation"):
        session.pipeline([[], []], None, None, session.memory)


def test_prompts_of_a_test_run_take_the_context_too(model: AnyToAny) -> None:
    from isthmus.data.conversations.schema import Conversation, Message, TextItem

    long = Conversation((Message("user", (TextItem("x" * 300),)), Message("assistant", (TextItem("y"),))))
    with pytest.raises(ValueError, match="expected at most max_length = 50"):
        model.collator()([long])
    batch = model.prompt_collator()([long])
    assert int(batch.mask.sum()) > 300 and batch.left_out == []
    (reply,) = model.answer(batch, SHORT)
    assert reply.left_out == 0 and reply.tokens
