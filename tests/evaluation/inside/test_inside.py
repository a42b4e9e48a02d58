"""Attention sums to one and covers the media that stand there; the last layer's H is the model's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_world import tiny_model
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, OPTConfig

from isthmus.backbones import FusionSettings
from isthmus.backbones.adapters.gated_fusion import decoder_layers
from isthmus.data.conversations.schema import Conversation
from isthmus.evaluation.inside.attention import attention_over_media
from isthmus.evaluation.inside.bridges import bridge_reading, final_norm
from isthmus.evaluation.inside.drawing import draw_medium
from isthmus.evaluation.inside.embeddings import embeddings_of
from isthmus.evaluation.inside.trace import conversation_of, trace
from isthmus.model import AnyToAny
from isthmus.types import Media, Modality


@pytest.fixture(scope="module")
def model(tiny_experts_paths: dict[str, Path]) -> AnyToAny:
    built = tiny_model(tiny_experts_paths, outputs=("image",))
    built.configure_model()
    return built.eval()


def picture(shade: int) -> Media:
    return Media(Modality.IMAGE, np.full((16, 16, 3), shade, np.uint8))


def asked(caption: str, *media: Media) -> Conversation:
    """A request that shows media, and an answer of words and a picture."""
    shown: list[Any] = [{"type": str(medium.modality), str(medium.modality): medium} for medium in media]
    answer = [{"type": "text", "text": "so"}, {"type": "image", "caption": caption}]
    return conversation_of(
        [
            {"role": "user", "content": [*shown, {"type": "text", "text": f"draw {caption}"}]},
            {"role": "assistant", "content": answer},
        ]
    )


def test_a_trace_ends_with_the_states_of_the_model_itself(model: AnyToAny) -> None:
    conversation = asked("a cat", picture(90))
    before = model.backbone.language_model.llm.config._attn_implementation
    traced = trace(model, conversation)
    assert model.backbone.language_model.llm.config._attn_implementation == before
    layers, length = 2, len(traced.batch.ids[0])
    assert traced.states.shape == (layers + 1, length, 16)
    assert traced.attention.shape == (layers, 2, length, length)
    assert_close(traced.attention.sum(-1), torch.ones(layers, 2, length))
    assert not traced.attention.triu(1).any()  # nothing looks ahead
    with torch.no_grad():
        own = model(model.collator()([conversation]), draws=[Modality.IMAGE])
    at = traced.layout.runs[Modality.IMAGE].positions[0]
    assert_close(traced.states[-1, at] + traced.embeddings[at], own.signals[Modality.IMAGE][0], rtol=1e-4, atol=1e-4)


def test_attention_over_media_is_that_of_their_positions(model: AnyToAny) -> None:
    sound = Media(Modality.AUDIO, np.sin(np.arange(8000) / 9).astype(np.float32), 16000)
    conversation = asked("b", picture(90), sound)
    found, traced = attention_over_media(model, conversation), trace(model, conversation)
    assert found.media == [Modality.IMAGE, Modality.AUDIO]
    assert found.tokens == ["s", "o", "[image]", "</s>"]
    assert found.shares.shape == (2, 4, 2)
    audio = traced.layout.media[Modality.AUDIO].positions
    predicting = traced.layout.targets - 1
    assert_close(found.shares[..., 1], traced.attention.mean(1)[:, predicting][..., audio].sum(-1))
    with pytest.raises(ValueError, match=r"found no media; expected one or more\. Fix"):
        attention_over_media(model, asked("b"))


def test_h_by_layer_ends_with_the_models_own(model: AnyToAny) -> None:
    conversations = [asked("a cat"), asked("two dogs"), asked("a cat", picture(9))]
    reading = bridge_reading(model, Modality.IMAGE, conversations)
    assert model.output_side is not None
    assert reading.captions == ["a cat", "two dogs", "a cat"]
    assert reading.by_layer.shape[:2] == (3, 3)
    with torch.no_grad():
        own = model(model.collator()(conversations), draws=[Modality.IMAGE]).conditions[Modality.IMAGE].tokens
        target = model.output_side.target(Modality.IMAGE, reading.captions).tokens
    assert_close(reading.by_layer[-1], own, rtol=1e-4, atol=1e-4)
    assert_close(reading.conditions, target)
    assert_close(
        reading.cosines()[-1], torch.cosine_similarity(own.flatten(1), target.flatten(1)), rtol=1e-4, atol=1e-4
    )
    assert_close(reading.confusion(centred=False).diag(), reading.cosines()[-1])
    assert (reading.confusion().abs() <= 1 + 1e-6).all()


@pytest.mark.parametrize("family", [LlamaConfig, OPTConfig, GPT2Config])
def test_the_final_norm_is_found_wherever_it_stands(family: Callable[..., Any]) -> None:
    """OPT's layers and norm are a level deeper than Llama's; GPT-2's have other names."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "word_embed_proj_dim": 8}
    llm = AutoModelForCausalLM.from_config(family(vocab_size=9, **sizes)).eval()
    behind: list[Any] = []
    decoder_layers(llm)[-1].register_forward_hook(lambda layer, given, made: behind.append(made))
    with torch.no_grad():
        final = llm.base_model(torch.arange(1, 7)[None]).last_hidden_state
        states = behind[0] if isinstance(behind[0], torch.Tensor) else behind[0][0]
        assert_close(final_norm(llm)(states), final)
        assert not torch.allclose(states, final)


