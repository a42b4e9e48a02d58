"""The LLM behind its interface: the planner writes for the very tokenizer and vocabulary that it answers with."""

from __future__ import annotations

import numpy as np
import torch
from model.talks import mixed, talk
from tiny_world import SIGNALS

from isthmus.backbones.base import Sampling, SignalRun
from isthmus.data.sampling.seeds import derive_seed
from isthmus.model import AnyToAny
from isthmus.types import IGNORED, Modality


def test_it_passes_on_what_its_language_model_gives(model: AnyToAny) -> None:
    batch = model.collator()(mixed())
    assert model.input_side is not None
    projected = model.input_side(batch.media)
    output = model.backbone(batch, projected)
    direct = model.backbone.language_model(batch, projected)
    assert torch.equal(output.text_loss, direct.text_loss)
    assert output.correct.shape == (int((batch.labels != IGNORED).sum()),)
    for modality, runs in batch.signals.items():
        shape = (len(runs.rows), SIGNALS[modality], model.backbone.width)
        assert output.signals[modality].shape == shape
        assert torch.equal(output.signals[modality], direct.signals[modality])


def test_plans_are_written_in_its_own_tokens(model: AnyToAny) -> None:
    backbone = model.backbone
    batch = model.collator()(mixed()[:1])
    ids = batch.ids[0].tolist()
    for modality, count in ((Modality.IMAGE, 2), (Modality.AUDIO, 0)):
        run = list(backbone.language_model.vocabulary.signal_ids(modality))
        found = [at for at in range(len(ids)) if ids[at : at + len(run)] == run]
        assert len(found) == count and len(run) == SIGNALS[modality]
    words = [token for token in ids if 0 <= token < backbone.language_model.vocabulary.base_size]
    said = backbone.language_model.tokenizer.decode(words, skip_special_tokens=True)
    assert said == "user: what is  and  assistant: seven:  or "


def test_each_part_does_its_share_of_an_answer(model: AnyToAny) -> None:
    """Encode, generate, draw: together they are the model's answer."""
    batch = model.prompts([talk([("image", 3), "draw it"], ["."])])
    required = [[Modality.AUDIO]]
    assert model.input_side is not None and model.output_side is not None
    projected = model.input_side(batch.media, model.input_side.encode(batch.media))
    (answered,) = model.backbone.generate(batch, projected, Sampling(max_new_tokens=3), required, model.outputs)
    place, run = next((at, piece) for at, piece in enumerate(answered.pieces) if isinstance(piece, SignalRun))
    seed = derive_seed(5, place) % 2**31
    (drawn,) = model.output_side.generate(run.modality, run.states[None], [seed])
    (reply,) = model.answer(batch, Sampling(max_new_tokens=3), required, seeds=[5])
    assert Modality.AUDIO in [medium.modality for medium in reply.media()] and reply.ids == answered.ids
    assert np.array_equal(drawn.array, reply.media()[0].array)
