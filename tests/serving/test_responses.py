"""The official client: items in and out, as a whole and as a stream, and in its own stream's helper."""

from __future__ import annotations

import base64
import gc
import hashlib
import io
import json
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
from PIL import Image
from served import wait_for

from isthmus.inference.pipeline import Pipeline
from isthmus.serving.engine import Job
from isthmus.serving.keys import Keys

TOOL: Any = [{"type": "image_generation"}]
MUST: Any = {"tools": TOOL, "tool_choice": {"type": "image_generation"}}


def ask(client: openai.OpenAI, given: Any = "a seven", **options: Any) -> Any:
    """A response; ``seed`` and what else the official client doesn't know go in its own way."""
    more = {"seed": options.pop("seed", 3)}
    return client.responses.create(
        **{"model": "tiny", "input": given, "max_output_tokens": 6} | options, extra_body=more
    )


def drawn(data: bytes = b"no picture") -> dict[str, str]:
    """An item with a picture; one that can't be read unless it is given."""
    return {"type": "image_generation_call", "id": "ig_1", "result": base64.b64encode(data).decode()}


def intact() -> bytes:
    """A picture's file."""
    Image.new("RGB", (16, 16)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def pictures(response: Any) -> list[Any]:
    """The items that hold a picture."""
    return [item for item in response.output if item.type == "image_generation_call"]


def test_words_and_a_picture(client: openai.OpenAI, opened: Pipeline) -> None:
    response = ask(client, **MUST)
    (reply,) = opened(["a seven"], [["image"]], seed=3)
    (item,) = pictures(response)
    image = Image.open(io.BytesIO(base64.b64decode(item.result)))
    assert (item.status, item.output_format, item.size) == ("completed", "png", "16x16") and image.size == (16, 16)
    assert image.info["Seed"] == "3" and response.output_text == reply.text
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    ended = "completed" if reply.ended == "end" else "incomplete"
    assert (response.status, response.object, response.error) == (ended, "response", None)


def test_without_the_tool_there_are_words_alone(client: openai.OpenAI) -> None:
    for options in ({}, {"tools": TOOL, "tool_choice": "none"}, {"tools": []}):
        response = ask(client, "draw", **options)
        (item,) = response.output
        assert item.type == "message" and item.role == "assistant" and isinstance(response.output_text, str)


def test_pictures_and_sounds_are_read(client: openai.OpenAI, files: dict[str, Path]) -> None:
    data = {kind: base64.b64encode(files[kind].read_bytes()).decode() for kind in ("image", "audio")}
    parts = [
        {"type": "input_text", "text": "what is it?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{data['image']}", "detail": "auto"},
        {"type": "input_audio", "input_audio": {"data": data["audio"], "format": "wav"}},
    ]
    seen = ask(client, [{"role": "user", "content": parts}], instructions="be brief")
    blind = ask(client, [{"role": "user", "content": "what is it?"}], instructions="be brief")
    assert seen.usage.input_tokens > blind.usage.input_tokens and seen.instructions == "be brief"


def test_a_conversation_goes_on_with_its_items(client: openai.OpenAI) -> None:
    first = ask(client, **MUST)
    turns = [{"role": "user", "content": "a seven"}, *first.output, {"role": "user", "content": "and?"}]
    again = ask(client, turns)
    words = [turn for turn in turns if getattr(turn, "type", "") != "image_generation_call"]
    assert again.usage.input_tokens > ask(client, words or turns).usage.input_tokens, "the picture is read"
    assert not pictures(again)


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    options: Any = {**MUST, "temperature": 1.0, "max_output_tokens": 12}
    whole = ask(client, **options)
    events = list(ask(client, stream=True, **options))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds.count("response.output_item.done") == 2
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1].response
    assert kinds[-1] == f"response.{whole.status}" and (last.usage, last.status) == (whole.usage, whole.status)
    assert said == whole.output_text == last.output_text and kinds.count("response.output_text.delta") > 2
    assert [item.result for item in pictures(last)] == [item.result for item in pictures(whole)]
    stages = [kind.rpartition(".")[2] for kind in kinds if kind.startswith("response.image_generation_call.")]
    assert stages[:2] == ["in_progress", "generating"] and stages[-1] == "completed"


def test_the_clients_own_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model="tiny", input="a seven", max_output_tokens=6, tools=TOOL) as stream:
        events: list[Any] = list(stream)
    snapshots = [event.snapshot for event in events if event.type == "response.output_text.delta"]
    assert events[-1].response.output_text == (snapshots[-1] if snapshots else "")
    assert events[-1].type in ("response.completed", "response.incomplete")


