"""Connections: clients that send nothing, a byte at a time or too much are let go."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
from served import LIMITS, wait_for

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def connected(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def ends(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    try:
        while received := connection.recv(1 << 16):
            found += received
    except ConnectionResetError:
        pass
    return found


def test_a_head_must_come(hasty: str) -> None:
    with connected(hasty) as silent, connected(hasty) as slow:
        for byte in (HEAD * 10)[:200]:
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("byte by byte it was taken for over 10 s")
        assert ends(silent) == b""


def test_the_rest_of_a_body_that_nobody_reads(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(HEAD.replace(b"/v1/chat", b"/v1/no") + b"Content-Length: 100000\r\n\r\n")
        try:
            for _ in range(200):
                connection.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            return
    pytest.fail("it was read for over 10 s")


@pytest.mark.parametrize("sent", [b"X: " + b"a" * 40_000, b"nonsense\r\n\r\n", b"Content-Length: -1\r\n\r\n"])
def test_what_is_refused_below_the_routes_has_the_form_of_every_error(address: str, sent: bytes) -> None:
    with connected(address) as connection:
        connection.sendall(HEAD + sent)
        head, _, body = ends(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and b"x-content-type-options: nosniff" in head
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_nonsense_in_the_middle_of_an_answer(address: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 40, "stream": True}
    data = json.dumps(body).encode()
    with connected(address) as connection:
        connection.sendall(HEAD + f"Content-Length: {len(data)}\r\n\r\n".encode() + data + b"\0nonsense\r\n\r\n")
        assert ends(connection).startswith(b"HTTP/1.1 200")
    assert httpx.get(f"{address}/health").status_code == 200


def late_uploads(address: str) -> float:
    """Answers of 408 by what isn't the API."""
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if 'route="other",status="408"}' in line and "_total" in line)


def test_an_upload_for_a_page_that_breaks_off(paged: str, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="../a.wav"\r\n\r\nRIFF'
    before = late_uploads(paged)
    with connected(paged) as late:
        late.sendall(head + part)
        assert ends(late).startswith(b"HTTP/1.1 408")
    with connected(paged) as leaves:
        leaves.sendall(head + part)
    wait_for(lambda: late_uploads(paged) == before + 2)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("body", ['"\\ud800"', "1e999", '{"secret": "\\ud83d"}', "null", "[]"])
def test_a_page_body_that_json_cannot_repeat(body: str, paged: str, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{paged}/gradio_api/queue/join", content=body, headers=headers)
    assert (response.status_code, set(response.json())) == (400, {"error"})
    assert "Traceback" not in caplog.text and "secret" not in response.text


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lines about connections that were closed."""
    return [record.getMessage() for record in caplog.records if "were closed" in record.getMessage()]


@pytest.fixture
def crowded(serving: Any) -> Iterator[str]:
    from dataclasses import replace

    with serving(limits=replace(LIMITS, connections=3)) as address:
        yield address


def test_more_connections_than_may_be_open(crowded: str, caplog: pytest.LogCaptureFixture) -> None:
    some = [connected(crowded) for _ in range(3)]
    begun = time.monotonic()
    for _ in range(20):
        with connected(crowded) as one_more:
            assert ends(one_more) == b""
    wait_for(lambda: sum(int(line.split()[-3]) for line in told(caplog)) == 20)
    assert len(told(caplog)) <= time.monotonic() - begun + 1, "at most a line a second"
    for connection in some:
        connection.close()
    with httpx.Client(base_url=crowded, transport=httpx.HTTPTransport(retries=3)) as client:
        assert client.get("/health").status_code == 200
