"""The app at ``/``: what it serves and to whom, and that the API beside it is unchanged."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from served import LIMITS, served, wait_for
from starlette.requests import Request

from isthmus.inference.pipeline import Pipeline
from isthmus.serving.app import create_app
from isthmus.serving.errors import ApiError
from isthmus.serving.guard import uploads
from isthmus.serving.guard.uploads import PREFIX
from isthmus.serving.keys import Keys
from isthmus.serving.server import Server
from isthmus.serving.web.attaching import remove_uploads
from isthmus.serving.web.files import file_routes
from isthmus.serving.web.mounting import UPLOAD, Gate
from isthmus.serving.web.showing import FILES
from isthmus.serving.web.talks import Shown, Talks, Turn, root

JOIN = "/gradio_api/queue/join"


def test_the_page_needs_no_network_and_tells_what_is_loaded(paged: str) -> None:
    response = httpx.get(f"{paged}/")
    policy = response.headers["content-security-policy"]
    assert response.status_code == 200 and "default-src 'none'" in policy and "http" not in policy
    assert response.headers["x-frame-options"] == "DENY" and "access-control-allow-origin" not in response.headers
    page = response.text
    assert "ImageBind" in page and "Licence" in page and "Any-to-any matrix" in page and "0.500 [0.20, 0.80]" in page
    assert str(root()) not in page and "fonts.googleapis" not in page
    assert httpx.get(f"{paged}/app/gallery?model=words").status_code == 404
    gallery = httpx.get(f"{paged}/app/gallery?model=tiny")
    assert gallery.text == "<p>made</p>" and "sandbox" in gallery.headers["content-security-policy"]


def test_the_api_is_unchanged_beside_it(paged: str) -> None:
    assert httpx.get(f"{paged}/v1/chat/completions").json()["error"]["message"] == "GET: Method Not Allowed"
    assert httpx.get(f"{paged}/docs").json()["error"]["type"] == "not_found_error"
    for path in ("/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/proxy=http://a", "/monitoring", "/login"):
        assert httpx.get(paged + path).json()["error"]["type"] == "not_found_error", path
    assert httpx.post(f"{paged}/gradio_api/vibe-edit", json={}).status_code == 404


def test_other_sites_addresses_and_large_bodies_are_refused(paged: str) -> None:
    for headers in ({"origin": "http://evil.example"}, {"origin": "http://["}, {"sec-fetch-site": "cross-site"}):
        assert httpx.post(paged + JOIN, json={}, headers=headers).status_code == 403
    event = {"data": [{"text": "", "files": [{"path": "http://10.0.0.1/a.png"}]}], "fn_index": 0, "session_hash": "a"}
    refused = httpx.post(paged + JOIN, json=event)
    assert refused.status_code == 400 and "no address is fetched" in refused.json()["error"]["message"]
    assert httpx.post(paged + JOIN, content=b"{" + b" " * (2 << 20)).status_code == 413
    assert httpx.post(f"{paged}/gradio_api/upload", content=iter([b"a"])).status_code == 411
    assert httpx.get(f"{paged}/gradio_api/file=http://10.0.0.1/a.png").status_code == 404
    for path in ("/etc/passwd", f"{root()}/../../etc/passwd"):
        assert httpx.get(f"{paged}/gradio_api/file={path}").status_code in (403, 404)
    assert httpx.get(f"{paged}/app/files/..%2f..%2f/passwd").status_code == 404


def test_a_key_is_asked_for_as_a_password(opened: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("open sesame\n")
    with served(opened, has_page=True, keys=Keys.read(tmp_path / "keys")) as address:
        refused = httpx.get(f"{address}/")
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic")
        assert httpx.get(f"{address}/", auth=("anyone", "sesame")).status_code == 401
        assert httpx.get(f"{address}/", auth=("anyone", "open sesame")).status_code == 200
        assert httpx.post(address + JOIN, json={}).status_code == 401


def test_an_open_page_does_not_keep_a_stopping_server(opened: Pipeline) -> None:
    server = Server(create_app(opened, "tiny", LIMITS, has_page=True), "127.0.0.1", 0, LIMITS)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with httpx.stream("GET", f"{address}/gradio_api/heartbeat/page", timeout=60) as heartbeat:
        assert next(heartbeat.iter_text()).startswith("data: ALIVE")
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def test_conversations_are_forgotten_with_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    talks = Talks()
    talk = talks.of("page")
    path = talk.new_file(".png")
    path.write_bytes(b"picture")
    assert root() in path.parents and root().name.startswith(PREFIX), "it goes with what a killed server leaves"
    assert talks.of("page") is talk and talks.file(talk.folder.name, path.name) == path
    assert talks.file(talk.folder.name, f"../{talk.folder.name}/{path.name}") is None
    assert talks.file("another", path.name) is None
    talks.leave("page")
    assert path.exists(), "its page may come back"
    monkeypatch.setattr("isthmus.serving.web.talks.AWAY", -1.0)
    talks.tidy()
    assert not path.exists() and talks.of("page") is not talk and talks.of("other") is not talk
    monkeypatch.setattr("isthmus.serving.web.talks.MOST", 2)
    talks.of("third")
    assert len(talks._talks) == 2, "the one that was unused for longest made room"
    talks.close()
    assert not talks.folder.exists()


def test_files_of_conversations_that_are_gone(paged: str) -> None:
    assert httpx.get(f"{paged}{FILES}/none/none.png").json()["error"]["code"] == "not_found"
    assert httpx.get(f"{paged}/app/conversations/none.zip").json()["error"]["code"] == "not_found"


def test_a_conversation_that_goes_while_it_is_saved() -> None:
    talks = Talks()
    talk = talks.of("page")
    talk.turns = [Turn("", shown=[Shown("image", talk.new_file(".png"), "")])]
    (save,) = (route for route in file_routes(talks, {}) if getattr(route, "path", "").endswith(".zip"))
    asked = Request({"type": "http", "path_params": {"folder": talk.folder.name}})
    with pytest.raises(ApiError, match="no longer kept"):
        asyncio.run(save.endpoint(asked))  # type: ignore[attr-defined]
    talks.close()


def test_uploads_are_removed_once_they_are_old(tmp_path: Path) -> None:
    for name in ("shared/a.png", "shared/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_uploads(tmp_path, 600.0)
    assert len(list(tmp_path.glob("*/*"))) == 2
    remove_uploads(tmp_path, -1.0)
    assert not list(tmp_path.iterdir())
    remove_uploads(tmp_path / "none", -1.0)


def test_uploads_that_begin_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is held against what the others have declared, though none of it is on the disk yet."""
    statuses: list[int] = []

    async def whole() -> None:
        ends = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await ends.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        gate = Gate(app, Keys(), LIMITS)
        length = [(b"content-length", b"1000")]
        scope = {"type": "http", "method": "POST", "path": UPLOAD, "headers": length, "query_string": b""}
        tasks = [asyncio.create_task(gate(dict(scope), receive, send)) for _ in range(3)]
        await asyncio.sleep(0)
        ends.set()
        await asyncio.gather(*tasks)
        await gate(dict(scope), receive, send)

    held = sum(path.stat().st_size for path in (root() / "uploads").rglob("*") if path.is_file())
    monkeypatch.setattr(uploads, "KEPT_BYTES", held + 2500)
    asyncio.run(whole())
    assert sorted(statuses[:3]) == [200, 200, 429] and statuses[3] == 200
