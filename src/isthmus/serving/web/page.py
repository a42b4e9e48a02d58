"""The page: what it shows, and which event does what."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from isthmus.inference.pipeline import Pipeline
from isthmus.serving.limits import ServingLimits
from isthmus.serving.web.about import Loaded, about, matrix
from isthmus.serving.web.chatting import Chatting, Page, Updates
from isthmus.serving.web.settings import Settings
from isthmus.serving.web.talks import root

GALLERY = "/app/gallery"
"""Where the run's gallery is."""
TOGGLE = "() => { document.body.classList.toggle('dark'); }"


def static(name: str) -> str:
    """A file of the page's own."""
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def build(pipeline: Pipeline, name: str, limits: ServingLimits, chatting: Chatting, loaded: Loaded) -> gr.Blocks:
    """The page over a model."""
    with gr.Blocks(title=f"{name} · isthmus", analytics_enabled=False, delete_cache=(60, 600)) as page:
        with gr.Row(elem_id="isthmus-head"):
            gr.HTML(f"<h1>{escape(name)}</h1>")
            toggle = gr.Button("Light or dark", size="sm", scale=0, min_width=120, elem_id="isthmus-toggle")
            toggle.click(None, js=TOGGLE)
        with gr.Tabs():
            with gr.Tab("Talk"):
                _talk(pipeline, limits, chatting)
            with gr.Tab("Model"):
                gr.HTML(about(pipeline.model, name, loaded))
            figures, gallery = loaded.file("matrix.json"), loaded.file("gallery.html")
            if figures is not None or gallery is not None:
                with gr.Tab("Results"):
                    if figures is not None:
                        gr.HTML(matrix(figures))
                    if gallery is not None:
                        gr.HTML(f'<iframe class="isthmus-gallery" src="{GALLERY}" title="Gallery of the run"></iframe>')

        def leave(request: gr.Request) -> None:
            chatting.talks.leave(str(request.session_hash))

        page.unload(leave)
    built: gr.Blocks = page
    return built


def _talk(pipeline: Pipeline, limits: ServingLimits, chatting: Chatting) -> None:
    takes = [str(medium) for medium in pipeline.model.inputs]
    chat = gr.Chatbot(
        label="Conversation",
        editable="user",
        buttons=["copy"],
        group_consecutive_messages=False,
        height="60vh",
        elem_id="isthmus-chat",
        feedback_options=None,
        examples=[{"text": each.says, "display_text": each.says} for each in chatting.examples],
        placeholder="Write, drop or record something below, or begin with one of these.",
    )
    status = gr.HTML("", html_template='<div role="status">${value}</div>', elem_id="isthmus-status")
    box = gr.MultimodalTextbox(
        label="Your message",
        show_label=False,
        placeholder=f"Text, or {', '.join(takes)}",
        sources=["upload", "microphone"] if "audio" in takes else ["upload"],
        file_count="multiple",
        max_plain_text_length=100_000,
        elem_id="isthmus-box",
    )
    with gr.Row():
        stop = gr.Button("Stop", variant="stop", interactive=False, size="sm", elem_id="isthmus-stop")
        new = gr.Button("New conversation", size="sm", elem_id="isthmus-new")
    if "image" in takes or "video" in takes:
        _pictures(takes, box)
    with gr.Accordion("Settings", open=False):
        settings = Settings(pipeline, limits)
    with gr.Accordion("Conversation", open=False):
        turns = gr.Dropdown([], label="Turn", elem_id="isthmus-turns")
        again = gr.Button("Answer this turn anew", size="sm", elem_id="isthmus-again")
        export = gr.HTML("", elem_id="isthmus-export")
    parts = {"chat": chat, "status": status, "stop": stop, "turns": turns, "export": export, "box": box}

    unchanged = {status: gr.skip()}  # a generator that yields nothing would empty every part of the page

    def on_page(updates: Updates) -> dict[Any, Any]:
        return {parts[part]: update for part, update in updates.items()}

    async def send(request: gr.Request, written: dict[str, Any], *given: Any) -> AsyncGenerator[dict[Any, Any]]:
        yield unchanged
        paths = [Path(path) for path in written["files"]]
        async for updates in chatting.send(_who(request), written["text"], paths, given):
            yield on_page(updates)

    async def example(request: gr.Request, event: gr.SelectData, *given: Any) -> AsyncGenerator[dict[Any, Any]]:
        yield unchanged
        async for updates in chatting.example(_who(request), int(event.index), given):
            yield on_page(updates)

    async def again_from(request: gr.Request, turn: int | None, *given: Any) -> AsyncGenerator[dict[Any, Any]]:
        yield unchanged
        if turn is not None:
            async for updates in chatting.again(_who(request), turn, given):
                yield on_page(updates)

    async def edit(request: gr.Request, event: gr.EditData, *given: Any) -> AsyncGenerator[dict[Any, Any]]:
        yield unchanged
        place = event.index if isinstance(event.index, int) else event.index[0]
        async for updates in chatting.edit(_who(request), place, str(event.value), given):
            yield on_page(updates)

    def clear(request: gr.Request) -> dict[Any, Any]:
        return on_page(chatting.clear(str(request.session_hash)))

    def halt(request: gr.Request) -> None:
        chatting.stop(str(request.session_hash))

    outputs = list(parts.values())
    # The engine's own places and queue bound how many answers are made at once.
    asks: dict[str, Any] = {
        "outputs": outputs, "show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"
    }  # fmt: skip
    box.submit(send, [box, *settings.controls], **asks)
    chat.example_select(example, settings.controls, **asks)
    chat.retry(again_from, [turns, *settings.controls], **asks)
    again.click(again_from, [turns, *settings.controls], **asks)
    chat.edit(edit, settings.controls, **asks)
    new.click(clear, **asks)
    chat.clear(clear, **asks)
    stop.click(halt, **(asks | {"outputs": None}))


def _who(request: gr.Request) -> Page:
    """Whose conversation it is, and the request to be answered."""
    assert request.request is not None, "Gradio gives the request of an event"
    return str(request.session_hash), request.request


def _pictures(takes: list[str], box: gr.MultimodalTextbox) -> None:
    """A canvas and cameras, whose pictures go into the message."""
    with gr.Accordion("Draw, or use the camera", open=False):
        with gr.Tabs():
            if "image" in takes:
                with gr.Tab("Draw"):
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
                    gr.Button("Add the drawing to the message", size="sm").click(
                        add_drawing, [canvas, box], box, show_progress="hidden", api_visibility="private"
                    )
                with gr.Tab("Photograph"):
                    camera = gr.Image(label="Camera", sources=["webcam"], type="filepath", elem_id="isthmus-camera")
                    gr.Button("Add the photograph to the message", size="sm").click(
                        add_file, [camera, box], box, show_progress="hidden", api_visibility="private"
                    )
            if "video" in takes:
                with gr.Tab("Film"):
                    film = gr.Video(label="Film", sources=["webcam"], elem_id="isthmus-film")
                    gr.Button("Add the film to the message", size="sm").click(
                        add_file, [film, box], box, show_progress="hidden", api_visibility="private"
                    )


def add_file(path: str | None, written: dict[str, Any] | None) -> dict[str, Any]:
    """The message with one more file."""
    message = written or {"text": "", "files": []}
    return {"text": message["text"], "files": [*message["files"], *([path] if path else [])]}


def add_drawing(drawn: dict[str, Any] | None, written: dict[str, Any] | None) -> dict[str, Any]:
    """The message with the drawing as a picture, on black where nothing was drawn."""
    import secrets

    from PIL import Image

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
