"""How near a made medium is to what was asked for, in the joint space of texts and media."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.distances.extraction import Extraction
from isthmus.evaluation.metrics.distances.media import items_of, made_media
from isthmus.evaluation.metrics.extractors.base import Array, Extractor, served_modality
from isthmus.evaluation.metrics.paired.towers import TextTower, require_one_space, unit
from isthmus.evaluation.metrics.scores import owners_figure
from isthmus.evaluation.metrics.texts.references import references_of
from isthmus.evaluation.predictions.answered import Answered, words_of
from isthmus.paths import user_path

SCALE = 100.0
"""What a cosine is multiplied by, as torchmetrics' CLIPScore has it; the paper has 2.5."""


class PromptLikeness(Metric):
    """``<modality>/clip_score``: 100 times the cosine of prompt and made medium, 0 where it is below 0.

    The k-th made medium is compared with the caption of the k-th expected one, where the expected message has captions,
    else with the words of the last message asked. Source: J. Hessel et al., EMNLP 2021.

    Args:
        modality: of the media.
        extractor: of media: CLIP's by ``TransformersImages`` with ``layer: projected``, or an ImageBind with pooled
            tokens by ``EncoderFeatures``.
        texts: of the same space.
        caption: the detail that holds what was asked for instead.
        name: of the figure, ``clap_score`` say.
        cache: a folder that keeps features of media.

    Raises:
        ValueError: the extractor doesn't read the modality.
    """

    def __init__(
        self,
        modality: str,
        extractor: Extractor,
        texts: TextTower,
        caption: str | None = None,
        name: str = "clip_score",
        cache: Path | None = None,
    ) -> None:
        self.modality = served_modality(modality, extractor)
        self.extraction = Extraction(extractor, None if cache is None else user_path(cache))
        self.texts = texts
        self.caption = caption
        self.name = name

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figure, with each answer's scores; none where no answer has such a medium.

        Raises:
            DataError: a file is absent or damaged.
            ValueError: a conversation lacks the caption, or texts and media aren't in one space.
        """
        held = made_media(answers, self.modality)
        if not held:
            return {}
        found, _ = self.extraction.features(held, processes, f"{self.modality}: features of answers")
        asked = [one for answer in answers for one in self._asked(answer)]
        rows: list[Array] = processes.map(self.texts.embed, asked, self.texts.chunk, f"{self.modality}: prompts")
        texts = unit_rows(rows)
        require_one_space(found.values, texts)
        cosines = (unit(found.values) * texts).sum(1)
        scores = [max(0.0, SCALE * float(one)) for one in cosines]
        captions = self.caption or "expected captions, else the prompt"
        protocol = {**self.extraction.identity, **self.texts.identity(), "captions": captions}
        return {f"{self.modality}/{self.name}": owners_figure([one.owner for one in held], scores, protocol)}

    def _asked(self, answer: Answered) -> list[str]:
        """A text for each made medium."""
        count = sum(own == self.modality for own, _ in answer.files)
        if not count:
            return []
        if self.caption is not None:
            return [references_of(answer, self.caption)[0]] * count
        expected = [] if answer.expected is None else list(items_of([answer.expected], self.modality))
        words = next((said for one in reversed(answer.prompt) if (said := words_of(one))), "")
        captions = [item.caption or words for item in expected]
        others = words or next((one for one in reversed(captions) if one), "")
        if not others:
            raise ValueError(
                f"{answer.id}: found neither a caption of the expected {self.modality} nor words in the prompt; "
                "expected what was asked for. Fix: give the records captions, or name a detail in `caption`."
            )
        return [one or others for one in captions[:count]] + [others] * (count - len(captions))


def unit_rows(rows: Sequence[Array]) -> Array:
    """Rows of a tower, stacked, of unit length."""
    return unit(np.stack(rows))