def test_a_bridge_can_only_be_read_where_there_is_one(model: AnyToAny) -> None:
    with pytest.raises(ValueError, match=r"found video; expected one that the model makes: image\. Fix"):
        bridge_reading(model, Modality.VIDEO, [asked("a cat")])
    words = conversation_of([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}])
    with pytest.raises(ValueError, match=r"found no image in its answer; .*Fix"):
        bridge_reading(model, Modality.IMAGE, [words])
    with pytest.raises(ValueError, match=r"found no answer at its end; .*Fix"):
        trace(model, conversation_of([{"role": "user", "content": "hi"}]))


def test_embeddings_are_means_in_the_order_of_the_media(model: AnyToAny) -> None:
    shades = [*range(0, 250, 7), 7]  # more than one batch, and one picture twice
    found = embeddings_of(model, Modality.IMAGE, [picture(shade) for shade in shades])
    assert found.features.shape == (len(shades), 8) and found.projected.shape == (len(shades), 16)
    assert_close(found.features[-1], found.features[1])
    assert model.input_side is not None
    given = model.prompts([asked("x", picture(35)).prompt()]).media
    with torch.no_grad():
        tokens, mask = model.input_side(given)[Modality.IMAGE]
    assert mask.all()
    assert_close(found.projected[5], tokens[0].mean(0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"found none; expected at least one image\. Fix"):
        embeddings_of(model, Modality.IMAGE, [])
    taken = r"found text; expected one that the model takes: image, video, audio, points\. Fix"
    with pytest.raises(ValueError, match=taken):
        embeddings_of(model, Modality.TEXT, [picture(1)])


def test_fused_media_are_refused(tiny_experts_paths: dict[str, Path]) -> None:
    fusion = FusionSettings(modalities=("image",))
    fused = tiny_model(tiny_experts_paths, inputs=("image",), outputs=(), fusion=fusion)
    with pytest.raises(ValueError, match=r"found gated fusion; expected a CausalBackbone.* Fix"):
        trace(fused, asked("x"))
    with pytest.raises(ValueError, match=r"found image; expected one that the model makes: none\. Fix"):
        bridge_reading(fused, Modality.IMAGE, [asked("x")])


def test_media_are_drawn_by_their_kind() -> None:
    pyplot = pytest.importorskip("matplotlib.figure").Figure()
    sound = Media(Modality.AUDIO, np.sin(np.arange(4000) / 9).astype(np.float32), 8000)
    film = Media(Modality.VIDEO, np.zeros((3, 8, 8, 3), np.uint8), 4)
    cloud = Media(Modality.POINTS, np.random.default_rng(0).random((9, 6), np.float32))
    axes = [
        draw_medium(pyplot, (1, 4, place), medium) for place, medium in enumerate((picture(9), film, sound, cloud), 1)
    ]
    assert axes[0].images[0].get_array().shape == (16, 16, 3)
    assert axes[1].images[0].get_array().shape == (8, 24, 3)  # frames side by side
    assert len(axes[2].images) == 1  # its spectrogram
    assert axes[3].name == "3d"
