"""Trains a trained Point-BERT further on a user's captioned clouds, contrastively with a new text tower."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.encoders.checkpoint import load_weights, read_weights, weights_file
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.encoders.point_bert.cloud import MISSING_COLOUR
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.encoders.point_bert.model import PointBertModel
from isthmus.pocket.experts.augmenting import turned_clouds
from isthmus.pocket.experts.contrastive import caption_rows, caption_tokenizer, contrastive_loss, recalls
from isthmus.pocket.experts.fitting import fit, parameter_count
from isthmus.pocket.experts.imagebind import enliven
from isthmus.pocket.experts.points.point_bert import centred, save
from isthmus.pocket.experts.points.point_bert_tuning import gathered
from isthmus.pocket.own.captioned import Captioned, CaptionedSet
from isthmus.types import Modality

log = logging.getLogger(__name__)

STEPS, LEARNING_RATE, BATCH = 300, 1e-3, 64
TEXT = ImageBindConfig(modalities=("text",), text_embed_dim=64, text_num_blocks=2, text_num_heads=4)
"""An ImageBind with only a text tower, the clouds' counterpart in training, which isn't needed afterwards."""


def tune(
    out: Path, start: Path, captioned: CaptionedSet, effort: float = 1.0, seed: int = 0, scratch: Path | None = None
) -> dict[str, float]:
    """Trains point and text towers contrastively on the training split and measures them. Colours aren't used.

    The point tower is saved in ``out``. The text tower is new, since no existing one knows the set's words, and isn't
    saved.

    Args:
        out: the new checkpoint's folder.
        start: the trained checkpoint's.
        captioned: the source of clouds and captions.
        effort: factor of the number of steps.
        seed: of weights and batches.
        scratch: folder for snapshots of an interrupted training; None for none.

    Raises:
        ValueError: the set has no clouds or they can't be read, or there is no checkpoint at ``start``.
    """
    torch.manual_seed(seed)
    started, steps = time.monotonic(), max(int(STEPS * effort), 2)
    if Modality.POINTS not in captioned.modalities:
        raise ValueError(
            f"{captioned.path}: found {', '.join(captioned.modalities)} in the training split; expected points. "
            "Fix: leave point_bert out of --experts."
        )
    pool = captioned.pool(Modality.POINTS, "train")
    tokenizer = caption_tokenizer(pool.captions)
    ids, numbers = caption_rows(tokenizer, pool.captions)
    sizes = PointBert(start).config
    config = replace(
        TEXT,
        out_embed_dim=sizes.embed_dim,
        text_vocab_size=len(tokenizer),
        text_context_length=tokenizer.model_max_length,
    )
    points, words, file = PointBertModel(sizes), ImageBindModel(config), weights_file(start)
    load_weights(points, read_weights(file), file)
    enliven(words)
    model = nn.ModuleDict({"points": points, "words": words})
    clouds = gathered([medium.array for medium in pool.media], sizes)

    def loss(step: int) -> Tensor:
        chosen = torch.randperm(len(clouds))[:BATCH]
        turned = turned_clouds(clouds[chosen])
        grey = torch.full_like(turned, MISSING_COLOUR)
        with torch.autocast("cpu", torch.bfloat16):
            embedded = F.normalize(points(centred(torch.cat([turned, grey], dim=-1))).float(), dim=-1)
        return contrastive_loss(embedded, words.embed("text", ids[chosen], scaled=True), numbers[chosen])

    averaged = fit(
        "point_bert",
        model,
        loss,
        steps,
        LEARNING_RATE,
        weight_decay=0.1,
        average=0.995,
        snapshot=scratch / "point_bert.pt" if scratch else None,
        seed=seed,
    )
    assert isinstance(averaged, nn.ModuleDict)
    tuned, read = averaged["points"], averaged["words"]
    assert isinstance(tuned, PointBertModel) and isinstance(read, ImageBindModel)
    # Of the text tower's mask, which has infinite entries, the average would be NaN.
    read.load_state_dict(dict(words.named_buffers()), strict=False)
    save(out, tuned)
    log.info("point_bert: %d weights, %.0f s", parameter_count([model]), time.monotonic() - started)
    test_pool = captioned.pool(Modality.POINTS, "test")
    with torch.no_grad():
        texts = read.embed("text", caption_rows(tokenizer, test_pool.captions)[0])
    return recalls("points", F.normalize(embedded_clouds(PointBert(out), test_pool), dim=-1), texts, test_pool.captions)


def embedded_clouds(expert: PointBert, pool: Captioned) -> Tensor:
    """(n, D) the expert's embedding of each cloud."""
    inputs = torch.stack([expert.preprocess(medium)["points"] for medium in pool.media])
    rows = [expert(Modality.POINTS, {"points": own}).tokens[:, 0] for own in inputs.split(100)]
    return torch.cat(rows)
