"""A conversation's memory: answers as without it, each medium encoded once, whatever the model is composed of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from model.talks import medium
from tiny_world import SIGNALS, tiny_model, write_t5

from isthmus.backbones import EncoderDecoderBackbone, FusionSettings
from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import parse_conversation
from isthmus.encoders.c_former.encoder import CFormer
from isthmus.encoders.c_former.model import CFormerConfig, CFormerModel
from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.input_projectors import MLP
from isthmus.input_projectors.c_former import CFormerProjector
from isthmus.model import AnyToAny, Backbone, InputSide
from isthmus.model.memory import Memory
from isthmus.types import Modality

SHORT = Sampling(max_new_tokens=5)
IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO


def spliced(experts: dict[str, Path], folder: Path) -> AnyToAny:
    return tiny_model(experts, ("image", "audio"), ("image",))


def fused(experts: dict[str, Path], folder: Path) -> AnyToAny:
    settings = FusionSettings(["image"], every=1, heads=2, head_width=4)
    model = tiny_model(experts, ("image", "audio"), ("image",), fusion=settings)
    model.configure_model()
    fusion: Any = model.backbone.language_model
    for gate in fusion.fusion.parameters():
        gate.data.add_(0.2)
    return model


def read_by_t5(experts: dict[str, Path], folder: Path) -> AnyToAny:
    write_t5(folder)
    plain = tiny_model(experts, ("image", "audio"), ("image",))
    return AnyToAny(Backbone(EncoderDecoderBackbone(folder, SIGNALS)), plain.input_side, plain.output_side)


def heard_in_as_many_tokens_as_it_fires(experts: dict[str, Path], folder: Path) -> AnyToAny:
    config = CFormerConfig(
        bins=16, bank_mean=-9.0, bank_deviation=4.0, width=16, layers=1, heads=2, feed_forward=24, kernel=5, channels=4,
        pieces=("a", "b", "c"),
    )  # fmt: skip
    torch.manual_seed(2)
    network = CFormerModel(config)
    network.cif.weight_proj.weight.data.mul_(3)
    save_checkpoint(folder, "c_former", config, network.state_dict())
    model = tiny_model(experts, ("image",), ("image",))
    bridge = partial(CFormerProjector, width=12, layers=1, heads=2, feed_forward=16, dropout=0.0)
    model.input_side = InputSide(
        [CFormer(folder, seconds=1.0), ImageBind(experts["imagebind"], ("image",))],
        {"audio": bridge, "image": partial(MLP, hidden=16, positions_per_token=2)},
    )
    return model


@pytest.mark.parametrize("compose", [spliced, fused, read_by_t5, heard_in_as_many_tokens_as_it_fires])
def test_a_conversation_is_answered_as_without_memory_and_encoded_once(
    compose: Any, experts: dict[str, Path], tmp_path: Path
) -> None:
    model: Any = compose(experts, tmp_path)
    model.configure_model()
    model.eval()
    encoded: list[int] = []
    hooks = [
        encoder.register_forward_hook(lambda _, __, features: encoded.append(len(features.tokens)))
        for encoder in model.input_side.encoders
    ]
    memory, messages = Memory(), []
    for turn, kinds in enumerate((("image", "audio"), (), ("audio",), ("image", "image"))):
        media = [{"type": kind, kind: medium(kind, 2 * turn + place)} for place, kind in enumerate(kinds)]
        messages.append({"role": "user", "content": [*media, {"type": "text", "text": f"turn {turn}"}]})
        conversation = parse_conversation({"messages": messages}, captions_required=False)
        encoded.clear()
        batch = model.prompts([conversation], SHORT, [[IMAGE]], memory)
        (reply,) = model.answer(batch, SHORT, [[IMAGE]], memory=memory)
        assert sum(encoded) == len(kinds), "what is new"
        (plain,) = model.answer(model.prompts([conversation], SHORT, [[IMAGE]]), SHORT, [[IMAGE]])
        assert (reply.ids, reply.text) == (plain.ids, plain.text)
        for mine, its in zip(reply.media(), plain.media(), strict=True):
            assert abs(mine.array.astype(int) - its.array.astype(int)).max() <= 1
        made = [{"type": "image", "image": reply.media()[0]}, {"type": "text", "text": reply.text or "so"}]
        messages.append({"role": "assistant", "content": made})
    assert len(memory.media) == 5
    for hook in hooks:
        hook.remove()


def test_only_the_last_prompts_media_are_kept(build: Any) -> None:
    model: AnyToAny = build(inputs=("image", "audio"), outputs=())
    memory = Memory()
    for kind in ("image", "audio"):
        content = [{"type": kind, kind: medium(kind, 2)}]
        conversation = parse_conversation({"messages": [{"role": "user", "content": content}]})
        model.answer(model.prompts([conversation], SHORT, memory=memory), SHORT, memory=memory)
        assert [key.split("/")[0] for key in memory.media] == [kind]


def test_a_file_that_changes_is_another_medium(build: Any, tmp_path: Path) -> None:
    from isthmus.data.media.files import save_media

    model: AnyToAny = build(inputs=("image",), outputs=())
    memory, keys = Memory(), set()
    for digit in (1, 1, 2):
        path = save_media(medium("image", digit), tmp_path / "it.png")
        content = [{"type": "image", "image": path}]
        conversation = parse_conversation({"messages": [{"role": "user", "content": content}]})
        model.answer(model.prompts([conversation], SHORT, memory=memory), SHORT, memory=memory)
        keys |= set(memory.media)
    assert len(keys) == 2
