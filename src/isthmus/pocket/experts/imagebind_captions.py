"""Trains a trained ImageBind's vision tower further on a user's captioned images and videos, with a new text tower."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.encoders.checkpoint import read_config, read_weights, save_checkpoint, weights_file
from isthmus.encoders.image_transform import image_view
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.encoders.imagebind.video_frames import video_views
from isthmus.pocket.experts.contrastive import caption_rows, caption_tokenizer, contrastive_loss, moved, recalls
from isthmus.pocket.experts.fitting import fit, halved, parameter_count
from isthmus.pocket.experts.imagebind import enliven
from isthmus.pocket.experts.tokenizers import save_tokenizer
from isthmus.pocket.own.captioned import CaptionedSet
from isthmus.types import Media, Modality

log = logging.getLogger(__name__)

SEEN = (Modality.IMAGE, Modality.VIDEO)
STEPS, LEARNING_RATE, BATCH = 600, 1e-3, 128
"""A batch has ``BATCH`` media, with each modality's share of the training split."""
SIZE = 48
"""Side of images, pixels: 32 suffice for scans of digits, but not to distinguish a hundred faces."""


def tune(
    out: Path, start: Path, captioned: CaptionedSet, effort: float = 1.0, seed: int = 0, scratch: Path | None = None
) -> dict[str, float]:
    """Trains vision and text towers contrastively on the training split, saves them in ``out``, and measures them.

    The vision tower starts from those weights of ``start`` that have the same size. The text tower is new: its words
    are those of the training captions.

    Args:
        out: the new checkpoint's folder.
        start: the trained checkpoint's.
        captioned: the source of media and captions.
        effort: factor of the number of steps.
        seed: of weights and batches.
        scratch: folder for snapshots of an interrupted training; None for none.

    Raises:
        ValueError: the set has neither images nor videos, a medium can't be read, or no checkpoint at ``start``.
    """
    torch.manual_seed(seed)
    started, steps = time.monotonic(), max(int(STEPS * effort), 2)
    served = [modality for modality in SEEN if modality in captioned.modalities]
    if not served:
        raise ValueError(
            f"{captioned.path}: found {', '.join(captioned.modalities)} in the training split; expected images or "
            "videos. Fix: leave imagebind out of --experts."
        )
    tokenizer = caption_tokenizer([one for modality in served for one in captioned.captions(modality)])
    config = replace(
        read_config(start, "imagebind", ImageBindConfig()),
        modalities=("vision", "text"),
        image_size=SIZE,
        text_vocab_size=len(tokenizer),
        text_context_length=tokenizer.model_max_length,
    )
    model = ImageBindModel(config)
    enliven(model)
    model.load_state_dict(same_sized(model, read_weights(weights_file(start)), ".vision."), strict=False)
    media = {modality: views(captioned.pool(modality, "train").media, config) for modality in served}
    texts = {modality: caption_rows(tokenizer, captioned.captions(modality)) for modality in served}
    total = sum(map(len, media.values()))

    def loss(step: int) -> Tensor:
        terms = []
        for modality in served:
            share = len(media[modality]) / total
            chosen = torch.randperm(len(media[modality]))[: max(round(BATCH * share), 2)]
            pictures = moved(media[modality][chosen].flatten(1, -3)).view(len(chosen), *media[modality].shape[1:])
            ids, numbers = (rows[chosen] for rows in texts[modality])
            embedded = model.embed("vision", pictures), model.embed("text", ids, scaled=True)
            terms.append(share * contrastive_loss(*embedded, numbers))
        return torch.stack(terms).sum()

    averaged = fit(
        "imagebind",
        model,
        loss,
        steps,
        LEARNING_RATE,
        weight_decay=0.1,
        average=0.995,
        snapshot=scratch / "imagebind.pt" if scratch else None,
        seed=seed,
    )
    # Of the text tower's mask, which has infinite entries, the average would be NaN.
    averaged.load_state_dict(dict(model.named_buffers()), strict=False)
    save_checkpoint(out, "imagebind", config, halved(averaged.state_dict()))
    save_tokenizer(tokenizer, out / "tokenizer")
    log.info("imagebind: %d weights, %.0f s", parameter_count([model]), time.monotonic() - started)
    return measure(out, captioned)


def same_sized(model: torch.nn.Module, weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The weights of a part that have the same size in the model."""
    own = model.state_dict()
    return {name: weight for name, weight in weights.items() if part in name and own[name].shape == weight.shape}


def views(media: Sequence[Media], config: ImageBindConfig) -> Tensor:
    """Images (n, 3, H, W), or videos (n, views, 3, frames, H, W), preprocessed as by the expert."""
    if media[0].modality is Modality.IMAGE:
        return torch.stack([image_view(medium.array, config.image_size) for medium in media])
    return torch.stack([video_views(medium, config) for medium in media])


def measure(folder: Path, captioned: CaptionedSet) -> dict[str, float]:
    """Recalls of test media among the test captions of their modality; see :func:`.contrastive.recalls`."""
    expert = ImageBind(folder, modalities=[m for m in SEEN if m in captioned.modalities])
    figures: dict[str, float] = {}
    for modality in expert.modalities:
        pool = captioned.pool(modality, "test")
        inputs = views(pool.media, expert.config)
        rows = [expert(modality, {"vision": own}).tokens[:, 0] for own in inputs.split(100)]
        embedded = F.normalize(torch.cat(rows), dim=-1)
        figures |= recalls(modality, embedded, expert.encode_text(expert.tokenize(pool.captions)), pool.captions)
    return figures
