"""NExT-GPT's text-to-medium pairs: version 1's plain captions, version 2's comprehension and generation files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.data.conversations.records import JsonRecords
from isthmus.data.errors import fault
from isthmus.data.formats.base import RecordSource
from isthmus.data.formats.captions import Captions, Direction
from isthmus.data.formats.fields import mapping, text
from isthmus.data.formats.filters import kept_records
from isthmus.data.formats.nextgpt_marked import marked_dialogue
from isthmus.modalities import known_media


class NextGPTPairs(RecordSource):
    r"""``cc3m.json``, ``webvid.json``, ``audiocap.json``, and their ``_comprehension`` and ``_generation`` files.

        {"caption": "...", "id": "1", "image_name": "1.jpg"}
        {"input_image": "1.jpg", "conversations": [{"from": "human", "value": "<image>\n..."}, {"from": "gpt", ...}]}
        {"output_image": "1.jpg", "image_captions": "...", "conversations": [..., {"from": "gpt", "value": "<image>"}]}

    Caption embeddings are not read: they are made anew from the captions.

    Args:
        path: the JSON file.
        root: the folder of its media (``cc3m/images``, ``webvid/videos``, ``audiocap/audios``).
        direction: of a plain pair; files with dialogues say it themselves.
        describe: instructions instead of the built-in ones.
        draw: the same for media to be made, each with ``{caption}``.
        seed: of the choice among instructions.
        splits: only records whose ``split`` is one of these.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: see :class:`~isthmus.data.formats.caption_table.CaptionTable`.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        splits: Sequence[str] | None = None,
        target_files: bool = True,
    ) -> None:
        records = JsonRecords(path)
        super().__init__(records, root, target_files, kept_records(records, {"split": splits}))
        self.captions = Captions(direction, describe, draw, seed)

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        if "conversations" in record or "conversation" in record:
            return marked_dialogue(record, where)
        modality = next((kind for kind in known_media() if f"{kind}_name" in record), None)
        if modality is None:
            names = ", ".join(map(str, list(record)[:8])) or "nothing"
            raise fault(where, f"found the fields {names}", "image_name, video_name or audio_name", "name the file so")
        name = text(record, [f"{modality}_name"], where)
        caption = text(record, ["caption"], where)
        chat = self.captions.chat(modality, name, caption, index, where)
        return {**chat, "id": text(record, ["id", "audio_id"], where, default=name)}
