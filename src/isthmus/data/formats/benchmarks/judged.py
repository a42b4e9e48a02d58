"""Benchmarks whose pictures a judge looks at: WISE (prompts), ImgEdit and GEdit-Bench (pictures to be changed).

:mod:`isthmus.evaluation.judged` asks the judge.

Sources: Niu et al., arXiv 2503.07265, https://github.com/PKU-YuanGroup/WISE; Ye et al., arXiv 2505.20275,
https://github.com/PKU-YuanGroup/ImgEdit; Liu et al., arXiv 2504.17761, https://huggingface.co/datasets/stepfun-ai/GEdit-Bench.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.benchmarks.base import HeldRecords, read_json
from isthmus.data.formats.benchmarks.prompted import PromptSet
from isthmus.data.formats.endings import ending_of
from isthmus.data.formats.fields import Item, given, text
from isthmus.data.formats.file_sets import listed_files
from isthmus.data.formats.table_files import TableFiles
from isthmus.data.media.stored import StoredFile
from isthmus.paths import user_path


class WISE(PromptSet):
    """1,000 prompts that take knowledge of the world.

        [{"Prompt": "...", "Explanation": "what has to be seen", "Category": "Cultural knowledge",
          "Subcategory": "Festival", "prompt_id": 1}]

    The details hold ``explanation``, ``category``, ``subcategory`` and ``prompt_id``.

    Args:
        path: ``data/cultural_common_sense.json``, ``spatio-temporal_reasoning.json``, ``natural_science.json``; or the
            folder with all of them.
        samples: pictures a prompt.
        seed: see :class:`~isthmus.data.formats.benchmarks.prompted.PromptSet`.
        instruction: the same.

    Raises:
        ValueError: a file is no JSON array, or none is there.
    """

    def __init__(self, path: str | Path, samples: int = 1, seed: int = 0, instruction: str | None = None) -> None:
        place = user_path(path)
        names = ("cultural_common_sense.json", "spatio-temporal_reasoning.json", "natural_science.json")
        files = [place / name for name in names if (place / name).is_file()] if place.is_dir() else [place]
        records = HeldRecords(place, (one for file in files for one in _array(file)))
        super().__init__(records, samples, seed, instruction)

    def prompt(self, record: Mapping[str, Any], number: int, where: str) -> tuple[str, str, dict[str, Any]]:
        name = text(record, ["prompt_id"], where)
        fields = {field.lower(): text(record, [field], where) for field in ("Explanation", "Category", "Subcategory")}
        return text(record, ["Prompt"], where), name, {"prompt_id": name, **fields}


class ImgEdit(PromptSet):
    """Pictures to be changed as they are asked to.

        {"1082": {"id": "animal/000342021.jpg", "prompt": "Change the tortoise's ...", "edit_type": "adjust"}}

    The details hold ``key`` and ``edit_type``.

    Args:
        path: ``basic_edit.json``.
        root: the folder of the pictures.
        seed: see :class:`~isthmus.data.formats.benchmarks.prompted.PromptSet`.
        instruction: the same; by default the words of the record alone.

    Raises:
        ValueError: the file is no JSON object.
    """

    def __init__(
        self, path: str | Path, root: str | Path | None = None, seed: int = 0, instruction: str = "{prompt}"
    ) -> None:
        place, found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError(
                f"{place}: found {type(found).__name__}; expected an object of edits by key. Fix: give basic_edit.json."
            )
        records = ((key, {**one, "key": key} if isinstance(one, dict) else one) for key, one in found.items())
        super().__init__(HeldRecords(place, records), 1, seed, instruction, root)

    def prompt(self, record: Mapping[str, Any], number: int, where: str) -> tuple[str, str, dict[str, Any]]:
        known = {"key": record["key"], "edit_type": text(record, ["edit_type"], where)}
        return text(record, ["prompt"], where), record["key"], known

    def given(self, record: Mapping[str, Any], where: str) -> list[Item]:
        return [given("image", text(record, ["id"], where))]


class GEditBench(PromptSet):
    """606 pictures to be changed, each asked for in English and in Chinese.

        {"key": "...", "task_type": "color_alter", "instruction": "...", "instruction_language": "en",
         "input_image": {"bytes": ...}, "Intersection_exist": true}

    The details hold ``key``, ``task_type``, ``instruction_language`` and ``intersection_exist``. Needs the extra
    ``datasets``.

    Args:
        path: the Parquet files, or their folder.
        languages: of the instructions: ``en``, ``cn``.
        seed: see :class:`~isthmus.data.formats.benchmarks.prompted.PromptSet`.
        instruction: the same; by default the words of the record alone.

    Raises:
        ValueError: no tables, or columns of other names.
    """

    def __init__(
        self, path: str | Path, languages: Sequence[str] = ("en",), seed: int = 0, instruction: str = "{prompt}"
    ) -> None:
        path = user_path(path)
        files = listed_files(path, (".parquet", ".arrow"))
        if not files:
            raise ValueError(f"{path}: found no Parquet files; expected GEdit-Bench's. Fix: correct the path.")
        tables = TableFiles(files)
        needed = ["key", "task_type", "instruction", "instruction_language", "input_image"]
        if absent := [name for name in needed if name not in tables.names]:
            raise ValueError(
                f"{path}: found the columns {', '.join(tables.names)[:200]}; expected {', '.join(absent)} too. Fix: "
                "give GEdit-Bench's tables."
            )
        tables.read = [name for name in (*needed, "Intersection_exist") if name in tables.names]
        kept = [row for row, told in enumerate(tables.column("instruction_language")) if told in languages]
        if not kept:
            raise ValueError(f"{path}: found no row in these languages; expected some. Fix: name others.")
        chosen = {"languages": list(languages)}
        super().__init__(tables, 1, seed, instruction, choice=chosen, files=files[1:], kept=kept)

    def prompt(self, record: Mapping[str, Any], number: int, where: str) -> tuple[str, str, dict[str, Any]]:
        known: dict[str, Any] = {
            field: text(record, [field], where) for field in ("key", "task_type", "instruction_language")
        }
        known["intersection_exist"] = bool(record.get("Intersection_exist"))
        return text(record, ["instruction"], where), f"{known['key']}/{known['instruction_language']}", known

    def given(self, record: Mapping[str, Any], where: str) -> list[Item]:
        picture = record.get("input_image")
        data = picture.get("bytes") if isinstance(picture, dict) else None
        if not isinstance(data, bytes):
            raise fault(f"{where}: input_image", "found no bytes", "a picture", "give the Parquet files")
        return [{"type": "image", "image": StoredFile(f"{where}: input_image{ending_of(data, 'png')}", data)}]


def _array(path: Path) -> Iterator[tuple[str, Any]]:
    place, found = read_json(path)
    if not isinstance(found, list):
        raise ValueError(f"{place}: found {type(found).__name__}; expected an array of prompts. Fix: give WISE's file.")
    yield from ((f"{place.name}[{number}]", one) for number, one in enumerate(found))
