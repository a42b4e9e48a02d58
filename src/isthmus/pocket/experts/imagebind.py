"""The embedded ImageBind: images, videos, tones and captions in one space, trained from scratch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.image_transform import normalised
from isthmus.encoders.imagebind.audio_clips import audio_views
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.encoders.imagebind.video_frames import clip_frames
from isthmus.pocket.experts import handwriting as hand
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.fitting import fit, halved, parameter_count
from isthmus.pocket.experts.probing import probe_modality
from isthmus.pocket.experts.tokenizers import clip_tokenizer, save_tokenizer
from isthmus.pocket.world import COLOURS, DIGITS, FRAMES, FRAMES_PER_SECOND, MOTIONS, SIZE, Concept, draw_audio
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Modality

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

log = logging.getLogger(__name__)

WORDS = ("a", "the", "tone", "of", "solid", "moving", *DIGITS, *COLOURS, *MOTIONS)
"""Every word of the world's captions; each is one token."""
CONTEXT = 8
"""Ids of a caption, begin and end included: "a red seven moving left" has seven."""
STEPS, LEARNING_RATE, BATCH, SOUNDS = 3000, 2e-3, 64, 6000
"""A batch has ``BATCH`` new images, as many videos, and half as many of the ``SOUNDS`` that are drawn beforehand."""

CONFIG = ImageBindConfig(
    modalities=("vision", "text", "audio"),
    out_embed_dim=64,
    image_size=SIZE,
    vision_patch_size=8,
    video_clips=1,
    video_clip_seconds=1.0,
    video_crops=1,
    vision_embed_dim=96,
    vision_num_blocks=4,
    vision_num_heads=4,
    vision_drop_path=0.1,
    text_context_length=CONTEXT,
    text_embed_dim=64,
    text_num_blocks=2,
    text_num_heads=4,
    audio_clips=1,
    audio_clip_seconds=0.64,
    audio_num_mel_bins=64,
    audio_target_len=64,
    audio_embed_dim=64,
    audio_num_blocks=2,
    audio_num_heads=4,
    audio_drop_path=0.0,
)
"""Training adds the size of the vocabulary and the mean and deviation of the log-mel values."""


class Captions:
    """All captions as ids, and the forms of captions of each modality.

    A form is a list of mutually exclusive captions, of the digit alone or with some attributes, exactly one of which is
    true for a medium. A medium is contrasted with all captions of a form instead of those of its batch, where captions
    often repeat.

    Args:
        tokenize: texts -> ids (B, CONTEXT).

    Attributes:
        ids: (captions, CONTEXT) int64.
        forms: indices of each form's captions, in the order of the training batches' targets.
    """

    def __init__(self, tokenize: Callable[[Sequence[str]], Tensor]) -> None:
        colours, motions = (None, *COLOURS), (None, *MOTIONS)
        of_videos = [Concept(*values).caption(Modality.VIDEO) for values in product(range(10), colours, motions)]
        of_solids = [Concept(*values).caption(Modality.POINTS) for values in product(range(10), colours)]
        of_tones = [Concept(digit).caption(Modality.AUDIO) for digit in range(10)]
        self.ids = tokenize([*of_videos, *of_solids, *of_tones])
        videos = torch.arange(len(of_videos)).view(10, len(colours), len(motions))
        points = torch.arange(len(of_solids)).view(10, len(colours)) + len(of_videos)
        digit, coloured = videos[:, 0, 0], videos[:, 1:, 0].flatten()
        moving, both = videos[:, 0, 1:].flatten(), videos[:, 1:, 1:].flatten()
        self.forms = {
            # Images are contrasted with captions of solids too, which trains the text tower for points.
            Modality.IMAGE: (digit, coloured, points[:, 0], points[:, 1:].flatten()),
            Modality.VIDEO: (digit, coloured, moving, both),
            Modality.AUDIO: (torch.arange(10) + len(of_videos) + len(of_solids),),
            Modality.POINTS: (points[:, 0], points[:, 1:].flatten()),
        }

    def loss(self, modality: Modality, media: Tensor, texts: Tensor, truths: Sequence[Tensor]) -> Tensor:
        """Cross-entropy over each form's captions, averaged over the forms.

        Args:
            modality: whose forms.
            media: unit-length embeddings (B, D).
            texts: every caption's embedding (captions, D), times the logit scale.
            truths: the index of the true caption in each form, (B,).
        """
        losses = [
            F.cross_entropy(media @ texts[form].T, truth, label_smoothing=0.05)
            for form, truth in zip(self.forms[modality], truths, strict=True)
        ]
        return torch.stack(losses).mean()


