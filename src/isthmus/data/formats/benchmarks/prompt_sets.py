"""Prompts of GenEval, DPG-Bench, VBench and T2I-CompBench, which have scorers of their own.

:mod:`isthmus.evaluation.exports` writes the answers as these expect them.

Sources: Ghosh et al., arXiv 2310.11513, https://github.com/djghosh13/geneval; Hu et al., arXiv 2403.05135,
https://github.com/TencentQQGYLab/ELLA; Huang et al., arXiv 2311.17982, https://github.com/Vchitect/VBench; Huang et
al., arXiv 2307.06350, https://github.com/Karine-Huang/T2I-CompBench.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.data.conversations.records import JsonRecords
from isthmus.data.formats.benchmarks.base import HeldRecords, read_each
from isthmus.data.formats.benchmarks.prompted import PromptSet
from isthmus.data.formats.fields import text, texts
from isthmus.modalities import Modality
from isthmus.paths import user_path


class GenEval(PromptSet):
    """553 prompts on objects, their number, colours and places.

        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}

    The details hold the whole record as ``metadata``.

    Args:
        path: ``prompts/evaluation_metadata.jsonl``.
        samples: pictures a prompt; the paper's figures are of 4.
        seed: see :class:`~isthmus.data.formats.benchmarks.prompted.PromptSet`.
        instruction: the same.
    """

    def __init__(self, path: str | Path, samples: int = 4, seed: int = 0, instruction: str | None = None) -> None:
        super().__init__(JsonRecords(path), samples, seed, instruction)

    def prompt(self, record: Mapping[str, Any], number: int, where: str) -> tuple[str, str, dict[str, Any]]:
        return text(record, ["prompt"], where), f"{number:05d}", {"metadata": dict(record)}


class DPGBench(PromptSet):
    """1,065 long prompts, a text file each, such as ``partiprompts0.txt``; its name is a prompt's ``key``.

    Args:
        path: the folder ``dpg_bench/prompts``.
        samples: pictures a prompt, of which the scorer is given one grid; the paper's figures are of 4.
        seed: see :class:`~isthmus.data.formats.benchmarks.prompted.PromptSet`.
        instruction: the same.

    Raises:
        ValueError: no such folder, or no text files in it.
    """

    def __init__(self, path: str | Path, samples: int = 4, seed: int = 0, instruction: str | None = None) -> None:
        folder = user_path(path)
        files = sorted(folder.glob("*.txt"))
        records = ((file.name, {"key": file.stem, "prompt": _words(file)}) for file in files)
        super().__init__(HeldRecords(folder, records), samples, seed, instruction)

    def prompt(self, record: Mapping[str, Any], number: int, where: str) -> tuple[str, str, dict[str, Any]]:
        return record["prompt"], record["key"], {"key": record["key"]}


class VBench(PromptSet):
    """Prompts of films, each for some of 16 dimensions.

        [{"prompt_en": "In a still frame, a stop sign", "dimension": ["temporal_flickering"]}]

    Args:
        path: ``VBench_full_info.json``, or a text file of prompts, a line each: ``prompts/all_dimension.txt``, or one
            of ``prompts/prompts_per_dimension``.
        samples: films a prompt; VBench asks for 5, and for 25 of the dimension ``temporal_flickering``.
        dimensions: only prompts for one of these, of the JSON file.
        seed: see :class:`~isthmus.data.formats.benchmarks.prompted.PromptSet`.
        instruction: the same.

    Raises:
        ValueError: no prompt for these dimensions.
    """

    modality = Modality.VIDEO

    def __init__(
        self,
        path: str | Path,
        samples: int = 5,
        dimensions: list[str] | None = None,
        seed: int = 0,
        instruction: str | None = None,
    ) -> None:
        place = user_path(path)
        if place.suffix.lower() == ".txt":
            pairs: list[tuple[str, Any]] = [(where, {"prompt_en": line}) for where, line in _lines(place)]
        else:
            pairs = list(read_each(JsonRecords(place)))
        if dimensions:
            wanted = set(dimensions)
            pairs = [(where, one) for where, one in pairs if not isinstance(one, dict) or wanted & set(_of(one))]
        super().__init__(HeldRecords(place, pairs), samples, seed, instruction, choice={"dimensions": dimensions or []})

    def prompt(self, record: Mapping[str, Any], number: int, where: str) -> tuple[str, str, dict[str, Any]]:
        return text(record, ["prompt_en"], where), str(number), {"dimension": texts(record, ["dimension"], where)}


class T2ICompBench(PromptSet):
    """300 prompts a category on colours, shapes, textures, places and more.

    Args:
        path: a category's text file of ``examples/dataset``, such as ``color_val.txt``: a prompt a line, up to the
            first tab.
        samples: pictures a prompt; the paper's figures are of 10.
        seed: see :class:`~isthmus.data.formats.benchmarks.prompted.PromptSet`.
        instruction: the same.
    """

    def __init__(self, path: str | Path, samples: int = 10, seed: int = 0, instruction: str | None = None) -> None:
        place = user_path(path)
        records = ((where, {"prompt": line.split("\t")[0].strip()}) for where, line in _lines(place))
        super().__init__(HeldRecords(place, records), samples, seed, instruction)

    def prompt(self, record: Mapping[str, Any], number: int, where: str) -> tuple[str, str, dict[str, Any]]:
        return record["prompt"], str(number), {}


def _words(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: found no file; expected prompts, one a line. Fix: correct the path.")
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: isn't UTF-8 ({error}); expected text. Fix: save it as UTF-8.") from error


def _lines(path: Path) -> list[tuple[str, str]]:
    return [(f"line {n}", line.strip()) for n, line in enumerate(_words(path).split("\n"), 1) if line.strip()]


def _of(record: Mapping[str, Any]) -> list[str]:
    found = record.get("dimension")
    return [str(one) for one in found] if isinstance(found, list) else [str(found)]
