"""What the gallery and the report share: a page that fetches nothing, and messages as a template takes them."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np

from isthmus.data.conversations.schema import ContentItem, MediumItem, TextItem
from isthmus.data.errors import DataError
from isthmus.data.media.files import read_media
from isthmus.display.embedding import LARGEST, embedded
from isthmus.display.pages import script as clouds_script
from isthmus.display.pages import shown_text, templates
from isthmus.display.pages import style as media_style
from isthmus.request import MARGIN, Request
from isthmus.types import Media

FRAMES, SECONDS = 48, 60.0
"""What a page shows of a film, in frames spread evenly over it, and of a recording, from its beginning."""


def rendered(template: str, css: str, values: dict[str, Any]) -> bytes:
    """A self-contained page of this folder's template.

    Its content security policy forbids any fetch and any script but its own; all text is escaped.

    Args:
        template: the file's name.
        css: styles beside those of media.
        values: of the template, beside ``policy``, ``style`` and ``script``.
    """
    style, script = media_style() + css, clouds_script()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    page = templates().from_string(own_file(template))
    return page.render(policy=policy, style=style, script=script, **values).encode()


def own_file(name: str) -> str:
    """A template or style of this folder."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def piece(item: ContentItem) -> dict[str, str]:
    """A part of a message as the templates take it; a medium that can't be read is a text that says so."""
    match item:
        case TextItem(text):
            return shown_text(text)
        case MediumItem(modality, None, caption):
            return shown_text(f"({modality}: {caption or 'not kept'})")
        case MediumItem(modality, media, _, rate):
            assert media is not None
            if isinstance(media, Media):
                return embedded(media)
            # A film as large as a camera makes it wouldn't fit the limits as a whole, and isn't shown so either.
            request = Request(_spread, LARGEST // MARGIN, SECONDS)
            try:
                return embedded(read_media(media, modality, request=request, rate=rate))
            except DataError as error:  # the figures are there, and a page of them is worth more than none
                return shown_text(f"({modality}: it can't be shown: {error.message})")


def _spread(total: int, rate: float) -> list[int]:
    return [round(frame) for frame in np.linspace(0, total - 1, min(total, FRAMES)).tolist()]


def _digest(content: str) -> str:
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode('ascii')}"
