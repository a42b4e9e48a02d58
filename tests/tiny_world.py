"""The whole system at a few thousand parameters: random experts in their real formats, and models composed of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tiny_pipelines import KINDS, write_pipeline
from tiny_shap_e import write_shap_e

from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.encoders.point_bert.model import PointBertConfig, PointBertModel
from isthmus.input_projectors import MLP
from isthmus.model import AnyToAny, Backbone, InputSide, OutputSide
from isthmus.output_projectors import TinyTransformer

IMAGEBIND = ImageBindConfig(
    modalities=("vision", "audio"),
    out_embed_dim=8,
    image_size=16,
    vision_patch_size=8,
    vision_embed_dim=16,
    vision_num_blocks=1,
    vision_num_heads=2,
    video_clips=2,
    video_clip_seconds=0.5,
    video_crops=1,
    audio_clips=1,
    audio_clip_seconds=0.3,
    audio_num_mel_bins=32,
    audio_target_len=32,
    audio_embed_dim=12,
    audio_num_blocks=1,
    audio_num_heads=2,
    audio_drop_path=0.0,
)
POINT_BERT = PointBertConfig(
    points=64, trans_dim=16, depth=1, num_heads=2, group_size=8, num_group=8, encoder_dims=16, embed_dim=8
)
SIGNALS = {"image": 2, "video": 3, "audio": 2, "points": 1}
INPUTS = ("image", "video", "audio", "points")
OUTPUTS = ("image", "video", "audio")
SPECIAL = ("<pad>", "<s>", "</s>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}"
    "{{ eos_token if message.role == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def write_llm(folder: Path) -> None:
    """A random Llama over bytes: any text is tokenised. Its logits are sharp, so that greedy choices aren't ties."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    pieces = [*SPECIAL, *bytes_to_unicode().values()]
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2]
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(11)
    llm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(pieces),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=1024,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    for name, parameter in llm.named_parameters():
        if "norm" not in name:
            parameter.data.normal_(0, 0.3)
    llm.save_pretrained(folder)


def write_t5(folder: Path) -> None:
    """A random T5 with the tokenizer and the template of the tiny Llama."""
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    write_llm(folder)
    (folder / "model.safetensors").unlink()
    config = T5Config(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)),
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    torch.manual_seed(11)
    llm = T5ForConditionalGeneration(config)
    for name, parameter in llm.named_parameters():
        if "norm" not in name:  # sharp, as the Llama is, but for attention, which T5 doesn't scale down
            scale = 2.0 if "shared" in name else 0.3 if name.endswith((".q.weight", ".k.weight")) else 1.0
            parameter.data.normal_(0, scale)
    llm.save_pretrained(folder)


def tiny_experts(folder: Path) -> dict[str, Path]:
    """Writes every expert of the pocket set below ``folder``; expert -> its folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        save_checkpoint(folder / "imagebind", "imagebind", IMAGEBIND, ImageBindModel(IMAGEBIND).state_dict())
        save_checkpoint(folder / "point_bert", "point_bert", POINT_BERT, PointBertModel(POINT_BERT).state_dict())
        write_llm(folder / "llama")
        for kind in OUTPUTS:
            write_pipeline(kind, folder / kind)
    return {name: folder / name for name in ("imagebind", "point_bert", "llama", *OUTPUTS)}


def tiny_model(
    paths: Mapping[str, Path],
    inputs: tuple[str, ...] = INPUTS,
    outputs: tuple[str, ...] = OUTPUTS,
    lora: LoraSettings | None = LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0),  # noqa: B008 # frozen
    seed: int = 0,
    max_tokens: int = 512,
    dtypes: Mapping[str, Any] | None = None,
    **backbone: Any,
) -> AnyToAny:
    """A model of the experts that :func:`tiny_experts` wrote, not built yet.

    ``inputs`` and ``outputs`` are its media (none: no such side); ``dtypes`` the types of ``llm``, ``encoders`` and
    ``generators``, float32 where not given; other keywords go to the backbone.
    """
    types = dict.fromkeys(("llm", "encoders", "generators"), "float32") | dict(dtypes or {})
    language_model = CausalBackbone(paths["llama"], SIGNALS, lora, types["llm"], **backbone)
    input_side = output_side = None
    if inputs:
        vision = tuple(name for name in inputs if name != "points")
        encoders = [ImageBind(paths["imagebind"], vision, dtype=types["encoders"])] if vision else []
        bridge = partial(MLP, hidden=16, positions_per_token=2)
        input_side = InputSide(
            [*encoders, *([PointBert(paths["point_bert"], dtype=types["encoders"])] if "points" in inputs else [])],
            dict.fromkeys(inputs, bridge),
        )
    if outputs:
        options = {kind: {"num_inference_steps": 2, "dtype": types["generators"]} for kind in outputs}
        if "video" in outputs:
            options["video"] |= {"num_frames": 3}
        bridge_out = partial(TinyTransformer, width=16, encoder_layers=1, decoder_layers=1, heads=2, feed_forward=16)
        output_side = OutputSide(
            [KINDS[kind](paths[kind], **options[kind]) for kind in outputs],
            dict.fromkeys(outputs, bridge_out),
            standardised=True,
        )
    return AnyToAny(Backbone(language_model, max_tokens), input_side, output_side, seed)


def tiny_clone(folder: Path) -> Path:
    """A folder that looks like a clone to the shipped configs: tiny experts stand under ``checkpoints/pocket``."""
    paths = tiny_experts(folder / "experts")
    names = {"image": "stable_diffusion", "video": "zeroscope", "audio": "audioldm"}
    pocket = folder / "checkpoints" / "pocket"
    pocket.mkdir(parents=True)
    for expert, path in paths.items():
        (pocket / names.get(expert, expert)).symlink_to(path)
    write_shap_e(pocket / "shap_e")
    write_t5(folder / "checkpoints" / "pocket-t5")
    (pocket / "judges").symlink_to(Path(__file__).resolve().parents[1] / "checkpoints" / "pocket" / "judges")
    return folder
