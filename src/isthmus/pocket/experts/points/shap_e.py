"""The embedded generator of 3D: a Shap-E pipeline for solid digits, trained from scratch.

As in the paper (Jun and Nichol, arXiv 2305.02463), an encoder first maps a solid to latents, from which a renderer
computes the weights of its field (signed distance and colour); then a prior learns the latents given a caption. The
encoder is used only in this training: the published pipeline has none either.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.pocket.experts.captions import WIDTH, build_text_model, build_tokenizer, tokenized
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.experts.points.solids import PIXELS as PICTURE
from isthmus.pocket.experts.points.solids import Solids
from isthmus.pocket.experts.tokenizers import save_tokenizer
from isthmus.pocket.world import COLOURS, Concept
from isthmus.types import Modality

if TYPE_CHECKING:
    # diffusers' classes come lazily and untyped.
    from typing import Any as HeunDiscreteScheduler
    from typing import Any as PriorTransformer
    from typing import Any as ShapERenderer

    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

log = logging.getLogger(__name__)

HIDDEN = 24
"""Width of a solid's field."""
TOKENS = 2 * HIDDEN
"""One latent for each row of the field's first two weight matrices."""
LATENT = 12
SHARPNESS = 10.0
"""The field's value is tanh(SHARPNESS x signed distance): positive inside, in units of half the box."""
FINEST = 5
"""Frequencies above 2^FINEST, which the grid can't resolve, are removed from the field's input."""
LATENT_NOISE = 0.15
ERODED = 0.6
"""Subtracted from the trained field before tanh, 0.06 of distance, so that loops of handwriting stay open."""
BATCH = 32
UNSAID = 0.1


class SolidEncoder(nn.Module):
    """Ink (B, PICTURE, PICTURE) and tints (B, 3) -> latents (B, TOKENS, LATENT) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.ink = nn.Sequential(
            nn.Conv2d(1, 24, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * (PICTURE // 8) ** 2, 192),
        )
        self.both = nn.Sequential(nn.Linear(195, 256), nn.SiLU(), nn.Linear(256, TOKENS * LATENT))
        self.spread = nn.LayerNorm(TOKENS * LATENT, elementwise_affine=False)

    def forward(self, ink: Tensor, tint: Tensor) -> Tensor:
        joint = torch.cat([self.ink(ink[:, None]), 4 * tint - 2], dim=1)
        # Normalised to unit scale before tanh, since saturated latents would have no gradient.
        return torch.tanh(0.7 * self.spread(self.both(joint))).view(-1, TOKENS, LATENT)


def build_renderer() -> ShapERenderer:
    """A renderer whose field has four layers, two of them computed from latents; its input has low frequencies only."""
    from diffusers.pipelines.shap_e.renderer import ShapERenderer

    from isthmus.pocket.experts.points.marching_cubes import tables

    waves = 93  # width of the library's position encoding
    renderer = ShapERenderer(
        param_names=("nerstf.mlp.0.weight", "nerstf.mlp.1.weight"),
        param_shapes=((HIDDEN, waves), (HIDDEN, HIDDEN)),
        d_latent=LATENT,
        d_hidden=HIDDEN,
        n_hidden_layers=3,
        insert_direction_at=None,
    )
    cases, masks = tables()
    renderer.mesh_decoder.cases.copy_(cases)
    renderer.mesh_decoder.masks.copy_(masks)
    first, second = renderer.params_proj.projections.values()
    octave = torch.cat([torch.zeros(3), torch.arange(15).repeat_interleave(3).repeat(2)])
    resolved = (octave <= FINEST).float()
    with torch.no_grad():
        first.norm.weight.copy_(0.5 * 2 ** (-octave / 2) * resolved)
        first.norm.bias.zero_()
        first.proj.bias.copy_(first.proj.bias.view(HIDDEN, waves).mul(resolved).flatten())
        second.norm.weight.fill_(HIDDEN**-0.5)
    # These weights start at zero, and their gradients are masked so that they stay zero.
    first.norm.weight.register_hook(lambda gradient: gradient * resolved)
    first.norm.bias.register_hook(lambda gradient: gradient * resolved)
    first.proj.bias.register_hook(lambda gradient: (gradient.view(HIDDEN, waves) * resolved).flatten())
    return renderer


def field(renderer: ShapERenderer, latents: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The fields of many solids at once, which the library's ``decode_to_mesh`` evaluates one by one.

    Args:
        renderer: the renderer.
        latents: (B, TOKENS, LATENT).
        places: (B, Q, 3).

    Returns:
        values: (B, Q) tanh of the signed distance.
        colours: (B, Q, 3) sRGB in [0, 1].
    """
    from diffusers.pipelines.shap_e.renderer import encode_position

    made = renderer.params_proj(latents)
    states = encode_position(places)
    last = len(renderer.mlp.mlp) - 1
    for number, layer in enumerate(renderer.mlp.mlp):
        weight = made.get(f"nerstf.mlp.{number}.weight")
        states = layer(states) if weight is None else torch.baddbmm(layer.bias, states, weight.transpose(1, 2))
        if number < last:
            states = functional.silu(states)
    return torch.tanh(states[..., 0]), torch.sigmoid(states[..., 3:6])


