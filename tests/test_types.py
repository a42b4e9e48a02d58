"""The words that all rooms share: media that are what they say, batches that move whole, experts that never learn."""

from __future__ import annotations

import gc
import io
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from isthmus.frozen import FrozenExpert
from isthmus.modalities import known_media
from isthmus.types import IGNORED, MEDIA, Batch, Encoded, Media, MediaBatch, Modality, SignalBatch

GOOD: dict[Modality, tuple[tuple[int, ...], Any, float | None]] = {
    Modality.IMAGE: ((4, 5, 3), np.uint8, None),
    Modality.VIDEO: ((2, 4, 5, 3), np.uint8, 8.0),
    Modality.AUDIO: ((160,), np.float32, 16000.0),
    Modality.POINTS: ((7, 6), np.float32, None),
}


def test_modalities_are_the_type_words_of_the_chat_content_convention() -> None:
    assert MEDIA == ("image", "video", "audio", "points") and known_media()[: len(MEDIA)] == MEDIA
    assert {"image": 1}[Modality.IMAGE] == 1 and f"{Modality.AUDIO}" == "audio", "a modality is its word"


class Counting(pickle.Pickler):
    """Counts the tensors that it meets, each of which takes an open file on its way from a data worker."""

    tensors = 0

    def reducer_override(self, own: Any) -> Any:
        self.tensors += isinstance(own, torch.Tensor)
        return NotImplemented


def test_what_a_cache_holds_travels_in_a_few_tensors() -> None:
    held = [Encoded(f"{n}", n, torch.randn(n, 4).to(torch.float16 if n % 2 else torch.float32)) for n in range(40)]
    for known in held[1:]:
        known.mask = torch.arange(known.count) < 3
    none, places = Encoded("new", 3, seconds=0.5), torch.zeros(41, dtype=torch.int64)
    for cached in ([*held, none], [none], [], None):
        file = io.BytesIO()
        counting = Counting(file)
        counting.dump(MediaBatch({}, places, places, places, cached))
        assert counting.tensors <= 6
        found = pickle.loads(file.getvalue())
        assert torch.equal(found.rows, places) and (found.cached is None) == (cached is None)
        for known, own in zip(found.cached or [], cached or [], strict=True):
            assert (known.key, known.count, known.seconds) == (own.key, own.count, own.seconds)
            for one, other in ((known.tokens, own.tokens), (known.mask, own.mask)):
                assert (one is None) == (other is None)
                assert one is None or (one.dtype == other.dtype and torch.equal(one, other))


@pytest.mark.parametrize("modality", MEDIA)
def test_a_medium_is_an_array_of_its_kind(modality: Modality) -> None:
    shape, kind, rate = GOOD[modality]
    medium = Media(modality, np.zeros(shape, kind), rate)
    assert medium.source == "memory" and medium.details == {}
    assert medium != Media(modality, medium.array, rate), "media are told apart by what they are, not pixel by pixel"


def test_points_may_come_without_colour() -> None:
    assert Media(Modality.POINTS, np.zeros((7, 3), np.float32)).array.shape == (7, 3)


@pytest.mark.parametrize(
    ("modality", "changes"),
    [
        (Modality.IMAGE, {"shape": (4, 5)}),
        (Modality.IMAGE, {"shape": (4, 5, 4)}),
        (Modality.IMAGE, {"shape": (0, 5, 3)}),
        (Modality.IMAGE, {"kind": np.float32}),
        (Modality.VIDEO, {"shape": (4, 5, 3)}),
        (Modality.VIDEO, {"shape": (0, 4, 5, 3)}),
        (Modality.VIDEO, {"rate": None}),
        (Modality.AUDIO, {"shape": (160, 2)}),
        (Modality.AUDIO, {"kind": np.float64}),
        (Modality.VIDEO, {"rate": -8.0}),
        (Modality.AUDIO, {"rate": None}),
        (Modality.AUDIO, {"rate": 0.0}),
        (Modality.AUDIO, {"rate": -16000.0}),
        (Modality.AUDIO, {"rate": float("nan")}),
        (Modality.AUDIO, {"rate": float("inf")}),
        (Modality.AUDIO, {"shape": (0,)}),
        (Modality.POINTS, {"shape": (7, 4)}),
        (Modality.POINTS, {"kind": np.float64}),
    ],
)
def test_an_array_of_another_kind_is_refused(modality: Modality, changes: dict[str, Any]) -> None:
    shape, kind, rate = GOOD[modality]
    settings = {"shape": shape, "kind": kind, "rate": rate} | changes
    array = np.zeros(settings["shape"], settings["kind"])
    with pytest.raises(
        ValueError, match=rf"a.bin: found .*{array.dtype} at rate .* for {modality}; expected a non-empt"
    ):
        Media(modality, array, settings["rate"], "a.bin")


