"""A conversation as a file that is kept: ``conversation.json`` in the chat-content convention, and its media."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from isthmus.serving.web.talks import Shown, Talk


def exported(talk: Talk) -> bytes:
    """A ZIP archive. ``settings.json`` has what each answer was made with.

    Raises:
        FileNotFoundError: the conversation was forgotten meanwhile.
    """
    messages: list[dict[str, Any]] = []
    media: list[Shown] = []

    def content(pieces: list[str | Shown]) -> list[dict[str, str]]:
        found = []
        for piece in pieces:
            if isinstance(piece, str):
                found.append({"type": "text", "text": piece})
            else:
                media.append(piece)
                found.append(
                    {"type": piece.modality, piece.modality: f"{len(media):03d}_{piece.modality}{piece.path.suffix}"}
                )
        return found

    turns = list(talk.turns)
    for turn in turns:
        messages.append({"role": "user", "content": content([*turn.shown, *([turn.text] if turn.text else [])])})
        if turn.pieces:
            messages.append({"role": "assistant", "content": content(turn.pieces)})
    settings = [{"options": dict(turn.options), "note": turn.note} for turn in turns]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversation.json", json.dumps({"messages": messages}, indent=2, ensure_ascii=False))
        archive.writestr("settings.json", json.dumps(settings, indent=2))
        for number, piece in enumerate(media, 1):
            archive.write(piece.path, f"{number:03d}_{piece.modality}{piece.path.suffix}")
    return file.getvalue()
