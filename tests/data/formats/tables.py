"""Tables of the shapes that sets on the hub have, made with the library itself."""

from __future__ import annotations

import io
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor

from isthmus.data.conversations.schema import Conversation, MediumItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.media.stored import StoredFile
from isthmus.types import Media

TURNS = datasets.List({"from": datasets.Value("string"), "value": datasets.Value("string")})
PAIRS = datasets.List({name: datasets.Value("string") for name in ("user", "assistant", "source")})
TEXT = datasets.Value("string")


def picture(number: int, ending: str = "png") -> bytes:
    file = io.BytesIO()
    draw = np.random.default_rng(number)
    Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(file, {"jpg": "JPEG"}.get(ending, ending))
    return file.getvalue()


def sound(number: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(number).random(400) - 0.5, 8000, format="WAV")
    return file.getvalue()


def onevision() -> datasets.Dataset:
    """Of lmms-lab/LLaVA-OneVision-Data: turns with marks, one picture or none."""
    rows = [
        {
            "id": f"n{i}",
            "image": None if i == 2 else {"bytes": picture(i), "path": None},
            "conversations": [
                {"from": "human", "value": "Only words?" if i == 2 else "<image>\nWhat is it?"},
                {"from": "gpt", "value": f"It is {i}, an <image> tag."},
            ],
            "data_source": "made",
        }
        for i in range(5)
    ]
    features = {"id": TEXT, "image": datasets.Image(), "conversations": TURNS, "data_source": TEXT}
    return datasets.Dataset.from_list(rows, datasets.Features(features))


def cauldron() -> datasets.Dataset:
    """Of HuggingFaceM4/the_cauldron: pictures, and pairs of a question and an answer about all of them."""
    rows = [
        {
            "images": [{"bytes": picture(10 * i + j, "jpg"), "path": None} for j in range(1 + i % 2)],
            "texts": [{"user": f"Question {j}?", "assistant": f"Answer {j}.", "source": "made"} for j in range(1 + i)],
        }
        for i in range(3)
    ]
    return datasets.Dataset.from_list(rows, datasets.Features(images=datasets.List(datasets.Image()), texts=PAIRS))


def blip3o(split: str = "train") -> datasets.Dataset:
    """Of BLIP3o's pretraining sets: pictures and long captions under the names that files in a tar have."""
    rows = [
        {"jpg": {"bytes": picture(i, "jpg"), "path": None}, "txt": f" a caption of {split} {i} ", "__key__": f"{i:05d}"}
        for i in range(4)
    ]
    features = datasets.Features(jpg=datasets.Image(), txt=TEXT, __key__=TEXT)
    return datasets.Dataset.from_list(rows, features)


def plain(conversation: Conversation) -> list[Any]:
    """Turns as (role, pieces): texts as they are, media as (modality, bytes or path, caption)."""
    told = []
    for message in conversation.messages:
        pieces: list[Any] = []
        for item in message.content:
            if isinstance(item, MediumItem):
                medium = item.media
                pieces.append((str(item.modality), getattr(medium, "data", medium), item.caption))
            else:
                pieces.append(item.text)
        told.append((message.role, pieces))
    return told


def stored(source: ConversationSource, index: int) -> list[StoredFile]:
    """The files inside a record."""
    items = [item for message in source[index].messages for item in message.content]
    return [item.media for item in items if isinstance(item, MediumItem) and isinstance(item.media, StoredFile)]


def saved(table: datasets.Dataset, folder: Path, form: str) -> Path:
    """A set as one of the forms that are read."""
    path = folder / {"disk": "saved", "arrow": "a.arrow", "file": "b.feather"}.get(form, "a.parquet")
    match form:
        case "disk":
            table.save_to_disk(str(path), num_shards=2)
        case "arrow":
            _stream(table, path)
        case "file":
            import pyarrow

            with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, table.data.schema) as writer:
                writer.write_table(table.data.table, max_chunksize=2)
        case _:
            table.to_parquet(str(path), batch_size=2)
    return path


def _stream(table: datasets.Dataset, path: Path) -> None:
    import pyarrow

    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.data.schema) as writer:
        writer.write_table(table.data.table, max_chunksize=2)


def digest(medium: Media) -> dict[str, Tensor]:
    """Stands for all that a medium decodes to."""
    said = blake2b(medium.array.tobytes(), digest_size=16)
    # A file keeps a rate as a fraction: as a float, its last bit may be another than that of a division.
    rate = None if medium.rate is None else round(medium.rate, 9)
    said.update(f"{medium.modality} {medium.array.dtype} {medium.array.shape} {rate}".encode())
    return {"digest": torch.tensor(list(said.digest()))}


def two(modality: str, inputs: Mapping[str, Tensor]) -> int:
    return 2
