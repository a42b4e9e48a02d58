"""MSR-VTT: short films with twenty captions each, by its own splits or those of retrieval (1k-A).

Sources: Xu et al., CVPR 2016; the split 1k-A of Yu et al., arXiv 1808.02559, as ``MSRVTT_JSFUSION_test.csv`` of
https://github.com/ArrowLuo/CLIP4Clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.conversations.records import CsvRecords
from isthmus.data.errors import DataError, fault
from isthmus.data.formats.benchmarks.base import HeldRecords, check_pattern, read_lists, read_rows
from isthmus.data.formats.benchmarks.captioned import CaptionBenchmark, Way
from isthmus.data.formats.fields import text, texts
from isthmus.paths import user_path
from isthmus.types import Modality


class MSRVTT(CaptionBenchmark):
    """Films of 10 to 30 seconds.

        {"videos": [{"video_id": "video0", "category": 9, "split": "train"}],
         "sentences": [{"video_id": "video0", "sen_id": 0, "caption": "a car is shown"}]}       MSRVTT_data.json
        key,vid_key,video_id,sentence
        ret0,msr9770,video9770,a person is connecting something to system                       MSRVTT_JSFUSION_test.csv

    Args:
        path: the JSON file (``MSRVTT_data.json``, ``test_videodatainfo.json``), or the table alone: then a film's one
            sentence is its caption.
        root: the folder of the films.
        table: of 1k-A: only its films, in its order, with all captions of the JSON file; the table's own is the detail
            ``sentence``.
        splits: of the JSON file's films, where no table is given; all if None.
        file: a film's name below ``root``, with ``{video_id}``.
        direction: see :class:`~isthmus.data.formats.benchmarks.captioned.CaptionBenchmark`, as all below.
        instruction: what is asked.
        seed: of the choice among captions, where films are made.

    Raises:
        ValueError: a file is of another form, a pattern of files with other names, or no film of these splits.
    """

    modality = Modality.VIDEO

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        table: str | Path | None = None,
        splits: Sequence[str] | None = ("test",),
        file: str = "{video_id}.mp4",
        direction: Way = "describe",
        instruction: str | None = None,
        seed: int = 0,
    ) -> None:
        alone = user_path(path).suffix.lower() == ".csv"
        shown = path if alone else table
        rows = [] if shown is None else list(read_rows(CsvRecords(shown), ["video_id", "sentence"]))
        films: Films = {}
        if alone:
            place, records = user_path(path), rows
        else:
            place, found = read_lists(path, ["videos", "sentences"])
            films = _films(found["videos"], found["sentences"])
            records = list(_listed(place, films, rows) if rows else _of_splits(films, splits))
        check_pattern(place, file, {"video_id": ""})
        if not records:
            there = ", ".join(dict.fromkeys(str(film.get("split")) for _, film in films.values()))
            raise ValueError(
                f"{place}: splits: found films of {there or 'none'}; expected some of {', '.join(splits or ())}. Fix: "
                "name others, or give the table."
            )
        self.file = file
        files = [] if alone or table is None else [user_path(table)]
        chosen = {"splits": None if rows else list(splits or [])}
        super().__init__(HeldRecords(place, records), root, direction, instruction, seed, chosen, files)

    def pair(self, record: Mapping[str, Any], where: str) -> tuple[str, list[str], dict[str, Any]]:
        name = text(record, ["video_id"], where)
        sentence = text(record, ["sentence"], where, default="")
        said = texts(record, ["captions"], where) or [sentence]
        known = {"id": name, **({"category": record["category"]} if "category" in record else {})}
        return self.file.format(video_id=name), said, known | ({"sentence": sentence} if sentence else {})


Films = Mapping[str, tuple[str, dict[str, Any]]]


def _films(videos: Sequence[Any], sentences: Sequence[Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    captions: dict[str, list[Any]] = {}
    for one in sentences:
        if isinstance(one, dict):
            captions.setdefault(str(one.get("video_id")), []).append(one.get("caption"))
    found = {}
    for number, video in enumerate(videos):
        own = video if isinstance(video, dict) else {}
        name = str(own.get("video_id", f"videos[{number}]"))
        found[name] = f"videos[{number}]", {**own, "captions": captions.get(name, [])}
    return found


def _listed(path: Path, films: Films, rows: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for place, row in rows:
        if isinstance(row, DataError):
            yield place, row
        elif row["video_id"] in films:
            yield place, {**films[row["video_id"]][1], **row}
        else:
            found = f"found {row['video_id'][:40]!r}, which {path} lacks"
            yield place, fault(f"table: {place}", found, "its captions there", "give the JSON file of these films")


def _of_splits(films: Films, splits: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    for place, film in films.values():
        if not splits or str(film.get("split")) in splits:
            yield place, film