def train_autoencoder(steps: int, seed: int, snapshot: Path | None = None) -> tuple[SolidEncoder, ShapERenderer]:
    """Trains the encoder and the renderer, on distances and colours at random points."""
    torch.manual_seed(seed)
    encoder, renderer = SolidEncoder(), build_renderer()
    for layer in list(renderer.mlp.mlp)[:2]:
        layer.weight.requires_grad_(False)  # replaced by those computed from latents
    solids = Solids("train")

    def loss(step: int) -> Tensor:
        drawn = solids.draw(BATCH, np.random.default_rng([seed, step]))
        latents = encoder(drawn.ink, drawn.tint)
        places = solids.places(drawn, 640)
        distance = solids.distance(drawn, places)
        values, colours = field(renderer, latents + LATENT_NOISE * torch.randn_like(latents), places)
        wanted = torch.tanh(SHARPNESS * distance)
        near = (distance.abs() < 0.15).float()
        tint = ((colours - drawn.tint[:, None]).square().mean(-1) * near).sum() / near.sum()
        error: Tensor = functional.mse_loss(values, wanted) + 0.5 * tint
        return error

    both = nn.ModuleList([encoder, renderer])
    fit("solid autoencoder", both, loss, steps, 2e-3, weight_decay=1e-4, snapshot=snapshot, seed=seed)
    with torch.no_grad():
        renderer.mlp.mlp[-1].bias[0] -= ERODED
    return encoder.eval().requires_grad_(False), renderer.eval().requires_grad_(False)


def train_text_encoder(tokenizer: CLIPTokenizer, steps: int, seed: int) -> CLIPTextModelWithProjection:
    """A CLIP text model trained by temporary heads that predict digit and colour from its projected embedding."""
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(seed)
    encoder = build_text_model(CLIPTextModelWithProjection, tokenizer, 2 * WIDTH)
    heads = nn.ModuleList(nn.Linear(WIDTH, size) for size in (10, len(COLOURS) + 1))
    concepts = [Concept(digit, colour) for digit in range(10) for colour in (None, *COLOURS)]
    ids = tokenized(tokenizer, [concept.caption(Modality.POINTS) for concept in concepts])
    labels = torch.tensor([(c.digit, (None, *COLOURS).index(c.colour)) for c in concepts])

    def loss(step: int) -> Tensor:
        condition = scaled(encoder(ids).text_embeds)
        terms = [functional.cross_entropy(head(condition), labels[:, i]) for i, head in enumerate(heads)]
        return torch.stack(terms).sum()

    fit("solid captions", nn.ModuleList([encoder, heads]), loss, steps, 2e-3, seed=seed)
    encoder.eval().requires_grad_(False)
    return encoder


def scaled(embeddings: Tensor) -> Tensor:
    """(B, K) -> the prior's condition: unit length, times the root of K."""
    condition: Tensor = functional.normalize(embeddings, dim=-1) * embeddings.shape[-1] ** 0.5
    return condition


def scheduler() -> HeunDiscreteScheduler:
    """Shap-E's schedule: the prior predicts the clean latents, which are in [-1, 1]."""
    from diffusers import HeunDiscreteScheduler

    return HeunDiscreteScheduler(
        num_train_timesteps=1024,
        beta_schedule="exp",
        prediction_type="sample",
        use_karras_sigmas=True,
        clip_sample=True,
        clip_sample_range=1.0,
    )


