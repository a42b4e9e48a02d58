"""Small sets of real files, and the same as shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.conversations.schema import Conversation, MediumItem
from isthmus.data.conversations.sources import ConversationSource, JsonLines
from isthmus.data.media.files import read_media, save_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.data.streaming.records import as_record
from isthmus.data.streaming.storage import Storage
from isthmus.data.streaming.writer import ShardWriter
from isthmus.types import Media, Modality

FILES = {Modality.IMAGE: "png", Modality.VIDEO: "mp4", Modality.AUDIO: "wav", Modality.POINTS: "npy"}


def media_files(folder: Path) -> None:
    """A file of each modality."""
    draw = np.random.default_rng(0)
    picture = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    save_media(Media(Modality.IMAGE, picture), folder / "a.png")
    save_media(Media(Modality.VIDEO, np.stack([picture] * 4).repeat(4, 1).repeat(4, 2), rate=5.0), folder / "a.mp4")
    save_media(Media(Modality.AUDIO, draw.random(64, dtype=np.float32) - 0.5, rate=8000.0), folder / "a.wav")
    save_media(Media(Modality.POINTS, draw.random((5, 3), dtype=np.float32)), folder / "a.npy")


def records(count: int) -> list[dict[str, Any]]:
    """Conversations of text and of each modality in turn, given or made."""
    found = []
    kinds = [None, *FILES]
    for i in range(count):
        kind = kinds[i % len(kinds)]
        words = {"type": "text", "text": f"number {i} ÿ\u2028"}
        user: list[Any] = [words]
        assistant: list[Any] = [{"type": "text", "text": f"yes {i}"}]
        if kind is not None:
            item = {"type": str(kind), str(kind): f"a.{FILES[kind]}"}
            if i % 2:
                user.insert(0, item)
            else:
                assistant.append(item | {"caption": f"a {kind}"})
        turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        found.append({"messages": turns, "id": f"n{i}", "split": "train"})
    return found


def lines(folder: Path, count: int) -> Path:
    """A file of so many conversations beside its media."""
    folder.mkdir(parents=True, exist_ok=True)
    media_files(folder)
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records(count)), encoding="utf-8")
    return path


def sharded(source: ConversationSource, address: str, largest: int = 8 << 10, job: str = "test") -> str:
    """The set as shards at an address."""
    writer = ShardWriter(Storage(address), {"name": job}, largest)
    if writer.manifest.complete:
        return address
    for index in range(len(source)):
        writer.add(as_record(source[index], source.where(index), MediaLimits()))
    writer.finish()
    return address


def plain(conversation: Conversation) -> Any:
    """What a conversation says and shows: a medium by its ending, its bytes and what they decode to."""
    told = []
    for message in conversation.messages:
        content: list[Any] = []
        for item in message.content:
            if not isinstance(item, MediumItem):
                content.append(item.text)
                continue
            file = item.media
            if file is None:
                content.append((item.modality, item.caption))
                continue
            assert isinstance(file, Path | StoredFile)
            data = file.data if isinstance(file, StoredFile) else file.read_bytes()
            media = read_media(file, item.modality)
            content.append((item.modality, item.caption, file.suffix, data, media.array.tobytes(), media.rate))
        told.append((message.role, content))
    return told, conversation.details


def same(one: ConversationSource, other: ConversationSource) -> bool:
    """Whether two sources hold the same."""
    return len(one) == len(other) and all(plain(one[i]) == plain(other[i]) for i in range(len(one)))


def small(folder: Path, count: int = 23) -> JsonLines:
    """The set as files."""
    return JsonLines(lines(folder, count))
