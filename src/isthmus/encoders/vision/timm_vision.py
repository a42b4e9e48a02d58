"""Vision models of timm as frozen experts: NFNet (arXiv 2102.06171), EVA-CLIP (arXiv 2303.15389) and others, by name.

timm's code: Apache-2.0; see each checkpoint's card for the weights' licence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from isthmus.earlier.options import takes_present_names
from isthmus.encoders.checkpoint import load_weights, read_weights, weights_file
from isthmus.encoders.image_transform import middle
from isthmus.encoders.vision.image_encoder import ImageEncoder, Tokens
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype

Array = np.ndarray[Any, Any]
TRUNK = "visual.trunk."
"""The prefix of timm's tower in open_clip's files, which hold the text tower too."""


@takes_present_names
class TimmVision(ImageEncoder):
    """Images, through a model of timm, which the ``timm`` extra installs with the torchvision that it needs.

    Args:
        model_name: timm's name: ``dm_nfnet_f6``, ``eva_giant_patch14_clip_224``, ``eva02_large_patch14_clip_224``, or
            that of any other image model.
        checkpoint: the model's weights as timm or open_clip publishes them, ``.safetensors`` or ``.pth``, or a folder
            of one such file. The classifier isn't read.
        tokens: ``patch``, one token for each patch or cell of the last feature map, row by row; ``pooled``, the input
            of the model's classifier.
        class_token: whether the class token and registers, which precede the patches, are included.
        image_size: side of the input, pixels; None is the size that the model was trained at. For others, timm
            resamples position embeddings. NFNet-F6 was trained at 448, and tested at 576.
        crop: the share of the shorter side that the central crop keeps; None is timm's setting. That is 0.9 for
            EVA-CLIP, whose authors used the whole side (1.0).
        options: further arguments of timm's model function, as a variant of a published model needs them.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.

    Raises:
        ValueError: timm isn't installed, doesn't know the model, or can't build it with these choices.
    """

    card = PartCard(
        takes="image",
        gives="F (B, N, D): patches, or 1 token",
        widths="1408 (EVA-CLIP-g), 1024 (EVA-02-L), 3072 (NFNet-F6)",
        code="Apache-2.0 (timm)",
        weights="the model's own: EVA-CLIP MIT, NFNet-F6 Apache-2.0",
        checkpoint="a weights file as timm or open_clip publishes it",
        extra="timm",
    )

    model: Any

    def __init__(
        self,
        model_name: str,
        checkpoint: str | Path,
        tokens: Tokens = "patch",
        class_token: bool = False,
        image_size: int | None = None,
        crop: float | None = None,
        options: Mapping[str, Any] | None = None,
        dtype: Dtype = "float32",
    ) -> None:
        super().__init__(checkpoint_path(checkpoint), tokens, class_token, dtype)
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size: found {image_size}; expected at least 1")
        if crop is not None and not 0 < crop <= 1:
            raise ValueError(f"crop: found {crop}; expected a share above 0, at most 1")
        timm = _timm()
        self.name = model_name
        self.crop = crop
        self.options = dict(options or {})
        self.resized = image_size
        if model_name not in timm.list_models(include_tags=False):
            close = ", ".join(timm.list_models(f"*{model_name.partition('.')[0][:8]}*")[:3]) or "see timm.list_models()"
            raise ValueError(
                f"model_name: found '{model_name}'; expected a name that timm {timm.__version__} knows: {close}"
            )
        with torch.device("meta"), torch.no_grad():
            skeleton = self._built()
            self.settings = self._settings(skeleton)
            self.image_size = int(self.settings["input_size"][-1])
            try:
                tokens_made = self._chosen(skeleton, torch.zeros(1, 3, self.image_size, self.image_size))
            except (AssertionError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"image_size: {model_name} can't take {self.image_size} pixels ({error}); expected a size that its "
                    "patches divide"
                ) from error
        self.shape = (tokens_made.shape[1], tokens_made.shape[2])
        self.transform = _transform(self.settings)

    def _built(self) -> Any:
        """The model with random weights, at its training resolution."""
        try:
            return _timm().create_model(self.name, pretrained=False, **self.options).eval()
        except (TypeError, AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"options: {self.name} can't be built with {self.options} ({error}): correct them"
            ) from error

    def _settings(self, model: Any) -> dict[str, Any]:
        """Resizes the model, and returns timm's preprocessing settings for it."""
        from timm.data import resolve_data_config

        published = model.pretrained_cfg
        size = _native(model) if self.resized is None else (3, self.resized, self.resized)
        if size != _native(model) and hasattr(model, "set_input_size"):
            model.set_input_size(img_size=size[1:])
        tested = size == tuple(published.get("test_input_size") or ())
        chosen = {"input_size": size, "crop_pct": self.crop}
        settings: dict[str, Any] = resolve_data_config(chosen, model=model, use_test_size=tested)
        return settings

    def expected(self) -> dict[str, Tensor]:
        """Keys and shapes that a checkpoint must have, as tensors on the meta device."""
        with torch.device("meta"):
            model = self._built()
        return _without_classifier(model, model.state_dict())

    def materialize(self) -> None:
        """Builds the model without its classifier and reads the weights, then resizes it."""
        file = weights_file(self.checkpoint)
        model = self._built()  # not on the meta device: some buffers are computed and aren't in the file
        stored = read_weights(file)
        if any(key.startswith(TRUNK) for key in stored):
            stored = {key.removeprefix(TRUNK): value for key, value in stored.items() if key.startswith(TRUNK)}
        stored = _without_classifier(model, stored)
        model.reset_classifier(0, global_pool=getattr(model, "global_pool", None) or None)
        load_weights(model, stored, file, self.dtype)
        self._settings(model)
        self.model = model

    def picture(self, image: Array) -> Tensor:
        """(H, W, 3) uint8 -> (3, image_size, image_size) float32, by timm's evaluation transform."""
        if self.settings.get("crop_mode", "center") == "center":
            image = np.ascontiguousarray(middle(image))
        made: Tensor = self.transform(Image.fromarray(image))
        return made

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, image_size, image_size) -> (B, N, D)."""
        return self._chosen(self.model, pixels)

    def _chosen(self, model: Any, pixels: Tensor) -> Tensor:
        features: Tensor = model.forward_features(pixels)
        if self.tokens == "pooled":
            pooled: Tensor = model.forward_head(features, pre_logits=True)
            return pooled[:, None]
        if features.ndim == 4:  # a feature map, channels first, or last in a few models
            last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
            return features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)
        leading = 0 if self.class_token else int(getattr(model, "num_prefix_tokens", 0))
        return features[:, leading:]


def _timm() -> Any:
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # torchvision built for another torch fails as a RuntimeError
        raise ValueError(
            f"TimmVision: timm can't be imported ({error}); expected the optional requirements: "
            "pip install 'isthmus[timm]', in an environment whose torch and torchvision are of one build"
        ) from error
    return timm


def _transform(settings: Mapping[str, Any]) -> Callable[[Image.Image], Tensor]:
    from timm.data import create_transform

    transform: Callable[[Image.Image], Tensor] = create_transform(**settings, is_training=False)
    return transform


def _native(model: Any) -> tuple[int, int, int]:
    """Channels, height and width of a built model's input: its patch embedding's, else its published size."""
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return (3, *size) if size is not None else tuple(model.pretrained_cfg["input_size"])


def _without_classifier(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return {key: value for key, value in tensors.items() if not key.startswith(heads)}
