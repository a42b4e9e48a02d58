"""Captioned recordings: AudioCaps' test split, whose clips have five captions, and Clotho.

Sources: Kim et al., NAACL 2019, N19-1011, and https://github.com/cdjkim/audiocaps; Drossos et al., arXiv 1910.09387,
and https://zenodo.org/records/4783391.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isthmus.data.conversations.records import CsvRecords
from isthmus.data.errors import DataError, fault
from isthmus.data.formats.benchmarks.base import HeldRecords, check_pattern, read_rows
from isthmus.data.formats.benchmarks.captioned import CaptionBenchmark, Way
from isthmus.data.formats.fields import text, texts
from isthmus.types import Modality


class AudioCapsClips(CaptionBenchmark):
    """AudioCaps by clips: all rows of a clip are one conversation with as many references.

        audiocap_id,youtube_id,start_time,caption
        103549,7fmOlUlwoNg,20,Constant rattling noise and sharp vibrations

    Args:
        path: ``test.csv``.
        root: the folder of the recordings, which everybody has to collect by himself.
        file: a recording's name below ``root``, with columns in braces.
        direction: see :class:`~isthmus.data.formats.benchmarks.captioned.CaptionBenchmark`, as all below.
        instruction: what is asked.
        seed: of the choice among captions, where recordings are made.

    Raises:
        ValueError: the table lacks a column.
    """

    modality = Modality.AUDIO

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        file: str = "{youtube_id}.wav",
        direction: Way = "describe",
        instruction: str | None = None,
        seed: int = 0,
    ) -> None:
        rows = CsvRecords(path)
        check_pattern(rows.path, file, dict.fromkeys(rows.columns, ""))
        self.file = file
        super().__init__(HeldRecords(rows.path, _clips(rows)), root, direction, instruction, seed)

    def pair(self, record: Mapping[str, Any], where: str) -> tuple[str, list[str], dict[str, Any]]:
        known = {"id": record["youtube_id"], "start_time": record.get("start_time", "")}
        return self.file.format(**record), list(record["captions"]), known


class Clotho(CaptionBenchmark):
    """Recordings of 15 to 30 seconds with five captions each.

        file_name,caption_1,caption_2,caption_3,caption_4,caption_5
        Santa Motor.wav,A machine whines,...

    Args:
        path: ``clotho_captions_evaluation.csv``.
        root: the folder of the recordings, ``evaluation``.
        direction: see :class:`~isthmus.data.formats.benchmarks.captioned.CaptionBenchmark`, as all below.
        instruction: what is asked.
        seed: of the choice among captions, where recordings are made.
    """

    modality = Modality.AUDIO

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        direction: Way = "describe",
        instruction: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(CsvRecords(path), root, direction, instruction, seed)

    def pair(self, record: Mapping[str, Any], where: str) -> tuple[str, list[str], dict[str, Any]]:
        said = [caption for number in range(1, 6) for caption in texts(record, [f"caption_{number}"], where)]
        if not said:
            raise fault(where, f"found the columns {', '.join(record)[:80]}", "caption_1 to caption_5", "name them so")
        name = text(record, ["file_name"], where)
        return name, said, {"id": name}


def _clips(rows: CsvRecords) -> Iterator[tuple[str, Any]]:
    """Clips in the order of their first rows, with the captions of all of theirs; rows that can't be read apart."""
    clips: dict[str, tuple[str, Any]] = {}
    for place, row in read_rows(rows, ["youtube_id", "caption"]):
        if isinstance(row, DataError):
            clips[place] = place, row
            continue
        _, clip = clips.setdefault(f"clip {row['youtube_id']}", (place, {**row, "captions": []}))
        clip["captions"].append(row["caption"])
    yield from clips.values()
