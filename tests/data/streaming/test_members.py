"""A conversation's part of a shard: there and back, and hostile archives."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import numpy as np
import pytest
from data.conversations import assistant, picture, tone, user
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.batching.pairs import Pair
from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.data.streaming.members import END, pack, unpack
from isthmus.data.streaming.records import as_record
from isthmus.modalities import MEDIA
from isthmus.types import Media, Modality

LIMITS = MediaLimits()
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
stored = st.builds(StoredFile, st.sampled_from(["a.PNG", "b.wav", "c", "d.sh;x"]), st.binary(max_size=1500))
items = st.one_of(
    st.builds(TextItem, texts),
    st.builds(MediumItem, st.sampled_from(MEDIA), stored, st.sampled_from(["a cat", "ein Öl"])),
)
messages = st.builds(
    Message, st.sampled_from(["system", "user", "assistant"]), st.lists(items, min_size=1, max_size=3).map(tuple)
)
details = st.dictionaries(texts, st.one_of(st.integers(), texts, st.none(), st.lists(st.booleans())), max_size=3)


def contents(conversation: Conversation) -> Any:
    return [
        (
            message.role,
            [
                item.text if isinstance(item, TextItem) else (item.modality, item.caption, item.media.data)  # type: ignore[union-attr]
                for item in message.content
            ],
        )
        for message in conversation.messages
    ], conversation.details


@given(st.builds(Conversation, st.lists(messages, min_size=1, max_size=3).map(tuple), details))
def test_there_and_back(conversation: Conversation) -> None:
    data = pack("000000007", as_record(conversation, "here", LIMITS))
    assert len(data) % tarfile.BLOCKSIZE == 0
    assert contents(unpack(data, "there")) == contents(conversation)
    with tarfile.open(fileobj=io.BytesIO(data + END)) as archive:
        assert all(name.startswith("000000007.") for name in archive.getnames())


def test_a_file_that_stands_twice_is_stored_once() -> None:
    file = StoredFile("a.png", b"1234")
    medium = MediumItem(Modality.IMAGE, file)
    record = as_record(Conversation((user(medium, medium), assistant("yes"))), "here", LIMITS)
    assert record.files == [(".png", b"1234")] and record.media == {"image"}
    other = as_record(
        Conversation((user(MediumItem(Modality.AUDIO, tone()), MediumItem(Modality.IMAGE, picture(3))),)),
        "here",
        LIMITS,
    )
    assert [suffix for suffix, _ in other.files] == [".wav", ".png"] and other.media == {"image", "audio"}


@pytest.mark.parametrize("modality", MEDIA)
def test_what_is_in_memory_alone_is_written_without_loss(modality: Modality) -> None:
    draw = np.random.default_rng(1)
    array, rate = {
        Modality.IMAGE: (draw.integers(0, 255, (5, 7, 3), np.uint8), None),
        Modality.VIDEO: (draw.integers(0, 255, (6, 15, 13, 3), np.uint8), 4.32),
        Modality.AUDIO: (draw.random(99, np.float32) * 2 - 1, 16000.0),
        Modality.POINTS: (draw.random((9, 6), np.float32), None),
    }[modality]
    conversation = Conversation((user(MediumItem(modality, Media(modality, array, rate=rate))),))
    (item,) = unpack(pack("1", as_record(conversation, "here", LIMITS)), "there").messages[0].content
    assert isinstance(item, MediumItem) and isinstance(item.media, StoredFile)
    media = read_media(item.media, modality)
    assert np.array_equal(media.array, array) and media.source == item.media.name
    assert media.rate == (rate and pytest.approx(rate, rel=1e-3))


@pytest.mark.parametrize(
    ("conversation", "said"),
    [
        (Pair((user("a"), assistant("b")), rejected=assistant("c")), "found a Pair"),
        (Conversation((user("a"),), {"f": print}), "details: found what JSON can't hold"),
        (Conversation((user("a"),), {"f": float("nan")}), "details: found what JSON can't hold"),
    ],
)
def test_what_shards_cannot_hold_is_refused(conversation: Conversation, said: str) -> None:
    with pytest.raises(DataError, match=f"^here.*{said}.* Fix: ") as caught:
        as_record(conversation, "here", LIMITS)
    assert caught.value.fault is Fault.SCHEMA


def archive(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, data in files.items():
            head = tarfile.TarInfo(name)
            head.size, head.type = len(data), kind
            made.addfile(head, io.BytesIO(data))
    return out.getvalue()


def told(medium: Any) -> bytes:
    item = {"type": "image", "image": medium}
    return json.dumps({"messages": [{"role": "user", "content": [item]}]}).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "found no files"),
        (b"\1" * 700, "found no files"),
        (archive({"1.json": b"{"}), "found no JSON in 1.json"),
        (archive({"1.json": b"[" * 100_000}), "found no JSON in 1.json"),
        (archive({"1.json": b"[]"}), "expected a mapping"),
        (archive({"1.json": b"{}", "2.json": b"{}"}), "found 2 conversations"),
        (archive({"1.json": told("/etc/passwd")}), "found the medium '/etc/passwd', which isn't beside"),
        (archive({"1.json": told("../1.0.png"), "1.0.png": b"x"}), r"found the medium '\.\./1\.0\.png'"),
        (archive({"1.json": told(["1.0.png"]), "1.0.png": b"x"}), "found the medium"),
        (archive({"1.json": b"{}"}, tarfile.SYMTYPE), "isn.t a plain file"),
        (archive({"1.json": b"{}" + b" " * 2000})[:1024], "truncated"),
    ],
    ids=range(11),
)
def test_hostile_parts_are_data_errors(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=f"^there.*{said}") as caught:
        unpack(data, "there")
    assert "Fix: " in str(caught.value)


@given(st.binary(max_size=40), st.integers(0, 2000))
def test_no_damage_gets_past_as_another_error(noise: bytes, at: int) -> None:
    conversation = Conversation((user("hello", MediumItem(Modality.IMAGE, StoredFile("a.png", b"123"))),))
    data = bytearray(pack("1", as_record(conversation, "here", LIMITS)))
    data[at : at + len(noise)] = noise
    try:
        plainly = unpack(bytes(data), "there")
    except DataError:
        return
    assert plainly.messages
