"""A hub on loopback: the routes of the real one that fetching and pushing a model use, and the faults of networks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

LARGE = (".safetensors", ".gguf", ".bin", ".pt")
"""Endings of files that the hub keeps in LFS: named by their SHA-256, and served from elsewhere after a redirect."""


@dataclass
class Repository:
    """Files of each commit, what revisions point to, and the licence of the card."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    licence: str = ""
    private: bool = False


class LoopbackHub:
    """What is served, what was asked for, and what goes wrong.

    Attributes:
        requests: method and path of each, with ``Range`` where one was asked for.
        cut: name of a file -> after so many bytes the connection is closed, once.
        down: names of files that are answered by 500.
        wrong: names of files whose content differs from what the listing says.
        gated: repositories whose terms nobody has accepted.
        token: that whoever pushes must have.
        stored: large files that were pushed, by their SHA-256.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.cut: dict[str, int] = {}
        self.down: set[str] = set()
        self.wrong: set[str] = set()
        self.gated: set[str] = set()
        self.token = "hf_loopback"
        self.stored: dict[str, bytes] = {}

    def add(self, repository: str, files: Mapping[str, bytes] | Path, revision: str = "main", licence: str = "") -> str:
        """Commits files, or all of a folder, to a revision; returns the commit."""
        if isinstance(files, Path):
            files = {own.relative_to(files).as_posix(): own.read_bytes() for own in files.rglob("*") if own.is_file()}
        own = self.repositories.setdefault(repository, Repository())
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        own.files[commit] = dict(files)
        own.revisions[revision] = commit
        own.licence = licence or own.licence
        return commit

    def content(self, repository: str) -> dict[str, bytes]:
        """A repository's files today."""
        own = self.repositories[repository]
        return own.files.get(own.revisions.get("main", ""), {})

    def fetched(self) -> list[str]:
        """Names of the files whose content was asked for, in order."""
        asked = [request.split()[1] for request in self.requests if request.startswith("GET")]
        return [path.rpartition("/")[2] for path in asked if "/resolve/" in path]


def blob_id(content: bytes) -> str:
    """git's name for a file's content."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def sibling(name: str, content: bytes) -> dict[str, Any]:
    """A file as the API tells it."""
    found: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob_id(content)}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
    return found


class Handler(BaseHTTPRequestHandler):
    """Answers for the ``hub`` of its class."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self.requests_of("PUT")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.stored[self.path.rpartition("/")[2]] = content
        self._json({})

    def do_POST(self) -> None:
        path = self.requests_of("POST")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401, "Unauthorized")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", path):
            named = [file["path"] for file in json.loads(body)["files"]]
            modes = [(name, "lfs" if name.endswith(LARGE) else "regular") for name in named]
            files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]
            self._json({"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            host = f"http://{self.headers['Host']}"
            wanted = json.loads(body)["objects"]
            actions = [{"upload": {"href": f"{host}/lfs/{own['oid']}"}} for own in wanted]
            objects = [own | {"actions": action} for own, action in zip(wanted, actions, strict=True)]
            self._json({"transfer": "basic", "objects": objects})
        elif commit := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self._commit(commit[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._refuse(404, "EntryNotFound")

    def requests_of(self, method: str) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{method} {path}")
        return path

    def _create(self, wanted: dict[str, Any]) -> None:
        name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
        told = {"url": f"http://{self.headers['Host']}/{name}"}
        if name in self.hub.repositories:
            self._json(told, 409)
            return
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        self.hub.add(name, {".gitattributes": b"*.safetensors filter=lfs"})
        self.hub.repositories[name].private = private
        self._json(told)

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.hub.content(name))
        for line in lines:
            own = line["value"]
            match line["key"]:
                case "file":
                    files[own["path"]] = base64.b64decode(own["content"])
                case "lfsFile":
                    files[own["path"]] = self.hub.stored[own["oid"]]
                case "deletedFile":
                    del files[own["path"]]
        commit = self.hub.add(name, files)
        self._json({"commitUrl": f"http://{self.headers['Host']}/{name}/commit/{commit}", "commitOid": commit})

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range")
        self.hub.requests.append(f"{self.command} {path}" + (f" {asked}" if asked else ""))
        if told := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._model(told[1], told[2] or "main")
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(file[1], file[2], file[3])
        elif stored := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            content = self._content(stored[1], stored[2], stored[3])
            assert content is not None
            self._send(content, stored[3])
        else:
            self._refuse(404, "EntryNotFound")

    def _model(self, name: str, revision: str) -> None:
        own = self.hub.repositories.get(name)
        commit = None if own is None else own.revisions.get(revision, revision)
        if own is None or commit not in own.files:
            self._refuse(404, "RepoNotFound" if own is None else "RevisionNotFound")
            return
        if name in self.hub.gated:
            self._refuse(403, "GatedRepo")
            return
        siblings = [sibling(each, content) for each, content in own.files[commit].items()]
        card = {"license": own.licence} if own.licence else {}
        self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "cardData": card, "tags": []})

    def _content(self, name: str, revision: str, file: str) -> bytes | None:
        own = self.hub.repositories.get(name)
        return None if own is None else own.files.get(own.revisions.get(revision, revision), {}).get(file)

    def _file(self, name: str, revision: str, file: str) -> None:
        content = self._content(name, revision, file)
        if content is None:
            self._refuse(404, "EntryNotFound")
        elif file in self.hub.down:
            self._refuse(500, "InternalError")
        elif file.endswith(LARGE):
            self.send_response(302)
            self.send_header("Location", f"/cdn/{name}/{revision}/{file}")
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Repo-Commit", revision)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send(content, file)

    def _send(self, content: bytes, file: str) -> None:
        tag = hashlib.sha256(content).hexdigest() if file.endswith(LARGE) else blob_id(content)
        if file in self.hub.wrong:
            content = bytes(byte ^ 1 for byte in content)
        begin = 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            begin = int(asked[1])
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{tag}"')
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        if self.command == "GET":
            end = self.hub.cut.pop(file, len(content))
            self.wfile.write(content[begin:end])
            if end < len(content):
                self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        self._json({"error": code}, status, {"X-Error-Code": code, "X-Error-Message": code})

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, own in (
            {"Content-Type": "application/json", "Content-Length": str(len(body))} | dict(headers or {})
        ).items():
            self.send_header(name, own)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def served() -> Iterator[tuple[LoopbackHub, str]]:
    """A hub while the block runs, and its address."""
    hub = LoopbackHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def reached(cache: Path, patch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The same, reached by this process's ``huggingface_hub``, which read its environment when it was imported."""
    from huggingface_hub import constants

    from isthmus.hub.address import _commit

    with served() as (hub, address):
        patch.setattr(constants, "ENDPOINT", address)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # what is lost of a broken connection; 10 MB otherwise
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        _commit.cache_clear()
        yield hub
        _commit.cache_clear()
