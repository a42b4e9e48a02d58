"""A canvas and cameras, whose pictures go into the message."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from isthmus.model import AnyToAny
from isthmus.serving.web.talks import root


def takes_any(model: AnyToAny, media: Collection[str]) -> bool:
    """Whether a model takes one of these."""
    return any(medium in model.inputs for medium in media)


def picture_makers(models: Collection[AnyToAny], box: gr.MultimodalTextbox) -> dict[gr.Accordion, Collection[str]]:
    """The controls, drawn where it is called.

    Args:
        models: that can be chosen; the first is at first.
        box: of the message.

    Returns:
        What is to be seen where the chosen model takes one of the media that stand behind it.
    """
    first, *_ = models
    seen: dict[gr.Accordion, Collection[str]] = {}
    taken = [medium for medium in ("image", "video") if any(medium in model.inputs for model in models)]
    if not taken:
        return seen

    # Not tabs: Gradio 6.31 doesn't hide one that it has once shown.
    def shown(label: str, *media: str, is_open: bool = False) -> Any:
        made = gr.Accordion(label, open=is_open, visible=takes_any(first, media))
        seen[made] = media
        return made

    events: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    with shown("Draw, or use the camera", "image", "video"):
        if "image" in taken:
            with shown("Draw", "image", is_open=True):
                canvas = gr.ImageEditor(
                    label="Drawing",
                    type="numpy",
                    image_mode="RGBA",
                    sources=(),
                    transforms=(),
                    layers=False,
                    canvas_size=(320, 320),
                    fixed_canvas=True,
                    brush=gr.Brush(24, colors=["#e03030", "#20a020", "#4060ff", "#9a9a9a"], color_mode="fixed"),
                    elem_id="isthmus-canvas",
                )
                add = gr.Button("Add the drawing to the message", size="sm")
                add.click(add_drawing, [canvas, box], box, **events)
            with shown("Photograph", "image"):
                camera = gr.Image(label="Camera", sources=["webcam"], type="filepath", elem_id="isthmus-camera")
                add = gr.Button("Add the photograph to the message", size="sm")
                add.click(add_file, [camera, box], box, **events)
        if "video" in taken:
            with shown("Film", "video"):
                film = gr.Video(label="Film", sources=["webcam"], elem_id="isthmus-film")
                gr.Button("Add the film to the message", size="sm").click(add_file, [film, box], box, **events)
    return seen


def add_file(path: str | None, written: dict[str, Any] | None) -> dict[str, Any]:
    """The message with one more file."""
    message = written or {"text": "", "files": []}
    return {"text": message["text"], "files": [*message["files"], *([path] if path else [])]}


def add_drawing(drawn: dict[str, Any] | None, written: dict[str, Any] | None) -> dict[str, Any]:
    """The message with the drawing as a picture, on black where nothing was drawn."""
    picture = None if drawn is None else drawn["composite"]
    if picture is None or not np.asarray(picture)[..., 3].any():
        gr.Info("Nothing is drawn yet.")
        return add_file(None, written)
    folder = root() / "uploads" / secrets.token_hex(16)
    folder.mkdir(parents=True)
    ground = Image.new("RGBA", picture.shape[1::-1], "black")
    ground.alpha_composite(Image.fromarray(picture))
    ground.convert("RGB").save(folder / "drawing.png")
    return add_file(str(folder / "drawing.png"), written)
