"""The callback of ``train.py test`` for sets of captioned media: caption metrics, against the most frequent caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from isthmus.data.conversations.sources import ConversationSource
from isthmus.evaluation.captions.metrics import caption_report
from isthmus.evaluation.novelty import captions_of, new_among
from isthmus.evaluation.processes import from_all
from isthmus.evaluation.report.report_file import write_report
from isthmus.model import Reply
from isthmus.paths import user_path
from isthmus.types import Batch

FILE = "captions.json"
Said = tuple[str, str, list[str], str]
"""A sample's id, what the model said, its references, and the group it belongs to."""


class CaptionEvaluation(pl.Callback):
    """Compares replies of a test run with the captions that their records give, and writes ``captions.json``.

    Args:
        reference: the detail of a conversation that holds its caption, or a list of them; a manifest's records have it
            under ``caption``.
        folder: where the file is written; the Trainer's ``default_root_dir`` if None.
        samples: so many samples are written beside the figures.
        by: a detail by whose values figures are given, too, as ``modality`` where a test has several.
        training: the training split. Figures are also given of what is new: samples whose captions it lacks.
        twins: ids of samples that training has the like of; they aren't new either.

    Attributes:
        report: the figures of the last run: the model's, and of a baseline that says the most frequent caption of the
            test split to everything; then those of each group, by ``model, <group>``.

    Raises:
        ValueError: ``samples`` below 0.
    """

    def __init__(
        self,
        reference: str = "caption",
        folder: Path | None = None,
        samples: int = 20,
        by: str | None = None,
        training: ConversationSource | None = None,
        twins: Sequence[str] = (),
    ) -> None:
        if samples < 0:
            raise ValueError(f"samples: found {samples}; expected at least 0. Fix: raise it.")
        self.reference = reference
        self.folder = None if folder is None else user_path(folder)
        self.samples = samples
        self.by = by
        self.training = training
        self.twins = frozenset(twins)
        self.report: dict[str, Any] | None = None
        self._said: list[Said] = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins anew."""
        self._said = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps what was said.

        Raises:
            ValueError: a record without a reference.
        """
        replies: Sequence[Reply] = outputs
        for reply, details in zip(replies, batch.details, strict=True):
            if details.get("repeated"):  # fills up a last batch for as many processes
                continue
            group = "" if self.by is None else str(details.get(self.by))
            self._said.append((str(details.get("id")), reply.text, captions_of(details, self.reference), group))

    def _groups(self, said: Sequence[Said]) -> dict[str, list[Said]]:
        """The samples of each group, by what is written behind its name; all of them first."""
        groups = {"": list(said)}
        if self.by is not None:
            groups |= {
                f", {name}": [one for one in said if one[3] == name] for name in sorted({one[3] for one in said})
            }
        new = new_among({one[0]: one[2] for one in said}, self.training, self.reference, self.twins)
        if new is not None:
            kept = {f"{name}, new": [one for one in own if one[0] in new] for name, own in groups.items()}
            groups |= {name: own for name, own in kept.items() if own}
        return groups

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gathers from all processes, prints and writes.

        Raises:
            ValueError: nothing was said, or a training record without a reference.
        """
        said = sorted(one for part in from_all(self._said) for one in part)
        self.report = {}
        for name, own in self._groups(said).items():
            references = [expected for _, _, expected, _ in own]
            frequent = Counter(one for expected in references for one in expected).most_common(1)
            self.report[f"model{name}"] = caption_report([text for _, text, _, _ in own], references)
            self.report[f"most_frequent_caption{name}"] = caption_report(
                [one for one, _ in frequent] * len(own), references
            )
        if not trainer.is_global_zero:
            return
        step = max(1, len(said) // max(self.samples, 1))
        shown = [{"id": name, "said": text, "references": own} for name, text, own, _ in said[::step][: self.samples]]
        print(f"\n{caption_table(self.report)}\n")
        write_report(trainer, self.folder, FILE, self.report | {"samples": shown}, "the caption metrics")


def caption_table(report: dict[str, Any]) -> str:
    """The figures as text, one line a model."""
    names = ["n", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "exact"]
    width = max(map(len, report)) + 2
    lines = ["".join(["captions".ljust(width), *(name.rjust(9) for name in names)])]
    for model, figures in report.items():
        cells = [f"{figures[name]:9d}" if name == "n" else f"{figures[name]:9.3f}" for name in names]
        lines.append("".join([model.replace("_", " ").ljust(width), *cells]))
    return "\n".join(lines)
