"""A small set of captioned media as a user may have it: pictures, short videos and clouds, listed by a manifest."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_manifest import write_manifest

from isthmus.pocket.world import HUES

SHAPES = ("ball", "box")


def write_captioned(folder: Path, train: int = 12, test: int = 6) -> Path:
    """Writes ``train`` and ``test`` media of each modality and returns the manifest's path. Equal media recur."""
    random, names = np.random.default_rng(3), list(HUES)
    records, clouds = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(train + test):
        colour, shape = names[number % len(names)], SHAPES[number % 2]
        split = {"split": "train" if number < train else "test"}
        picture = np.zeros((24, 24, 3), np.uint8)
        picture[4:20, 4:20] = 255 * np.array(hsv_to_rgb(HUES[colour], 1, 1))
        Image.fromarray(picture).save(folder / f"{number}.png")
        frames = [Image.fromarray(np.roll(picture, step, axis=1)) for step in range(4)]
        frames[0].save(folder / f"{number}.gif", save_all=True, append_images=frames[1:], duration=125)
        cloud = random.normal(size=(64, 3)).astype(np.float32)
        clouds.append(cloud / np.abs(cloud).max(1 if shape == "box" else (0, 1), keepdims=True))
        records += [
            {"id": f"i{number}", "modality": "image", "path": f"{number}.png", "caption": f"{colour} box", **split},
            {"id": f"v{number}", "modality": "video", "path": f"{number}.gif", "caption": f"moving {colour}", **split},
            {"id": f"p{number}", "modality": "points", "path": "clouds.npz", "row": number, "caption": shape, **split},
        ]
    np.savez(folder / "clouds.npz", points=np.stack(clouds))
    return write_manifest(folder, records)
