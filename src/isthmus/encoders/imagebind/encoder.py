"""ImageBind as a frozen expert: images, videos, audio, depth, thermal and IMU -> tokens (arXiv 2305.05665)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.encoders.checkpoint import load_weights, read_config, read_weights, weights_file
from isthmus.encoders.image_transform import image_view
from isthmus.encoders.imagebind.audio_clips import audio_views
from isthmus.encoders.imagebind.config import TOWERS, ImageBindConfig
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.encoders.imagebind.video_frames import seen_frames, video_views
from isthmus.encoders.mel import WINDOW_SECONDS
from isthmus.encoders.sensors import Array, DepthSettings, depth_view, motion_view, thermal_view
from isthmus.encoders.truncation import Truncation
from isthmus.modalities import DEPTH, IMU, THERMAL
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.precision import Dtype, torch_dtype
from isthmus.published import read_published
from isthmus.request import Request
from isthmus.types import Features, Media, Modality

TOWER_OF = {
    Modality.IMAGE: "vision",
    Modality.VIDEO: "vision",
    Modality.AUDIO: "audio",
    DEPTH: "depth",
    THERMAL: "thermal",
    IMU: "imu",
}
IN_CLIPS = (Modality.VIDEO, Modality.AUDIO)
"""Media of which several clips are looked at."""


class ImageBind(Encoder):
    """One encoder for images, videos, audio, depth maps, thermal pictures and IMU recordings.

    Args:
        checkpoint: ``imagebind_huge.pth``, or a folder of ``config.json`` (a section ``imagebind`` with any fields of
            :class:`ImageBindConfig`) and a weights file. Texts need CLIP's tokenizer in ``tokenizer/`` beside it.
        modalities: which of image, video, audio, depth, thermal and imu to serve; only their towers are built.
        tokens: ``pooled``, one token for each medium: its unit-length embeddings averaged over its clips, as in
            NExT-GPT, without audio's logit scale. ``patch``: the trunk's output, clip by clip, with class tokens.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.
        depth: what depth maps hold, and the camera that they are of; a Kinect's metres if None.
        imu_seconds: how long a stretch of an IMU recording the tower's steps are spread over.

    Raises:
        ValueError: an unknown modality or a checkpoint whose sizes can't be read.
    """

    card = PartCard(
        takes="image, video, audio, depth, thermal, imu",
        gives="F (B, N, D): 1 token, or patches",
        widths="1024 pooled; patches 1280, audio and thermal 768, IMU 512, depth 384",
        weights="CC-BY-NC-SA 4.0",
        checkpoint="imagebind_huge.pth, or a folder of config.json and weights",
    )

    model: ImageBindModel
    text_model: ImageBindModel

    def __init__(
        self,
        checkpoint: str | Path,
        modalities: Sequence[str] = ("image", "video", "audio"),
        tokens: Literal["pooled", "patch"] = "pooled",
        dtype: Dtype = "float32",
        depth: DepthSettings | None = None,
        imu_seconds: float = 5.0,
    ) -> None:
        super().__init__()
        if not imu_seconds > 0:
            raise ValueError(f"imu_seconds: found {imu_seconds}; expected a number above 0. Fix: raise it.")
        self.dtype = torch_dtype(dtype)
        unknown = [name for name in modalities if name not in TOWER_OF]
        if unknown or not modalities:
            raise ValueError(f"modalities: found {list(modalities)}; ImageBind serves {', '.join(TOWER_OF)}")
        if tokens not in ("pooled", "patch"):
            raise ValueError(f"tokens: found '{tokens}'; expected 'pooled' or 'patch'")
        self.checkpoint = checkpoint_path(checkpoint)
        self.modalities = tuple(Modality(name) for name in modalities)
        self.tokens = tokens
        self.config = read_config(self.checkpoint, "imagebind", ImageBindConfig())
        self.truncation = Truncation(f"ImageBind {checkpoint}")
        self._require_towers([TOWER_OF[modality] for modality in self.modalities])
        # Settings name what a cache holds: those of media that aren't served would have it computed anew for nothing.
        if DEPTH in self.modalities:
            self.depth = depth or DepthSettings()
        if IMU in self.modalities:
            self.imu_seconds = imu_seconds

    def _require_towers(self, towers: Sequence[str]) -> None:
        absent = sorted(set(towers) - set(self.config.modalities))
        if absent:
            raise ValueError(
                f"{self.checkpoint}: has no tower for {', '.join(absent)}, only {', '.join(self.config.modalities)}; "
                "ask for fewer modalities, or take another checkpoint"
            )

    def materialize(self) -> None:
        """Builds the towers of ``modalities``."""
        self.model = self._build([TOWER_OF[modality] for modality in self.modalities])

    def _build(self, towers: Sequence[str]) -> ImageBindModel:
        """A model of these towers alone; the checkpoint's other towers aren't read."""
        file = weights_file(self.checkpoint)
        unused = set(TOWERS) - set(towers)
        weights = {key: value for key, value in read_weights(file).items() if not _belongs_to(key, unused)}
        with torch.device("meta"):
            model = ImageBindModel(self.config.with_towers(towers))
        load_weights(model, weights, file, self.dtype)
        return model

    def width(self, modality: Modality) -> int:
        """D: of the joint space (``pooled``), or of the modality's trunk (``patch``)."""
        tower = self._tower(modality)
        return self.config.out_embed_dim if self.tokens == "pooled" else self.config.tower(tower).width

    def _tower(self, modality: Modality) -> str:
        if modality not in self.modalities:
            raise ValueError(f"{modality}: this encoder serves {', '.join(self.modalities)}; give another for it")
        return TOWER_OF[modality]

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """Image -> vision (3, H, W); video -> vision (views, 3, frames, H, W); audio -> audio (clips, 1, bins, frames).

        Depth -> depth (1, H, W), thermal -> thermal (1, H, W), IMU -> imu (channels, length).
        Clips are spread evenly over a recording. Recordings longer than all clips together are counted, with a warning.

        Raises:
            ValueError: the medium isn't one of ``modalities``, or it can't be used; the message names its source.
        """
        tower = self._tower(medium.modality)
        try:
            if medium.modality is Modality.IMAGE:
                return {tower: image_view(medium.array, self.config.image_size)}
            if medium.modality is DEPTH:
                return {tower: depth_view(medium.array, self.depth, self.config.image_size)}
            if medium.modality is THERMAL:
                return {tower: thermal_view(medium.array, self.config.image_size)}
            assert medium.rate is not None
            if medium.modality is IMU:
                return {tower: self._motion(medium.array, medium.rate, medium.source)}
            if medium.modality is Modality.VIDEO:
                return {tower: video_views(medium, self.config)}
            views = audio_views(medium.array, medium.rate, self.config)
        except ValueError as error:
            raise ValueError(f"{medium.source}: {error}") from error
        seconds, clips = medium.array.shape[0] / medium.rate, self.config.audio_clips
        if seconds - clips * self.config.audio_clip_seconds >= WINDOW_SECONDS:
            part = f"{clips} clips of {self.config.audio_clip_seconds:g} s are"
            fix = "Cut recordings into pieces, or give a folder whose config.json has more audio_clips"
            self.truncation(medium.source, seconds, part, fix)
        return {tower: views}

    def _motion(self, motion: Array, rate: float, source: str) -> Tensor:
        seconds = motion.shape[1] / rate
        if seconds >= self.imu_seconds + 1:
            fix = "Cut recordings into pieces"
            self.truncation(source, seconds, f"the middle {self.imu_seconds:g} s are", fix)
        return motion_view(motion, rate, self.imu_seconds, self.config.imu_channels, self.config.imu_length)

    def request(self, modality: Modality) -> Request | None:
        """The frames of a video's clips, and images at no more than the resolution that is used."""
        if modality not in (Modality.IMAGE, Modality.VIDEO):
            return None
        frames = partial(seen_frames, self.config) if modality is Modality.VIDEO else None
        return Request(frames, self.config.image_size)

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """1 (``pooled``), or all patches and class tokens of every clip (``patch``)."""
        tower = self._tower(modality)
        if self.tokens == "pooled":
            return 1
        clips = inputs[tower].shape[0] if modality in IN_CLIPS else 1
        rows, columns = self.config.grid(tower)
        return int(clips) * (1 + rows * columns)

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked inputs of one modality -> tokens (B, N, D), all valid."""
        tower = self._tower(modality)
        media = inputs[tower]
        if not self.is_loaded:
            self.load(media.device)
        media = media.to(next(self.model.parameters()).dtype)
        if self.tokens == "pooled":
            tokens = self.model.embed(tower, media).unsqueeze(1)
        elif modality not in IN_CLIPS:
            tokens = self.model.trunk(tower, self.model.stem(tower, media))
        else:
            hidden = self.model.trunk(tower, self.model.stem(tower, media.flatten(0, 1)))
            tokens = hidden.reshape(media.shape[0], -1, hidden.shape[-1])
        return Features(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    @torch.no_grad()
    def encode_text(self, ids: Tensor) -> Tensor:
        """Ids (B, T) -> unit-length embeddings (B, out), comparable to pooled media. Loads its tower on first use."""
        if "text_model" not in self._modules:
            self._require_towers(["text"])
            self.text_model = self._build(["text"]).requires_grad_(False).eval().to(ids.device)
        return self.text_model.embed("text", ids)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> ids (B, context length): CLIP's byte pairs between its special tokens, truncated, and zero-padded.

        Raises:
            ValueError: there is no tokenizer beside the weights, or its end-of-text token isn't its largest id.
        """
        length = self.config.text_context_length
        ids = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            encoded = self._tokenizer(text, truncation=True, max_length=length)["input_ids"]
            row[: len(encoded)] = torch.tensor(encoded)
        return ids

    @cached_property
    def _tokenizer(self) -> Any:
        """Read once: texts come in many chunks."""
        from transformers import CLIPTokenizer

        folder = (self.checkpoint if self.checkpoint.is_dir() else self.checkpoint.parent) / "tokenizer"
        if not folder.is_dir():
            raise ValueError(f"{folder}: no tokenizer; save CLIP's there (CLIPTokenizer.save_pretrained)")
        tokenizer = read_published(CLIPTokenizer, folder)
        if tokenizer.eos_token_id != len(tokenizer) - 1:
            raise ValueError(
                f"{folder}: end of text is id {tokenizer.eos_token_id}; expected the largest, {len(tokenizer) - 1}: "
                "take CLIP's tokenizer, or number that token last"
            )
        if len(tokenizer) > self.config.text_vocab_size:
            raise ValueError(
                f"{folder}: {len(tokenizer)} tokens; expected at most text_vocab_size {self.config.text_vocab_size}: "
                "take the tokenizer that belongs to these weights"
            )
        return tokenizer


def _belongs_to(key: str, towers: set[str]) -> bool:
    group, _, rest = key.partition(".")
    return group.startswith("modality_") and rest.partition(".")[0] in towers
