"""Spoken digits and requests: what is said, by which voices, and how recordings are kept."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.media.deferred import DeferredMedia
from isthmus.pocket.talk.speech import Dictation, SpokenDigits, SpokenRequests
from isthmus.pocket.talk.speech.espeak import PROGRAM, spoken
from isthmus.pocket.talk.speech.sources import FIGURE
from isthmus.pocket.talk.speech.voices import ACCENTS, PITCHES, SPEEDS, VARIANTS, Voice, draw_voice
from isthmus.pocket.world import DIGITS
from isthmus.types import Media, Modality

needs_espeak = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} isn't installed")
VOICE = Voice("en-us+f3", 150, 50)


def recording(conversation: Conversation) -> Media:
    item = conversation.messages[0].content[0]
    assert isinstance(item, MediumItem) and isinstance(item.media, Media)
    return item.media


def question(conversation: Conversation) -> str:
    item = conversation.messages[0].content[1]
    assert isinstance(item, TextItem)
    return item.text


def test_splits_share_no_voice() -> None:
    for values in (VARIANTS, SPEEDS, PITCHES):
        train, validation, test = (set(values[split]) for split in ("train", "validation", "test"))  # type: ignore[index]
        assert not train & validation and not train & test and not validation & test and len(train) > len(test) > 1
    random = np.random.default_rng(0)
    drawn = [draw_voice("test", random) for _ in range(200)]
    assert {voice.name.split("+")[1] for voice in drawn} == set(VARIANTS["test"])
    assert {voice.name.split("+")[0] for voice in drawn} == set(ACCENTS)


def test_digits_alternate_and_are_told_in_words() -> None:
    source = SpokenDigits("test", size=20)
    for index in range(20):
        conversation = source[index]
        assert question(conversation)[0].isupper()
        (said,) = conversation.messages[1].content
        assert isinstance(said, TextItem) and said.text == f"You said {DIGITS[index % 10]}."
        assert conversation.details["expect"] == [{"digit": index % 10}] and conversation.details["media"] == []
    questions = {
        split: {SpokenDigits(split, 60)[i].messages[0].content[1].text for i in range(60)} for split in VARIANTS
    }  # type: ignore[union-attr]
    assert not questions["train"] & questions["test"] and len(questions["train"]) > 4


def test_requests_ask_for_each_medium_in_turn() -> None:
    source = SpokenRequests("validation", size=40)
    seen = []
    for index in range(40):
        conversation = source[index]
        assert recording(conversation).modality is Modality.AUDIO and len(conversation.messages[0].content) == 1
        (made,) = (item for item in conversation.messages[1].content if isinstance(item, MediumItem))
        seen.append(made.modality)
        assert conversation.details["media"] == [str(made.modality)] and made.caption
        assert DIGITS[conversation.details["expect"][0]["digit"]] in made.caption
    assert seen[:4] == [Modality.IMAGE, Modality.VIDEO, Modality.AUDIO, Modality.POINTS] and seen[4:8] == seen[:4]
    assert [SpokenRequests("test", 4, modalities=["audio"])[1].details["media"]] == [["audio"]]


def test_dictation_writes_down_what_other_sources_say() -> None:
    source, digits, requests = (
        Dictation("validation", 40),
        SpokenDigits("validation", 40),
        SpokenRequests("validation", 40),
    )

    def content(conversation: Conversation) -> str:
        item = conversation.messages[0].content[0]
        assert isinstance(item, MediumItem) and isinstance(item.media, DeferredMedia)
        return item.media.content

    written = []
    for index in range(40):
        conversation = source[index]
        assert len(conversation.messages[0].content) == 1
        (said,) = conversation.messages[1].content
        assert isinstance(said, TextItem) and not re.search(r"\b[0-9]\b", said.text)
        written.append(said.text)
    for index in range(5):
        assert content(source[8 * index]) == content(digits[index])
        assert [content(source[8 * index + place]) for place in (1, 3, 4, 6, 7)] == [
            content(requests[5 * index + place]) for place in range(5)
        ]
    words, *_ = requests.turn(0, requests.random(0))
    assert written[1] == FIGURE.sub(lambda found: DIGITS[int(found[0])], words)
    assert len({written[8 * index + place] for index in range(5) for place in (2, 5)}) == 10, "plain prompts"
    assert FIGURE.sub("x", "1, 22, 3.5 and 4? a5") == "x, 22, 3.5 and x? a5"
    with pytest.raises(IndexError):
        source[40]


@needs_espeak
def test_recordings_are_made_on_first_use_kept_and_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "speech"
    medium = spoken("draw a seven", VOICE, folder)
    assert not folder.exists(), "nothing is made before it is used"
    assert medium.rate == 22050 and 0.5 < len(medium.array) / medium.rate < 3 and np.abs(medium.array).max() > 0.05
    (file,) = folder.iterdir()
    before = (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
    again = spoken("draw a seven", VOICE, folder)
    assert np.array_equal(again.array, medium.array) and again.content == medium.content  # type: ignore[attr-defined]
    assert (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns) == before
    other = spoken("draw a seven", VOICE, tmp_path / "other")
    assert np.array_equal(other.array, medium.array)
    assert len(spoken("draw a seven", Voice("en-us+m1", 190, 30), folder).array) < len(medium.array)
    assert len(list(folder.iterdir())) == 2
    assert len(spoken("-7 --help", VOICE, folder).array) > 1000, "words aren't options"


@needs_espeak
def test_every_voice_sounds_like_no_other(tmp_path: Path) -> None:
    variants = [variant for own in VARIANTS.values() for variant in own]
    voices = [Voice(f"{accent}+{variant}", 180, 50) for accent in ACCENTS for variant in variants]
    sounds = {hashlib.sha256(spoken("seven", voice, tmp_path).array.tobytes()).hexdigest() for voice in voices}
    assert len(sounds) == len(voices), "a name that espeak-ng doesn't know is said by another voice, without an error"


@needs_espeak
def test_a_conversation_is_the_same_each_time(tmp_path: Path) -> None:
    one, again = (SpokenRequests("train", 8, folder=tmp_path / name)[3] for name in ("a", "b"))
    assert np.array_equal(recording(one).array, recording(again).array) and one.details == again.details


def test_a_machine_without_espeak_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    medium = recording(SpokenDigits("train", 1, folder=tmp_path / "speech")[0])
    with pytest.raises(ValueError, match=r"found no espeak-ng on this machine.*apt-get install espeak-ng"):
        medium.array  # noqa: B018
