"""Zero-shot classification: the class whose name is nearest to a medium in the joint space of texts and media."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.distances.extraction import Extraction
from isthmus.evaluation.metrics.distances.media import Held, items_of, made_media
from isthmus.evaluation.metrics.extractors.base import Array, Extractor, served_modality
from isthmus.evaluation.metrics.paired.prompts import unit_rows
from isthmus.evaluation.metrics.paired.towers import TextTower, require_one_space, unit
from isthmus.evaluation.metrics.scores import share_figure
from isthmus.evaluation.metrics.texts.references import references_of
from isthmus.evaluation.predictions.answered import Answered
from isthmus.paths import user_path

FIRST = (1, 5)
"""Among how many of the nearest names the right one may be."""
OF = ("given", "made")


class ZeroShot(Metric):
    """``<modality>/zero_shot_top1`` and ``_top5``: how often a medium's class is among the nearest names.

    A name's vector is the mean over templates of unit vectors, as CLIP and ULIP have it. It measures an encoder on
    media that are given, and a generator on those that are made: whether a cloud that was asked for as a chair is one.

    Args:
        extractor: of media: PointBert of ULIP with pooled tokens by ``EncoderFeatures``, say.
        texts: of the same space.
        modality: of the media.
        of: ``given``, the first medium of the prompt, or ``made``, the first one of the reply.
        label: the detail that holds the class's name.
        choices: the detail that lists the names of all classes.
        templates: sentences with ``{}`` for the name.
        cache: a folder that keeps features of media.

    Raises:
        ValueError: the extractor doesn't read the modality, or a template has no place for the name.
    """

    def __init__(
        self,
        extractor: Extractor,
        texts: TextTower,
        modality: str = "points",
        of: Literal["given", "made"] = "given",
        label: str = "label",
        choices: str = "choices",
        templates: Sequence[str] = ("a point cloud model of a {}.",),
        cache: Path | None = None,
    ) -> None:
        self.modality = served_modality(modality, extractor)
        if of not in OF:
            raise ValueError(f"of: found {of!r}; expected {' or '.join(OF)}. Fix: name one of them.")
        if not templates or not all("{}" in one for one in templates):
            raise ValueError(
                f"templates: found {list(templates)}; expected '{{}}' in each. Fix: give the name a place."
            )
        self.extraction = Extraction(extractor, None if cache is None else user_path(cache))
        self.texts = texts
        self.of = of
        self.label = label
        self.choices = choices
        self.templates = list(templates)

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, with each answer's scores; none where no answer has such a medium.

        Raises:
            DataError: a file is absent or damaged.
            ValueError: a conversation's class isn't among its choices, or texts and media aren't in one space.
        """
        measured = [(answer, held) for answer in answers if (held := self._medium(answer)) is not None]
        if not measured:
            return {}
        found, _ = self.extraction.features([held for _, held in measured], processes, f"{self.modality}: features")
        names = [references_of(answer, self.choices) for answer, _ in measured]
        known = sorted({name for own in names for name in own})
        vectors = dict(zip(known, self._names(known, processes), strict=True))
        require_one_space(found.values, np.stack(list(vectors.values())))
        ranks = []
        for (answer, _), own, row in zip(measured, names, unit(found.values), strict=True):
            label = references_of(answer, self.label)[0]
            if label not in own:
                raise ValueError(
                    f"{answer.id}: details.{self.label}: found {label!r:.40}; expected one of details.{self.choices}. "
                    "Fix: list all classes."
                )
            like = {name: float(row @ vectors[name]) for name in own}
            ranks.append(sum(value >= like[label] for value in like.values()))  # of equals the wrong ones come first
        protocol = {
            **self.extraction.identity,
            **self.texts.identity(),
            "of": self.of,
            "templates": self.templates,
            "classes": known,
        }
        owners = [answer for answer, _ in measured]
        return {
            f"{self.modality}/zero_shot_top{most}": share_figure(owners, [rank <= most for rank in ranks], protocol)
            for most in FIRST
        }

    def _medium(self, answer: Answered) -> Held | None:
        if self.of == "made":
            return next(iter(made_media([answer], self.modality)), None)
        for item in items_of(answer.prompt, self.modality):
            if item.media is not None:
                return Held(item.media, self.modality, answer.id, rate=item.rate)
        return None

    def _names(self, names: Sequence[str], processes: Processes) -> Array:
        sentences = [template.replace("{}", name) for name in names for template in self.templates]
        rows = unit_rows(processes.map(self.texts.embed, sentences, self.texts.chunk, "names of classes"))
        return unit(rows.reshape(len(names), len(self.templates), -1).mean(1))
