"""The fingerprint of a frozen expert: a bridge works only with the experts that it was trained with."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from isthmus.hub.selection import read_files

EDGE = 1 << 20
"""Bytes read at each end of a large weights file: reading all of its gigabytes at every start would take minutes."""
BLOCK, BLOCKS = 1 << 16, 64
"""Size and number of the evenly spaced blocks read between the ends: a tuned copy differs nearly everywhere."""
WHOLE = 1 << 24
"""The largest file, in bytes, that is read whole."""

WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}


def fingerprint(checkpoint: Path) -> str:
    """A digest of a weights file, or of all weights and configurations in a folder: names, sizes, and contents.

    Files above :data:`WHOLE` are sampled: a change outside both ends and all blocks isn't detected.

    Raises:
        ValueError: there are no weights.
    """
    if checkpoint.is_file():
        files = [checkpoint]
    else:
        files = [own for own in read_files(checkpoint) if own.suffix in WEIGHTS or own.name == "config.json"]
    if not files:
        raise ValueError(f"{checkpoint}: found no weights there; download the expert, or fix the path")
    digest = sha256()
    for file in files:
        size = file.stat().st_size
        name = file.name if file == checkpoint else file.relative_to(checkpoint).as_posix()
        digest.update(f"{name}:{size}\n".encode())
        with file.open("rb") as stream:
            for start, length in _pieces(size):
                stream.seek(start)
                digest.update(stream.read(length))
    return digest.hexdigest()[:32]


def _pieces(size: int) -> list[tuple[int, int]]:
    """(start, length) of each part of a file that is read."""
    if size <= WHOLE:
        return [(0, size)]
    between = [EDGE + place * (size - 2 * EDGE - BLOCK) // (BLOCKS - 1) for place in range(BLOCKS)]
    return [(0, EDGE), *((start, BLOCK) for start in between), (size - EDGE, EDGE)]
