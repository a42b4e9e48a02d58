"""Around the routes: keys, hosts, headers, bodies, figures, logs, and paths that don't leave the server."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn
from served import wait_for
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from isthmus.cli.serve import parser
from isthmus.inference.pipeline import Pipeline
from isthmus.serving.errors import ApiError, api_error
from isthmus.serving.keys import Keys
from isthmus.serving.limits import ServingLimits
from isthmus.serving.server import configured

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "the secret word"}], "max_tokens": 2}


def test_health_readiness_and_headers(address: str) -> None:
    for path, body in (("/health", {"status": "ok"}), ("/ready", {"status": "ready"})):
        response = httpx.get(address + path)
        assert response.status_code == 200 and response.json() == body
        assert response.headers["x-content-type-options"] == "nosniff" and "server" not in response.headers
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in response.headers
    assert httpx.get(f"{address}/docs").json()["error"]["type"] == "not_found_error"
    wrong = httpx.get(address + CHAT)
    assert wrong.json()["error"]["message"] == "GET: Method Not Allowed" and wrong.headers["allow"] == "POST"


def test_figures(address: str) -> None:
    def tokens() -> float:
        lines = httpx.get(f"{address}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('isthmus_tokens_total{kind="answer"}'))

    before = tokens()
    answer = httpx.post(address + CHAT, json=BODY, timeout=60).json()
    assert tokens() - before == answer["usage"]["completion_tokens"]
    counted = f'isthmus_requests_total{{route="{CHAT}",status="200"}}'
    wait_for(lambda: counted in httpx.get(f"{address}/metrics").text)
    text = httpx.get(f"{address}/metrics").text
    assert 'isthmus_jobs{state="decoding"} 0.0' in text and "secret" not in text


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"content": "{}"}, 415, "invalid_content_type"),
        ({"content": "{", "headers": JSON}, 400, "invalid_json"),
        ({"content": b"\xff", "headers": JSON}, 400, "invalid_json"),
        ({"content": " " * (3 << 20), "headers": JSON}, 413, "body_too_large"),
        (
            {"content": iter([b" " * (1 << 20)] * 3), "headers": JSON},
            413,
            "body_too_large",
        ),
    ],
)
def test_bodies(address: str, options: dict[str, Any], status: int, code: str) -> None:
    response = httpx.post(address + CHAT, **options)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_a_slow_body_is_given_up(hasty: str) -> None:
    host, port = hasty.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        slow.sendall(head.encode() + b"{")
        slow.settimeout(30)
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_keys_and_hosts(serving: Any, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"second").hexdigest()
    (tmp_path / "keys").write_text(f"\ufefffirst\n# of the lab\na#b\nsha256:{digest.upper()}\n")
    with serving(keys=Keys.read(tmp_path / "keys"), hosts=("127.0.0.1", "Demo.Example.org")) as address:
        assert httpx.get(f"{address}/health", headers={"host": "demo.example.org"}).status_code == 200
        for key in ("Bearer first", "bearer second", "Bearer a#b"):
            assert httpx.get(f"{address}/v1/models", headers={"authorization": key}).status_code == 200
        for key in (
            "Bearer third",
            "Basic first",
            "Bearer",
            "Bearer a",
            f"Bearer {digest}",
            f"Bearer sha256:{digest.upper()}",
        ):
            assert httpx.get(f"{address}/v1/models", headers={"authorization": key}).status_code == 401
        assert httpx.get(f"{address}/v1/models").json()["error"]["code"] == "invalid_api_key"
        assert httpx.get(f"{address}/health").status_code == 200
        rebound = httpx.get(f"{address}/health", headers={"host": "evil.example"})
        assert rebound.status_code == 421 and rebound.headers["x-frame-options"] == "DENY"
    one, two = Keys([hashlib.sha256(key).digest() for key in (b"first", b"second")]), Keys()
    assert one.client("Bearer first", "a") == one.client("bearer first", "b") != one.client("Bearer second", "a")
    assert two.client("Bearer first", "a") == two.client(None, "a") != two.client("Bearer first", "b")
    with pytest.raises(ValueError, match="found no key"):
        (tmp_path / "none").write_text("# nothing\n")
        Keys.read(tmp_path / "none")
    for line in (f"sha256:{digest[:-1]}", f"SHA256:{digest}  # Ann's", "sha256:"):
        (tmp_path / "wrong").write_text(f"first\n{line}\n")
        with pytest.raises(ValueError, match="line 2 has no digest") as wrong:
            Keys.read(tmp_path / "wrong")
        assert digest[:8] not in str(wrong.value)
    with pytest.raises(ValueError, match="can't be read"):
        Keys.read(tmp_path / "gone")


def test_a_client_cannot_say_that_it_has_another_address() -> None:
    async def tells(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(scope["client"][0])(scope, receive, send)

    server = uvicorn.Server(configured(tells, "127.0.0.1", 0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "8.8.8.8"})
    server.should_exit = True
    thread.join()
    assert answer.json() == "127.0.0.1"


def test_logs_hold_no_contents(address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("isthmus", "isthmus.serving"):  # a command that ran before in this process may have set them
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, name)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,secret00"}}
    refused = BODY | {"messages": [{"role": "user", "content": [part]}]}
    with caplog.at_level(logging.DEBUG):
        assert httpx.post(address + CHAT, json=refused, timeout=60).status_code == 400
        assert httpx.post(address + CHAT, content='{"secret":', headers=JSON).status_code == 400
        httpx.post(address + CHAT, json=BODY, timeout=60)
        httpx.post(f"{address}/v1/secret", json=BODY)
        wait_for(lambda: "POST /v1/chat/completions 200" in caplog.text and "POST other 404" in caplog.text)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("http", "openai"))]
    assert ours and "secret" not in "".join(ours)  # clients log addresses in this process


def test_no_other_sites_page_may_read_answers(address: str) -> None:
    asks = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    asks |= {"access-control-request-headers": "content-type, authorization"}
    for response in (httpx.options(address + CHAT, headers=asks), httpx.get(f"{address}/v1/models", headers=asks)):
        assert not [name for name in response.headers if name.startswith("access-control-")]
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert httpx.options(address + CHAT, headers=asks).status_code == 405


def test_only_this_machine_reaches_it_by_default() -> None:
    defaults = parser().get_defaults()
    assert (defaults.host, defaults.fetch, defaults.api_keys) == ("127.0.0.1", "", None)


def test_a_bug_is_told_without_its_words(serving: Any, opened: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("weights of /srv/models/secret.safetensors")

    with serving() as address, monkeypatch.context() as patch:
        patch.setattr(opened.model, "begin", fails)
        response = httpx.post(address + CHAT, json=BODY)
        assert response.status_code == 500 and response.json()["error"]["code"] == "internal_error"
        streamed = httpx.post(address + CHAT, json=BODY | {"stream": True}).text.split("\n\n")
        assert json.loads(streamed[1].removeprefix("data: "))["error"]["code"] == "internal_error"
        patch.setattr(opened.model, "prompts", fails)
        assert httpx.post(address + CHAT, json=BODY).json()["error"]["code"] == "internal_error"
        patch.undo()
        assert httpx.post(address + CHAT, json=BODY, timeout=60).status_code == 200, "no place was lost"


def test_paths_of_the_server_are_taken_out() -> None:
    told = ApiError(
        400, "a: found /srv/models/x y.png and image/png at http://host/a/b; see /tmp/isthmus-1/medium.png."
    )
    assert told.message == "a: found [path] y.png and image/png at http://host/a/b; see [path]"
    try:
        int("a secret")
    except ValueError as error:
        assert api_error(error).status == 500, "it isn't worded for users"


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="serve slots: found 0; expected a number of at least 1"):
        ServingLimits(slots=0)
    with pytest.raises(ValueError, match="serve media_wait: found nan"):
        ServingLimits(media_wait=math.nan)
    assert ServingLimits(queue=0).queue == 0
