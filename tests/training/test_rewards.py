"""Rewards that need no world of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import write_llm

from isthmus.data.schema import Conversation, Message, TextItem
from isthmus.model import Reply
from isthmus.training.rewards import Brevity, ImageTextScore
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


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image_text_score.checkpoint: found no folder"):
        ImageTextScore(tmp_path / "none")
