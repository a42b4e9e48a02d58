"""Answers' media as files that are named by a pattern; and how many answers have a medium."""

from __future__ import annotations

import glob
import logging
import shutil
import string
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from isthmus.data.media.files import save_media
from isthmus.evaluation.intervals import wilson_interval
from isthmus.evaluation.metrics.base import Figure, Processes
from isthmus.evaluation.predictions.answered import Answered
from isthmus.modalities import Modality
from isthmus.paths import user_path
from isthmus.writing import PARTIAL

_log = logging.getLogger(__name__)

CHUNK = 32
"""Answers that a process writes at a time."""
LONGEST = 255
"""Bytes of a file's name that file systems take."""


class AnswerFiles:
    """A metric that writes each answer's first medium below a folder, and gives the share of answers that have one.

    Files of an earlier export of the same prompts are replaced. Answers without a medium have no file; how a scorer
    counts these is its own matter, so the share belongs beside its figures.

    Args:
        folder: where they are written.
        modality: of the media.
        file: a file's path below the folder. In braces are ``id``, ``index`` (in the test source), ``source`` (its
            name), and details of the conversation: ``{prompt}-{sample}.mp4`` for VBench,
            ``{source}/samples/{prompt}_{index:06d}.png`` for T2I-CompBench, ``{prompt_id}.png`` for WISE, ``{key}.png``
            for ImgEdit.

    Raises:
        ValueError: another modality, or an ending that isn't one of its files.
    """

    def __init__(self, folder: str | Path, modality: str = "image", file: str = "{id}.png") -> None:
        self.folder = user_path(folder)
        self.modality = Modality(modality)
        self.file = file
        endings = self.modality.spec.file_endings
        if Path(file).suffix not in endings:
            raise ValueError(
                f"file: found {file!r} for {modality}; expected a name that ends in {' or '.join(endings)}. Fix: "
                "correct its ending."
            )

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """Writes the files; ``answered`` is the share of answers with a medium.

        Raises:
            ValueError: two answers would have one file, a detail that the pattern names isn't there, or the folder
                holds files of other prompts.
        """
        answers = list(answers)
        names = [self.name(answer) for answer in answers]
        self.check(names, answers[0].source)
        pairs = list(zip(answers, names, strict=True))
        written = processes.map(self._write, pairs, CHUNK, what=f"files in {self.folder}")
        self.finish(answers, processes)
        return {f"{self.modality}/answered": self.figure(written, answers, processes)}

    def figure(
        self,
        written: Sequence[float],
        answers: Sequence[Answered],
        processes: Processes,
        further: Mapping[str, Any] | None = None,
    ) -> Figure:
        """The share of answers with a medium, which is told where it isn't all.

        Args:
            written: by answer 1 where there is one, else 0.
            answers: of the test source.
            processes: of the run.
            further: what else belongs into the protocol.
        """
        missing = len(written) - round(sum(written))
        if missing and not processes.rank:
            _log.warning(
                "%s: %d of %d answers hold no %s, so that their files are missing. A prompt's words may not ask for "
                "one as the model knows it: see the source's 'instruction'.",
                self.folder,
                missing,
                len(answers),
                self.modality,
            )
        scores = dict(zip((answer.id for answer in answers), written, strict=True))
        interval = wilson_interval(round(sum(written)), len(written))
        own = {"file": self.file, **(further or {})}
        return Figure(sum(written) / len(written), len(written), "higher", interval, scores, own)

    def name(self, answer: Answered) -> str:
        """An answer's file, relative to the folder.

        Raises:
            ValueError: a detail isn't there, or can't stand in the name of a file.
        """
        known = {**answer.details, "id": answer.id, "index": answer.index, "source": answer.source}
        for _, field, _, _ in string.Formatter().parse(self.file):
            if field is None:
                continue
            value = known.get(field)
            if value is None:
                raise ValueError(
                    f"{answer.source}: {answer.id}: found the details {', '.join(known)[:200]}; expected {field!r}, "
                    f"which 'file' ({self.file}) names. Fix: name others, or give the benchmark's own source."
                )
            if set(str(value)) & {"/", "\\", "\0"} or str(value) in ("", ".", ".."):
                raise ValueError(
                    f"{answer.source}: {answer.id}: {field}: found {str(value)[:80]!r}; expected what can stand in the "
                    "name of a file, without slashes. Fix: take the prompt out."
                )
        name = self.file.format(**known)
        longest = max(len(part.encode()) for part in Path(name).parts)
        if longest > LONGEST:
            raise ValueError(
                f"{answer.source}: {answer.id}: found a file's name of {longest} bytes; expected at most {LONGEST}. "
                "Fix: shorten the prompt."
            )
        return name

    def finish(self, answers: Sequence[Answered], processes: Processes) -> None:
        """What else belongs into the folder; all processes call it once the media are written."""

    def check(self, names: Sequence[str], source: str) -> None:
        """Sees that each answer has a file of its own, and that a scorer would find no others.

        Args:
            names: of the files.
            source: whose answers they are; folders that the pattern names by another source aren't looked at.

        Raises:
            ValueError: see :meth:`measure`.
        """
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise ValueError(
                    f"file: found {name!r} for two answers; expected one of its own for each. Fix: name details in "
                    f"{self.file!r} that tell them apart, such as {{sample}}."
                )
            seen.add(name)
        place = Path(self.file).parent.as_posix()
        shown = "".join(
            glob.escape(text) + ("" if field is None else glob.escape(source) if field == "source" else "*")
            for text, field, _, _ in string.Formatter().parse(place)
        )
        for other in self.folder.glob(f"{shown}/*{Path(self.file).suffix}"):
            if not other.name.startswith(".") and other.relative_to(self.folder).as_posix() not in seen:
                raise ValueError(
                    f"{other}: found a file that no answer has; expected an empty folder, or one with an earlier "
                    "export of the same prompts, since a scorer reads all. Fix: name another folder."
                )

    def _write(self, pairs: Sequence[tuple[Answered, str]]) -> list[float]:
        return [self._write_one(answer, self.folder / name) for answer, name in pairs]

    def _write_one(self, answer: Answered, target: Path) -> float:
        """1 where there is a medium, which is then written; else 0, and an earlier export's file is removed."""
        own = next((path for modality, path in answer.files if modality == self.modality), None)
        if own is None:
            target.unlink(missing_ok=True)
            return 0.0
        target.parent.mkdir(parents=True, exist_ok=True)
        # Prompts may be as long as a file's name can be; a name of the same hash is written over after a kill.
        aside = target.with_name(f".{blake2b(target.name.encode(), digest_size=8).hexdigest()}{PARTIAL}{target.suffix}")
        if own.suffix == target.suffix:
            shutil.copyfile(own, aside)
        else:
            save_media(answer.media(self.modality)[0], aside)
        aside.replace(target)
        return 1.0
