"""FENSE: the likeness of sentences, of which replies that aren't fluent lose most; made for captions of sound."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from isthmus.cache.fingerprint import fingerprint
from isthmus.encoders.checkpoint import read_weights
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.extractors.base import measuring_device
from isthmus.evaluation.metrics.scores import mean_figure, require_answers
from isthmus.evaluation.metrics.texts.java import EXTRA
from isthmus.evaluation.metrics.texts.references import all_references
from isthmus.evaluation.predictions.answered import Answered
from isthmus.paths import checkpoint_path, user_path
from isthmus.published import read_published

CHUNK = 32
LONGEST = 64
"""Tokens of a reply that the detector of errors reads, as its authors have it."""
LIBRARY = "sentence_transformers"


class Fense(Metric):
    """``text/sentence_similarity``; with a detector also ``text/fluency_errors`` and ``text/fense``.

    A reply's score is its mean cosine to the references in a sentence encoder, times 1 - ``penalty`` where the detector
    finds an error. aac-metrics computes it too, but its requirements (numpy below 2, transformers below 5) can't be
    installed beside this package. It needs the extra ``metrics``. Source: Z. Zhou et al., ICASSP 2022,
    https://github.com/blmoistawinde/fense.

    Args:
        sentences: a folder of sentence-transformers', or ``hf://org/name``; the paper's is
            ``hf://sentence-transformers/paraphrase-TinyBERT-L6-v2``.
        detector: the authors' ``echecker_clotho_audiocaps_base.ckpt`` or ``..._tiny.ckpt``. None leaves out what needs
            it.
        encoder: a folder with configuration and tokenizer of the encoder that the detector is built on, which its file
            names under ``model_type``.
        reference: the detail that holds a caption, or a list of them; the words of the expected message if None.
        threshold: the probability of an error above which a reply loses.
        penalty: how much of its score.

    Raises:
        ValueError: the library isn't installed, or a detector without its encoder.
    """

    def __init__(
        self,
        sentences: str | Path,
        detector: Path | None = None,
        encoder: str | Path | None = None,
        reference: str | None = None,
        threshold: float = 0.9,
        penalty: float = 0.9,
    ) -> None:
        if find_spec(LIBRARY) is None:
            raise ValueError(
                f"{LIBRARY}: found no such package; expected it, since it reads sentence encoders. Fix: pip install "
                f"'isthmus[{EXTRA}]'."
            )
        self.detector = None if detector is None else user_path(detector)
        self.encoder = None if encoder is None else checkpoint_path(encoder)
        if (detector is None) != (encoder is None):
            raise ValueError(
                f"detector and encoder: found {self.detector} and {self.encoder}; expected both or neither: the "
                "detector's file has no tokenizer. Fix: give the folder of the encoder that the detector is built on, "
                "or neither."
            )
        self.sentences = checkpoint_path(sentences)
        self.reference = reference
        self.threshold = threshold
        self.penalty = penalty

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, with each answer's scores.

        Raises:
            ValueError: an answer has no reference, or a checkpoint can't be read.
        """
        require_answers(answers)
        rows = [
            (answer.text, own) for answer, own in zip(answers, all_references(answers, self.reference), strict=True)
        ]
        like = processes.map(_Sentences(self.sentences), rows, size=CHUNK, what="sentences")
        protocol: dict[str, Any] = {
            "reference": self.reference,
            "extractor": fingerprint(self.sentences),
            "library": f"sentence-transformers {version('sentence-transformers')}",
        }
        figures = {"text/sentence_similarity": mean_figure(answers, like, protocol)}
        if self.detector is None or self.encoder is None:
            return figures
        detect = _Detector(self.detector, self.encoder)
        chances = processes.map(detect, [answer.text for answer in answers], size=CHUNK, what="fluency")
        wrong = [float(one > self.threshold) for one in chances]
        scores = [one * (1 - self.penalty * own) for one, own in zip(like, wrong, strict=True)]
        settings = {"detector": fingerprint(self.detector), "threshold": self.threshold}
        errors = mean_figure(answers, wrong, {**protocol, **settings}, better="lower")
        whole = mean_figure(answers, scores, {**protocol, **settings, "penalty": self.penalty})
        return figures | {"text/fluency_errors": errors, "text/fense": whole}


class _Sentences:
    """Replies with their references -> mean cosines. The encoder is read when the first chunk comes."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.model: Any = None

    def __call__(self, rows: Sequence[tuple[str, Sequence[str]]]) -> list[float]:
        if self.model is None:
            from sentence_transformers import SentenceTransformer

            self.model = read_published_sentences(SentenceTransformer, self.checkpoint)
        texts = [said for said, _ in rows] + [one for _, own in rows for one in own]
        vectors = self.model.encode(texts, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
        rest = iter(vectors[len(rows) :])
        return [
            float(torch.stack([said @ next(rest) for _ in own]).mean())
            for said, (_, own) in zip(vectors[: len(rows)], rows, strict=True)
        ]


def read_published_sentences(kind: Any, folder: Path) -> Any:
    """A sentence encoder of a folder on this machine, without running code of its own."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: found no such folder; expected a sentence encoder. Fix: correct the path.")
    return kind(str(folder), local_files_only=True, trust_remote_code=False, device=str(measuring_device()))


class _Detector:
    """Replies -> the probability that each holds an error of fluency."""

    def __init__(self, file: Path, encoder: Path) -> None:
        self.file = file
        self.encoder = encoder
        self.loaded: tuple[Any, Any, torch.nn.Linear] | None = None

    @torch.no_grad()
    def __call__(self, replies: Sequence[str]) -> list[float]:
        tokenizer, model, head = self.loaded = self.loaded or self._load()
        plain = [re.sub(r"[^\w\s]", "", one).lower() for one in replies]
        batch = tokenizer(plain, truncation=True, padding="max_length", max_length=LONGEST, return_tensors="pt")
        hidden = model(**batch.to(measuring_device())).last_hidden_state[:, 0]
        return [float(one) for one in head(hidden)[:, -1].sigmoid()]  # the last class stands for an error of any kind

    def _load(self) -> tuple[Any, Any, torch.nn.Linear]:
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        weights = read_weights(self.file)
        model = AutoModel.from_config(read_published(AutoConfig, self.encoder), trust_remote_code=False)
        own = {name.removeprefix("encoder."): value for name, value in weights.items() if not name.startswith("clf.")}
        own.pop("embeddings.position_ids", None)  # of earlier releases of transformers
        try:
            head = torch.nn.Linear(model.config.hidden_size, len(weights["clf.bias"]))
            head.load_state_dict({name: weights[f"clf.{name}"] for name in ("weight", "bias")})
            model.load_state_dict(own)
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"{self.file}: found other weights ({' '.join(str(error).split())[:200]}); expected the detector's "
                f"file, built on the encoder of {self.encoder}. Fix: fetch it from the releases of "
                "https://github.com/blmoistawinde/fense, and name the encoder that it has under 'model_type'."
            ) from error
        place = measuring_device()
        return read_published(AutoTokenizer, self.encoder), model.eval().to(place), head.to(place)
