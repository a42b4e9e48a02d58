"""A conversation as the page shows it: text, and media as HTML that any browser plays by itself."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from pathlib import Path

from isthmus.data.media.files import save_media
from isthmus.display.embedding import points_bytes
from isthmus.modalities import CLIP, CLOUD, RASTER, SIGNAL
from isthmus.serving.provenance import Provenance
from isthmus.serving.web.talks import Shown, Talk
from isthmus.types import Media

FILES = "/app/files"
"""Where the files of conversations are."""
PLAYED = {
    RASTER: (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"),
    CLIP: (".mp4", ".webm"),
    SIGNAL: (".wav", ".mp3", ".flac", ".ogg", ".m4a"),
}
"""Kind -> endings of files that browsers show; into the first others are converted."""
SMALL = 128
"""Longer side, in pixels, up to which pictures are enlarged with sharp edges."""
LARGEST_CLOUD = 20_000
"""Points that are drawn; a browser turns them on a phone, too."""


def show(
    medium: Media,
    talk: Talk,
    owner: str,
    original: tuple[str, bytes] | None = None,
    made: Provenance | None = None,
) -> Shown:
    """A medium on the page, its file in the conversation's folder.

    Args:
        medium: to be shown.
        talk: that it belongs to.
        owner: whose it is, for those who can't see it: "Your" or "The answer's".
        original: the ending and the bytes of the file that it came in, which are kept as they are.
        made: what the file says of itself.
    """
    if original is None:
        path = talk.new_file(medium.modality.spec.file_endings[0])
        save_media(medium, path)
        if made is not None:
            made.mark(path)
    else:
        path = talk.new_file(original[0])
        path.write_bytes(original[1])
    word = medium.modality.spec.word
    label = escape(f"{owner} {word}")
    name = f"{word.replace(' ', '-')}{path.suffix}"
    link = f'<a class="isthmus-save" href="{_address(talk, path)}" download="{name}">Save {escape(word)}</a>'
    html = f"{_viewed(medium, talk, path, label)}{link}"
    size = len(html) + sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}*"))
    return Shown(str(medium.modality), path, html, size)


def _address(talk: Talk, path: Path) -> str:
    return f"{FILES}/{talk.folder.name}/{path.name}"


def _viewed(medium: Media, talk: Talk, path: Path, label: str) -> str:
    shown: Media = medium.modality.spec.function("view")(medium)
    kind = shown.modality.kind
    if kind is CLOUD:
        return _cloud(shown, label)
    if shown is not medium or path.suffix not in PLAYED[kind]:
        path = path.with_suffix(f".view{PLAYED[kind][0]}")  # it goes when the medium's own file goes
        save_media(shown, path)
    return _player(shown, _address(talk, path), label)


def _player(shown: Media, source: str, label: str) -> str:
    kind = shown.modality.kind
    if kind is SIGNAL:
        return f'<audio class="isthmus-sound" src="{source}" aria-label="{label}" controls preload="metadata"></audio>'
    height, width = shown.array.shape[-3:-1]
    look = "isthmus-picture" if max(height, width) > SMALL else "isthmus-picture isthmus-small"
    if kind is RASTER:
        return f'<img class="{look}" src="{source}" alt="{label}" width="{width}" height="{height}">'
    return (
        f'<video class="{look}" src="{source}" aria-label="{label}" controls loop playsinline preload="auto"></video>'
    )


def _cloud(cloud: Media, label: str) -> str:
    array = cloud.array[:: -(-len(cloud.array) // LARGEST_CLOUD)]
    points = b64encode(points_bytes(array)).decode("ascii")
    return (
        f'<canvas class="isthmus-cloud" width="512" height="512" tabindex="0" role="img" data-points="{points}" '
        f'aria-label="{label}, {len(cloud.array)} points. Drag it, or press the arrow keys, to turn it."></canvas>'
    )
