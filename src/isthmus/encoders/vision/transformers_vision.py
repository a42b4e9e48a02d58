"""Vision towers of transformers as frozen experts: ViT, CLIP, SigLIP, DINOv2 and others, by folder.

Dosovitskiy et al., arXiv 2010.11929 (ViT); Radford et al., arXiv 2103.00020 (CLIP). transformers' code: Apache-2.0; see
each checkpoint's card for the weights' licence.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.transformers_folder import read_model
from isthmus.encoders.vision.image_encoder import ImageEncoder, Tokens, leading_tokens
from isthmus.encoders.vision.vision_folder import PictureMaker, read_tower
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype

Array = np.ndarray[Any, Any]


class TransformersVision(ImageEncoder):
    """Images, through the vision tower of a ``from_pretrained`` folder; the rest of its weights isn't read.

    Args:
        checkpoint: a folder in the format of ``openai/clip-vit-large-patch14``, ``google/vit-base-patch16-224``,
            ``google/siglip-so400m-patch14-384`` or ``facebook/dinov2-large``: config, image processor and weights.
        tokens: ``patch``, one token for each patch, row by row; ``pooled``, the model's own ``pooler_output``.
        layer: index of the hidden states to use: 0 is the embeddings, -2 the last but one, as in LLaVA
            (arXiv 2304.08485). None: the model's output, after its last norm if it has one.
        class_token: whether the tokens before the patches (class, distillation, registers) are included.
        image_size: side of the input, pixels; None is the image processor's. For others, position embeddings are
            interpolated if the model supports it.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.

    Raises:
        ValueError: the folder is missing or holds no vision tower, its preprocessing is unusable, or it can't take
            these choices.
    """

    card = PartCard(
        takes="image",
        gives="F (B, N, D): patches, or 1 token",
        widths="1024 (CLIP ViT-L/14), 1152 (SigLIP so400m)",
        code="Apache-2.0 (transformers)",
        weights="the model's own: CLIP MIT, SigLIP and DINOv2 Apache-2.0",
        checkpoint="a folder as of openai/clip-vit-large-patch14 or google/siglip-so400m-patch14-384",
    )

    model: Any

    def __init__(
        self,
        checkpoint: str | Path,
        tokens: Tokens = "patch",
        layer: int | None = None,
        class_token: bool = False,
        image_size: int | None = None,
        dtype: Dtype = "float32",
    ) -> None:
        super().__init__(checkpoint_path(checkpoint), tokens, class_token, dtype)
        if layer is not None and tokens == "pooled":
            raise ValueError(f"layer: found {layer} beside tokens 'pooled'; expected it with tokens 'patch' only")
        self.layer = layer
        self.tower = read_tower(self.checkpoint, pooled=tokens == "pooled")
        self.maker = PictureMaker(self.checkpoint, image_size)
        self.image_size = self.maker.image_size
        parameters = inspect.signature(self.tower.kind.forward).parameters
        self.call = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in parameters else {}
        self.leading = 0
        self.shape = self._shape()

    def _shape(self) -> tuple[int, int]:
        """N and D, by a run on the meta device: classes differ in the tokens that precede the patches."""
        with torch.device("meta"), torch.no_grad():
            model = self.tower.kind(self.tower.config, **self.tower.options).eval()
            try:
                output = self._run(model, torch.zeros(1, 3, self.image_size, self.image_size))
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"{self.checkpoint}: image_size: {type(model).__name__} can't take {self.image_size} pixels "
                    f"({error}); expected the size that it was trained at, {self.tower.config.image_size}"
                ) from error
            tokens = self._chosen(output)
        if self.tokens == "patch" and not self.class_token:
            patch = getattr(self.tower.config, "patch_size", 1)
            side = patch if isinstance(patch, int) else patch[0]
            self.leading = leading_tokens(tokens.shape[1], self.image_size, side)
        return tokens.shape[1] - self.leading, tokens.shape[2]

    def materialize(self) -> None:
        """Builds the tower alone."""
        self.model = read_model(
            self.checkpoint,
            self.tower.kind,
            key_mapping=self.tower.key_mapping,
            unused=None,
            dtype=self.dtype,
            config=self.tower.config,
            **self.tower.options,
        )

    def picture(self, image: Array) -> Tensor:
        """(H, W, 3) uint8 -> (3, image_size, image_size) float32, by the folder's image processor."""
        return self.maker(image)

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, image_size, image_size) -> (B, N, D)."""
        return self._chosen(self._run(self.model, pixels))[:, self.leading :]

    def _run(self, model: Any, pixels: Tensor) -> Any:
        return model(pixel_values=pixels, output_hidden_states=self.layer is not None, **self.call)

    def _chosen(self, output: Any) -> Tensor:
        """A model's output -> the chosen tokens (B, N, D), including those before the patches."""
        if self.tokens == "pooled":
            pooled: Tensor | None = output.get("pooler_output")
            if pooled is None:
                raise ValueError(
                    f"{self.checkpoint}: tokens: found 'pooled'; {self.tower.kind.__name__} has no pooled output: "
                    "take 'patch'"
                )
            return pooled.flatten(1)[:, None]
        hidden: Tensor = output.last_hidden_state
        if self.layer is not None:
            states = output.hidden_states
            if not -len(states) <= self.layer < len(states):
                raise ValueError(
                    f"{self.checkpoint}: layer: found {self.layer}; expected {-len(states)} to {len(states) - 1}: "
                    f"{self.tower.kind.__name__} has {len(states)} hidden states here"
                )
            hidden = states[self.layer]
        return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden  # (B, D, rows, columns)
