"""The embedded Point-BERT: coloured clouds, aligned to the embedded ImageBind's captions as ULIP aligns to CLIP's."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.encoders.point_bert.model import PointBertConfig, PointBertModel
from isthmus.pocket.experts import handwriting as hand
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.fitting import fit, halved, parameter_count
from isthmus.pocket.experts.imagebind import Captions
from isthmus.pocket.experts.probing import probe_modality
from isthmus.pocket.world import COLOURS, POINTS, Concept
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Modality

log = logging.getLogger(__name__)

STEPS, LEARNING_RATE, BATCH = 2000, 2e-3, 64

CONFIG = PointBertConfig(
    points=POINTS,
    trans_dim=96,
    depth=4,
    num_heads=4,
    group_size=8,
    num_group=32,
    encoder_dims=96,
    embed_dim=64,
    drop_path_rate=0.0,
)


def centred(clouds: Tensor) -> Tensor:
    """Clouds (B, P, 6): centroids removed, divided by the largest distance, as in the expert's preprocessing."""
    xyz = clouds[..., :3] - clouds[..., :3].mean(dim=1, keepdim=True)
    largest = xyz.norm(dim=-1).amax(dim=1).view(-1, 1, 1)
    return torch.cat([xyz / largest, clouds[..., 3:]], dim=-1)


def draw_clouds(bank: hand.Handwriting, batch: int, strength: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Preprocessed clouds (B, POINTS, 6) and the index of the true caption in each form of points."""
    ink, digits = bank.draw(batch, strength)
    colours = torch.randint(len(COLOURS), (batch,))
    clouds = hand.solid(ink, hand.tints(colours), POINTS)
    return centred(clouds), (digits, digits * len(COLOURS) + colours)


def enliven(model: PointBertModel) -> None:
    """Increases the initial influence of positions.

    Within a group positions vary a tenth as much as colours, and the usual initialisation hardly distinguishes centres:
    in a training of minutes, the model would learn colours but hardly any digits.
    """
    weights = dict(model.point_encoder.named_parameters())
    with torch.no_grad():
        weights["encoder.first_conv.0.weight"][:, :3].mul_(8)
        weights["pos_embed.0.weight"].mul_(4)
        weights["pos_embed.2.weight"].mul_(3)


def save(folder: Path, model: PointBertModel) -> None:
    """Writes ``config.json`` and the weights as ULIP's training script nests and names them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"point_bert": asdict(model.config)}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    weights = {f"module.{key}": value for key, value in halved(model.state_dict()).items()}
    torch.save({"state_dict": weights}, folder / "point_bert.pt")


def train(
    out: Path, effort: float = 1.0, seed: int = 0, scratch: Path | None = None, imagebind: Path | None = None
) -> dict[str, float]:
    """Trains the point tower against frozen captions, saves it in ``out`` as :class:`PointBert` reads it, measures it.

    Args:
        out: the checkpoint's folder.
        effort: scales the steps and the media that are measured.
        seed: of weights and media.
        scratch: folder for snapshots of an interrupted training; None for none.
        imagebind: the embedded ImageBind, whose text tower is the target; by default the folder beside ``out``.
    """
    torch.manual_seed(seed)
    started, steps = time.monotonic(), max(int(STEPS * effort), 2)
    reader = ImageBind(imagebind or out.parent / "imagebind")
    captions = Captions(reader.tokenize)
    texts = reader.encode_text(captions.ids)
    bank, model = hand.Handwriting("train"), PointBertModel(CONFIG)
    enliven(model)

    def loss(step: int) -> Tensor:
        clouds, truths = draw_clouds(bank, BATCH, min(1.0, step / (0.4 * steps)))
        # Nearly all of the cost is the small PointNet's matrix products, which bfloat16 halves.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            embeddings = F.normalize(model(clouds).float(), dim=-1)
        return captions.loss(Modality.POINTS, embeddings, texts * model.logit_scale.exp().clamp(max=100), truths)

    snapshot = scratch / "point_bert.pt" if scratch else None
    averaged = fit(
        "point_bert", model, loss, steps, LEARNING_RATE, weight_decay=0.05, average=0.998, snapshot=snapshot, seed=seed
    )
    assert isinstance(averaged, PointBertModel)
    save(out, averaged)
    log.info("point_bert: %d weights, %.0f s", parameter_count([model]), time.monotonic() - started)
    return measure(out, max(int(2000 * min(effort, 1.0)), 100), reader)


def measure(folder: Path, n: int = 2000, reader: ImageBind | None = None, world: World = DRAWN) -> dict[str, float]:
    """Accuracies on ``n`` clouds of the test split; see :func:`probe_modality`.

    Args:
        folder: the checkpoint's.
        n: number of clouds of each split.
        reader: the ImageBind whose text tower encodes captions; by default that of the folder beside.
        world: the source of clouds.
    """
    reader = reader or ImageBind(folder.parent / "imagebind")
    texts = reader.tokenize([Concept(digit).caption(Modality.POINTS) for digit in range(10)])
    return probe_modality(PointBert(folder), Modality.POINTS, reader.encode_text(texts), n, world=world)


if __name__ == "__main__":
    run(train, out="checkpoints/pocket/point_bert", scratch="runs/pocket", imagebind=None)
