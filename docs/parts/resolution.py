"""Prints the table of resolution.md: what each way to read a large image costs, counted and not timed.

Run it in the project's environment: ``python docs/parts/resolution.py``. It needs no weights and no network.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPImageProcessorPil, CLIPVisionConfig

from isthmus.encoders.vision.frequency_encoder import FrequencyEncoder
from isthmus.encoders.vision.tiles_encoder import LLAVA_NEXT, TilesEncoder
from isthmus.encoders.vision.transformers_vision import TransformersVision
from isthmus.frozen import shapes_only
from isthmus.types import Media, Modality

SCREENSHOT, PAGE = (800, 1300), (2560, 2560)
"""Height and width, pixels."""
UP_TO_12 = [(rows, columns) for rows in range(1, 7) for columns in range(1, 7) if rows * columns <= 12]
LLM_PARAMETERS = 6.74e9
"""LLaMA-7B's; each costs one multiplication and one addition a token, attention aside."""
HEADER = ["image, pixels", "read by", "as, pixels", "tokens", "D", "encoder, TFLOPs", "7B LLM, TFLOPs"]


def clip_folder(folder: Path) -> Path:
    """CLIP ViT-L/14's configuration and image processor, as its folder has them."""
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    CLIPVisionConfig(image_size=224, patch_size=14, **sizes).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def floating_point_operations(folder: Path, image_size: int) -> int:
    """Of one image through the tower: matrix products, two for each multiplication and addition."""
    with shapes_only():
        encoder = TransformersVision(folder, image_size=image_size)
        encoder.tower.config._attn_implementation = "eager"  # so that attention is counted as the products that it is
        encoder.load()
        with FlopCounterMode(display=False) as counter:
            encoder(Modality.IMAGE, {"pixels": torch.zeros(1, 3, image_size, image_size)})
    return counter.get_total_flops()


def row(shape: tuple[int, int], name: str, seen: str, tokens: int, width: int, operations: int) -> list[str]:
    """One line of the table."""
    read = 2 * LLM_PARAMETERS * tokens
    size = f"{shape[1]} x {shape[0]}"
    return [size, name, seen, f"{tokens:,}", str(width), f"{operations / 1e12:.2f}", f"{read / 1e12:.1f}"]


def table() -> list[list[str]]:
    """The lines below the header."""
    image, rows = Modality.IMAGE, []
    with TemporaryDirectory() as name:
        clip = clip_folder(Path(name) / "clip")
        costs = {size: floating_point_operations(clip, size) for size in (224, 336, 448, 2548)}
        for shape, size in ((SCREENSHOT, 224), (SCREENSHOT, 336), (SCREENSHOT, 448), (PAGE, 2548)):
            whole = TransformersVision(clip, image_size=size)
            label = "CLIP ViT-L/14" + ("" if size == 224 else ", interpolated")
            rows.append(row(shape, label, f"{size} x {size}", *whole.shape, costs[size]))
        for shape, size, grids, label in (
            (SCREENSHOT, 336, LLAVA_NEXT, "LLaVA-NeXT's grids"),
            (SCREENSHOT, 336, UP_TO_12, "up to 12"),
            (PAGE, 336, UP_TO_12, "up to 12"),
            (PAGE, 336, [(8, 8)], "64"),
        ):
            inner = TransformersVision(clip, image_size=size)
            tiles = TilesEncoder(inner, size, grids)
            inputs = tiles.preprocess(Media(image, np.zeros((*shape, 3), np.uint8)))
            tokens = tiles.token_count(image, inputs)
            views = tokens // inner.shape[0]
            seen = f"{views - 1} + 1 of {size} x {size}"
            rows.append(row(shape, f"tiles, {label}", seen, tokens, inner.shape[1], views * costs[size]))
        folder = Path(name) / "frequency"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"frequency": {}}))
        pages = FrequencyEncoder(folder)
        for shape in (SCREENSHOT, PAGE):
            tokens = pages.token_count(image, pages.preprocess(Media(image, np.zeros((*shape, 3), np.uint8))))
            rows.append(row(shape, "frequencies", f"{shape[1]} x {shape[0]}", tokens, pages.width(image), 0))
    return rows


def as_markdown(rows: list[list[str]]) -> str:
    """The whole table."""
    lines = [HEADER, ["---"] * 3 + ["---:"] * 4, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(as_markdown(table()))