def test_text_is_no_medium() -> None:
    with pytest.raises(ValueError, match=r"memory: text isn't a medium; media are image, video, audio, points, depth"):
        Media(Modality.TEXT, np.zeros(3, np.uint8))


def batch() -> Batch:
    places = torch.arange(2)
    media = {Modality.IMAGE: MediaBatch({"pixels": torch.ones(2, 3), "size": places}, places, places + 1, places + 2)}
    signals = {
        Modality.AUDIO: SignalBatch(places, places, ["a", "b"], {"mel": torch.ones(1, 4)}, places[:1], places + 7)
    }
    ids = torch.arange(6).view(2, 3)
    labels = torch.tensor([[IGNORED, 4, 5], [IGNORED, IGNORED, 2]])
    return Batch(ids, ids >= 0, labels, media, signals, [{"id": "x"}, {"id": torch.ones(1)}])


def tensors(value: Any) -> list[torch.Tensor]:
    """Every tensor of a batch, but those of its details."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for one in value.values() for tensor in tensors(one)]
    if hasattr(value, "__dataclass_fields__"):
        return [t for name in value.__dataclass_fields__ if name != "details" for t in tensors(getattr(value, name))]
    return []


def test_a_batch_moves_whole_and_its_details_stay() -> None:
    source = batch()
    moved = source.to("meta")
    assert len(tensors(moved)) == len(tensors(source)) == 13
    seeds = moved.signals[Modality.AUDIO].seeds
    assert all(tensor.is_meta or tensor is seeds for tensor in tensors(moved)) and not seeds.is_meta
    assert not any(tensor.is_meta for tensor in tensors(source))
    assert moved.details is source.details and moved.signals[Modality.AUDIO].captions == ["a", "b"]
    same = source.to("cpu")
    for mine, theirs in zip(tensors(same), tensors(source), strict=True):
        assert torch.equal(mine, theirs)
    assert same.media.keys() == source.media.keys() and same.signals.keys() == source.signals.keys()


def test_a_batch_counts_its_samples_and_targets() -> None:
    assert len(batch()) == 2 and batch().target_count == 3


class Drawn(FrozenExpert):
    """An expert whose weights are drawn, and which draws more than it needs."""

    def __init__(self) -> None:
        super().__init__()
        self.builds = 0

    def materialize(self) -> None:
        self.builds += 1
        torch.manual_seed(4)
        self.layer = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))


def test_an_expert_loads_once_frozen_and_without_a_trace() -> None:
    expert = Drawn()
    assert not expert.is_loaded and not list(expert.parameters())
    before = torch.get_rng_state()
    expert.load()
    expert.load("cpu")
    assert expert.builds == 1 and expert.is_loaded and torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in expert.parameters())
    parent = torch.nn.Sequential(expert).train()
    assert parent.training and not any(module.training for module in expert.modules())
    expert.load("meta")
    assert all(parameter.is_meta for parameter in expert.parameters())


def test_an_expert_first_used_in_inference_can_pass_gradients_on_later() -> None:
    expert = Drawn()
    with torch.inference_mode():
        expert.load()
    leaf = torch.ones(1, 3, requires_grad=True)
    expert.layer(leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_a_released_expert_is_gone_and_comes_back() -> None:
    expert = Drawn()
    expert.load()
    weights = expert.layer[0].weight.clone()
    held = weakref.ref(expert.layer)
    expert.release()
    gc.collect()
    assert held() is None and not expert.is_loaded and not list(expert.parameters())
    expert.release()
    expert.load()
    assert expert.builds == 2 and torch.equal(expert.layer[0].weight, weights)
