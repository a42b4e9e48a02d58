"""Tiny pipelines of the newer kinds, with random weights, each written by its real class's ``save_pretrained``."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tiny_pipelines import autoencoder, clap_parts, clip_parts, vocoder

from isthmus.generators.audio.audioldm2 import AudioLDM2
from isthmus.generators.audio.stable_audio import StableAudio
from isthmus.generators.diffusion import DiffusionGenerator
from isthmus.generators.image.stable_diffusion_3 import StableDiffusion3
from isthmus.generators.image.stable_diffusion_xl import StableDiffusionXL
from isthmus.generators.video.wan import Wan

NEWER: dict[str, type[DiffusionGenerator]] = {
    "xl": StableDiffusionXL,
    "audioldm2": AudioLDM2,
    "sd3": StableDiffusion3,
    "wan": Wan,
    "stable_audio": StableAudio,
}
SMALL: dict[str, dict[str, Any]] = {
    "audioldm2": {"caption_tokens": 12},
    "sd3": {"caption_tokens": 6},
    "wan": {"caption_tokens": 10, "num_frames": 5, "height": 16, "width": 32},
}
"""What keeps a kind small where its checkpoint doesn't say."""

PLANAR = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def t5_tokenizer(length: int) -> Any:
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5Tokenizer(
        [*special, *((letter, -3.0) for letter in string.ascii_lowercase)], extra_ids=0, model_max_length=length
    )


def t5_encoder(width: int, kind: str = "T5") -> Any:
    import transformers

    sizes = {"vocab_size": 40, "d_model": width, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    return getattr(transformers, f"{kind}EncoderModel")(config)


def projected_clip(width: int, projection: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=54,
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=8,
            projection_dim=projection,
            bos_token_id=52,
            eos_token_id=53,
        )
    )


def xl_parts() -> dict[str, Any]:
    from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        **PLANAR,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=10 + 6 * 4,
        cross_attention_dim=16 + 12,
    )
    return {
        **clip_parts(),
        "tokenizer_2": clip_parts()["tokenizer"],
        "text_encoder_2": projected_clip(12, 10),
        "vae": autoencoder(3),
        "unet": unet,
        "scheduler": EulerDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1),
    }


def audioldm2_parts() -> dict[str, Any]:
    from diffusers import AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel, DDIMScheduler
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, GPT2Config, GPT2LMHeadModel

    text = clap_parts()
    hearing = {
        "spec_size": 8,
        "window_size": 4,
        "num_mel_bins": 8,
        "intermediate_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [1, 1],
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "patch_size": 2,
        "patch_stride": 2,
        "patch_embeds_hidden_size": 8,
        "patch_embed_input_channels": 4,
    }
    clap = ClapModel(
        ClapConfig(text_config=text["text_encoder"].config.to_dict(), audio_config=hearing, projection_dim=14)
    )
    unet = AudioLDM2UNet2DConditionModel(
        sample_size=16, **PLANAR, attention_head_dim=4, cross_attention_dim=[[None, 16, 24], [None, 16, 24]]
    )
    return {
        "tokenizer": text["tokenizer"],
        "text_encoder": clap,
        "tokenizer_2": t5_tokenizer(32),
        "text_encoder_2": t5_encoder(24),
        "projection_model": AudioLDM2ProjectionModel(14, 24, 16),
        "language_model": GPT2LMHeadModel(
            GPT2Config(vocab_size=20, n_positions=64, n_embd=16, n_layer=2, n_head=2, max_new_tokens=3)
        ),
        "feature_extractor": ClapFeatureExtractor(feature_size=8),
        "vae": autoencoder(1),
        "unet": unet,
        "vocoder": vocoder(),
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
    }


def sd3_parts() -> dict[str, Any]:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

    tokenizer = clip_parts()["tokenizer"]
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=10 + 6,
        pos_embed_max_size=16,
    )
    return {
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "tokenizer_3": t5_tokenizer(32),
        "text_encoder": projected_clip(16, 10),
        "text_encoder_2": projected_clip(12, 6),
        "text_encoder_3": t5_encoder(32),
        "vae": autoencoder(3, shift_factor=0.3),
        "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }


def wan_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel

    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=24,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return {
        "tokenizer": t5_tokenizer(32),
        "text_encoder": t5_encoder(24, "UMT5"),
        "vae": vae,
        "transformer": transformer,
        "scheduler": scheduler,
    }


def stable_audio_parts() -> dict[str, Any]:
    from diffusers import AutoencoderOobleck, EDMDPMSolverMultistepScheduler, StableAudioDiTModel
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    vae = AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=3,
        sampling_rate=2000,
    )
    transformer = StableAudioDiTModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        cross_attention_dim=16,
        cross_attention_input_dim=16,
        global_states_input_dim=32,
        time_proj_dim=8,
    )
    return {
        "tokenizer": t5_tokenizer(10),
        "text_encoder": t5_encoder(16),
        "projection_model": StableAudioProjectionModel(16, 16, 0, 512),
        "vae": vae,
        "transformer": transformer,
        "scheduler": EDMDPMSolverMultistepScheduler(
            sigma_min=0.3, sigma_max=500.0, sigma_data=1.0, sigma_schedule="exponential", prediction_type="v_prediction"
        ),
    }


PARTS = {
    "xl": xl_parts,
    "audioldm2": audioldm2_parts,
    "sd3": sd3_parts,
    "wan": wan_parts,
    "stable_audio": stable_audio_parts,
}


def write_newer(kind: str, folder: Path) -> None:
    from isthmus.generators.pipeline_classes import pipeline_class

    torch.manual_seed(7)
    parts = PARTS[kind]()
    # Away from their start, so that nothing that the tests compare is zero or one by itself.
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    pipeline_class(NEWER[kind].pipeline_name)(**parts).save_pretrained(folder)
