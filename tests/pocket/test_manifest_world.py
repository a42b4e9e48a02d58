"""A manifest as a world: sizes, splits that share nothing, one clear error a fault, and sources that speak of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny_manifest import records_of, write_manifest, write_set

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.dialogues import DONE
from isthmus.pocket.manifest_world import ManifestWorld
from isthmus.pocket.references import References
from isthmus.pocket.tasks import AnyToAny, Arithmetic, Describe, Draw
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS, Concept, Split
from isthmus.types import MEDIA, Modality

OUTPUTS = ("text", "image", "video", "audio")
SHAPES = {
    Modality.IMAGE: (32, 32, 3),
    Modality.VIDEO: (8, 32, 32, 3),
    Modality.AUDIO: (10240,),
    Modality.POINTS: (128, 3),
}
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("own") / "digits")


@pytest.fixture(scope="module")
def world(manifest: Path) -> ManifestWorld:
    return ManifestWorld(manifest)


def words(conversation: Conversation) -> str:
    return " ".join(item.text for turn in conversation.messages for item in turn.content if isinstance(item, TextItem))


@pytest.mark.parametrize("modality", MEDIA)
def test_media_are_fitted_and_split(world: ManifestWorld, modality: Modality) -> None:
    pools = {split: world.pool(modality, split) for split in SPLITS}
    assert [len(pool.media) for pool in pools.values()] == [38, 2, 10]
    for pool in pools.values():
        assert pool.arrays().shape[1:] == SHAPES[modality]
    sources = [medium.source for pool in pools.values() for medium in pool.media]
    assert len(set(sources)) == 50
    assert pools["test"].digits.tolist() == list(range(10))
    for digit in range(10):
        drawn = world.draw(modality, Concept(digit), "train", np.random.default_rng(digit))
        own = [
            medium for medium, label in zip(pools["train"].media, pools["train"].digits, strict=True) if label == digit
        ]
        assert any(drawn is medium for medium in own)


def test_strokes_grow_light_on_dark(world: ManifestWorld) -> None:
    film = world.pool(Modality.VIDEO, "test").media[3].array
    ink = (film > 127).sum((1, 2, 3))
    assert (np.diff(ink.astype(int)) >= 0).all() and 0 < ink[0] < ink[-1] < film[0].size / 2


def test_what_is_cut_off_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = write_set(tmp_path, train=10, test=10)
    soundfile.write(tmp_path / "12.wav", 0.3 * np.sin(np.arange(12000)), 8000)
    with caplog.at_level(logging.INFO, "isthmus"):
        ManifestWorld(manifest).pool(Modality.AUDIO, "test")
    assert "1 of 10 audio recordings of test were longer and are cut" in caplog.text


def without_label(records: list[dict[str, Any]]) -> None:
    del records[0]["label"]


def other_label(records: list[dict[str, Any]]) -> None:
    records[0]["label"] = "dog"


def other_modality(records: list[dict[str, Any]]) -> None:
    records[0]["modality"] = "smell"


def other_path(records: list[dict[str, Any]]) -> None:
    records[0]["path"] = "gone.png"


def no_test(records: list[dict[str, Any]]) -> None:
    records[:] = [record for record in records if record["split"] == "train"]


@pytest.mark.parametrize(
    ("spoil", "split", "says"),
    [
        (without_label, "train", r"manifest\.jsonl:1: label: found None; expected a digit, such as seven or 7"),
        (other_label, "train", r"manifest\.jsonl:1: label: found 'dog'; expected a digit"),
        (other_modality, "train", r"manifest\.jsonl:1: modality: found 'smell'; expected one of image, video"),
        (other_path, "train", r"gone\.png"),
        (no_test, "test", r"found no record of which .*'split' is test.*expected at least one"),
    ],
)
def test_each_fault_is_one_clear_error(
    tmp_path: Path, spoil: Callable[[list[dict[str, Any]]], None], split: Split, says: str
) -> None:
    manifest = write_set(tmp_path, train=10, test=10)
    records = records_of(manifest)
    spoil(records)
    write_manifest(tmp_path, records)
    with pytest.raises(ValueError, match=says):
        ManifestWorld(manifest).pool(Modality.IMAGE, split)


def test_no_manifest_and_no_medium_of_a_digit(tmp_path: Path, world: ManifestWorld) -> None:
    with pytest.raises(ValueError, match=r"none\.jsonl: found no file; expected a manifest"):
        ManifestWorld(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match=r"found no image of three in the split validation; expected at least one"):
        world.draw(Modality.IMAGE, Concept(3), "validation", np.random.default_rng(0))


def test_sources_say_the_digit_and_nothing_else(world: ManifestWorld) -> None:
    attributes = {*COLOURS, *MOTIONS}
    for source in (
        Describe(size=40, world=world),
        Draw(size=40, modalities=["image", "video", "audio"], world=world),
        AnyToAny(size=60, outputs=OUTPUTS, world=world),
        Arithmetic(size=30, world=world),
        References(size=20, modalities=OUTPUTS, world=world),
        MatrixCells(per_cell=10, outputs=OUTPUTS, world=world),
    ):
        for index in range(0, len(source), 3):
            conversation = source[index]
            assert not attributes & set(words(conversation).split()), words(conversation)
            for turn in conversation.messages:
                media = [item.media for item in turn.content if isinstance(item, MediumItem)]
                assert all(medium is not None for medium in media) or turn.role == "assistant"


def test_what_is_shown_is_what_is_said(world: ManifestWorld) -> None:
    source = Describe(size=80, world=world)
    own = {
        id(m): int(d) for modality in MEDIA for m, d in zip(*vars(world.pool(modality, "train")).values(), strict=True)
    }
    for index in range(40):
        conversation = source[index]
        (shown,) = [item.media for item in conversation.messages[0].content if isinstance(item, MediumItem)]
        answer = conversation.messages[1].content[0]
        assert isinstance(answer, TextItem) and DIGITS[own[id(shown)]] in answer.text.split()


def test_prompts_in_words_are_held_out(world: ManifestWorld) -> None:
    test = MatrixCells(per_cell=40, inputs=["text"], outputs=OUTPUTS, world=world)
    asked = {words(test[index]) for index in range(len(test))}
    trained = {
        words(Conversation(source[index].messages[:1]))
        for source in (Draw(size=1500, modalities=["image", "video", "audio"], world=world),
                       AnyToAny(size=1500, inputs=["text"], outputs=OUTPUTS, world=world))
        for index in range(len(source))
    }  # fmt: skip
    assert not asked & trained
    cells = {(test[i].details["cell"], test[i].details["expect"]["digit"]) for i in range(len(test))}
    assert cells == {(f"text->{output}", digit) for output, digit in product(("text", *DONE), range(10))} - {
        ("text->points", digit) for digit in range(10)
    }
