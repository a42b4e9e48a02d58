"""BERTScore: words of reply and reference matched by their vectors in a text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isthmus.cache.fingerprint import fingerprint
from isthmus.encoders.transformers_folder import read_model
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.extractors.base import measuring_device
from isthmus.evaluation.metrics.scores import mean_figure, require_answers
from isthmus.evaluation.metrics.texts.references import all_references
from isthmus.evaluation.predictions.answered import Answered
from isthmus.paths import checkpoint_path
from isthmus.published import read_published

PAIRS = 32
"""How many pairs are a chunk of the work."""


class BertScore(Metric):
    """``text/bert_score_precision``, ``_recall`` and ``_f1``, each by the best of an answer's references.

    As torchmetrics defines it, without idf weights and without rescaling: the mean over words of the largest cosine,
    first and last special tokens left out. Its own code isn't called: release 1.9 sorts texts by length and restores
    their order wrongly, so that pairs of several lengths are mixed up; tests compare with it pair by pair. Source: T.
    Zhang et al., ICLR 2020.

    Args:
        checkpoint: a folder of transformers' with a text encoder and its tokenizer, or ``hf://org/name``. The paper's
            figures in English are of roberta-large, layer 17.
        layer: whose hidden states are the words' vectors, 0 for the embeddings; the last if None.
        reference: the detail that holds a text, or a list of them; the words of the expected message if None.

    Raises:
        ValueError: the folder can't be read, or has no such layer.
    """

    def __init__(self, checkpoint: str | Path, layer: int | None = None, reference: str | None = None) -> None:
        from transformers import AutoConfig

        self.checkpoint = checkpoint_path(checkpoint)
        layers = read_published(AutoConfig, self.checkpoint).num_hidden_layers
        if layer is not None and not 0 <= layer <= layers:
            raise ValueError(f"layer: found {layer}; expected 0 to {layers}, those of {checkpoint}. Fix: choose one.")
        self.layer = layers if layer is None else layer
        self.reference = reference

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, with each answer's scores.

        Raises:
            ValueError: an answer has no reference.
        """
        require_answers(answers)
        references = all_references(answers, self.reference)
        pairs = [(answer.text, one) for answer, own in zip(answers, references, strict=True) for one in own]
        scorer = _Scorer(self.checkpoint, self.layer)
        found = iter(processes.map(scorer, pairs, size=PAIRS, what="BERTScore"))
        best = [[max(each) for each in zip(*[next(found) for _ in own], strict=True)] for own in references]
        protocol = {
            "reference": self.reference,
            "extractor": fingerprint(self.checkpoint),
            "layer": self.layer,
            "library": f"transformers {version('transformers')}",
        }
        names = ("precision", "recall", "f1")
        return {
            f"text/bert_score_{name}": mean_figure(answers, [one[place] for one in best], protocol)
            for place, name in enumerate(names)
        }


class _Scorer:
    """Pairs of reply and reference -> precision, recall and F1. The encoder is read when the first pair comes."""

    def __init__(self, checkpoint: Path, layer: int) -> None:
        self.checkpoint = checkpoint
        self.layer = layer
        self.loaded: tuple[Any, Any] | None = None

    @torch.no_grad()
    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, float, float]]:
        said, expected = self._words([one for one, _ in pairs]), self._words([one for _, one in pairs])
        scores = []
        for own, other in zip(said, expected, strict=True):
            if not len(own) or not len(other):  # nothing was said, or nothing was asked for
                scores.append((0.0, 0.0, 0.0))
                continue
            like = own @ other.T
            precision, recall = float(like.amax(1).mean()), float(like.amax(0).mean())
            total = precision + recall
            scores.append((precision, recall, 2 * precision * recall / total if total else 0.0))
        return scores

    def _words(self, texts: Sequence[str]) -> list[Tensor]:
        """Unit vectors of each text's tokens, without the first and the last."""
        if self.loaded is None:
            self.loaded = _read(self.checkpoint)
        tokenizer, model = self.loaded
        longest = getattr(model.config, "max_position_embeddings", 512)
        longest = min(longest, tokenizer.model_max_length)
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        hidden = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states[self.layer]
        unit = torch.nn.functional.normalize(hidden.float(), dim=-1)
        return [row[own.bool()][1:-1] for row, own in zip(unit, mask, strict=True)]


def _read(checkpoint: Path) -> tuple[Any, Any]:
    """The tokenizer and the encoder, without the head over its first token: many folders lack that head's weights."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    kind: Any = MODEL_MAPPING[type(read_published(AutoConfig, checkpoint))]
    headless: dict[str, Any] = {"add_pooling_layer": False} if "add_pooling_layer" in signature(kind).parameters else {}
    model = read_model(checkpoint, kind, unused=None, **headless)
    return read_published(AutoTokenizer, checkpoint), model.eval().to(measuring_device())
