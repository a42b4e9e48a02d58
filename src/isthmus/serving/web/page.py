"""The page: what it shows, and which event does what."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from isthmus.inference.pipeline import Pipeline
from isthmus.model import AnyToAny
from isthmus.serving.limits import ServingLimits
from isthmus.serving.web.about import Loaded, about, results
from isthmus.serving.web.chatting import Chatting, Page, Updates
from isthmus.serving.web.pictures import picture_makers, takes_any
from isthmus.serving.web.settings import Settings, requirable

NOTHING = "<p>Neither a matrix nor a gallery is beside this model's folder.</p>"
TOGGLE = "() => { document.body.classList.toggle('dark'); }"


def static(name: str) -> str:
    """A file of the page's own."""
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def build(pipeline: Pipeline, limits: ServingLimits, chatting: Chatting, loaded: Mapping[str, Loaded]) -> gr.Blocks:
    """The page over models, of which the first is chosen; its settings stand where nothing is changed."""
    first, *_ = loaded
    abouts = {name: about(each) for name, each in loaded.items()}
    measured = {name: results(each) for name, each in loaded.items()}
    with gr.Blocks(title=f"{first} · isthmus", analytics_enabled=False, delete_cache=(60, 600)) as page:
        with gr.Row(elem_id="isthmus-head"):
            head = gr.HTML(f"<h1>{escape(first)}</h1>")
            toggle = gr.Button("Light or dark", size="sm", scale=0, min_width=120, elem_id="isthmus-toggle")
            toggle.click(None, js=TOGGLE)
        with gr.Tabs():
            with gr.Tab("Talk"):
                chooser = _talk(pipeline, limits, chatting, {name: each.model for name, each in loaded.items()})
            with gr.Tab("Model"):
                facts = gr.HTML(abouts[first])
            with gr.Tab("Results", visible=any(measured.values())):
                figures = gr.HTML(measured[first] or NOTHING)

        def choose(name: str) -> dict[Any, Any]:
            return {head: f"<h1>{escape(name)}</h1>", facts: abouts[name], figures: measured[name] or NOTHING}

        chooser.change(choose, chooser, [head, facts, figures], show_progress="hidden", api_visibility="private")

        def leave(request: gr.Request) -> None:
            chatting.talks.leave(str(request.session_hash))

        page.unload(leave)
    built: gr.Blocks = page
    return built


def _talk(pipeline: Pipeline, limits: ServingLimits, chatting: Chatting, models: Mapping[str, AnyToAny]) -> gr.Dropdown:
    """The tab on which people talk; returns the control by which they choose a model."""
    first, *_ = models
    chat = gr.Chatbot(
        label="Conversation",
        editable="user",
        buttons=["copy"],
        group_consecutive_messages=False,
        height="60vh",
        elem_id="isthmus-chat",
        feedback_options=None,
        examples=_examples(chatting, first),
        placeholder="Write, drop or record something below, or begin with one of these.",
    )
    status = gr.HTML("", html_template='<div role="status">${value}</div>', elem_id="isthmus-status")
    box = gr.MultimodalTextbox(
        label="Your message",
        show_label=False,
        **_taken(pipeline.model),
        file_count="multiple",
        max_plain_text_length=100_000,
        elem_id="isthmus-box",
    )
    with gr.Row():
        stop = gr.Button("Stop", variant="stop", interactive=False, size="sm", elem_id="isthmus-stop")
        new = gr.Button("New conversation", size="sm", elem_id="isthmus-new")
    pictures = picture_makers(models.values(), box)
    with gr.Accordion("Settings", open=False):
        settings = Settings(pipeline, limits, list(models))
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

    def choose(name: str, required: list[str]) -> dict[Any, Any]:
        model = models[name]
        choices = requirable(model)
        kept = [each for each in required if each in dict(choices).values()]
        return {
            settings.required: gr.update(choices=choices, value=kept),
            box: gr.update(**_taken(model)),
            chat: gr.update(examples=_examples(chatting, name)),
            **{part: gr.update(visible=takes_any(model, media)) for part, media in pictures.items()},
        }

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
    settings.model.change(
        choose, [settings.model, settings.required], [settings.required, box, chat, *pictures],
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    return settings.model


def _examples(chatting: Chatting, name: str) -> list[Any]:
    return [{"text": each.says, "display_text": each.says} for each in chatting.examples[name]]


def _taken(model: AnyToAny) -> dict[str, Any]:
    """How the box for messages says what a model takes."""
    sources = ["upload", "microphone"] if "audio" in model.inputs else ["upload"]
    return {"placeholder": f"Text, or {', '.join(model.inputs)}", "sources": sources}


def _who(request: gr.Request) -> Page:
    """Whose conversation it is, and the request to be answered."""
    assert request.request is not None, "Gradio gives the request of an event"
    return str(request.session_hash), request.request
