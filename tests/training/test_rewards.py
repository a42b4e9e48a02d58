"""Rewards that need no world of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_world import write_llm

from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.model import Reply
from isthmus.training.rewards import Brevity, ImageTextScore, Reward, RewardFunction, judged
from isthmus.types import Media, Modality

PROMPT = Conversation((Message("user", (TextItem("draw a seven"),)),))


def test_brevity_falls_with_length() -> None:
    assert [Brevity(8)(PROMPT, Reply(["x"], tokens=count)) for count in (0, 4, 8, 20)] == [1, 0.5, 0, 0]


def test_the_image_text_score_is_the_cosine_of_clip(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    write_llm(tmp_path / "llm")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "llm")
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=small | {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        vision_config=small | {"image_size": 8, "patch_size": 4},
        projection_dim=4,
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path / "clip")
    images = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    processor = CLIPProcessor(images, tokenizer)
    processor.save_pretrained(tmp_path / "clip")

    reward = ImageTextScore(tmp_path / "clip")
    random = np.random.default_rng(0)
    pictures = [Media(Modality.IMAGE, random.integers(0, 255, (8, 8, 3), np.uint8)) for _ in range(2)]
    found = [reward(PROMPT, Reply([picture])) for picture in pictures]
    assert reward(PROMPT, Reply(["nothing"])) == 0
    both = reward(PROMPT, Reply(list(pictures)))
    given = processor(text=["draw a seven"] * 2, images=[p.array for p in pictures], return_tensors="pt", padding=True)
    with torch.no_grad():
        output = model(**given)
    cosines = (output.image_embeds * output.text_embeds).sum(-1)
    assert found == pytest.approx(cosines.clamp(min=0).tolist(), abs=1e-4)
    assert both == pytest.approx(float(cosines.clamp(min=0).mean()), abs=1e-4) and cosines.abs().max() > 0.01

    passes: list[int] = []
    assert reward._parts is not None
    reward._parts[0].register_forward_hook(lambda _, __, output: passes.append(len(output.image_embeds)))
    asked = [PROMPT, *(Conversation((Message("user", (TextItem(words),)),)) for words in ("a", "two blue ones", "no"))]
    replies = [Reply(["nothing"]), *[Reply(list(pictures)) for _ in asked[1:]]]
    together = reward.judge(asked, replies)
    assert passes == [6]  # every image in one pass, each beside its own prompt
    assert together == pytest.approx([reward(*pair) for pair in zip(asked, replies, strict=True)], abs=1e-5)
    assert len({round(value, 4) for value in together}) > 2


def test_a_reward_of_a_batch_judges_on_the_models_device_and_at_once() -> None:
    calls: list[Any] = []

    class Lengths(Reward):
        def to(self, device: torch.device) -> None:
            calls.append(device)

        def judge(self, prompts: Sequence[Conversation], replies: Sequence[Reply]) -> list[float]:
            calls.append(len(replies))
            return [float(len(reply.text)) for reply in replies]

    replies = [Reply(["a"]), Reply(["bb"]), Reply(["ccc"])]
    rewards: dict[str, RewardFunction] = {"lengths": Lengths(), "ones": lambda prompt, reply: 1}
    found = judged(rewards, [PROMPT] * 3, replies, torch.device("meta"))
    assert found == {"lengths": [1, 2, 3], "ones": [1, 1, 1]} and calls == [torch.device("meta"), 3]
    assert Lengths()(PROMPT, replies[1]) == 2


def test_what_a_reward_of_a_batch_does_wrong_is_named() -> None:
    class Bad(Reward):
        def __init__(self, worst: int) -> None:
            self.worst = worst

        def judge(self, prompts: Sequence[Conversation], replies: Sequence[Reply]) -> list[float]:
            if any(reply.text == "bad" for reply in replies) or len(replies) > self.worst:
                raise RuntimeError("too many")
            return [float("nan") if reply.text == "nan" else 0.0 for reply in replies][: self.worst - 1]

    prompts = [Conversation(PROMPT.messages, {"id": name}) for name in ("one", "two", "three")]
    for words, worst, message in (
        (("good", "bad", "good"), 9, r"rewards.own: prompt two: it raised RuntimeError: too many; expected a number"),
        (("good", "good", "good"), 2, r"rewards.own: it raised RuntimeError.*for 3 replies together and for none of"),
        (("good", "good", "good"), 3, r"rewards.own: found 2 numbers for 3 replies"),
        (("good", "good", "nan"), 9, r"rewards.own: prompt three: found nan for the reply 'nan'"),
    ):
        with pytest.raises(ValueError, match=message):
            judged({"own": Bad(worst)}, prompts, [Reply([word]) for word in words])


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image_text_score.checkpoint: found no folder"):
        ImageTextScore(tmp_path / "none")