def build_prior() -> PriorTransformer:
    """A small version of the published prior."""
    from diffusers import PriorTransformer

    return PriorTransformer(
        num_attention_heads=4,
        attention_head_dim=24,
        num_layers=5,
        embedding_dim=LATENT,
        num_embeddings=TOKENS,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        embedding_proj_norm_type="layer",
        encoder_hid_proj_type=None,
        added_emb_type=None,
        time_embed_dim=4 * 96,
        embedding_proj_dim=WIDTH,
        clip_embed_dim=2 * LATENT,
    )


def train_prior(
    solid_encoder: SolidEncoder,
    text_encoder: CLIPTextModelWithProjection,
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int,
    snapshot: Path | None = None,
) -> PriorTransformer:
    """Trains the prior, on the encoder's latents of randomly tinted solids."""
    torch.manual_seed(seed)
    prior = build_prior()
    levels = scheduler().alphas_cumprod
    captions = [Concept(digit, colour).caption(Modality.POINTS) for digit in range(10) for colour in (None, *COLOURS)]
    with torch.no_grad():
        conditions = scaled(text_encoder(tokenized(tokenizer, captions)).text_embeds)
    solids = Solids("train")

    def loss(step: int) -> Tensor:
        drawn = solids.draw(BATCH, np.random.default_rng([seed, step, 1]))
        with torch.no_grad():
            clean = solid_encoder(drawn.ink, drawn.tint)
        said = torch.where(torch.rand(BATCH) < 0.25, 0, drawn.colour + 1)
        condition = conditions[drawn.digit * (len(COLOURS) + 1) + said]
        condition = torch.where(torch.rand(BATCH, 1) < UNSAID, 0.0, condition)
        times = torch.randint(len(levels), (BATCH,))
        alphas = levels[times].view(-1, 1, 1)
        noisy = alphas.sqrt() * clean + (1 - alphas).sqrt() * torch.randn_like(clean)
        found = prior(noisy, times, proj_embedding=condition).predicted_image_embedding[..., :LATENT]
        return functional.mse_loss(found, clean)

    return fit("solid prior", prior, loss, steps, 1.5e-3, average=0.999, snapshot=snapshot, seed=seed)


def train(out: Path, effort: float = 1.0, seed: int = 0, scratch: Path | None = None) -> None:
    """Trains the pipeline's parts and saves them in ``out`` in the layout of ``ShapEPipeline``, in float16."""
    from diffusers import ShapEPipeline

    def share(steps: int) -> int:
        return max(int(steps * effort), 2)

    def kept(name: str) -> Path | None:
        return scratch / f"{name}.pt" if scratch else None

    tokenizer = build_tokenizer()
    text_encoder = train_text_encoder(tokenizer, share(300), seed)
    solid_encoder, renderer = train_autoencoder(share(5000), seed, kept("solid_autoencoder"))
    prior = train_prior(solid_encoder, text_encoder, tokenizer, share(6000), seed, kept("solid_prior"))
    parts: dict[str, Any] = {"prior": prior, "text_encoder": text_encoder, "shap_e_renderer": renderer}
    pipeline: Any = ShapEPipeline(tokenizer=tokenizer, scheduler=scheduler(), **parts)
    pipeline.to(torch.float16).save_pretrained(out)
    save_tokenizer(tokenizer, out / "tokenizer")


def measure(folder: Path, judges: Path, count: int = 400, steps: int = 12, guidance: float = 3.0) -> dict[str, float]:
    """The ceiling by attribute: the judge's accuracy on solids generated from their true captions."""
    from isthmus.generators.points.shap_e import ShapE
    from isthmus.pocket.experts.ceiling import generator_ceiling
    from isthmus.pocket.judges.points import PointsJudge

    generator = ShapE(
        folder,
        num_inference_steps=steps,
        guidance_scale=guidance,
        points=512,
        grid=32,
        scheduler="dpmsolver++",
        batch_size=50,
    )
    return generator_ceiling(generator, PointsJudge(judges), count)


if __name__ == "__main__":
    run(train, out="checkpoints/pocket/shap_e", scratch="runs/pocket")
