"""Plain tar archives of samples, as WebDataset and img2dataset write them."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.errors import DataError, Fault, fault
from isthmus.data.formats.base import RecordSource
from isthmus.data.formats.captions import Captions, Direction
from isthmus.data.formats.columns import Columns
from isthmus.data.formats.endings import modality_of
from isthmus.data.formats.file_sets import listed_files, of_splits
from isthmus.data.formats.filters import kept_records
from isthmus.data.formats.tar_samples import Dots, TarSamples
from isthmus.data.media.stored import StoredFile
from isthmus.paths import user_path

_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_WORDS = ("txt", "text", "caption", "cls", "id")
_LARGEST = 64 << 20


class WebDataset(RecordSource):
    """Archives in which files of one name belong together: ``000.jpg``, ``000.txt`` and ``000.json``.

    A sample's record has the fields of its JSON, and each of its files under its ending: words (``txt``, ``caption``,
    ``cls``), and media, several of one ending (``0.jpg``, ``1.jpg``) as a list in order of their names. Media that the
    JSON names are those beside it. What other files hold is not looked at: nothing is unpickled. What a record becomes
    is told by its fields' names, see :class:`~isthmus.data.formats.hugging_face.HuggingFace`.

    Each archive is gone through once, when it is first opened; then any sample may follow any other. Packed archives
    are unpacked to disk first. Sets of ``isthmus data convert`` are read by :class:`~isthmus.data.streaming.Shards`.

    Args:
        path: an archive, a folder of such, or a pattern: ``data/*.tar``, ``data/{00000..00012}.tar``.
        root: the folder of media that a JSON names and that lie outside of the archives; these can't leave it.
        columns: role -> field, where a guess fails, as ``{image: seg.png, caption: alt}``.
        splits: only archives with one of these words in their names, as ``train-0000.tar``; where none has, only
            samples whose ``split`` is one of them, which takes a pass through the set.
        dots: see :class:`~isthmus.data.formats.tar_samples.TarSamples`.
        direction: whether captioned media are described, made, or both in turn.
        describe: instructions instead of the built-in ones.
        draw: the same for media to be made, each with ``{caption}``.
        seed: of the choice among instructions.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: no archives, none of the splits, or one that can't be read.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        columns: Mapping[str, str | list[str]] | None = None,
        splits: Sequence[str] | None = None,
        dots: Dots = "auto",
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        target_files: bool = True,
    ) -> None:
        files = listed_files(path, _ENDINGS)
        if not files:
            raise ValueError(
                f"{user_path(path)}: found no {', '.join(_ENDINGS)}; expected archives. Fix: correct the path."
            )
        chosen = of_splits(files, splits, user_path(path)) if splits else []
        self._files = chosen or files
        records = TarRecords(self._files, dots)
        kept = None if chosen else kept_records(records, {"split": splits})
        self.columns = Columns(columns, Captions(direction, describe, draw, seed), where=str(path))
        super().__init__(records, root, target_files, kept)
        self.name = user_path(path).stem

    @property
    def files(self) -> Sequence[Path]:
        return self._files

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        return self.columns.chat(raw, where, index)


class TarRecords(TarSamples):
    """Samples as records: fields of their JSON, words, and media not yet decoded."""

    def raw(self, index: int) -> tuple[dict[str, Any], str]:
        """A sample's record, and its place.

        Raises:
            DataError: the archive is damaged there, or words aren't UTF-8 or JSON.
        """
        where = self.where(index)
        key, files = self.sample(index)
        named = dict(_plain(ending, data, where) for ending, data in files.items())
        stored = {
            ending: StoredFile(f"{where}: {key}.{ending}", data)
            for ending, data in named.items()
            if modality_of(f"x.{ending}") is not None
        }
        record: dict[str, Any] = {"__key__": key}
        is_told = False  # whether the JSON says where media belong
        beside = {name: one for ending, one in stored.items() for name in (f"{key}.{ending}", ending)}
        beside |= {name.rpartition("/")[2]: one for name, one in beside.items()}
        for ending, data in named.items():
            if ending.rpartition(".")[2] == "json":
                plain = _json(data, f"{where}: {key}.{ending}")
                told = _with_media(plain, beside)
                is_told = is_told or told != plain
                record |= told if ending == "json" and isinstance(told, dict) else {ending: told}
        for ending, data in named.items():
            if ending.rpartition(".")[2] in _WORDS:
                record[ending] = _text(data, f"{where}: {key}.{ending}")
        if is_told:
            return record, where
        record |= stored
        for ending in sorted(stored, key=_natural):
            if (last := ending.rpartition(".")[2]) not in stored:
                record.setdefault(last, []).append(stored[ending])
        return record, where


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in a name count as numbers: 2.jpg comes before 10.jpg."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def _plain(ending: str, data: bytes, where: str) -> tuple[str, bytes]:
    """A file that gzip packed within an archive, unpacked."""
    if not ending.endswith(".gz"):
        return ending, data
    packed = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        found = packed.decompress(data, _LARGEST)
    except zlib.error as error:
        raise _damaged(f"{where}: {ending}", f"no gzip ({error})") from error
    if not packed.eof:
        raise _damaged(f"{where}: {ending}", f"a file that is cut off or unfolds to more than {_LARGEST} bytes")
    return ending.removesuffix(".gz"), found


def _damaged(where: str, found: str) -> DataError:
    return DataError(Fault.CORRUPT, f"{where}: found {found}; expected a whole packed file. Fix: copy it anew.")


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise fault(where, f"found bytes that aren't UTF-8 ({error.reason})", "words", "write it anew") from error


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise fault(where, f"found no JSON ({error})", "an object", "write it anew") from error


def _with_media(value: Any, beside: Mapping[str, StoredFile]) -> Any:
    """A value in which names of files beside it are these files."""
    if isinstance(value, dict):
        return {key: _with_media(inner, beside) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_media(inner, beside) for inner in value]
    return beside.get(value, value) if isinstance(value, str) else value
