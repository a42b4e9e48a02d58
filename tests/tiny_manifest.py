"""A small set as a user may have it: scans on paper, recordings, pen strokes and clouds, listed by a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from isthmus.pocket.world import DIGITS, Concept, draw_audio, draw_image, draw_points

STROKES = {digit: [[[0, 0], [10 * digit, 50], [20, 100]], [[0, 60], [40, 60 + digit]]] for digit in range(10)}


def write_set(folder: Path, train: int = 40, test: int = 10) -> Path:
    """Writes ``train`` and ``test`` media of each modality, digits in turn, and returns the manifest's path."""
    random = np.random.default_rng(5)
    records: list[dict[str, Any]] = []
    strokes: list[str] = []
    clouds: list[np.ndarray] = []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(train + test):
        digit, split = number % 10, "train" if number < train else "test"
        shared = {"label": DIGITS[digit] if number % 2 else str(digit), "split": split, "caption": f"a {digit}"}
        scan = draw_image(Concept(digit), "train", random).array.max(-1)
        # Every other scan is dark on light.
        Image.fromarray(255 - scan if number % 2 else scan).resize((40, 28)).save(folder / f"{number}.png")
        sound = draw_audio(Concept(digit), "train", random).array[2000:8000:2]
        soundfile.write(folder / f"{number}.wav", np.pad(sound, 500), 8000)
        strokes.append(json.dumps({"strokes": STROKES[digit]}))
        clouds.append(draw_points(Concept(digit), "train", random).array[:128, :3])
        records += [
            {"id": f"i{number}", "modality": "image", "path": f"{number}.png", **shared},
            {"id": f"a{number}", "modality": "audio", "path": f"{number}.wav", **shared},
            {"id": f"v{number}", "modality": "video", "path": "strokes.jsonl", "row": number, **shared},
            {"id": f"p{number}", "modality": "pointcloud", "path": "clouds.npz", "row": number, **shared},
        ]
    (folder / "strokes.jsonl").write_text("\n".join(strokes) + "\n", encoding="utf-8")
    np.savez(folder / "clouds.npz", points=np.stack(clouds))
    return write_manifest(folder, records)


def write_manifest(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Writes ``manifest.jsonl``."""
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def records_of(manifest: Path) -> list[dict[str, Any]]:
    """What the manifest lists."""
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
