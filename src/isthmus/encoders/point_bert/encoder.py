"""Point-BERT as a frozen expert: point clouds -> tokens, with ULIP's weights (arXiv 2305.08275, 2212.05171)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.encoders.checkpoint import load_weights, read_config, read_weights, weights_file
from isthmus.encoders.point_bert.cloud import prepared_points
from isthmus.encoders.point_bert.model import ULIP1, PointBertConfig, PointBertModel
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype, torch_dtype
from isthmus.types import Features, Media, Modality

PUBLISHED = {"ulip2": PointBertConfig(), "ulip1": ULIP1}
OTHER_TOWERS = (
    "open_clip_model.",
    "visual.",
    "transformer.",
    "token_embedding.",
    "ln_final.",
    "positional_embedding",
    "text_projection",
    "image_projection",
)
"""ULIP's checkpoints may hold the image and text towers too, which aren't read."""


class PointBert(Encoder):
    """Point clouds, aligned with images and text.

    Args:
        checkpoint: a published ``.pt`` file, or a folder of ``config.json`` (a section ``point_bert`` with any fields
            of :class:`PointBertConfig`) and a weights file.
        tokens: ``pooled``, one token for each cloud: its embedding in the joint space, not normalised. ``patch``: the
            class token and one token for each group, after the last norm.
        published: the published model whose sizes apply if there is no ``config.json``.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.

    Raises:
        ValueError: a checkpoint whose sizes can't be read.
    """

    card = PartCard(
        takes="points",
        gives="F (B, N, D): 1 token, or 513 patches",
        widths="1280 pooled (ULIP-1: 512); patches 384",
        weights="none stated; its code is BSD-3-Clause",
        checkpoint="ULIP-2's or ULIP-1's .pt, or a folder of config.json and weights",
    )

    modalities = (Modality.POINTS,)
    model: PointBertModel

    def __init__(
        self,
        checkpoint: str | Path,
        tokens: Literal["pooled", "patch"] = "pooled",
        published: Literal["ulip2", "ulip1"] = "ulip2",
        dtype: Dtype = "float32",
    ) -> None:
        super().__init__()
        self.dtype = torch_dtype(dtype)
        if tokens not in ("pooled", "patch"):
            raise ValueError(f"tokens: found '{tokens}'; expected 'pooled' or 'patch'")
        if published not in PUBLISHED:
            raise ValueError(f"published: found '{published}'; expected one of {', '.join(PUBLISHED)}")
        self.checkpoint = checkpoint_path(checkpoint)
        self.tokens = tokens
        self.config = read_config(self.checkpoint, "point_bert", PUBLISHED[published])

    def materialize(self) -> None:
        """Builds the point tower; other towers in the file aren't read."""
        file = weights_file(self.checkpoint)
        weights = {key: value for key, value in read_weights(file).items() if not key.startswith(OTHER_TOWERS)}
        with torch.device("meta"):
            model = PointBertModel(self.config)
        try:
            load_weights(model, weights, file, self.dtype)
        except ValueError as error:
            if name := published_name(weights):
                raise ValueError(
                    f"{file}: found {name}'s published sizes; expected those of {self._sizes_from()}: set the "
                    f"encoder's `published` to {name}, and leave out a config.json that says otherwise"
                ) from error
            raise
        self.model = model

    def _sizes_from(self) -> str:
        known = [name for name, config in PUBLISHED.items() if config == self.config]
        return known[0] if known else str(self.checkpoint / "config.json")

    def width(self, modality: Modality) -> int:
        """D: of the joint space (``pooled``), or of the transformer (``patch``)."""
        self._check(modality)
        return self.config.embed_dim if self.tokens == "pooled" else self.config.trans_dim

    def _check(self, modality: Modality) -> None:
        if modality is not Modality.POINTS:
            raise ValueError(f"{modality}: this encoder serves points; give another encoder for it")

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """A cloud of any size -> points (P, 3 or 6).

        Raises:
            ValueError: the medium isn't points, or it can't be used; the message names its source.
        """
        self._check(medium.modality)
        try:
            cloud = prepared_points(medium.array, self.config.points, self.config.num_group, self.config.colored)
        except ValueError as error:
            raise ValueError(f"{medium.source}: {error}") from error
        return {"points": torch.from_numpy(cloud)}

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """1 (``pooled``), or the class token plus the number of groups (``patch``)."""
        self._check(modality)
        return 1 if self.tokens == "pooled" else 1 + self.config.num_group

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked clouds -> tokens (B, N, D), all valid."""
        self._check(modality)
        cloud = inputs["points"]
        if not self.is_loaded:
            self.load(cloud.device)
        tokens = self.model(cloud).unsqueeze(1) if self.tokens == "pooled" else self.model.tokens(cloud)
        return Features(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))


def published_name(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the published model whose point tower has these keys and shapes; None if there is none."""
    found = {key: value.shape for key, value in weights.items()}
    for name, config in PUBLISHED.items():
        with torch.device("meta"):
            expected = {key: value.shape for key, value in PointBertModel(config).state_dict().items()}
        if found == expected:
            return name
    return None
