"""Media -> P: the right projector, in order, with the positions that were foretold."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from model.talks import medium

from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.input_projectors import MLP, Linear
from isthmus.model import InputSide
from isthmus.types import MEDIA, MediaBatch, Modality

E = 6


@pytest.fixture
def side(experts: dict[str, Path]) -> InputSide:
    """Each modality's projector takes another number of positions, so that no two can be mistaken."""
    side = InputSide(
        [ImageBind(experts["imagebind"], ("audio", "image", "video")), PointBert(experts["point_bert"])],
        {name: partial(MLP, positions_per_token=1 + index) for index, name in enumerate(MEDIA)},
    )
    side.build(E)
    return side


def batch_of(side: InputSide, modality: Modality, digits: list[int]) -> MediaBatch:
    prepared = [side.preprocessors()[modality](medium(modality, digit)) for digit in digits]
    places = torch.zeros(len(digits), dtype=torch.int64)
    inputs = {name: torch.stack([one[name] for one in prepared]) for name in prepared[0]}
    return MediaBatch(inputs, places, places, places)


def test_media_land_by_modality_and_in_order(side: InputSide) -> None:
    digits = {Modality.POINTS: [4], Modality.IMAGE: [3, 1, 2], Modality.AUDIO: [5, 6], Modality.VIDEO: [7]}
    projected = side({modality: batch_of(side, modality, own) for modality, own in digits.items()})
    assert list(projected) == list(digits)
    for index, modality in enumerate(MEDIA):
        encoder = side.encoder(modality)
        tokens, mask = projected[modality]
        for row, digit in enumerate(digits[modality]):
            inputs = encoder.preprocess(medium(modality, digit))
            features = encoder(modality, {name: tensor[None] for name, tensor in inputs.items()})
            expected = side.projectors[modality].layers(features.tokens[0]).view(-1, E)
            torch.testing.assert_close(tokens[row], expected, rtol=1e-4, atol=1e-5)
            foretold = side.positions(modality, inputs)
            assert foretold == int(mask[row].sum()) == features.tokens.shape[1] * (1 + index)
    assert not torch.allclose(projected[Modality.IMAGE][0][0], projected[Modality.IMAGE][0][1])


def test_an_encoder_is_loaded_when_its_first_medium_comes(side: InputSide) -> None:
    imagebind, point_bert = side.encoder(Modality.IMAGE), side.encoder(Modality.POINTS)
    points = batch_of(side, Modality.POINTS, [1])
    assert not imagebind.is_loaded and not point_bert.is_loaded, "workers preprocess without weights"
    assert side({}) == {}
    side({Modality.POINTS: points})
    assert point_bert.is_loaded and not imagebind.is_loaded
    assert side.encoder(Modality.AUDIO) is imagebind, "one expert serves several modalities, and is there once"


def test_gradients_stop_before_the_encoder(side: InputSide) -> None:
    side.train()
    tokens, _ = side({Modality.IMAGE: batch_of(side, Modality.IMAGE, [1])})[Modality.IMAGE]
    tokens.square().sum().backward()
    encoder = side.encoder(Modality.IMAGE)
    assert not encoder.training and not any(p.requires_grad or p.grad is not None for p in encoder.parameters())
    assert all(p.grad is not None for p in side.projectors[Modality.IMAGE].parameters())
    assert all(p.grad is None for p in side.projectors[Modality.AUDIO].parameters())


def test_release_frees_the_encoders_and_they_come_back_the_same(side: InputSide) -> None:
    media = {Modality.IMAGE: batch_of(side, Modality.IMAGE, [3])}
    before = side(media)[Modality.IMAGE][0]
    owned = {name: parameter for name, parameter in side.projectors.named_parameters()}
    held = [weakref.ref(parameter) for parameter in side.encoders.parameters()]
    assert held
    side.release()
    gc.collect()
    assert not any(reference() is not None for reference in held)
    assert not list(side.encoders.parameters())
    assert dict(side.projectors.named_parameters()) == owned
    assert torch.equal(side(media)[Modality.IMAGE][0], before)


def test_projectors_are_built_for_their_encoders_width(experts: dict[str, Path]) -> None:
    encoder: Any = ImageBind(experts["imagebind"], ("image", "audio"))
    side = InputSide([encoder], {"image": Linear, "audio": Linear})
    assert not side.projectors
    side.build(E)
    for modality in (Modality.IMAGE, Modality.AUDIO):
        shapes = {tuple(parameter.shape) for parameter in side.projector(modality).parameters()}
        assert (E, encoder.width(modality)) in shapes


def test_sides_that_make_no_sense_are_refused(experts: dict[str, Path]) -> None:
    imagebind = partial(ImageBind, experts["imagebind"])
    with pytest.raises(ValueError, match=r"audio has two encoders, ImageBind and ImageBind; take it out of one"):
        InputSide([imagebind(("image", "audio")), imagebind(("audio",))], {"image": Linear, "audio": Linear})
    with pytest.raises(ValueError, match=r"projectors: found image; the encoders serve audio, image: give each"):
        InputSide([imagebind(("image", "audio"))], {"image": Linear})
    with pytest.raises(ValueError, match=r"projectors: found points; the encoders serve none"):
        InputSide([], {"points": Linear})


def test_a_medium_without_an_encoder_is_one_clear_error(experts: dict[str, Path], side: InputSide) -> None:
    alone = InputSide([PointBert(experts["point_bert"])], {"points": Linear})
    alone.build(E)
    with pytest.raises(ValueError, match="found image; its encoders serve points: give it an encoder and a projector"):
        alone({Modality.IMAGE: batch_of(side, Modality.IMAGE, [1])})


def test_media_share_a_projector(experts: dict[str, Path]) -> None:
    encoders = [ImageBind(experts["imagebind"], ("image", "video", "audio"))]
    side = InputSide(encoders, {"image": Linear}, shared={"video": "image", "audio": "image"})
    side.build(E)
    assert list(side.projectors) == ["image"] and side.projector(Modality.AUDIO) is side.projector(Modality.IMAGE)
    media = {modality: batch_of(side, modality, [1]) for modality in side.serving}
    features = side.encode(media)
    own = side.projectors["image"]
    for modality, (projected, _) in side(media).items():
        torch.testing.assert_close(projected, own(features[modality])[0])
    assert side.positions(Modality.AUDIO, {}) == 1


def test_projectors_are_shared_by_encoders_of_one_width(experts: dict[str, Path]) -> None:
    encoders = [ImageBind(experts["imagebind"], ("image", "audio")), PointBert(experts["point_bert"])]
    patches = ImageBind(experts["imagebind"], ("image", "audio"), tokens="patch")
    with pytest.raises(ValueError, match=r"shared: found audio: image, whose encoders are 12 and 16 wide"):
        InputSide([patches], {"image": Linear}, shared={"audio": "image"}).build(E)
    for shared in ({"audio": "image", "points": "video"}, {"audio": "image", "points": "image", "image": "image"}):
        with pytest.raises(ValueError, match=r"input_side.shared: found (points: video|image: image); expected one"):
            InputSide(encoders, {"image": Linear}, shared=shared)
    with pytest.raises(ValueError, match=r"give each of these one projector, or a shared one"):
        InputSide(encoders, {"image": Linear}, shared={"audio": "image"})
