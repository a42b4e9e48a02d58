"""Shap-E: text -> 3D, as a coloured point cloud sampled from the surface of the generated mesh.

Source: Jun and Nichol, arXiv 2305.02463; diffusers' ``ShapEPipeline`` and its checkpoint format.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.earlier.options import takes_present_names
from isthmus.generators.caption_ids import CaptionIds
from isthmus.generators.pipeline_expert import PipelineExpert
from isthmus.generators.points.mesh_surface import surface_points
from isthmus.generators.schedules import Sampler
from isthmus.generators.seeded_noise import seeded_generators
from isthmus.part_card import PartCard
from isthmus.precision import Dtype, in_own_precision
from isthmus.types import Condition, Media, Modality

_OUTSIDE = -1.0
LEAST = 1e-3
"""The value that marks the inside of a field that is nowhere positive: see :meth:`ShapE.generate`."""


class ShapE(PipelineExpert):
    """Shap-E's text-conditioned model.

    Its condition is one vector: the normalised projected embedding of CLIP's text tower times the root of its width,
    (1, 768) at full size. The unconditional one is zero. Colours are sRGB, as in images; the library's mesh has linear
    colours.

    Args:
        checkpoint: the pipeline's folder. Only its json files are read until a part is used.
        num_inference_steps: default number of denoising steps; 64 as in the paper.
        guidance_scale: default scale of classifier-free guidance; up to 1, only the conditional pass runs.
        points: number of points in a cloud.
        grid: points along each side of the box at which the solid's field is evaluated; the cost grows with its cube.
        scheduler: a sampler that replaces the folder's, for fewer steps.
        batch_size: how many latents are denoised at a time. Meshes are decoded one by one.
        dtype: the type of the weights. Conditions are float32 in any case.
        memo_megabytes: the most memory for cached conditions, on the conditioner's device.

    Raises:
        ValueError: the folder is missing, another pipeline's or damaged, or an argument doesn't fit it.
    """

    card = PartCard(
        takes="H (B, 1, K)",
        gives="points",
        widths="(1, 768)",
        code="Apache-2.0 (diffusers)",
        weights="MIT",
        checkpoint="a ShapEPipeline folder, as of openai/shap-e",
    )

    modality = Modality.POINTS
    # The published pipeline has no encoder from points to latents.
    denoises = False
    pipeline_name = "ShapEPipeline"
    denoiser_part = "prior"
    default_steps = 64
    default_guidance = 15.0

    prior: Any
    shap_e_renderer: Any
    caption_ids: CaptionIds

    def __init__(
        self,
        checkpoint: str | Path,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        points: int = 8192,
        grid: int = 128,
        scheduler: Sampler | None = None,
        batch_size: int = 16,
        dtype: Dtype = "float32",
        memo_megabytes: int = 64,
    ) -> None:
        super().__init__(checkpoint, num_inference_steps, guidance_scale, scheduler, batch_size, dtype, memo_megabytes)
        for name, value, least in (("points", points, 1), ("grid", grid, 2)):
            if value < least:
                raise ValueError(f"{name}: found {value}; expected at least {least}")
        self.points = points
        self.grid = grid
        self._condition_shape = (1, self._read_width())
        self._positions = self._caption_positions()

    def _read_width(self) -> int:
        width = int(self.folder.value("text_encoder/config.json", "projection_dim"))
        prior = self.folder.config("prior/config.json")
        conditioned = prior.get("embedding_proj_dim") or prior.get("embedding_dim")
        if conditioned != width:
            raise ValueError(
                f"checkpoint {self.checkpoint}: text_encoder/config.json has projection_dim {width}, and "
                f"prior/config.json takes {conditioned}; expected them equal. The parts are of different checkpoints."
            )
        latent = self.folder.value("shap_e_renderer/config.json", "d_latent")
        if prior.get("embedding_dim") != latent:
            raise ValueError(
                f"checkpoint {self.checkpoint}: prior/config.json has embedding_dim {prior.get('embedding_dim')}, and "
                f"shap_e_renderer/config.json has d_latent {latent}; expected them equal. The parts are of different "
                "checkpoints."
            )
        return width

    def _materialize_conditioner(self) -> None:
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        self.tokenizer = self.folder.read("tokenizer", CLIPTokenizer)
        # As in the pipeline, which ignores the file's setting.
        self.tokenizer.pad_token_id = 0
        self.caption_ids = CaptionIds(self.tokenizer, self._positions, str(self.checkpoint))
        self.text_encoder = self.folder.read("text_encoder", CLIPTextModelWithProjection, dtype=self.dtype)

    def _materialize_denoiser(self) -> None:
        from diffusers import PriorTransformer
        from diffusers.pipelines.shap_e.renderer import ShapERenderer

        self.shap_e_renderer = self.folder.read("shap_e_renderer", ShapERenderer, dtype=self.dtype)
        self.prior = self.folder.read("prior", PriorTransformer, dtype=self.dtype)

    def _encode_text(self, captions: list[str]) -> Tensor:
        embeddings = self.text_encoder(
            self.caption_ids(captions).input_ids.to(self.device, non_blocking=True)
        ).text_embeds
        scaled: Tensor = functional.normalize(embeddings, dim=-1) * embeddings.shape[-1] ** 0.5
        return scaled[:, None]

    @takes_present_names
    @in_own_precision
    def generate(
        self,
        condition: Condition,
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> list[Media]:
        """One cloud (points, 6) for each condition. A medium's details hold its seed.

        If a solid's field is nowhere positive, the grid points of its highest value are taken as the solid, so that
        an answer always has points; the details then hold ``empty``.
        """
        conditions = self._checked(condition).tokens[:, 0].detach().to(self.device, self.dtype)
        num_inference_steps, guidance_scale = self._checked_settings(
            len(conditions), seeds, num_inference_steps, guidance_scale
        )
        if not len(conditions):
            return []
        media: list[Media] = []
        for start in range(0, len(conditions), self.batch_size):
            piece = seeds[start : start + self.batch_size]
            generators = seeded_generators(piece)
            latents = self.denoise(
                conditions[start : start + self.batch_size], generators, num_inference_steps, guidance_scale
            )
            for latent, seed, generator in zip(latents, piece, generators, strict=True):
                array, is_empty = self._cloud(latent, generator)
                details = {
                    "seed": seed,
                    "num_inference_steps": num_inference_steps,
                    "guidance_scale": guidance_scale,
                    **({"empty": True} if is_empty else {}),
                }
                media.append(Media(self.modality, array, source=self.checkpoint.name, details=details))
        return media

    @torch.no_grad()
    def denoise(
        self, conditions: Tensor, generators: list[torch.Generator], num_inference_steps: int, guidance_scale: float
    ) -> Tensor:
        """(B, K) conditions -> latents (B, tokens, width), by the pipeline."""
        pipeline = self._resident_pipeline()

        def encoded(prompt: Any, device: Any, count: int, is_guided: bool) -> Tensor:
            return torch.cat([torch.zeros_like(conditions), conditions]) if is_guided else conditions

        # The pipeline accepts only captions, so its encoding step is replaced to return the conditions.
        pipeline._encode_prompt = encoded
        latents: Tensor = pipeline(
            [""] * len(conditions),
            generator=generators,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            output_type="latent",
        ).images
        return latents

    def _pipeline_parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("prior", "text_encoder", "tokenizer", "shap_e_renderer")}

    @torch.no_grad()
    def _cloud(self, latent: Tensor, generator: torch.Generator) -> tuple[np.ndarray[Any, Any], bool]:
        """(tokens, width) -> (points, 6) float32, and whether the solid was empty."""
        is_empty: list[bool] = []

        def fill_empty(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            solid, *others = arguments
            within = solid[1:-1, 1:-1, 1:-1]  # without the border, which closes the surface
            is_empty.append(bool(within.max() <= 0))
            if is_empty[-1]:
                raised = torch.where(within >= within.max(), LEAST, within.clamp(max=-LEAST))
                solid = functional.pad(raised, (1,) * 6, value=_OUTSIDE)
            return (solid, *others)

        hook = self.shap_e_renderer.mesh_decoder.register_forward_pre_hook(fill_empty)
        try:
            mesh = self.shap_e_renderer.decode_to_mesh(latent[None], self.device, grid_size=self.grid)
        finally:
            hook.remove()
        light = torch.stack([mesh.vertex_channels[channel] for channel in "RGB"], dim=1)
        places, colours = surface_points(mesh.verts, mesh.faces, linear_to_srgb(light), self.points, generator)
        return torch.cat([places, colours.clamp(0, 1)], dim=1).numpy(), is_empty[-1]


def linear_to_srgb(light: Tensor) -> Tensor:
    """Linear colours in [0, 1] -> sRGB in [0, 1] (IEC 61966-2-1)."""
    curved = 1.055 * light.clamp(min=0) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, 12.92 * light, curved)
