"""A callback of ``train.py test`` for retrieval between media and captions, compared with chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.evaluation.novelty import captions_of, new_among
from isthmus.evaluation.report.report_file import write_report
from isthmus.evaluation.retrieval.ranks import CUTS, retrieval_report
from isthmus.evaluation.retrieval.similarities import (
    has_joint_space,
    joint_similarity,
    likelihood_similarity,
    medium_of,
)
from isthmus.modalities import known_media
from isthmus.model import AnyToAny
from isthmus.paths import user_path
from isthmus.training.module import training_module
from isthmus.training.provenance import provenance
from isthmus.types import Modality

FILE = "retrieval.json"
Similar = Callable[[AnyToAny, Modality, Sequence[Conversation], Sequence[str]], Tensor]


class RetrievalEvaluation(pl.Callback):
    """Retrieves each medium's caption among all of its modality, and vice versa; writes ``retrieval.json``.

    Two measures of similarity: cosines in the encoder's joint space, if it has one (ImageBind with its text tower), for
    all media; and the likelihood of a caption given a medium, for some media. Only the first process measures.

    Args:
        media: conversations of one medium each, such as the test split.
        reference: the detail that holds a conversation's caption; the first counts if it is a list.
        folder: where the file is written; the Trainer's ``default_root_dir`` if None.
        answers: number of media of each modality, evenly spread, whose captions the model scores; 0: none.
        training: the training split. Figures are also given for new media, whose captions it lacks.
        twins: ids of media that resemble training media; they don't count as new either.

    Attributes:
        report: by modality and measure, see :func:`~isthmus.evaluation.retrieval.ranks.retrieval_report`.

    Raises:
        ValueError: ``answers`` is below 0.
    """

    def __init__(
        self,
        media: ConversationSource,
        reference: str = "caption",
        folder: Path | None = None,
        answers: int = 100,
        training: ConversationSource | None = None,
        twins: Sequence[str] = (),
    ) -> None:
        if answers < 0:
            raise ValueError(f"answers: found {answers}; expected at least 0. Fix: raise it.")
        self.media = media
        self.reference = reference
        self.folder = None if folder is None else user_path(folder)
        self.answers = answers
        self.training = training
        self.twins = frozenset(twins)
        self.report: dict[str, dict[str, Any]] | None = None

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measures, prints and writes the figures.

        Raises:
            ValueError: a conversation has no caption or several media, or the model doesn't take a modality.
        """
        if not trainer.is_global_zero:
            return
        model = training_module(pl_module).model
        conversations = [self._named(index) for index in range(len(self.media))]
        captions = {one.details["id"]: captions_of(one.details, self.reference) for one in conversations}
        new = new_among(captions, self.training, self.reference, self.twins)
        modalities = [medium_of(one).modality for one in conversations]
        self.report = {}
        for modality in (m for m in known_media() if m in modalities):
            own = [one for one, its in zip(conversations, modalities, strict=True) if its == modality]
            self.report[modality] = self._measured(model, modality, own, new)
        print(f"\n{retrieval_table(self.report)}\n")
        (media,) = provenance({"media": self.media}).values()
        how = {"media": {key: media[key] for key in media.keys() - {"files"}}, "answers": self.answers}
        how |= {"reference": self.reference, "twins": len(self.twins)}
        write_report(trainer, self.folder, FILE, self.report, "the retrieval figures", how)

    def _named(self, index: int) -> Conversation:
        """A conversation with an id in its details: its record's own, or its index."""
        one = self.media[index]
        return replace(one, details={**one.details, "id": str(one.details.get("id", f"{self.media.name}/{index}"))})

    def _measured(
        self, model: AnyToAny, modality: Modality, conversations: list[Conversation], new: set[str] | None
    ) -> dict[str, Any]:
        if modality not in model.inputs:
            raise ValueError(
                f"retrieval: found {modality} among its media; the model takes {', '.join(model.inputs) or 'none'}. "
                f"Fix: leave {modality} out of the evaluation's 'media'."
            )
        assert model.input_side is not None
        found: dict[str, Any] = {}
        if has_joint_space(model.input_side.encoder(modality)):
            found |= self._both("encoder", joint_similarity, model, modality, conversations, new)
        if self.answers:
            count = min(self.answers, len(conversations))
            some = [conversations[place * len(conversations) // count] for place in range(count)]
            found |= self._both("model", likelihood_similarity, model, modality, some, new)
        return found

    def _both(
        self,
        name: str,
        similar: Similar,
        model: AnyToAny,
        modality: Modality,
        conversations: list[Conversation],
        new: set[str] | None,
    ) -> dict[str, Any]:
        """The figures of all media, and of new media among each other."""
        captions = [captions_of(one.details, self.reference)[0] for one in conversations]
        similarity = similar(model, modality, conversations, captions).cpu()
        found = {name: retrieval_report(similarity, captions)}
        kept = [n for n, one in enumerate(conversations) if new is not None and one.details["id"] in new]
        if kept:
            rows = torch.tensor(kept)
            found[f"{name}, new"] = retrieval_report(similarity[rows][:, rows], [captions[n] for n in kept])
        return found


def retrieval_table(report: dict[str, dict[str, Any]]) -> str:
    """The figures as text, one line for each measure and direction, with chance in brackets."""
    lines = [["retrieval", "n", *(f"recall@{cut}" for cut in CUTS), "median rank"]]
    for modality, judges in report.items():
        for judge, figures in judges.items():
            for way, arrow in (("medium_to_caption", "-> caption"), ("caption_to_medium", "<- caption")):
                own = figures[way]
                cells = [f"{own[f'recall_at_{cut}']:.3f} ({own[f'recall_at_{cut}_chance']:.3f})" for cut in CUTS]
                lines.append([f"{modality} {arrow}, {judge}", str(figures["n"]), *cells, f"{own['median_rank']:.1f}"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
