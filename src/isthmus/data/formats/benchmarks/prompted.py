"""What benchmarks share of which media are made: prompts, each asked for several times with another noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.base import IndexedRecords
from isthmus.data.formats.benchmarks.base import Benchmark, filled, noise_seed
from isthmus.data.formats.captions import instructions
from isthmus.data.formats.fields import Item, made, mapping
from isthmus.modalities import Modality


class Samples:
    """Records, each several times in a row, with its number and the number of the sample."""

    def __init__(self, records: IndexedRecords, samples: int) -> None:
        self.records, self.samples, self.path = records, samples, records.path

    def __len__(self) -> int:
        return len(self.records) * self.samples

    def raw(self, index: int) -> tuple[Any, str]:
        """(record, its number, the sample's), and the record's place.

        Raises:
            DataError: it can't be read.
        """
        number, sample = divmod(range(len(self))[index], self.samples)
        record, where = self.records.raw(number)
        return (record, number, sample), where

    def where(self, index: int) -> str:
        """The record's place."""
        return self.records.where(index // self.samples)


class PromptSet(Benchmark):
    """Prompts of which media are made.

    The details hold ``id`` (the prompt's name, and behind a slash the sample's number where there are several),
    ``prompt``, ``prompt_index``, ``sample`` and ``seed``. The expected answer is a medium with the prompt as its
    caption, without a file.

    Args:
        records: a prompt each.
        samples: how many media a prompt.
        seed: of the noise, with the prompt's name and the sample's number.
        instruction: how a medium is asked for, with ``{prompt}``; by default the first of
            :func:`~isthmus.data.formats.captions.instructions`.
        root: of media that are given, where there are any.
        choice: what else decides over figures.
        files: beside the records' own.
        kept: the numbers of the samples that are read, in order; all where none are given.

    Raises:
        ValueError: no sample, or an instruction without ``{prompt}``.
    """

    modality = Modality.IMAGE

    def __init__(
        self,
        records: IndexedRecords,
        samples: int = 1,
        seed: int = 0,
        instruction: str | None = None,
        root: str | Path | None = None,
        choice: Mapping[str, Any] | None = None,
        files: Sequence[Path] = (),
        kept: Sequence[int] | None = None,
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples: found {samples}; expected at least 1. Fix: raise it.")
        wording = instructions(self.modality, "draw")[0].replace("{caption}", "{prompt}")
        self.instruction = wording if instruction is None else instruction
        filled(self.instruction, "instruction", prompt="")
        self.samples, self.seed = samples, seed
        own = {"samples": samples, "seed": seed, "instruction": self.instruction, **(choice or {})}
        folder = records.path.parent if records.path.is_file() else records.path
        super().__init__(Samples(records, samples), folder if root is None else root, own, files, kept=kept)

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record, number, sample = raw
        prompt, name, further = self.prompt(mapping(record, where), number, where)
        if not prompt.strip():
            raise fault(where, "found no words", "a prompt", "take the record out")
        known = {"id": f"{name}/{sample}" if self.samples > 1 else name, "prompt": prompt, "prompt_index": number}
        known |= {"sample": sample, "seed": noise_seed(self.seed, name, sample)}
        words = filled(self.instruction, "instruction", prompt=prompt)
        content: list[Item] = [*self.given(record, where), {"type": "text", "text": words}]
        messages = [
            {"role": "user", "content": content},
            {"role": "assistant", "content": [made(self.modality, prompt)]},
        ]
        return {**known, **further, "messages": messages}

    def prompt(self, record: Mapping[str, Any], number: int, where: str) -> tuple[str, str, dict[str, Any]]:
        """A record's prompt, its name, and further details.

        Raises:
            DataError: a field is missing or wrong.
        """
        raise NotImplementedError  # a benchmark's duty

    def given(self, record: Mapping[str, Any], where: str) -> list[Item]:
        """The media that come before the words.

        Raises:
            DataError: a field is missing or wrong.
        """
        return []
