"""What benchmarks of captioned media share: one medium a conversation, all its captions as references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from isthmus.data.formats.base import IndexedRecords
from isthmus.data.formats.benchmarks.base import Benchmark, noise_seed
from isthmus.data.formats.captions import Captions, instructions
from isthmus.data.formats.fields import mapping
from isthmus.modalities import Modality

Way = Literal["describe", "draw"]
"""The medium is given and described; or one of its captions is given, and it is made."""


class CaptionBenchmark(Benchmark):
    """Media with one caption or several. The details hold all captions under ``caption``, and the medium's ``id``.

    Args:
        records: of the set.
        root: the folder of the media.
        direction: whether media are described or made.
        instruction: what is asked of every medium; with ``{caption}`` where it is made. By default the first of
            :func:`~isthmus.data.formats.captions.instructions`.
        seed: of the choice among several captions, where media are made.
        choice: what else decides over figures.
        files: beside the records' own.
        target_files: whether the files of media that are to be made are the references.
    """

    modality: Modality

    def __init__(
        self,
        records: IndexedRecords,
        root: str | Path | None,
        direction: Way = "describe",
        instruction: str | None = None,
        seed: int = 0,
        choice: Mapping[str, Any] | None = None,
        files: Sequence[Path] = (),
        target_files: bool = True,
    ) -> None:
        chosen = instructions(self.modality, direction)[:1] if instruction is None else (instruction,)
        is_drawn = direction == "draw"
        self.captions = Captions(direction, None if is_drawn else chosen, chosen if is_drawn else None, seed)
        own = {"direction": direction, "instruction": chosen[0], **({"seed": seed} if is_drawn else {})}
        super().__init__(records, root, own | dict(choice or {}), files, target_files)
        self.seed = seed

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        file, captions, known = self.pair(record, where)
        chat = self.captions.chat(self.modality, file, captions, index, where)
        if self.captions.direction == "draw":
            chat["seed"] = noise_seed(self.seed, str(known.get("id", index)))
        return {**known, **chat}

    def pair(self, record: Mapping[str, Any], where: str) -> tuple[str, list[str], dict[str, Any]]:
        """A record's file below ``root``, its captions, and further details, ``id`` among them.

        Raises:
            DataError: a field is missing or wrong.
        """
        raise NotImplementedError  # a benchmark's duty
