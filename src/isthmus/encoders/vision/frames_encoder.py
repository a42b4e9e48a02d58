"""Encodes a video as a few frames by an image encoder, with a choice of how frames are combined over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.earlier.options import takes_present_names
from isthmus.encoders.base import Encoder
from isthmus.encoders.transformers_folder import read_model
from isthmus.encoders.views import encoded_views, first_views, stacked_views
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import lifted
from isthmus.request import Request
from isthmus.types import Features, Media, Modality

Array = np.ndarray[Any, Any]
Temporal = Literal["none", "mean", "t5"]
T5_FAMILY = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
"""Classes by ``model_type``; Flan-T5 and UL2 are ``t5``."""


def frame_indices(total: int, frames: int) -> Array:
    """(frames,) int64: indices spread evenly from the first frame to the last; a shorter video's are all used."""
    indices: Array = np.linspace(0, total - 1, frames, dtype=int) if total > frames else np.arange(total)
    return indices


def _sampled(frames: int, total: int, rate: float) -> list[int]:
    return [int(frame) for frame in frame_indices(total, frames)]


@takes_present_names
class FramesEncoder(Encoder):
    """Videos, by an image encoder that encodes evenly spread frames, five in X-LLM (arXiv 2305.04160).

    Videos with fewer frames are padded, and the padding is masked.

    Args:
        image_encoder: any encoder of images.
        num_frames: how many frames are encoded.
        temporal: ``none``, all frames' tokens, frame by frame; ``mean``, each token averaged over the frames; ``t5``,
            all frames' tokens encoded by the frozen encoder of a T5.
        t5: for ``temporal`` ``t5``, a folder in the format of ``google/flan-t5-large`` whose ``d_model`` is the image
            encoder's width. The decoder isn't read. Weights take the image encoder's type.
        modalities: ``video``, or ``video`` and ``image``: images then use the same encoder, which is loaded once.

    Raises:
        ValueError: the encoder doesn't serve images, or a choice is unknown or doesn't fit it.
    """

    card = PartCard(
        takes="video, image",
        gives="F (B, N, D): each frame's tokens, or their mean",
        widths="the image encoder's",
        weights="the image encoder's; Flan-T5 Apache-2.0",
        checkpoint="none of its own: it wraps an image encoder, and may add a T5",
    )

    image_encoder: Encoder
    model: Any

    def __init__(
        self,
        image_encoder: Encoder,
        num_frames: int = 5,
        temporal: Temporal = "none",
        t5: str | Path | None = None,
        modalities: Sequence[str] = ("video",),
    ) -> None:
        super().__init__()
        if Modality.IMAGE not in image_encoder.modalities:
            raise ValueError(
                f"image_encoder: {type(image_encoder).__name__} serves {', '.join(image_encoder.modalities)}; "
                "expected an encoder of images"
            )
        if num_frames < 1:
            raise ValueError(f"num_frames: found {num_frames}; expected at least 1")
        if temporal not in ("none", "mean", "t5"):
            raise ValueError(f"temporal: found '{temporal}'; expected 'none', 'mean' or 't5'")
        if (t5 is not None) != (temporal == "t5"):
            raise ValueError(f"t5: found {t5} beside temporal '{temporal}'; expected a folder with temporal 't5' only")
        if sorted(modalities) not in (["video"], ["image", "video"]):
            raise ValueError(f"modalities: found {list(modalities)}; expected video, or image and video")
        self.image_encoder = image_encoder
        self.dtype = image_encoder.dtype
        self.frame_count = num_frames
        self.temporal = temporal
        self.modalities = tuple(Modality(name) for name in modalities)
        self.checkpoint = image_encoder.checkpoint
        self.counts_are_bounds = image_encoder.counts_are_bounds
        self.t5 = None if t5 is None else checkpoint_path(t5)
        self.t5_class = None if self.t5 is None else self._fitting_class(self.t5)

    def _fitting_class(self, folder: Path) -> Any:
        import transformers

        if not (folder / "config.json").is_file():
            raise ValueError(f"t5: {folder}: found no config.json; expected one such as google/flan-t5-large")
        sizes: dict[str, Any] = transformers.PreTrainedConfig.get_config_dict(folder, local_files_only=True)[0]
        if sizes.get("model_type") not in T5_FAMILY:
            raise ValueError(
                f"t5: {folder}: config.json: model_type: found {sizes.get('model_type')!r}; expected one of "
                f"{', '.join(T5_FAMILY)}"
            )
        width = self.image_encoder.width(Modality.IMAGE)
        if sizes.get("d_model") != width:
            raise ValueError(
                f"t5: {folder}: config.json: d_model: found {sizes.get('d_model')}; expected {width}, the width of "
                f"{type(self.image_encoder).__name__}'s tokens: take a T5 of that width"
            )
        return getattr(transformers, T5_FAMILY[sizes["model_type"]])

    def materialize(self) -> None:
        """Loads the image encoder, and the T5 encoder where there is one."""
        self.image_encoder.load()
        if self.t5 is not None:
            self.model = read_model(self.t5, self.t5_class, unused=("decoder.", "lm_head."), dtype=self.dtype)

    def release(self) -> None:
        """Drops both experts' weights and keeps the image encoder's settings, where it doesn't stay."""
        if self.stays:
            return
        self.image_encoder.release()
        if "model" in self._modules:
            del self.model
        self.is_loaded = False

    @property
    def passes_vary(self) -> bool:
        """The image encoder's."""
        return self.image_encoder.passes_vary

    def width(self, modality: Modality) -> int:
        """D, the width of the image encoder."""
        self._check(modality)
        return self.image_encoder.width(Modality.IMAGE)

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """A video -> the image encoder's inputs (frames, ...) and their number; an image -> the encoder's inputs.

        Raises:
            ValueError: the medium isn't one of ``modalities``, or a frame can't be used; the message names its source.
        """
        self._check(medium.modality)
        if medium.modality is Modality.IMAGE:
            return self.image_encoder.preprocess(medium)
        indices = medium.rows(frame_indices(medium.frame_count, self.frame_count))
        images = [Media(Modality.IMAGE, medium.array[index], source=medium.source) for index in indices]
        return stacked_views([self.image_encoder.preprocess(image) for image in images], self.frame_count)

    def request(self, modality: Modality) -> Request | None:
        """The frames of a video that are encoded, at the image encoder's resolution; for images, its own request."""
        image = self.image_encoder.request(Modality.IMAGE)
        if modality is not Modality.VIDEO:
            return image
        return Request(partial(_sampled, self.frame_count), None if image is None else image.side)

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """The number of tokens of all frames, or of one if they are averaged."""
        self._check(modality)
        if modality is Modality.IMAGE:
            return self.image_encoder.token_count(modality, inputs)
        counts = [self.image_encoder.token_count(Modality.IMAGE, view) for view in first_views(inputs)]
        return max(counts) if self.temporal == "mean" else sum(counts)

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked inputs -> tokens (B, N, D), mask (B, N); N is that of the batch's longest video."""
        self._check(modality)
        if not self.is_loaded:
            self.load(next(iter(inputs.values())).device)
        if modality is Modality.IMAGE:
            return self.image_encoder(modality, inputs)  # type: ignore[no-any-return]
        frames = encoded_views(self.image_encoder, inputs)
        if self.temporal == "mean":
            total = lifted(frames.tokens).masked_fill(~frames.mask[..., None], 0).sum(1)
            return Features(total / frames.mask.sum(1).clamp(min=1)[..., None], frames.mask.any(1))
        tokens, mask = frames.tokens.flatten(1, 2), frames.mask.flatten(1, 2)
        if self.temporal == "t5":
            tokens = self.model(inputs_embeds=tokens.to(self.dtype), attention_mask=mask.long()).last_hidden_state
        return Features(tokens, mask)

    def _check(self, modality: Modality) -> None:
        if modality not in self.modalities:
            raise ValueError(f"{modality}: this encoder serves {', '.join(self.modalities)}; give another for it")
