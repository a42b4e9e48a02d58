"""A network in a transformers folder: its features, and its logits where it is a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.cache.fingerprint import fingerprint
from isthmus.encoders.transformers_folder import read_model
from isthmus.evaluation.metrics.extractors.base import as_array, measuring_device
from isthmus.paths import checkpoint_path
from isthmus.published import read_published

Array = np.ndarray[Any, Any]
CLASSIFIERS = tuple(f"For{kind}Classification" for kind in ("Image", "Video", "Audio", "Sequence"))
PROJECTED = {
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "clap": "ClapAudioModelWithProjection",
    "clap_audio_model": "ClapAudioModelWithProjection",
}
"""Classes of the towers that embed media beside texts, by ``model_type``."""
PARTS = ("vision_config", "audio_config")
"""Where such a model keeps its tower's configuration."""
EMBEDDINGS = ("image_embeds", "audio_embeds")


class PublishedNetwork:
    """Reads the configuration at once, and the weights when the first media come.

    Features are, in this order: what a classifier's head is given; the embedding beside texts of CLIP and CLAP, where
    ``projected``; the pooled output; the mean of the last hidden states.

    Args:
        checkpoint: the folder, or ``hf://org/name``.
        projected: see above; None: where the model has such an embedding.
        unit_length: whether features are divided by their length.

    Attributes:
        folder: on this machine.
        config: of the media's part of the model.

    Raises:
        ValueError: the folder is missing or unreadable, or its model isn't one of transformers.
    """

    def __init__(self, checkpoint: str | Path, projected: bool | None, unit_length: bool) -> None:
        import transformers

        self.folder = checkpoint_path(checkpoint)
        self.unit_length = unit_length
        try:
            whole: Any = read_published(transformers.AutoConfig, self.folder)
        except (OSError, KeyError) as error:
            raise ValueError(
                f"{self.folder}: config.json can't be read ({error}); expected a folder that transformers' "
                "save_pretrained wrote. Fix: download it again."
            ) from error
        parts = [getattr(whole, part) for part in PARTS if whole.model_type in PROJECTED and hasattr(whole, part)]
        self.config: Any = parts[0] if parts else whole
        name = next(iter(whole.architectures or ()), "")
        self.is_classifier = name.endswith(CLASSIFIERS)
        self.projected = projected is not False and whole.model_type in PROJECTED
        if projected and not self.projected:
            raise ValueError(
                f"{self.folder}: layer: found 'projected'; expected 'pooled', since a {whole.model_type} doesn't embed "
                "media beside texts as CLIP and CLAP do. Fix: leave `layer` out."
            )
        if self.projected:
            self.kind: Any = getattr(transformers, PROJECTED[whole.model_type])
            self.config.projection_dim = whole.projection_dim  # the whole model's counts, where they differ
        elif self.is_classifier:
            self.kind = getattr(transformers, name)
        else:
            from transformers.models.auto.modeling_auto import MODEL_MAPPING

            self.kind = MODEL_MAPPING[type(self.config)]
        self._model: Any = None

    @property
    def layer(self) -> str:
        """Which of the network's outputs the features are, as figures carry it."""
        if self.projected:
            name = "projected"
        else:
            name = "the classifier's input" if self.is_classifier else "pooled"
        return f"{name}, of unit length" if self.unit_length else name

    def identity(self) -> dict[str, Any]:
        """The network's part of an extractor's identity."""
        return {"extractor": self.kind.__name__, "weights": fingerprint(self.folder), "layer": self.layer}

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Array, Array | None]:
        """Stacked inputs -> features (n, d), logits (n, k)."""
        model = self._loaded()
        device = next(model.parameters()).device
        heads: list[Tensor] = []
        hook = None
        if self.is_classifier and not self.projected:
            hook = model.classifier.register_forward_pre_hook(lambda _, arguments: heads.append(arguments[0]))
        try:
            output = model(**{name: tensor.to(device) for name, tensor in inputs.items()})
        finally:
            if hook is not None:
                hook.remove()
        if heads:
            return as_array(self._sized(heads[0])), as_array(output.logits)
        embedded = [output[name] for name in EMBEDDINGS if output.get(name) is not None]
        pooled = output.get("pooler_output")
        found = embedded[0] if embedded else output.last_hidden_state.mean(1) if pooled is None else pooled
        return as_array(self._sized(found)), None

    def _sized(self, features: Tensor) -> Tensor:
        flat = features.flatten(1).float()
        return nn.functional.normalize(flat, dim=1) if self.unit_length else flat

    def _loaded(self) -> Any:
        if self._model is None:
            model = read_model(self.folder, self.kind, unused=None, config=self.config)
            if self.is_classifier and not self.projected and not hasattr(model, "classifier"):
                raise ValueError(
                    f"{self.folder}: found a {self.kind.__name__} whose head isn't called classifier; expected one as "
                    "of ViT, VideoMAE or AST. Fix: take another model."
                )
            self._model = model.eval().requires_grad_(False).to(measuring_device())
        return self._model
