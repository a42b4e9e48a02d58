"""Whisper in CTranslate2's layout (faster-whisper's) -> a folder as ``save_pretrained`` writes it, in float32."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

KINDS = (np.float32, np.int8, np.int16, np.int32, np.float16)
"""Types of tensors by CTranslate2's number for them."""
HEAD_WIDTH = 64
"""The width of an attention head, in every Whisper."""
END_OF_TEXT, START = 50256, 50257
"""Ids of the English-only models' tokens that end and begin a transcript."""

State = dict[str, Tensor]


class _Reader:
    """A position in the bytes of ``model.bin``."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, form: str) -> int:
        """The next number, little-endian, of one of ``struct``'s forms."""
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return int(value)

    def text(self) -> str:
        """The next text: its length, its bytes and a zero."""
        size = self.number("H")
        self.at += size
        return self.data[self.at - size : self.at - 1].decode()


def read_tensors(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a ``model.bin``, by CTranslate2's names.

    Raises:
        ValueError: the file ends before its tensors do, or holds a type that isn't known here.
    """
    reader = _Reader(file.read_bytes())
    found = {}
    try:
        reader.number("I"), reader.text(), reader.number("I")  # the layout's version, the model's kind, and its version
        for _ in range(reader.number("I")):
            name, rank = reader.text(), reader.number("B")
            shape = [reader.number("I") for _ in range(rank)]
            kind, size = np.dtype(KINDS[reader.number("B")]), reader.number("I")
            found[name] = np.frombuffer(reader.data, kind, size // kind.itemsize, reader.at).reshape(shape)
            reader.at += size
    except (struct.error, ValueError, IndexError) as error:
        raise ValueError(
            f"{file}: found no whole tensor at byte {reader.at} ({error}); expected a model.bin of CTranslate2. "
            "Fix: download it again."
        ) from error
    return found


def renamed(tensors: dict[str, np.ndarray[Any, Any]]) -> State:
    """Tensors of CTranslate2 -> the state dict of ``WhisperForConditionalGeneration``, float32.

    CTranslate2 joins the matrices of queries, keys and values into one, and keeps a bias of keys, which is zero.
    """
    state: State = {}

    def get(name: str) -> Tensor:
        return torch.from_numpy(tensors[name].astype(np.float32))

    def norm(ours: str, theirs: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = get(f"{theirs}/gamma"), get(f"{theirs}/beta")

    def linear(ours: str, theirs: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = get(f"{theirs}/weight"), get(f"{theirs}/bias")

    def joined(ours: str, theirs: str, parts: tuple[str, ...]) -> None:
        weights, biases = (get(f"{theirs}/{own}").chunk(len(parts)) for own in ("weight", "bias"))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            state[f"{ours}.{part}.weight"] = weight.clone()
            if part != "k_proj":
                state[f"{ours}.{part}.bias"] = bias.clone()

    for name in ("conv1", "conv2"):
        linear(f"model.encoder.{name}", f"encoder/{name}")
    state["model.decoder.embed_tokens.weight"] = state["proj_out.weight"] = get("decoder/embeddings/weight")
    for side in ("encoder", "decoder"):
        state[f"model.{side}.embed_positions.weight"] = get(f"{side}/position_encodings/encodings")
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        for index in range(_layers(tensors, side)):
            ours, theirs = f"model.{side}.layers.{index}", f"{side}/layer_{index}"
            joined(f"{ours}.self_attn", f"{theirs}/self_attention/linear_0", ("q_proj", "k_proj", "v_proj"))
            linear(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
            norm(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
            linear(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
            linear(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
            norm(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
            if side == "decoder":
                linear(f"{ours}.encoder_attn.q_proj", f"{theirs}/attention/linear_0")
                joined(f"{ours}.encoder_attn", f"{theirs}/attention/linear_1", ("k_proj", "v_proj"))
                linear(f"{ours}.encoder_attn.out_proj", f"{theirs}/attention/linear_2")
                norm(f"{ours}.encoder_attn_layer_norm", f"{theirs}/attention/layer_norm")
    return state


def _layers(tensors: dict[str, np.ndarray[Any, Any]], side: str) -> int:
    layers = {name.split("/")[1] for name in tensors if name.startswith(f"{side}/layer_")}
    return len(layers - {"layer_norm"})


def write_whisper(source: Path, out: Path) -> None:
    """Writes the folder ``out``: model, feature extractor and tokenizer.

    Args:
        source: a folder with ``model.bin`` of an English-only model, and ``tokenizer.json``.
        out: the folder to write into.

    Raises:
        ValueError: ``model.bin`` can't be read, or its tensors aren't those of a Whisper.
    """
    from transformers import (
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    file = source / "model.bin"
    tensors = read_tensors(file)
    try:
        state = renamed(tensors)
        vocabulary, width = state["proj_out.weight"].shape
        config = WhisperConfig(
            vocab_size=vocabulary,
            d_model=width,
            encoder_layers=_layers(tensors, "encoder"),
            decoder_layers=_layers(tensors, "decoder"),
            encoder_attention_heads=width // HEAD_WIDTH,
            decoder_attention_heads=width // HEAD_WIDTH,
            encoder_ffn_dim=state["model.encoder.layers.0.fc1.weight"].shape[0],
            decoder_ffn_dim=state["model.decoder.layers.0.fc1.weight"].shape[0],
            num_mel_bins=state["model.encoder.conv1.weight"].shape[1],
            max_source_positions=state["model.encoder.embed_positions.weight"].shape[0],
            max_target_positions=state["model.decoder.embed_positions.weight"].shape[0],
            pad_token_id=END_OF_TEXT,
            bos_token_id=END_OF_TEXT,
            eos_token_id=END_OF_TEXT,
            decoder_start_token_id=START,
        )
        model = WhisperForConditionalGeneration(config)
        model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"{file}: its tensors aren't those of a Whisper ({error}); expected a model that CTranslate2's converter "
            "made of one. Fix: take another file."
        ) from error
    model.save_pretrained(out)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(out)
    PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json")).save_pretrained(out)
