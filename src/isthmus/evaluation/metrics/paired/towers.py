"""Text towers: texts -> vectors in the space of an extractor's media."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from isthmus.cache.fingerprint import fingerprint
from isthmus.cache.identity import identity
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.transformers_folder import read_model
from isthmus.evaluation.metrics.extractors.base import Array, as_array, at_least_one, measuring_device
from isthmus.paths import checkpoint_path
from isthmus.published import read_published

PROJECTED = {
    "clip": "CLIPTextModelWithProjection",
    "clip_text_model": "CLIPTextModelWithProjection",
    "clap": "ClapTextModelWithProjection",
    "clap_text_model": "ClapTextModelWithProjection",
}
"""Classes of the towers that embed texts beside media, by ``model_type``."""


class TextTower(Protocol):
    """Texts -> a row each, in the space of the media that they are compared with.

    Attributes:
        chunk: how many texts it gets at once, always the same.
    """

    chunk: int

    def embed(self, texts: Sequence[str]) -> Array:
        """N texts -> (n, d).

        Raises:
            ValueError: the tower can't be read.
        """
        ...

    def identity(self) -> Mapping[str, Any]:
        """All that decides over the rows: class, hash of weights, how much of a text is read."""
        ...


class TransformersTexts(TextTower):
    """The text tower of CLIP or CLAP, in a folder of transformers'.

    Args:
        checkpoint: the folder, or ``hf://org/name``. ULIP-2's texts are those of
            ``laion/CLIP-ViT-bigG-14-laion2B-39B-b160k``.
        chunk: texts that it reads at once.

    Raises:
        ValueError: the folder can't be read, its model embeds no texts beside media, or a chunk below 1.
    """

    def __init__(self, checkpoint: str | Path, chunk: int = 32) -> None:
        import transformers

        self.folder = checkpoint_path(checkpoint)
        whole: Any = read_published(transformers.AutoConfig, self.folder)
        if whole.model_type not in PROJECTED:
            raise ValueError(
                f"{self.folder}: found a {whole.model_type}; expected CLIP or CLAP, which embed texts beside media. "
                "Fix: give another folder."
            )
        self.kind: Any = getattr(transformers, PROJECTED[whole.model_type])
        self.config: Any = getattr(whole, "text_config", whole)
        self.config.projection_dim = whole.projection_dim  # the whole model's counts, where they differ
        self.chunk = at_least_one(chunk)
        self._loaded: tuple[Any, Any] | None = None

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Array:
        if self._loaded is None:
            from transformers import AutoTokenizer

            model = read_model(self.folder, self.kind, unused=None, config=self.config)
            tokenizer = read_published(AutoTokenizer, self.folder)
            self._loaded = tokenizer, model.eval().requires_grad_(False).to(measuring_device())
        tokenizer, model = self._loaded
        longest = min(self.config.max_position_embeddings, tokenizer.model_max_length)
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        return as_array(model(**inputs).text_embeds)

    def identity(self) -> Mapping[str, Any]:
        return {"texts": self.kind.__name__, "texts_weights": fingerprint(self.folder)}


class ImageBindTexts(TextTower):
    """ImageBind's text tower.

    Args:
        encoder: whose weights hold it, with CLIP's tokenizer beside them.
        chunk: texts that it reads at once.

    Raises:
        ValueError: a chunk below 1.
    """

    def __init__(self, encoder: ImageBind, chunk: int = 32) -> None:
        self.encoder = encoder
        self.chunk = at_least_one(chunk)

    def embed(self, texts: Sequence[str]) -> Array:
        return as_array(self.encoder.encode_text(self.encoder.tokenize(texts).to(measuring_device())))

    def identity(self) -> Mapping[str, Any]:
        return {"texts": type(self.encoder).__name__, "texts_weights": identity(self.encoder)}


def unit(rows: Array) -> Array:
    """Rows divided by their length; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Array = rows.astype(np.float64) / np.where(lengths == 0, 1, lengths)
    return found


def require_one_space(media: Array, texts: Array) -> None:
    """Refuses a tower whose rows aren't as wide as the extractor's.

    Raises:
        ValueError: they differ.
    """
    if media.shape[1] != texts.shape[1]:
        raise ValueError(
            f"texts: found rows of {texts.shape[1]} beside {media.shape[1]} of the extractor; expected one space for "
            "both. Fix: give the text tower that the extractor was trained with (of CLIP with `layer: projected`)."
        )