def caption_ids(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Texts -> ids (B, CONTEXT), zero-padded, as by :meth:`ImageBind.tokenize`."""
    rows = [tokenizer(text, truncation=True, max_length=CONTEXT)["input_ids"] for text in texts]
    return torch.tensor([row + [0] * (CONTEXT - len(row)) for row in rows])


class Sights:
    """Draws training batches of images and videos, preprocessed as by the expert.

    ``strength`` is that of the handwriting's augmentation, from 0 to 1.
    """

    def __init__(self, config: ImageBindConfig) -> None:
        self.bank = hand.Handwriting("train")
        self.strength = 1.0
        chosen = clip_frames(FRAMES, FRAMES_PER_SECOND, config)
        self.times = torch.from_numpy(chosen).float() - (FRAMES - 1) / 2  # (clips, frames)
        self.directions = torch.tensor(list(MOTIONS.values()), dtype=torch.float32)

    def images(self, batch: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Images (B, 3, H, W) and the index of the true caption in each form."""
        ink, digits = self.bank.draw(batch, self.strength)
        colours = torch.randint(len(COLOURS), (batch,))
        centres = SIZE / 2 + hand.uniform(-1.5, 1.5, batch, 1, 2)
        pictures = hand.placed(ink, torch.randint(25, 30, (batch,)), centres)
        pixels = hand.painted(pictures, hand.tints(colours)).squeeze(2)
        coloured = digits * len(COLOURS) + colours
        return normalised(pixels), (digits, coloured, digits, coloured)

    def videos(self, batch: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Views (B, clips, 3, frames, H, W) and the index of the true caption in each form."""
        ink, digits = self.bank.draw(batch, self.strength)
        colours, motions = torch.randint(len(COLOURS), (batch,)), torch.randint(len(MOTIONS), (batch,))
        steps = self.directions[motions] * hand.uniform(1.2, 1.4, batch, 1)
        middles = SIZE / 2 + hand.uniform(-0.5, 0.5, batch, 1, 2)
        centres = middles + steps.unsqueeze(1) * self.times.view(1, -1, 1)
        pictures = hand.placed(ink, torch.randint(22, 25, (batch,)), centres)
        pixels = hand.painted(pictures, hand.tints(colours)).unflatten(2, tuple(self.times.shape))
        views = normalised(pixels.permute(0, 2, 3, 1, 4, 5)).transpose(2, 3)
        coloured, moving = digits * len(COLOURS) + colours, digits * len(MOTIONS) + motions
        return views, (digits, coloured, moving, coloured * len(MOTIONS) + motions)


def sounds(config: ImageBindConfig, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Log-mel views (n, clips, 1, bins, frames) of tones of the training split, and their digits (n,)."""
    random = np.random.default_rng(seed)
    digits = random.integers(10, size=count)
    tones = [draw_audio(Concept(int(digit)), "train", random) for digit in digits]
    views = torch.stack([audio_views(tone.array, tone.rate or 0.0, config) for tone in tones])
    return views, torch.from_numpy(digits)


def enliven(model: ImageBindModel) -> None:
    """Initialises positions, class tokens and word embeddings again, at the scale of the terms that they are added to.

    With the usual scale of 0.02, a narrow model hardly uses positions, and learns no digit for hundreds of steps.
    """
    for name, weight in model.modality_preprocessors.named_parameters():
        if name.endswith(("pos_embed", "cls_token", "token_embedding.weight")):
            nn.init.normal_(weight, std=0.5)


def train(out: Path, effort: float = 1.0, seed: int = 0, scratch: Path | None = None) -> dict[str, float]:
    """Trains the model, saves it with its tokenizer in ``out``, as :class:`ImageBind` reads it, and measures it.

    Args:
        out: the checkpoint's folder.
        effort: scales the steps and the media that are drawn and measured.
        seed: of weights and media.
        scratch: folder for snapshots of an interrupted training; None for none.
    """
    torch.manual_seed(seed)
    started, steps = time.monotonic(), max(int(STEPS * effort), 2)
    tokenizer = clip_tokenizer(WORDS, CONTEXT)
    captions = Captions(partial(caption_ids, tokenizer))
    raw, digits = sounds(replace(CONFIG, audio_mean=0.0, audio_std=1.0), max(int(SOUNDS * min(effort, 1.0)), 64), seed)
    mean, deviation = float(raw.mean()), float(raw.std())
    config = replace(CONFIG, text_vocab_size=len(tokenizer), audio_mean=mean, audio_std=deviation)
    sound_views = (raw - mean) / deviation
    sights, model = Sights(config), ImageBindModel(config)
    enliven(model)

    def loss(step: int) -> Tensor:
        # Augmentation increases during training, since attention learns faster from clear handwriting.
        sights.strength = min(1.0, step / (0.4 * steps))
        texts = model.embed("text", captions.ids, scaled=True)
        (images, image_truths), (videos, video_truths) = sights.images(BATCH), sights.videos(BATCH)
        chosen = torch.randint(len(sound_views), (BATCH // 2,))
        terms = [
            captions.loss(Modality.IMAGE, model.embed("vision", images), texts, image_truths),
            captions.loss(Modality.VIDEO, model.embed("vision", videos), texts, video_truths),
            captions.loss(Modality.AUDIO, model.embed("audio", sound_views[chosen]), texts, (digits[chosen],)),
        ]
        return torch.stack(terms).sum()

    snapshot = scratch / "imagebind.pt" if scratch else None
    averaged = fit(
        "imagebind", model, loss, steps, LEARNING_RATE, weight_decay=0.05, average=0.998, snapshot=snapshot, seed=seed
    )
    # Only weights are averaged: the average of the text tower's mask, which has infinite entries, would be NaN.
    averaged.load_state_dict(dict(model.named_buffers()), strict=False)
    save_checkpoint(out, "imagebind", config, halved(averaged.state_dict()))
    save_tokenizer(tokenizer, out / "tokenizer")
    log.info("imagebind: %d weights, %.0f s", parameter_count([model]), time.monotonic() - started)
    return measure(out, max(int(2000 * min(effort, 1.0)), 100))


def measure(folder: Path, n: int = 2000, world: World = DRAWN) -> dict[str, float]:
    """Accuracies on ``n`` media of the world's test split of each modality; see :func:`probe_modality`."""
    expert = ImageBind(folder)
    figures: dict[str, float] = {}
    for modality in expert.modalities:
        texts = expert.tokenize([Concept(digit).caption(modality) for digit in range(10)])
        figures |= probe_modality(expert, modality, expert.encode_text(texts), n, world=world)
    return figures


if __name__ == "__main__":
    run(train, out="checkpoints/pocket/imagebind", scratch="runs/pocket")
