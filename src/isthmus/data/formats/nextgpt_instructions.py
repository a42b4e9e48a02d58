"""NExT-GPT's instruction data: T+X-T, T-T+X (LLaVA and VideoChat among them) and MosIT, raw and prepared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.data.conversations.records import JsonRecords
from isthmus.data.errors import fault
from isthmus.data.formats.base import RecordSource
from isthmus.data.formats.fields import Item, given, made, mapping, text, turns
from isthmus.data.formats.nextgpt_marked import marked_dialogue
from isthmus.modalities import is_medium, known_media

_NAMES = ("mm_name", "image_name", "video_name", "audio_name", "image", "video", "audio")
_TAG = re.compile(r"<(Image|Video|Audio)>(.*?)</\1>", re.DOTALL)
_LISTS = {"image": "image_list", "video": "video_list", "audio": "audio_list"}


class NextGPTInstructions(RecordSource):
    """The JSON files below ``IT_data``. Which of the three forms a record has is seen from its fields.

        version 1  {"mm_name": "1.jpg", "conversation": [{"from": "human", "value": "...", "input_modality": "image"},
                    {"from": "gpt", "value": "...", "caption": "...", "output_modality": "text"}]}
        version 2  {"image_captions": ["..."], "conversations": [..., {"from": "gpt", "value": "Here: <image>"}]}
        MosIT      {"image_list": [{"image_name": "1.jpg", "caption": "..."}], "video_list": [], "audio_list": [],
                    "conversation": [{"from": "human", "value": "See: <Image>1.jpg</Image>"}, ...]}

    Version 1 names one file a record. It stands in the first turn that declares it, and isn't repeated at later ones.

    Args:
        path: the JSON file.
        root: the folder of its media.
        folders: the folder below ``root`` by modality, as ``{image: images, audio: audios}``.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: a modality in ``folders`` that isn't one; or see
            :class:`~isthmus.data.conversations.records.Records`.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        folders: Mapping[str, str] | None = None,
        target_files: bool = True,
    ) -> None:
        super().__init__(JsonRecords(path), root, target_files)
        self.folders = dict(folders or {})
        for kind in self.folders:
            if not is_medium(kind):
                known = ", ".join(known_media())
                raise ValueError(f"folders: found {kind!r}; expected one of {known}. Fix: rename it.")

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        if any(name in record for name in _LISTS.values()):
            return {"messages": self._tagged(record, where)}
        fields = {key for turn, _, _ in turns(record, ("conversations", "conversation"), where) for key in turn}
        if fields & {"input_modality", "output_modality"} or any(name in record for name in _NAMES):
            return {"messages": self._declared(record, where)}
        return marked_dialogue(record, where, self.folders)

    def _declared(self, record: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        """Version 1: each turn says of which modality its medium is; the record names the file."""
        name = text(record, [*_NAMES, "source_data"], where, default="")
        messages = []
        for turn, role, place in turns(record, ("conversation", "conversations"), where):
            said = text(turn, ["value"], place)
            # A prepared file's marks say only what the fields say too.
            content: list[Item] = [{"type": "text", "text": re.sub(r"<(image|video|audio)>\n?", "", said)}]
            field = "output_modality" if role == "assistant" else "input_modality"
            kind = text(turn, [field], place, default="text")
            if kind != "text" and not is_medium(kind):
                known = ", ".join(("text", *known_media()))
                raise fault(f"{place}.{field}", f"found {kind!r}", known, "rename the modality")
            folder = self.folders.get(kind, "")
            if kind != "text" and role == "assistant":
                content.append(made(kind, text(turn, ["caption"], place), name or None, folder))
                name = ""
            elif kind != "text" and name:
                content.insert(0, given(kind, name, folder))
                name = ""
            elif kind != "text" and not any(key in record for key in _NAMES):
                raise fault(place, f"found a turn with {kind}, and no file in the record", "mm_name", "name the file")
            messages.append({"role": role, "content": content})
        return messages

    def _tagged(self, record: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        """MosIT: files stand in tags within the turns, their captions in lists beside them."""
        captions = {}
        for kind, field in _LISTS.items():
            for i, entry in enumerate(record.get(field) or []):
                place = f"{where}: {field}[{i}]"
                described = mapping(entry, place)
                captions[text(described, [f"{kind}_name"], place)] = text(described, ["caption"], place)
        messages = []
        for turn, role, place in turns(record, ("conversation", "conversations"), where):
            said, content, last = text(turn, ["value"], place), list[Item](), 0
            for tag in _TAG.finditer(said):
                kind, name = tag[1].lower(), tag[2].strip()
                content += _words(said[last : tag.start()])
                last = tag.end()
                if role != "assistant":
                    content.append(given(kind, name, self.folders.get(kind, "")))
                    continue
                if name not in captions:
                    raise fault(
                        place, f"found {name!r}, which no list names", f"it in {_LISTS[kind]}", "caption it there"
                    )
                content.append(made(kind, captions[name], name, self.folders.get(kind, "")))
            content += _words(said[last:])
            messages.append({"role": role, "content": content or [{"type": "text", "text": said}]})
        return messages


def _words(piece: str) -> list[Item]:
    return [{"type": "text", "text": piece.strip("\r\n")}] if piece.strip() else []
