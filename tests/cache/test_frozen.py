"""Training from the cache is training: the same losses, no frozen part loaded, and nothing of other weights found."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import supervised
import torch
from tiny_parts import write_whisper
from tiny_world import tiny_experts, tiny_model

from isthmus.cache.frozen import CacheSettings, FrozenCache
from isthmus.cache.identity import identity
from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError
from isthmus.data.media.limits import MediaLimits
from isthmus.encoders import Whisper
from isthmus.pocket.tasks import Describe, Draw
from isthmus.training import LossWeights, Stage, TrainingModule
from isthmus.types import Condition, Features, Media, MediaBatch, Modality


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


def build(experts: Mapping[str, Path], settings: CacheSettings | None) -> TrainingModule:
    model = tiny_model(experts, max_tokens=1024)
    model.cache_settings = settings
    model.configure_model()
    return TrainingModule(model, Stage(["lora"], LossWeights(alignment=1.0), steps=1))


def losses(module: TrainingModule, source: ConversationSource) -> list[torch.Tensor]:
    """Four batches, each with an optimizer's step after it."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-2)
    collator, found = module.collator("train"), []
    for start in range(0, 16, 4):
        batch = collator([source[index] for index in range(start, start + 4)])
        loss = supervised.loss(module.model, module.weights, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return found


@pytest.mark.parametrize("source", [Describe(size=16), Draw(size=16, modalities=("image", "video", "audio"))])
def test_training_from_the_cache_is_training_online(
    source: ConversationSource, experts: dict[str, Path], tmp_path: Path
) -> None:
    settings = CacheSettings(tmp_path, trial=0)
    online = losses(build(experts, None), source)
    filling = losses(build(experts, settings), source)
    model = build(experts, settings)
    cached = losses(model, source)
    assert torch.equal(torch.stack(online), torch.stack(filling))
    assert torch.equal(torch.stack(online), torch.stack(cached))
    assert model.model.input_side is not None and model.model.output_side is not None
    assert not any(
        expert.is_loaded for expert in [*model.model.input_side.encoders, *model.model.output_side.generators]
    )
    own = model.cache()
    assert own is not None and own.misses == 0 and own.hits > 0


def test_held_media_of_the_pocket_world_are_not_drawn(
    experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.pocket.worlds import DrawnWorld

    source, settings = Describe(size=16), CacheSettings(tmp_path, trial=0)
    expected = losses(build(experts, settings), source)

    def refused(*_: object) -> Media:
        raise AssertionError("a held medium was drawn")

    monkeypatch.setattr(DrawnWorld, "draw", refused)
    assert torch.equal(torch.stack(losses(build(experts, settings), source)), torch.stack(expected))


def test_a_batch_of_hits_and_misses_keeps_its_order(experts: dict[str, Path], tmp_path: Path) -> None:
    source, settings = Describe(size=8, modalities=["image"]), CacheSettings(tmp_path, trial=0)
    model = build(experts, settings)
    plain = build(experts, None).collator("train")([source[index] for index in range(4)]).media[Modality.IMAGE]
    assert model.model.input_side is not None
    expected = model.model.input_side.features(Modality.IMAGE, plain).tokens
    for index in (1, 3):
        model.model.input_side(model.collator("train")([source[index]]).media)
    mixed = model.collator("train")([source[index] for index in range(4)]).media[Modality.IMAGE]
    assert mixed.cached is not None and [known.tokens is not None for known in mixed.cached] == [False, True] * 2
    torch.testing.assert_close(model.model.input_side.features(Modality.IMAGE, mixed).tokens, expected)


def test_a_held_file_is_not_decoded(experts: dict[str, Path], tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "seven.png"
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(file)
    talk = Conversation(
        (
            Message("user", (MediumItem(Modality.IMAGE, file), TextItem("what?"))),
            Message("assistant", (TextItem("grey"),)),
        )
    )
    model = build(experts, CacheSettings(tmp_path / "cache", trial=0))
    assert model.model.input_side is not None
    batch = model.collator("train")([talk])
    model.model.input_side(batch.media)
    collator = model.collator("train")
    collator.preprocess = {}  # whatever is preprocessed now fails
    collator.preprocess[Modality.IMAGE] = _refused
    again = collator([talk])
    assert torch.equal(again.ids, batch.ids)
    Image.fromarray(np.full((20, 20, 3), 91, np.uint8)).save(file)
    with pytest.raises(DataError, match=r"seven.png: found what raises AssertionError .*was preprocessed"):
        collator([talk])


def _refused(medium: Media) -> dict[str, torch.Tensor]:
    raise AssertionError(f"{medium.source} was preprocessed")


@pytest.mark.parametrize(
    ("name", "kind", "limits"),
    [
        ("seven.png", Modality.IMAGE, MediaLimits(pixels=100)),
        ("seven.png", Modality.IMAGE, MediaLimits(bytes=10)),
        ("seven.wav", Modality.AUDIO, MediaLimits(seconds=0.1)),
        ("seven.npy", Modality.POINTS, MediaLimits(points=10)),
        ("seven.gif", Modality.VIDEO, MediaLimits(frames=1)),
    ],
)
def test_a_held_file_passes_no_lower_cap(
    name: str, kind: Modality, limits: MediaLimits, experts: dict[str, Path], tmp_path: Path
) -> None:
    from isthmus.data.media.files import save_media
    from isthmus.pocket.world import Concept, draw

    made = draw(kind, Concept(7), "train", np.random.default_rng(0))
    said = Message("user", (MediumItem(kind, save_media(made, tmp_path / name)), TextItem("what?")))
    talk = Conversation((said, Message("assistant", (TextItem("seven"),))))
    model = build(experts, CacheSettings(tmp_path / "cache", trial=0))
    assert model.model.input_side is not None
    model.model.input_side(model.collator("train")([talk]).media)
    collator = model.collator("train")
    known = collator([talk]).media[kind].cached
    assert known is not None and known[0].tokens is not None
    collator.limits = limits
    with pytest.raises(DataError, match=r"expected at most .* raise limits"):
        collator([talk])


def test_how_a_generator_samples_leaves_its_conditions_alone(experts: dict[str, Path], tmp_path: Path) -> None:
    from isthmus.generators.image.stable_diffusion import StableDiffusion

    for steps, guidance, found in ((4, 2.0, 0), (9, 2.0, 1), (4, 7.5, 1)):
        model = build(experts, CacheSettings(tmp_path, trial=0))
        cache = model.cache()
        assert cache is not None
        cache.condition(
            StableDiffusion(experts["image"], num_inference_steps=steps, guidance_scale=guidance), ["a seven"]
        )
        assert cache.hits == found


def test_wrong_weights_never_hit(experts: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "imagebind"
    shutil.copytree(experts["imagebind"], copy)
    settings = CacheSettings(tmp_path / "cache", trial=0)
    source = Describe(size=4, modalities=["image"])
    for _ in range(2):
        model = build({**experts, "imagebind": copy}, settings)
        assert model.model.input_side is not None
        model.model.input_side(model.collator("train")([source[0]]).media)
    cache = model.cache()
    assert cache is not None and cache.hits == 1
    file = next(copy.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    other = build({**experts, "imagebind": copy}, settings)
    batch = other.collator("train")([source[0]])
    assert batch.media[Modality.IMAGE].cached is not None and batch.media[Modality.IMAGE].cached[0].tokens is None


def test_identity_is_that_of_weights_files_and_settings(experts: dict[str, Path], tmp_path: Path) -> None:
    model = build(experts, None)
    assert model.model.output_side is not None and model.model.input_side is not None
    for part in (model.model.output_side.generator(Modality.IMAGE), model.model.input_side.encoder(Modality.IMAGE)):
        before = identity(part)
        part.load()
        assert identity(part) == before
    from isthmus.generators.image.stable_diffusion import StableDiffusion

    precisions = [identity(StableDiffusion(experts["image"], dtype=each)) for each in ("float32", "bfloat16")]
    assert len(set(precisions)) == 2
    copy = tmp_path / "image"
    shutil.copytree(experts["image"], copy)
    moved = build({**experts, "image": copy}, None)
    assert moved.model.output_side is not None
    generator = moved.model.output_side.generator(Modality.IMAGE)
    assert identity(generator) == identity(model.model.output_side.generator(Modality.IMAGE))
    words = next(copy.rglob("tokenizer*.json"))
    words.write_text(json.dumps(json.loads(words.read_text()) | {"other": 1}))
    assert identity(generator) != identity(model.model.output_side.generator(Modality.IMAGE))


def test_another_precision_is_another_value(experts: dict[str, Path], tmp_path: Path) -> None:
    model = build(experts, CacheSettings(tmp_path, trial=0))
    cache = model.cache()
    assert cache is not None and model.model.output_side is not None
    generator = model.model.output_side.generator(Modality.IMAGE)
    before = cache.namespace(generator, Modality.IMAGE)
    cache.precision = "bf16-mixed"
    assert cache.namespace(generator, Modality.IMAGE) != before


def test_half_storage_is_rounded_and_given_back_as_float32(experts: dict[str, Path], tmp_path: Path) -> None:
    model = build(experts, CacheSettings(tmp_path, dtype="bfloat16", trial=0))
    model.cache()
    assert model.model.output_side is not None
    exact = model.model.output_side.generator(Modality.IMAGE).condition(["a seven"])
    model.model.output_side.target(Modality.IMAGE, ["a seven"])
    held = model.model.output_side.target(Modality.IMAGE, ["a seven"])
    assert held.tokens.dtype == torch.float32
    assert torch.equal(held.tokens, exact.tokens.bfloat16().float())


def test_switches_itself_off_where_it_is_slower(
    experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(experts, CacheSettings(tmp_path, trial=4))
    cache = model.cache()
    assert cache is not None and model.model.output_side is not None
    generator = model.model.output_side.generator(Modality.IMAGE)
    row = generator.condition(["x"])

    class Instant(type(generator)):  # type: ignore[misc]  # the same expert, its text tower faster than any disk
        def condition(self, captions: list[str]) -> Condition:
            return Condition(row.tokens.expand(len(captions), -1, -1))

    generator.__class__ = Instant
    reads: list[str] = []  # a clock on which reading takes a second, and nothing else any time
    get = cache.store.get
    monkeypatch.setattr(cache.store, "get", lambda key: reads.append(key) or get(key))  # type: ignore[func-returns-value]
    monkeypatch.setattr("isthmus.cache.frozen.perf_counter", lambda: float(len(reads)))
    with caplog.at_level(logging.INFO, logger="isthmus"):
        for number in range(20):
            model.model.output_side.target(Modality.IMAGE, [f"{number} {other}" for other in range(2)])
    decisions = [record.message for record in caplog.records if "switched off" in record.message]
    assert len(decisions) == 1 and "image" in decisions[0]
    assert len(cache.store) == 4


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"cache\.dtype: found 'int8'"):
        CacheSettings(dtype="int8")  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(ValueError, match=r"cache\.trial: found -1"):
        CacheSettings(trial=-1)


def test_content_key_tells_arrays_by_rate_and_shape() -> None:
    from isthmus.cache.media import content_key

    sound = np.zeros(8, np.float32)
    keys = {content_key(Media(Modality.AUDIO, sound, rate), MediaLimits()) for rate in (8000.0, 16000.0)}
    image = np.zeros((2, 4, 3), np.uint8)
    keys |= {
        content_key(Media(Modality.IMAGE, image.reshape(shape)), MediaLimits()) for shape in ((2, 4, 3), (4, 2, 3))
    }
    assert len(keys) == 4


def test_recordings_of_any_length_come_out_of_the_cache_together(tmp_path: Path) -> None:
    """Whisper gives as many tokens as the longest recording of a batch has: rows of two batches differ in length."""
    write_whisper(tmp_path / "whisper")
    encoder = Whisper(tmp_path / "whisper")
    cache = FrozenCache(CacheSettings(tmp_path / "cache", trial=0))
    lookup = cache.medium(encoder, Modality.AUDIO, lambda tokens: tokens)
    assert lookup is not None
    random = np.random.default_rng(0)
    recordings = [
        Media(Modality.AUDIO, random.normal(size=length).astype(np.float32), rate=16_000.0)
        for length in (4_000, 12_000, 8_000)
    ]
    prepared = [encoder.preprocess(recording) for recording in recordings]

    def features(chosen: list[int]) -> Features:
        cached = [lookup.find(recordings[at], MediaLimits()) for at in chosen]
        for known, at in zip(cached, chosen, strict=True):
            known.count = known.count if known.tokens is not None else lookup.count(prepared[at])
        missing = [prepared[at] for at, known in zip(chosen, cached, strict=True) if known.tokens is None]
        inputs = {name: torch.stack([own[name] for own in missing]) for name in missing[0]} if missing else {}
        places = torch.arange(len(chosen))
        batch = MediaBatch(inputs, places, places, places, cached=cached)
        return cache.features(encoder, Modality.AUDIO, batch, torch.device("cpu"))

    short, long = features([0]), features([1])
    found = features([0, 1, 2])
    assert cache.hits == 2
    stacked = {name: torch.stack([own[name] for own in prepared]) for name in prepared[0]}
    encoder.load(torch.device("cpu"))
    expected = encoder(Modality.AUDIO, stacked)
    assert torch.equal(found.mask, expected.mask) and short.mask.shape[1] < long.mask.shape[1]
    torch.testing.assert_close(found.tokens[found.mask], expected.tokens[expected.mask])
    assert torch.equal(features([2, 0]).mask.sum(1), expected.mask[[2, 0]].sum(1))
