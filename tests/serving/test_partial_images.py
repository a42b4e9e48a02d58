"""The official client: pictures before they are done, in streams of pictures, edits and responses."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.inference.pipeline import Pipeline

MUST: Any = {"type": "image_generation"}


def pixels(data: str) -> np.ndarray[Any, Any]:
    """The picture in base64, which must be a PNG of the generator's size."""
    opened = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (opened.format, opened.size) == ("PNG", (16, 16)) and opened.info["Model"] == "tiny"
    return np.asarray(opened).astype(int)


def more(steps: int = 4) -> dict[str, Any]:
    """Fields that the official client doesn't know."""
    return {"seed": 3, "num_inference_steps": steps}


def respond(client: openai.OpenAI, partial_images: int = 0, steps: int = 4, **options: Any) -> Any:
    tool: Any = MUST | ({"partial_images": partial_images} if partial_images else {})
    asked: Any = {"model": "tiny", "input": "a seven", "temperature": 1.0, "max_output_tokens": 12, "tool_choice": MUST}
    return client.responses.create(**asked | {"tools": [tool]} | options, extra_body=more(steps))


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
def test_a_picture_is_seen_before_it_is_done(client: openai.OpenAI, files: dict[str, Path], kind: str) -> None:
    def make(**options: Any) -> Any:
        asked: Any = {"model": "tiny", "prompt": "a seven", "extra_body": more()} | options
        if kind == "image_generation":
            return client.images.generate(**asked)
        return client.images.edit(image=files["image"].open("rb"), **asked)

    whole = make().data[0].b64_json
    *seen, last = list(make(stream=True, partial_images=3))
    assert [event.type for event in seen] == [f"{kind}.partial_image"] * 3 and last.type == f"{kind}.completed"
    assert [event.partial_image_index for event in seen] == [0, 1, 2] and last.b64_json == whole
    assert {(event.size, event.output_format, event.background, event.created_at) for event in seen} == {
        ("16x16", "png", "opaque", last.created_at)
    }
    errors = [np.abs(pixels(event.b64_json) - pixels(whole)).mean() for event in seen]
    assert errors[0] > errors[1] > errors[2] > 0, "each is nearer to the picture"


def test_steps_bound_how_often_a_picture_is_seen(client: openai.OpenAI) -> None:
    def types(count: int | None, steps: int) -> list[str]:
        asked: Any = {"prompt": "a seven", "partial_images": count, "extra_body": more(steps)}
        return [event.type.rpartition(".")[2] for event in client.images.generate(**asked, stream=True)]

    assert types(3, 2) == ["partial_image", "completed"] and types(3, 1) == ["completed"]
    assert types(1, 4) == ["partial_image", "completed"] and types(0, 4) == types(None, 4) == ["completed"]


def test_a_response_shows_its_pictures_before_they_are_done(client: openai.OpenAI) -> None:
    whole = respond(client)
    events = list(respond(client, 2, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    results = [item.result for item in whole.output if item.type == "image_generation_call"]
    assert [item.result for item in last.output if item.type == "image_generation_call"] == results
    assert last.output_text == whole.output_text and last.usage == whole.usage and results
    for place, item in enumerate(last.output):
        if item.type == "image_generation_call":
            own = [event for event in events if getattr(event, "output_index", None) == place]
            kinds = [event.type.removeprefix("response.image_generation_call.") for event in own]
            seen = own[3:5]
            assert kinds == [
                *("response.output_item.added", "in_progress", "generating", "partial_image", "partial_image"),
                *("completed", "response.output_item.done"),
            ]
            assert {event.item_id for event in own[1:-1]} == {own[0].item.id, own[-1].item.id, item.id}
            assert [(event.partial_image_index, event.size) for event in seen] == [(0, "16x16"), (1, "16x16")]
            errors = [np.abs(pixels(event.partial_image_b64) - pixels(item.result)).mean() for event in seen]
            assert errors[0] > errors[1] > 0
    added = [event.output_index for event in events if event.type == "response.output_item.added"]
    assert added == list(range(len(last.output)))


def test_the_clients_own_stream_takes_partial_images(client: openai.OpenAI) -> None:
    tools: Any = [MUST | {"partial_images": 1}]
    asked: Any = {"model": "tiny", "input": "a seven", "max_output_tokens": 6, "tool_choice": MUST, "tools": tools}
    with client.responses.stream(**asked) as stream:
        events: list[Any] = list(stream)
    assert "response.image_generation_call.partial_image" in [event.type for event in events]
    assert [item.type for item in events[-1].response.output][-1] == "image_generation_call"


def test_what_is_refused(client: openai.OpenAI, opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**options: Any) -> str:
        with pytest.raises(openai.BadRequestError) as error:
            client.images.generate(**{"prompt": "a seven", "stream": True, "partial_images": 1} | options)
        assert isinstance(error.value.body, dict) and error.value.body["param"] == "partial_images"
        return error.value.message

    assert "less than or equal to 3" in refused(partial_images=4)
    assert "found 2 without a stream; expected 0. Fix: send stream: true" in refused(stream=None, partial_images=2)
    with pytest.raises(openai.BadRequestError, match=r"tools\.partial_images: found 1 without a stream"):
        respond(client, 1)
    with pytest.raises(
        openai.BadRequestError, match=r"tools\.0\.partial_images: input should be less than or equal to 3"
    ):
        respond(client, 4, stream=True)
    assert respond(client, 1, tool_choice="none").output, "without the tool its options change nothing"
    monkeypatch.setattr(StableDiffusion, "has_estimates", False)
    assert "'tiny' draws with StableDiffusion, which shows no picture before it is done" in refused()
