"""A whole NExT-GPT data folder, version 1 or 2, as one set."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate
from pathlib import Path

from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.formats.base import RecordSource
from isthmus.data.formats.captions import Direction
from isthmus.data.formats.nextgpt_instructions import NextGPTInstructions
from isthmus.data.formats.nextgpt_pairs import NextGPTPairs
from isthmus.paths import user_path
from isthmus.types import Modality

_PAIRS = {"cc3m": "images", "webvid": "videos", "audiocap": "audios"}
_FOLDERS = {"image": "images", "video": "videos", "audio": "audios"}


class NextGPTFolder(ConversationSource):
    """Every set below ``T-X_pair_data`` (version 1) or ``T_X_pair_data`` (version 2), and below ``IT_data``.

    Of ``cc3m``, ``webvid`` and ``audiocap`` the comprehension and generation files are read where they are there, else
    the plain pairs, with media in ``images``, ``videos`` and ``audios`` beside them. Media of ``IT_data`` lie beside
    their JSON file or in folders of these names; name :class:`NextGPTInstructions` itself where they lie elsewhere.

    Args:
        path: the folder that holds these.
        direction: of plain pairs.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: nothing of it is there.
    """

    def __init__(self, path: str | Path, direction: Direction = "both", target_files: bool = True) -> None:
        self.path = user_path(path)
        self.name = self.path.name
        self.parts: list[RecordSource] = []
        for folder in (self.path / "T-X_pair_data", self.path / "T_X_pair_data"):
            for kind, media in _PAIRS.items():
                told = [folder / kind / f"{kind}_{way}.json" for way in ("comprehension", "generation")]
                found = [file for file in told if file.is_file()] or [folder / kind / f"{kind}.json"]
                root = folder / kind / media
                self.parts += [
                    NextGPTPairs(file, root if root.is_dir() else None, direction, target_files=target_files)
                    for file in found
                    if file.is_file()
                ]
        for file in sorted((self.path / "IT_data").rglob("*.json")):
            folders = {kind: name for kind, name in _FOLDERS.items() if (file.parent / name).is_dir()}
            self.parts.append(NextGPTInstructions(file, None, folders, target_files))
        if not self.parts:
            raise ValueError(
                f"{self.path}: found none of NExT-GPT's sets; expected T-X_pair_data, T_X_pair_data or IT_data in it. "
                "Fix: give the folder that holds them."
            )
        self._ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def files(self) -> Sequence[Path]:
        return [file for part in self.parts for file in part.files]

    def __getitem__(self, index: int) -> Conversation:
        part, place = self._at(index)
        return part[place]

    def media_in(self, index: int) -> Collection[Modality]:
        part, place = self._at(index)
        return part.media_in(place)

    def where(self, index: int) -> str:
        part, place = self._at(index)
        return part.where(place)

    def _at(self, index: int) -> tuple[RecordSource, int]:
        index = range(len(self))[index]
        number = bisect_right(self._ends, index)
        return self.parts[number], index - (self._ends[number - 1] if number else 0)
