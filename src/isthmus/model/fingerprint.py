"""The fingerprint of a frozen expert: a bridge is only worth something beside the experts that it was trained with."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

EDGE = 1 << 20
"""Bytes that are read at each end of a weights file: whole multi-gigabyte files would take minutes at every start."""

WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}


def fingerprint(checkpoint: Path) -> str:
    """A digest of a weights file, or of all weights and configurations in a folder: names, sizes, and both ends.

    Raises:
        ValueError: nothing is there.
    """
    if checkpoint.is_file():
        files = [checkpoint]
    else:
        files = sorted(file for file in checkpoint.rglob("*") if file.suffix in WEIGHTS or file.name == "config.json")
    if not files:
        raise ValueError(f"{checkpoint}: found no weights there; download the expert, or mend the path")
    digest = sha256()
    for file in files:
        size = file.stat().st_size
        name = file.name if file == checkpoint else file.relative_to(checkpoint).as_posix()
        digest.update(f"{name}:{size}\n".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(EDGE))
            stream.seek(max(size - EDGE, 0))
            digest.update(stream.read(EDGE))
    return digest.hexdigest()[:32]
