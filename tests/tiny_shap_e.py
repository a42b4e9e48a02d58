"""A tiny Shap-E pipeline with random weights, written by its real class's ``save_pretrained``."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch

WIDTH = 12
TOKENS = 16
LATENT = 6


def shap_e_parts() -> dict[str, Any]:
    from diffusers import HeunDiscreteScheduler, PriorTransformer
    from diffusers.pipelines.shap_e import ShapERenderer
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    from isthmus.pocket.experts.points.marching_cubes import tables

    words = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    text_encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=8,
            projection_dim=WIDTH,
            bos_token_id=len(words),
            eos_token_id=len(words) + 1,
        )
    )
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        embedding_dim=LATENT,
        num_embeddings=TOKENS,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        embedding_proj_norm_type="layer",
        encoder_hid_proj_type=None,
        added_emb_type=None,
        time_embed_dim=32,
        embedding_proj_dim=WIDTH,
        clip_embed_dim=2 * LATENT,
    )
    renderer = ShapERenderer(
        param_names=("nerstf.mlp.0.weight", "nerstf.mlp.1.weight"),
        param_shapes=((TOKENS // 2, 93), (TOKENS // 2, TOKENS // 2)),
        d_latent=LATENT,
        d_hidden=TOKENS // 2,
        n_hidden_layers=3,
        insert_direction_at=None,
    )
    for module in (text_encoder, prior, renderer.params_proj, renderer.mlp):
        for parameter in module.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    renderer.mlp.mlp[-1].bias.data[0] = 0.1
    renderer.mesh_decoder.cases.copy_(tables()[0])
    renderer.mesh_decoder.masks.copy_(tables()[1])
    scheduler = HeunDiscreteScheduler(
        num_train_timesteps=1024,
        beta_schedule="exp",
        prediction_type="sample",
        use_karras_sigmas=True,
        clip_sample=True,
        clip_sample_range=1.0,
    )
    return {
        "tokenizer": CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8),
        "text_encoder": text_encoder,
        "prior": prior,
        "shap_e_renderer": renderer,
        "scheduler": scheduler,
    }


def write_shap_e(folder: Path) -> None:
    from diffusers import ShapEPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        pipeline: Any = ShapEPipeline(**shap_e_parts())
    pipeline.save_pretrained(folder)
