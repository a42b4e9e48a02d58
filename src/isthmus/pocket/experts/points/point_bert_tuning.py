"""Trains a trained Point-BERT further on a user's clouds, aligned to caption embeddings of an ImageBind."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.encoders.checkpoint import load_weights, read_weights, weights_file
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.point_bert.cloud import MISSING_COLOUR, resized
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.encoders.point_bert.model import PointBertConfig, PointBertModel
from isthmus.pocket.experts.augmenting import turned_clouds
from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.experts.imagebind_tuning import captions
from isthmus.pocket.experts.points.point_bert import centred, measure, save
from isthmus.pocket.manifest_world import ManifestWorld
from isthmus.types import Modality

log = logging.getLogger(__name__)

STEPS, LEARNING_RATE, BATCH = 500, 1e-3, 48


def tune(
    out: Path,
    start: Path,
    imagebind: Path,
    world: ManifestWorld,
    effort: float = 1.0,
    seed: int = 0,
    scratch: Path | None = None,
) -> dict[str, float]:
    """Trains the point tower on the training split, saves it in ``out``, and measures it. Colours aren't used.

    Args:
        out: the new checkpoint's folder.
        start: the trained checkpoint's.
        imagebind: the ImageBind whose text tower is the target.
        world: the source of clouds.
        effort: factor of the numbers of steps and of measured clouds.
        seed: of the batches.
        scratch: folder for snapshots of an interrupted training; None for none.

    Raises:
        ValueError: the world has no clouds or they can't be read, or there is no checkpoint at ``start``.
    """
    torch.manual_seed(seed)
    started, reader = time.monotonic(), ImageBind(imagebind)
    texts = reader.encode_text(reader.tokenize(captions(Modality.POINTS)))
    config, file = PointBert(start).config, weights_file(start)
    model = PointBertModel(config)
    load_weights(model, read_weights(file), file)
    pool = world.pool(Modality.POINTS, "train")
    clouds = gathered([medium.array for medium in pool.media], config)
    digits = torch.from_numpy(pool.digits)

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(clouds), (BATCH,))
        turned = turned_clouds(clouds[chosen])
        grey = torch.full_like(turned, MISSING_COLOUR)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = F.normalize(model(centred(torch.cat([turned, grey], dim=-1))).float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)
        return F.cross_entropy(embeddings @ texts.T * scale, digits[chosen], label_smoothing=0.05)

    snapshot = scratch / "point_bert.pt" if scratch else None
    steps = max(int(STEPS * effort), 2)
    averaged = fit(
        "point_bert", model, loss, steps, LEARNING_RATE, weight_decay=0.05, average=0.99, snapshot=snapshot, seed=seed
    )
    assert isinstance(averaged, PointBertModel)
    save(out, averaged)
    log.info("point_bert: %d steps on top of %s, %.0f s", steps, start, time.monotonic() - started)
    return measure(out, max(int(1000 * min(effort, 1.0)), 100), reader, world)


def gathered(arrays: list[np.ndarray], config: PointBertConfig) -> Tensor:
    """Clouds (P, 3 or 6) of any sizes -> (n, points, 3), sampled and repeated as by the expert."""
    return torch.from_numpy(np.stack([resized(array[:, :3], config.points) for array in arrays]))
