"""A whole model whose LLM attends to images: no positions, a part to train, answers, and a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import supervised
import torch
from jsonargparse import ArgumentParser
from tiny_bert import write_bert

from isthmus.backbones import FusionSettings
from isthmus.model import AnyToAny
from isthmus.pocket import tasks
from isthmus.training import LossWeights
from isthmus.training.trainable import set_trainable
from isthmus.types import Modality
from isthmus.vocabulary import MEDIA_POSITION

FUSION = FusionSettings(["image"], every=1, heads=2, head_width=4)
IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO


def test_fused_media_take_no_positions_and_train_the_new_layers(build: Any, tmp_path: Path) -> None:
    model: AnyToAny = build(inputs=("image", "audio"), outputs=(), fusion=FUSION)
    source = tasks.Describe(split="train", size=8, modalities=("image", "audio"))
    batch = model.collator()([source[i] for i in range(8)])
    assert not batch.media[IMAGE].lengths.any() and batch.media[AUDIO].lengths.all()
    begin, end = model.backbone.language_model.vocabulary.tags(IMAGE)
    places = batch.media[IMAGE]
    assert (batch.ids[places.rows, places.starts - 1] == begin).all()
    assert (batch.ids[places.rows, places.starts] == end).all()
    assert int((batch.ids == MEDIA_POSITION).sum()) == int(batch.media[AUDIO].lengths.sum())

    counts = set_trainable(model, ["fusion", "input_projectors"], "encoder_alignment")
    assert set(counts) == {"fusion", "input_projectors.image", "input_projectors.audio"}
    optimizer = torch.optim.AdamW([p for _, p in model.named_owned() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(25):
        loss = supervised.loss(model, LossWeights(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    bridge = dict(model.input_side.projector(IMAGE).named_parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in bridge.values())

    model.eval()
    folder = model.save(tmp_path / "bundle", "encoder_alignment")
    again: AnyToAny = build(inputs=("image", "audio"), outputs=(), fusion=FUSION, seed=1)
    again.eval().load(folder)
    prompts = model.prompts([source[0], source[1], source[2]])
    replies, same = model.answer(prompts), again.answer(prompts)
    assert [reply.text for reply in replies] == [reply.text for reply in same]
    torch.testing.assert_close(model(batch).text_loss, again(batch).text_loss, rtol=0, atol=0)


def test_every_part_is_configured_by_its_class_path(experts: dict[str, Path], tmp_path: Path) -> None:
    write_bert(tmp_path)
    room = "isthmus.input_projectors."
    sizes = {"queries": 3, "width": 8, "heads": 2}
    bridges = {
        "image": {"class_path": room + "QFormer", "init_args": sizes | {"layers": 1, "feed_forward": 8}},
        "video": {"class_path": room + "CrossAttention", "init_args": sizes | {"depth": 1}},
        "audio": {"class_path": room + "TokenMerging", "init_args": {"tokens_per_position": 2}},
    }
    encoder = {"checkpoint": str(experts["imagebind"]), "modalities": list(bridges)}
    side = {
        "encoders": [{"class_path": "isthmus.encoders.ImageBind", "init_args": encoder}],
        "projectors": bridges,
        "teacher": {"class_path": room + "PFormer", "init_args": {"checkpoint": str(tmp_path), "positions": 3}},
    }
    llm = {
        "checkpoint": str(experts["llama"]),
        "fusion": {"modalities": ["video"], "every": 2, "heads": 2, "head_width": 4},
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(AnyToAny, "model")
    language_model = {"class_path": "isthmus.backbones.CausalBackbone", "init_args": llm}
    configuration = {
        "backbone": {"class_path": "isthmus.model.Backbone", "init_args": {"language_model": language_model}},
        "input_side": {"class_path": "isthmus.model.InputSide", "init_args": side},
    }
    model = parser.instantiate_classes(parser.parse_object({"model": configuration})).model
    model.configure_model()
    assert [type(bridge).__name__ for bridge in model.input_side.projectors.values()] == [
        "QFormer",
        "CrossAttention",
        "TokenMerging",
    ]
    assert {"teacher", "fusion", "input_projectors.image"} <= set(model.parts())
    source = tasks.Describe(split="train", size=3, modalities=tuple(bridges))
    terms = supervised.terms(model, LossWeights(), [source[i] for i in range(3)])
    assert terms.text.isfinite() and terms.text > 0
