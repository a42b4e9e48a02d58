"""Reads a transformers folder with a vision tower, alone or within a larger model: its class and preprocessing."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.image_transform import middle
from isthmus.published import read_published

Array = np.ndarray[Any, Any]
UNLISTED = {"blip_2_vision_model": "Blip2VisionModel", "instructblip_vision_model": "InstructBlipVisionModel"}
"""Towers that AutoModel doesn't know, by ``model_type``."""
PROBE = (64, 32)
"""Height and width of the image by which the output size of an image processor is found."""


@dataclass(frozen=True)
class VisionTower:
    """A tower's class, how to build it, and how its keys are stored.

    Attributes:
        kind: the class.
        config: its configuration.
        options: further arguments of ``kind``.
        key_mapping: for a tower within a larger model whose keys differ from those that transformers expects.
    """

    kind: Any
    config: Any
    options: dict[str, Any]
    key_mapping: dict[str, str] | None


def read_tower(folder: Path, pooled: bool) -> VisionTower:
    """The tower of a folder; of a CLIP-like model, that of its ``vision_config``.

    Raises:
        ValueError: the folder is missing or unreadable, or transformers has no vision tower for it.
    """
    import inspect

    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    if not (folder / "config.json").is_file():
        found = "a folder without config.json" if folder.is_dir() else "no such folder"
        raise ValueError(
            f"{folder}: found {found}; expected a vision model such as openai/clip-vit-large-patch14: download "
            "it (`hf download openai/clip-vit-large-patch14 --local-dir FOLDER`) and give that folder"
        )
    try:
        whole: Any = read_published(AutoConfig, folder)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder}: config.json can't be read ({error}): download the folder again") from error
    config = getattr(whole, "vision_config", None) or whole
    if type(config) in MODEL_MAPPING:
        kind: Any = MODEL_MAPPING[type(config)]
    elif config.model_type in UNLISTED:
        module = type(config).__module__.replace("configuration_", "modeling_")
        kind = getattr(importlib.import_module(module), UNLISTED[config.model_type])
    else:
        kind = None
    if kind is None or getattr(kind, "main_input_name", "") != "pixel_values":
        raise ValueError(
            f"{folder}: config.json: model_type: found '{config.model_type}'; expected a model of images that "
            "transformers loads by itself, such as clip, vit, siglip or dinov2: give another folder"
        )
    # Many ViTs are published without the pooling layer, which patch tokens don't need.
    poolable = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    mapping = {r"^vision_model\.": ""} if config.model_type in UNLISTED else None
    return VisionTower(kind, config, {"add_pooling_layer": pooled} if poolable else {}, mapping)


class PictureMaker:
    """A folder's image processor, for square images of one size. Needs no torchvision, and is picklable.

    Args:
        folder: that of :func:`read_tower`.
        image_size: side of the output, pixels; None is the processor's own. Other values scale its sizes in proportion.

    Raises:
        ValueError: there is no image processor, or its output has another size.
    """

    def __init__(self, folder: Path, image_size: int | None = None) -> None:
        from transformers import AutoImageProcessor

        try:
            # torchvision resizes differently, and cached features must not depend on whether it is installed.
            self.processor: Any = read_published(AutoImageProcessor, folder, backend="pil")
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{folder}: found no preprocessor_config.json that transformers can read ({error}); expected an image "
                "processor's: download that file too"
            ) from error
        self.sizes: dict[str, dict[str, int]] = {}
        # A processor that resizes to a square without cropping uses the whole image.
        crops = getattr(self.processor, "do_center_crop", False) and "shortest_edge" in dict(self.processor.size)
        self.precrop = middle if crops else np.asarray
        own = self._side(folder)
        self.image_size = own if image_size is None else image_size
        if self.image_size < 1:
            raise ValueError(f"image_size: found {image_size}; expected at least 1")
        if self.image_size != own:
            scale = self.image_size / own
            self.sizes = {
                name: {edge: round(scale * pixels) for edge, pixels in dict(value).items() if pixels is not None}
                for name in ("size", "crop_size")
                if (value := getattr(self.processor, name, None)) is not None
            }
            if (made := self._side(folder)) != self.image_size:
                raise ValueError(f"{folder}: image_size: found {image_size}; its image processor makes {made} of it")

    def _side(self, folder: Path) -> int:
        made = self(np.zeros((*PROBE, 3), np.uint8))
        if made.ndim != 3 or made.shape[0] != 3 or made.shape[1] != made.shape[2]:
            raise ValueError(
                f"{folder}: preprocessor_config.json: {type(self.processor).__name__} makes {tuple(made.shape)} of an "
                f"image of {PROBE}; expected (3, side, side), one square: set do_resize, size and crop_size so, or "
                "take another model"
            )
        return int(made.shape[1])

    def __call__(self, image: Array) -> Tensor:
        """(H, W, 3) uint8 -> (3, image_size, image_size) float32."""
        made = self.processor(self.precrop(image), return_tensors="np", input_data_format="channels_last", **self.sizes)
        return torch.from_numpy(np.ascontiguousarray(made["pixel_values"][0], dtype=np.float32))
