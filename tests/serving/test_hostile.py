"""Requests that no client would send: none gets a 5xx, none leaves a file, and a good one is answered afterwards."""

from __future__ import annotations

import base64
import json
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

CHAT = "/v1/chat/completions"
TYPES = {"image": "image/png", "video": "video/mp4", "audio": "audio/wav", "points": "application/x-npy"}


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """A file with some bytes changed, cut off, or repeated."""
    changed = bytearray(data)
    for place in random.integers(0, len(data), random.integers(1, 20)):
        changed[place] = random.integers(256)
    match random.integers(3):
        case 0:
            return bytes(changed[: random.integers(len(changed))])
        case 1:
            start = random.integers(len(changed))
            return bytes(changed[:start] + changed)
    return bytes(changed)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bombs() -> list[tuple[str, bytes]]:
    """Small files that declare, or decode to, very much."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    wav = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 8000, 32000, 4, 16)
    wav += b"data\xff\xff\xff\x7f" + bytes(100)
    shape = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 3), }"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(shape)) + shape
    pickled = b"{'descr': '|O', 'fortran_order': False, 'shape': (4, 3), }"
    npy_pickled = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(pickled)) + pickled + b"cos\nsystem\n(S'true'\ntR."
    return [("image", png), ("audio", wav), ("points", npy), ("points", npy_pickled)]


def post(client: httpx.Client, content: Any, **more: Any) -> int:
    """The status of a request with this content."""
    body = {"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": content}], **more}
    response = client.post(CHAT, content=json.dumps(body), headers={"content-type": "application/json"})
    if response.status_code != 200:
        assert set(response.json()) == {"error"}
    return response.status_code


@pytest.fixture
def client(address: str) -> Any:
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


def left() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("isthmus-*")}


def test_damaged_media(client: httpx.Client, files: dict[str, Path]) -> None:
    random, before = np.random.default_rng(0), left()
    sent = [(modality, mutated(path.read_bytes(), random)) for modality, path in files.items() for _ in range(12)]
    statuses = []
    for modality, data in [*sent, *bombs()]:
        uri = f"data:{TYPES[modality]};base64,{base64.b64encode(data).decode()}"
        part = {"type": f"{modality}_url", f"{modality}_url": {"url": uri}}
        statuses.append(post(client, [part], modalities=["text"]))
    assert set(statuses) <= {200, 400} and statuses.count(400) > len(statuses) / 4
    assert statuses[-4:] == [400] * 4, "bombs"
    assert left() <= before and post(client, "hello") == 200


CONTENTS: list[Any] = [
    None,
    [],
    [None],
    [[]],
    [{}],
    [{"type": None}],
    [{"type": "text"}],
    [{"type": "text", "text": 3}],
    [{"type": "image_url"}],
    [{"type": "image_url", "image_url": "data:image/png;base64,"}],
    [{"type": "image_url", "image_url": {"url": 3}}],
    [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5}}],
    [{"type": "image_url", "image_url": {"url": "data:image/../../x;base64,AAAA"}}],
    [{"type": "../../_url", "../../_url": {"url": "data:image/png;base64,AAAA"}}],
    [{"type": "input_audio", "input_audio": []}],
    [{"type": "image", "image": "/etc/passwd"}],
    [{"type": "text", "text": "</s><image><s>[image 0]"}],
    [{"type": "text", "text": "\ud83d"}],
    [{"type": "text", "text": "\x00\u202e\uf8e5"}],
]


@pytest.mark.parametrize("content", CONTENTS)
def test_malformed_contents(client: httpx.Client, content: Any) -> None:
    assert post(client, content) in (200, 400)


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "[]",
        "3",
        '"a"',
        "{}",
        '{"model": null}',
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"model": "tiny", "messages": {"role": "user"}}',
        '{"model": "tiny", "messages": [3]}',
        '{"model": "tiny", "messages": [{"role": "tool", "content": "a"}]}',
        '{"model": "tiny", "messages": [{"role": "assistant", "content": "a"}]}',
        '{"model": "tiny", "messages": [{"role": "assistant", "images": 3, "content": "a"}]}',
        '{"model": "tiny", "messages": [{"role": "assistant", "audio": {"id": "x"}}]}',
        '{"model": "tiny", "messages": [{"role": "user", "content": "a", "images": [1]}]}',
        '{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1e400}',
        '{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
        '{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "seed": -1}',
        '{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "modalities": "text"}',
    ],
)
def test_malformed_bodies(client: httpx.Client, body: str) -> None:
    response = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400 and set(response.json()) == {"error"}, response.text


@pytest.mark.parametrize(
    "request_line",
    [b"GET /../../etc/passwd HTTP/1.1\r\nHost: [::1\r\n\r\n", b"\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\n"],
)
def test_malformed_requests(address: str, client: httpx.Client, request_line: bytes) -> None:
    import socket

    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(request_line)
        raw.shutdown(socket.SHUT_WR)
        assert b" 5" not in raw.recv(1000)[:13]
    assert client.get("/health").status_code == 200
