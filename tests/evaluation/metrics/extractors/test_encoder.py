"""Any encoder is an extractor: its pooled token, or the mean of its valid tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_answers import clip, cloud, picture, sound
from tiny_parts import write_beats

from isthmus.encoders import Beats, ImageBind, PointBert
from isthmus.encoders.base import Encoder
from isthmus.evaluation.metrics.extractors import EncoderFeatures
from isthmus.types import Modality


@pytest.fixture(scope="module")
def encoders(tiny_encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    torch.manual_seed(0)
    write_beats(tmp_path_factory.mktemp("beats"))
    beats = next(tmp_path_factory.getbasetemp().glob("beats*"))
    return {
        "imagebind": ImageBind(tiny_encoders["imagebind"]),
        "point_bert": PointBert(tiny_encoders["point_bert"]),
        "beats": Beats(beats, seconds=1.0),
    }


def test_pooled_features_are_the_encoder_s_own(encoders: dict[str, Encoder]) -> None:
    for name, media in (
        ("imagebind", [picture(0), picture(1)]),
        ("imagebind", [clip(0), clip(1)]),
        ("imagebind", [sound(0), sound(1)]),
        ("point_bert", [cloud(0), cloud(1)]),
    ):
        encoder = encoders[name]
        features, logits = EncoderFeatures(encoder).extract(media)
        inputs = [encoder.preprocess(medium) for medium in media]
        stacked = {key: torch.stack([one[key] for one in inputs]) for key in inputs[0]}
        expected = encoder(media[0].modality, stacked).tokens[:, 0]
        assert logits is None
        torch.testing.assert_close(torch.from_numpy(features), expected)


def test_padding_has_no_part_in_the_mean(encoders: dict[str, Encoder]) -> None:
    extractor = EncoderFeatures(encoders["beats"])
    short, long = sound(0, 0.3), sound(1, 0.9)
    together = extractor.extract([short, long])[0]
    np.testing.assert_allclose(together[:1], extractor.extract([short])[0], rtol=1e-4, atol=1e-5)


def test_identity_names_weights_and_tokens(encoders: dict[str, Encoder], tiny_encoders: dict[str, Path]) -> None:
    first = EncoderFeatures(encoders["imagebind"]).identity()
    assert first["extractor"] == "ImageBind" and first["layer"] == "pooled tokens, mean"
    patches = EncoderFeatures(ImageBind(tiny_encoders["imagebind"], tokens="patch")).identity()
    assert patches["weights"] != first["weights"]
    assert EncoderFeatures(encoders["point_bert"]).modalities == (Modality.POINTS,)


def test_no_picture_is_shrunk_by_its_reader(encoders: dict[str, Encoder]) -> None:
    asked = EncoderFeatures(encoders["imagebind"]).request(Modality.VIDEO)
    assert asked is not None and asked.side is None and asked.frames is not None
