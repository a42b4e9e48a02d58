"""Prompts -> replies: what is forced, allowed and asked for, in order; and what a conversation may bring."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from model.talks import insist, medium, talk

from isthmus.backbones.base import Sampling
from isthmus.model import AnyToAny, Reply
from isthmus.types import MEDIA, Media, Modality

IMAGE, VIDEO, AUDIO = Modality.IMAGE, Modality.VIDEO, Modality.AUDIO
DRAW = talk(["draw"], ["x"])
FEW = Sampling(max_new_tokens=4)


def shown(reply: Reply) -> list[str]:
    return [str(piece.modality) if isinstance(piece, Media) else "text" for piece in reply.content]


def as_turn(reply: Reply) -> list[dict[str, Any]]:
    """A reply's pieces in the chat-content convention."""
    pieces = [
        {"type": str(piece.modality), str(piece.modality): piece}
        if isinstance(piece, Media)
        else {"type": "text", "text": piece}
        for piece in reply.content
    ]
    return pieces or [{"type": "text", "text": ""}]


def test_what_the_llm_asks_for_is_made_and_not_forced(build: Any) -> None:
    model = build(inputs=())
    insist(model, DRAW, "image")
    (reply,) = model.answer(model.prompts([DRAW]), FEW, [[IMAGE]])
    assert shown(reply)[0] == "image" and reply.forced == []
    (bare,) = model.answer(model.prompts([DRAW]), FEW, allowed=[AUDIO])
    assert "image" not in shown(bare), "not even what the LLM asks for, where it isn't allowed"
    (silent,) = model.answer(model.prompts([DRAW]), FEW, allowed=[])
    assert shown(silent) in ([], ["text"])


def test_what_is_required_and_not_asked_for_is_forced_at_the_end(model: AnyToAny) -> None:
    model.backbone.language_model.rows.run_starts.data.zero_()
    batch = model.prompts([talk(["what?"], ["x"]), talk([("image", 3)], ["x"]), DRAW])
    replies = model.answer(batch, FEW, [[AUDIO, IMAGE, AUDIO], [], [VIDEO]])
    assert [shown(reply)[-3:] for reply in replies[:1]] == [["audio", "image", "audio"]]
    assert [reply.forced for reply in replies] == [[AUDIO, IMAGE, AUDIO], [], [VIDEO]]
    assert not replies[1].media() and replies[2].media()[0].rate
    for reply in replies:
        assert isinstance(reply.content[0], str) and reply.tokens >= 1
    first, second = replies[0].media(AUDIO)
    assert first.details["seed"] != second.details["seed"] and not np.array_equal(first.array, second.array)


def test_media_follow_the_seeds_of_their_prompts(build: Any) -> None:
    model = build(inputs=())
    batch = model.prompts([DRAW, DRAW, DRAW])
    made = [r.media()[0] for r in model.answer(batch, FEW, [[IMAGE]] * 3, seeds=[7, 8, 7])]
    assert np.array_equal(made[0].array, made[2].array) and not np.array_equal(made[0].array, made[1].array)
    counted = [r.media()[0] for r in model.answer(batch, Sampling(max_new_tokens=4, seed=7), [[IMAGE]] * 3)]
    assert np.array_equal(counted[1].array, made[1].array), "a row's seed is the sampling's plus its place"
    (settled,) = model.answer(model.prompts([DRAW]), FEW, [[IMAGE]], num_inference_steps=1, guidance_scale=1.0)
    assert (settled.media()[0].details["num_inference_steps"], settled.media()[0].details["guidance_scale"]) == (1, 1.0)


def test_an_answer_leaves_no_gradients_and_no_mode_behind(model: AnyToAny) -> None:
    modes = {name: module.training for name, module in model.named_modules() if "projectors" in name}
    (reply,) = model.answer(model.prompts([DRAW]), FEW, [[IMAGE]])
    assert reply.media() and torch.is_grad_enabled()
    assert modes == {name: module.training for name, module in model.named_modules() if "projectors" in name}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_required_media_need_a_generator(build: Any) -> None:
    model = build(outputs=("image",))
    with pytest.raises(
        ValueError, match=r"audio is required, but this model makes text, image\. Fix: ask for one of these"
    ):
        model.answer(model.prompts([DRAW]), FEW, [[IMAGE, AUDIO]])
    with pytest.raises(ValueError, match=r"require: found 'smell'; expected media: image, video, audio, points"):
        model.chat([{"role": "user", "content": "draw"}], require=["smell"])


def test_replies_go_back_into_the_conversation(model: AnyToAny) -> None:
    messages: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": [*[{"type": str(m), str(m): medium(m, 2)} for m in MEDIA], {"type": "text", "text": "and?"}],
        }
    ]
    replies = []
    for _ in range(3):
        replies.append(model.chat(messages, require=["audio", "image"], sampling=FEW))
        messages += [{"role": "assistant", "content": as_turn(replies[-1])}, {"role": "user", "content": "more"}]
    assert all(reply.media(AUDIO) and reply.media(IMAGE) for reply in replies)
    prompts = [model.prompts([conversation(messages[: 2 * turn + 1])]).ids for turn in range(3)]
    run = torch.tensor(model.backbone.language_model.vocabulary.signal_ids(AUDIO))
    counts = [int((ids.unfold(1, len(run), 1) == run).all(-1).sum()) for ids in prompts]
    assert counts[0] == 0 and all(after > before for before, after in pairwise(counts))
    again = model.chat(messages[:1], require=["audio", "image"], sampling=FEW)
    assert again.text == replies[0].text
    for mine, theirs in zip(again.media(), replies[0].media(), strict=True):
        np.testing.assert_array_equal(mine.array, theirs.array)


def conversation(messages: list[dict[str, Any]]) -> Any:
    from isthmus.data.conversations.schema import parse_conversation

    return parse_conversation({"messages": messages}, captions_required=False)


def test_a_model_of_text_alone_chats(build: Any) -> None:
    model = build(inputs=(), outputs=())
    reply = model.chat([{"role": "user", "content": "hello"}], sampling=Sampling(max_new_tokens=5))
    assert shown(reply) == ["text"] and 1 <= reply.tokens <= 5 and reply.ended in ("end", "length")
    with pytest.raises(ValueError, match=r"image is required, but this model makes text\. Fix: "):
        model.chat([{"role": "user", "content": "draw"}], require=["image"])
    with pytest.raises(ValueError, match="found image as input; this model's inputs are text"):
        model.chat([{"role": "user", "content": [{"type": "image", "image": medium("image", 1)}]}])


def test_a_model_that_only_understands_answers_in_words(build: Any) -> None:
    model = build(outputs=())
    content = [{"type": str(m), str(m): medium(m, 4)} for m in MEDIA]
    reply = model.chat([{"role": "user", "content": content}], sampling=FEW)
    assert shown(reply) == ["text"]
    for loud in (100, -100):  # one of the two is far likelier than any word
        model.backbone.language_model.rows.run_starts.data.fill_(loud)
        assert not model.chat([{"role": "user", "content": content}], sampling=FEW).media(), (
            "no run without a generator"
        )