@pytest.mark.parametrize(
    ("given", "options", "param", "expected"),
    [
        ("", {}, "input", "at least 1"),
        ([], {}, "input", "at least 1"),
        ("word " * 1000, {}, None, "in its last turn alone"),
        ("a", {"max_output_tokens": 401}, "max_output_tokens", "found 401; expected at most 400"),
        ("a", {"previous_response_id": "resp_1"}, "previous_response_id", "keeps no answers"),
        ("a", {"store": True}, "store", "keeps no answers"),
        ("a", {"tools": [{"type": "web_search"}]}, "tools.0.type", "image_generation"),
        ("a", {"tool_choice": "required"}, "tool_choice", "no tools"),
        ("a", {"tool_choice": TOOL[0], "tools": []}, "tool_choice", "no tools"),
        ("a", {"tool_choice": "some"}, "tool_choice", "tool_choice: input should be 'auto', 'none' or 'required', or"),
        ("a", {"tool_choice": {"type": "web_search"}}, "tool_choice", "input should be 'image_generation'"),
        (3, {}, "input", "input: input should be a valid string, or input should be a valid"),
        ("a", {"tools": [TOOL[0] | {"quantity": 2}]}, "tools.0.quantity", "doesn't know the parameter. Fix"),
        ("a", {"stream_options": {"include_obfuscation": False}}, "stream_options", "doesn't know the parameter"),
        ([{"role": "user", "content": "a"}] * 7, {}, "input", "input: found 7 parts in 7 turns"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, drawn()],
            {},
            "input[2].result",
            "input[2].result: found",
        ),
        (
            [drawn(intact()), drawn(), {"role": "user", "content": "a"}],
            {},
            "input[1].result",
            "input[1].result: found",
        ),
        ("a", {"background": True}, "background", "doesn't know the parameter"),
        ([{"type": "reasoning", "summary": []}], {}, "input[0].type", "message or image_generation_call"),
        ([{"type": "image_generation_call", "id": "x"}], {}, "input[0].result", "keeps no answers"),
        ([{"role": "tool", "content": "a"}], {}, "input[0].role", "one of user"),
        ([{"role": "user", "content": None}], {}, "input[0].content", "a list of parts"),
        ([{"role": "user", "content": [3]}], {}, "input[0].content[0]", "an object"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], {}, "input[0].content[0]", "'text'"),
        ([{"role": "user", "content": [{"type": "input_file"}]}], {}, "input[0].content[0]", "'input_file'"),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.org/a.png"}]}],
            {},
            "input[0].content[0].image_url",
            "found 'https'",
        ),
    ],
)
def test_what_is_refused(client: openai.OpenAI, given: Any, options: Any, param: str | None, expected: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, given, **options)
    error = refused.value
    assert expected in error.message and "messages" not in error.message, error.message
    assert param is None or (isinstance(error.body, dict) and error.body["param"] == param), error.body


def test_a_failure_in_a_stream(serving: Any, opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("weights of /srv/models/secret.safetensors")

    with serving() as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        with monkeypatch.context() as patch:
            patch.setattr(opened.model, "begin", fails)
            last = list(ask(client, stream=True))[-1]
            assert last.type == "response.failed" and last.response.error.code == "internal_error"
            assert "secret" not in last.response.error.message
            with pytest.raises(openai.APIError, match="failed to answer"):
                list(client.images.generate(prompt="a", stream=True))
            with pytest.raises(openai.InternalServerError):
                client.images.generate(prompt="a")
        assert ask(client).status in ("completed", "incomplete"), "no place was lost"


def test_clients_that_leave_free_their_slots(
    client: openai.OpenAI, address: str, opened: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slots and two places to wait: four clients that leave must free them all, though nothing is answered."""
    host, port = address.removeprefix("http://").split(":")
    held, begin = threading.Event(), opened.model.begin
    with monkeypatch.context() as patch:
        patch.setattr(opened.model, "begin", lambda *given: (held.wait(60), begin(*given))[1])
        for place in range(4):
            stream = place % 2 == 0
            asked = {"model": "tiny", "input": f"leave {place}", "max_output_tokens": 400, "stream": stream}
            text = json.dumps(asked).encode()
            with socket.create_connection((host, int(port))) as left:
                head = f"POST /v1/responses HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                left.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
                if stream:
                    left.recv(10)
                wait_for(lambda count=place + 1: len(unanswered()) == count)
        wait_for(lambda: all(job.is_cancelled for job in unanswered()))
        held.set()
    wait_for(lambda: jobs(address) == 0)
    assert ask(client).output


def unanswered() -> list[Job]:
    return [each for each in gc.get_objects() if type(each) is Job and not each.has_ended]


def jobs(address: str) -> float:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("isthmus_jobs{"))


def test_every_route_needs_a_key_and_counts(serving: Any) -> None:
    digest = hashlib.sha256(b"sesame").digest()
    with serving(keys=Keys([digest])) as address:
        posts = ("responses", "images/generations", "images/edits", "audio/speech", "audio/transcriptions", "videos")
        for route in posts:
            refused = httpx.post(f"{address}/v1/{route}", json={})
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            wrong = httpx.post(f"{address}/v1/{route}", json={}, headers={"authorization": "Bearer sesame"})
            assert wrong.status_code in (400, 415) and set(wrong.json()) == {"error"}
        for method in ("GET", "DELETE"):
            for path in ("videos", "videos/video_1", "videos/video_1/content"):
                refused = httpx.request(method, f"{address}/v1/{path}")
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        text = httpx.get(f"{address}/metrics").text
        assert all(f'isthmus_requests_total{{route="/v1/{route}",status="401"}}' in text for route in posts)
        assert jobs(address) == 0
