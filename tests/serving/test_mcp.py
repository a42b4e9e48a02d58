"""The protocol's official client against the real server: tools, media in and out, errors, keys, and leaving."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import socket
import traceback
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from mcp import Client, types
from mcp.client.streamable_http import streamable_http_client
from served import wait_for

from isthmus.data.media.files import read_media
from isthmus.data.media.stored import StoredFile
from isthmus.inference.pipeline import Pipeline
from isthmus.serving.keys import Keys
from isthmus.types import Modality

KINDS = {"images": "image/png", "videos": "video/mp4", "points": "application/x-npy", "audios": "audio/wav"}
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
MODERN = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "ask"}


def uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def call(address: str, *calls: tuple[str, dict[str, Any]], mode: str = "auto") -> list[types.CallToolResult]:
    async def talk() -> list[types.CallToolResult]:
        async with Client(f"{address}/mcp", mode=mode) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(talk())


def message(**arguments: Any) -> dict[str, Any]:
    """A call as it goes over the wire."""
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": arguments}}


def words(result: types.CallToolResult) -> str:
    """Of an error."""
    (block,) = result.content
    assert result.is_error and isinstance(block, types.TextContent)
    return block.text


def test_the_tools_are_what_the_model_can(address: str) -> None:
    async def listed() -> list[types.Tool]:
        async with Client(f"{address}/mcp") as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    assert list(tools) == ["ask", "make_image", "make_video", "make_audio"], "it makes no points"
    fields = tools["make_image"].input_schema["properties"]
    assert set(fields) == {"text", "seed", "max_tokens", *KINDS} and tools["make_image"].input_schema["required"] == [
        "text"
    ]
    (chosen, _) = tools["ask"].input_schema["properties"]["modalities"]["anyOf"]
    assert chosen["items"]["enum"] == ["text", "image", "video", "audio"]
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_words_in_and_a_picture_out(address: str, opened: Pipeline, mode: str) -> None:
    (result,) = call(address, ("make_image", {"text": "draw", "seed": 5, "max_tokens": 6}), mode=mode)
    (reply,) = opened([[{"role": "user", "content": "draw"}]], [["image"]], seed=5)
    (image,) = [block for block in result.content if isinstance(block, types.ImageContent)]
    made = read_media(StoredFile("made.png", base64.b64decode(image.data)), Modality.IMAGE)
    assert not result.is_error and image.mime_type == "image/png"
    assert abs(made.array.astype(int) - reply.media(Modality.IMAGE)[0].array.astype(int)).max() <= 2
    assert "".join(block.text for block in result.content if isinstance(block, types.TextContent)) == reply.text
    assert result.meta is not None and result.meta["seed"] == 5 and result.meta["usage"]["output_tokens"] > 0


def test_media_in_and_words_out_and_media_of_every_kind(address: str, files: dict[str, Path]) -> None:
    given = {Modality(name).spec.listed: [uri(path, KINDS[Modality(name).spec.listed])] for name, path in files.items()}
    said, made = call(
        address,
        ("ask", {"text": "what is it?", "images": given["images"], "modalities": ["text"]}),
        ("ask", {"text": "what are", **given, "modalities": ["audio", "video"], "seed": 3}),
    )
    part = {"type": "image_url", "image_url": {"url": given["images"][0]}}
    turn = {"role": "user", "content": [{"type": "text", "text": "what is it?"}, part]}
    body = {"model": "tiny", "messages": [turn], "modalities": ["text"]}
    chat = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]["message"]
    assert not said.is_error and [block.type for block in said.content] == ["text"] * bool(chat["content"])
    assert "".join(block.text for block in said.content if isinstance(block, types.TextContent)) == chat["content"]
    sounds = [block for block in made.content if isinstance(block, types.AudioContent)]
    assert [sound.mime_type for sound in sounds] == ["audio/wav"]
    assert base64.b64decode(sounds[0].data).startswith(b"RIFF")
    (film,) = [block.resource for block in made.content if isinstance(block, types.EmbeddedResource)]
    assert isinstance(film, types.BlobResourceContents) and film.mime_type == "video/mp4"
    assert film.uri.startswith("isthmus:video/") and film.uri.endswith(".mp4")
    assert len(read_media(StoredFile("made.mp4", base64.b64decode(film.blob)), Modality.VIDEO).array) == 8


def test_what_is_refused_is_the_tools_error(address: str) -> None:
    picture = "data:image/png;base64,aaaa"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"text": ""}, "text: string should have at least 1 character"),
        ({}, "text: field required"),
        ({"text": "a", "smell": 1}, "smell: this server doesn't know the parameter; expected some of text, seed"),
        ({"text": "a", "max_tokens": 401}, "max_tokens: found 401; expected at most 400"),
        ({"text": "a", "modalities": ["points"]}, "modalities: found 'points'; this model makes text, image"),
        ({"text": "a", "images": ["/etc/passwd"]}, "images[0]: found '[path]'; expected a data URI"),
        ({"text": "a", "images": [picture], "videos": [picture]}, "images[0]: found no readable image"),
        ({"text": "word " * 1000}, "in its last turn alone"),
        ({"text": "a", "images": [picture] * 12}, "text: found 13 parts in 1 turns; expected at most 12"),
    ]
    for result, (_, expected) in zip(call(address, *(("ask", given) for given, _ in cases)), cases, strict=True):
        assert expected in words(result), words(result)


def test_an_error_of_the_model_is_the_tools(serving: Any, opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("weights of /srv/models/secret.safetensors")

    monkeypatch.setattr(logging.getLogger("isthmus"), "propagate", True)
    with serving() as address, monkeypatch.context() as patch:
        for broken in ("begin", "prompts"):
            patch.setattr(opened.model, broken, fails)
            (result,) = call(address, ("ask", {"text": "a"}))
            assert words(result) == "The server failed to answer this request; its log says why."
            patch.undo()
        assert not call(address, ("ask", {"text": "a"}))[0].is_error, "no place was lost"


def test_a_key_is_needed_where_there_are_keys(serving: Any) -> None:
    async def listed(address: str, key: str) -> int:
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}) as own:
            async with Client(streamable_http_client(f"{address}/mcp", http_client=own)) as client:
                return len((await client.list_tools()).tools)

    with serving(keys=Keys([hashlib.sha256(b"open sesame").digest()]), hosts=("127.0.0.1",)) as address:
        assert asyncio.run(listed(address, "open sesame")) == 4
        for headers in (HEADERS, HEADERS | {"authorization": "Bearer other"}):
            refused = httpx.post(f"{address}/mcp", json=message(text="a"), headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        rebound = httpx.post(f"{address}/mcp", json=message(text="a"), headers=HEADERS | {"host": "evil.example"})
        assert rebound.status_code == 421
        with pytest.raises(ExceptionGroup) as left_out:
            asyncio.run(listed(address, "other"))
        assert "Server returned an error response" in "".join(traceback.format_exception(left_out.value))


def test_what_isnt_read(address: str) -> None:
    def post(content: Any, **headers: str) -> httpx.Response:
        return httpx.post(f"{address}/mcp", content=content, headers=HEADERS | headers)

    text = json.dumps(message(text="a"))
    assert post(text, origin="https://evil.example").status_code == 403
    assert post(text, **{"content-type": "text/plain"}).status_code == 415
    assert post(" " * (3 << 20)).status_code == 413
    assert [post(iter([b" " * (1 << 20)] * 3)).status_code for _ in range(5)] == [413] * 5, "no place is lost"
    for method in ("GET", "DELETE"):  # a stream that says nothing, and the end of a session: there are none
        assert httpx.request(method, f"{address}/mcp", headers=HEADERS).status_code == 405
    hostile = [
        "",
        "null",
        "[]",
        "3",
        "{}",
        "[" * 100_000,
        '{"a":' * 50_000,
        '"\ud800"'.encode("utf-8", "surrogatepass"),
    ]
    hostile += [json.dumps([message(text="a")]), text.replace('"ask"', '"../ask"'), text.replace('"a"', '"\\ud83d"')]
    hostile += [text.replace("tools/call", "resources/read"), text.replace('{"text": "a"}', "[1]")]
    for content in hostile:
        for version in ({}, MODERN):
            response = post(content, **version)
            assert response.status_code < 500, (content[:40], response.text)
            assert response.headers["x-content-type-options"] == "nosniff" and "site-packages" not in response.text
            found = response.json()
            assert "error" in found or found["result"]["isError"], (content[:40], response.text)


def test_who_leaves_frees_a_slot_and_is_logged_without_words(
    address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("isthmus"), "propagate", True)
    caplog.set_level(logging.DEBUG, "isthmus")
    caplog.set_level(logging.INFO, "mcp")
    body = json.dumps(message(text="the secret word", max_tokens=400)).encode()
    host, port = address.removeprefix("http://").split(":")
    lines = [f"{name}: {value}" for name, value in HEADERS.items()]
    head = "\r\n".join(["POST /mcp HTTP/1.1", f"Host: {host}", *lines, f"Content-Length: {len(body)}", "", ""])
    for _ in range(4):  # as many as there are places
        with socket.create_connection((host, int(port))) as left:
            left.sendall(head.encode() + body)
            wait_for(lambda: jobs(address) > 0)
    wait_for(lambda: jobs(address) == 0 and 'route="/mcp",status="499"' in httpx.get(f"{address}/metrics").text)
    assert not call(address, ("ask", {"text": "the secret word"}))[0].is_error
    wait_for(lambda: "POST /mcp 200" in caplog.text)
    assert "secret" not in caplog.text and "Traceback" not in caplog.text


def jobs(address: str) -> float:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("isthmus_jobs{"))
