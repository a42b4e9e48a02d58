"""The kinds of hostile requests: each is what is sent over a connection, in pieces."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.hostile.media import Typed, largest, mutated

CHAT = "/v1/chat/completions"
MCP = "/mcp"
FETCHED = ("127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1")
"""What the server may fetch from, as it is told: names that the resolver leads to addresses that it mustn't fetch."""
ADDRESSES = (
    *(f"https://{host}/latest/meta-data/" for host in FETCHED),
    *(
        "http://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
    ),
    *("https://127.0.0.1:8000/", "https://user@127.0.0.1/", "https://evil.example\\@127.0.0.1/", "https://0/"),
    *("file:///etc/passwd", "ftp://10.0.0.1/", "gopher://127.0.0.1:25/", "//127.0.0.1/", "https://127.0.0.1#@a.org/"),
    *("/etc/passwd", "../../etc/passwd", "https://127.0.0.1/\r\nHost: a", "data:text/html,<script>", "jar:https://a!/"),
)
PATHS = (
    *("/../../etc/passwd", "/v1/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd"),
    *("/v1/models/%00", "/v1/models//etc/passwd", "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd"),
    *("/static/../../../etc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/file=/etc/passwd"),
    *("/gradio_api/file=https://127.0.0.1/", "/v1/videos/..%2f..%2fetc%2fpasswd/content", "/media/../../etc/passwd"),
    *(
        "/v1/models/" + "a" * 8000,
        "/\xff".encode().decode("latin-1"),
        "/docs",
        "/openapi.json",
        "/.env",
        "/metrics/../x",
    ),
)
ROUTES = (CHAT, CHAT, "/v1/responses", "/v1/images/generations", "/v1/audio/speech", "/gradio_api/queue/join")
CALL: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "ask", "arguments": {"text": "a", "max_tokens": 1, "seed": 3, "modalities": ["text"]}},
}
"""What agents send."""
FORMS = tuple(
    b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%b\r\nContent-Length: 5\r\nConnection: close\r\n\r\n--b--" % (path, head)
    for path in (b"/v1/images/edits", b"/v1/videos")
    for head in (
        b"Content-Type: multipart/form-data; boundary=b\r\nOrigin: http://[",
        b"Content-Type: multipart/form-data; boundary=b; charset=undefined",
        b"Content-Type: multipart/form-data; boundary=b; charset=unicode_escape",
        b"Content-Type: multipart/form-data; boundary=b; charset=\x00",
    )
)
"""Forms whose headers can't be read."""
UPLOAD = b"""--b\r\nContent-Disposition: form-data; name="files"; filename="../a.wav"\r\n\r\nRIFF"""
JUNK: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**63, 10**400, "", "a" * 5000, "\ud83d", "\x00\u202e", "</s><image>[image 0]", [], {}),
    *(
        [[[[[]]]]],
        {"a": {"b": []}},
        ["x"] * 200,
        "../../etc/passwd",
        "%s%n{0}{{7*7}}",
        "data:image/../../x;base64,AAAA",
    ),
)


@dataclass
class Case:
    """A request.

    Attributes:
        kind: of hostility.
        pieces: sent one after another.
        pause: seconds between them.
        says: what it is, for a report.
        leaves: whether the client closes the connection without waiting for an answer.
    """

    kind: str
    pieces: Sequence[bytes]
    pause: float = 0.0
    says: str = field(default="", repr=False)
    leaves: bool = False

    @property
    def is_page(self) -> bool:
        """Whether it goes to what a page uses, whose errors Gradio words."""
        return any(path in self.pieces[0][:40] for path in (b"/gradio_api/", b" /assets/", b" /static/"))

    @property
    def is_call(self) -> bool:
        """Whether it goes to the tools of agents, whose errors are JSON-RPC's as soon as the protocol reads them."""
        return self.pieces[0].startswith(f"POST {MCP} ".encode())


class Cases:
    """Makes cases; the seed fixes which.

    Args:
        model: whose name requests give.
        files: intact media.
        heavy: media that declare or decode to much.
        seed: of chance.
    """

    def __init__(self, model: str, files: Sequence[Typed], heavy: Sequence[Typed], seed: int) -> None:
        self.model, self.files, self.heavy = model, files, heavy
        self.random = np.random.default_rng(seed)

    def __call__(self, count: int) -> Iterator[Case]:
        """So many cases, of all kinds; most are damaged media."""
        kinds: list[tuple[Callable[[], Case], float]] = [
            *((self.damaged, 0.48), (self.declared, 0.08), (self.malformed, 0.14), (self.addressed, 0.08)),
            *((self.traversing, 0.06), (self.flood, 0.06), (self.no_http, 0.05), (self.slow, 0.03)),
            (self.crowded, 0.02),
        ]
        makers = [maker for maker, _ in kinds]
        for chosen in self.random.choice(len(makers), count, p=[share for _, share in kinds]):
            yield makers[chosen]()

    def damaged(self) -> Case:
        """A medium of any type, damaged, or under another's name."""
        modality, kind, data = self._one(self.files)
        if self.random.random() < 0.1:
            modality, kind = self._one(self.files)[0], self._one(self.files)[1]
        if modality == "audio" and self.random.random() < 0.5:
            form = {"audio/mpeg": "mp3", "audio/mp4": "m4a"}.get(kind, kind.rpartition("/")[2])
            part = {"data": _text(mutated(data, self.random)), "format": form}
            return self._chat("damaged media", [{"type": "input_audio", "input_audio": part}], kind)
        return self._chat("damaged media", [_medium(modality, kind, mutated(data, self.random))], kind)

    def declared(self) -> Case:
        """A small file that declares or decodes to much."""
        modality, kind, data = self._one(self.heavy)
        return self._chat("huge media", [_medium(modality, kind, data)], f"{kind} of {len(data)} bytes")

    def crowded(self) -> Case:
        """Very many media in one message, each of which may be sent alone."""
        modality, kind, data = largest()
        return self._chat("many bombs", [_medium(modality, kind, data)] * 60, f"60 of {len(data)} bytes")

    def malformed(self) -> Case:
        """A body that is no JSON, or has something else in some place."""
        route = self._one((*ROUTES, MCP, MCP))
        broken = copy.deepcopy(CALL if route == MCP else self._chat_of([{"type": "text", "text": "a"}]))
        if route != MCP:
            broken |= {"temperature": 0.5, "stream": False, "seed": 3, "audio": {}}
        holder, key = self._one(list(_places(broken)))
        holder[key] = self._one(JUNK)
        if "max_tokens" in broken and self.random.random() < 0.2:
            broken[str(self._one(JUNK))[:50]] = self._one(JUNK)
        text = json.dumps(broken).encode()
        match self.random.integers(6):
            case 0:
                text = mutated(text, self.random)
            case 1:
                text = self._one((b"[" * 50_000, b'{"a":' * 50_000, b"\xff\xfe", b"", b"nul", b"1e999", b'"\\ud800"'))
        return self._post("malformed JSON", text, route)

    def addressed(self) -> Case:
        """An address that the server mustn't fetch."""
        url = self._one(ADDRESSES)
        medium = self._one(("image", "audio", "video", "points"))
        return self._chat("private addresses", [{"type": f"{medium}_url", f"{medium}_url": {"url": url}}], url)

    def traversing(self) -> Case:
        """A name that leads out of a folder: in a path, a part's type, a media type or a form's file name."""
        match self.random.integers(4):
            case 0:
                name = "../../../../tmp/hostile.png"
                kind = f"data:image/{name};base64,{_text(self._one(self.files)[2])}"
                return self._chat("traversal", [{"type": "image_url", "image_url": {"url": kind}}], kind[:40])
            case 1:
                part = {"type": "../../etc/passwd_url", "../../etc/passwd_url": {"url": "data:image/png;base64,AAAA"}}
                return self._chat("traversal", [part], "a part's type")
            case 2:
                disposition = "--b\r\nContent-Disposition: form-data; name="
                form = f'{disposition}"model"\r\n\r\n{self.model}\r\n'
                form += f'{disposition}"file"; filename="../../../tmp/hostile.wav"\r\n\r\nRIFF\r\n--b--\r\n'
                route = self._one(("/v1/audio/transcriptions", "/v1/images/edits", "/gradio_api/upload", "/v1/videos"))
                return self._post("traversal", form.encode(), route, "multipart/form-data; boundary=b")
        path = self._one(PATHS)
        line = f"{self._one(('GET', 'HEAD', 'DELETE'))} {path} HTTP/1.1\r\n".encode("latin-1")
        return Case("traversal", [line + b"Host: 127.0.0.1\r\nConnection: close\r\n\r\n"], says=path[:60])

    def flood(self) -> Case:
        """Very many headers, very long ones, or ones that never end."""
        start = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        match self.random.integers(5):
            case 0:
                pieces = [start, *(b"X-%d: y\r\n" % number * 100 for number in range(60)), b"\r\n"]
            case 1:
                pieces = [start, b"X: ", *([b"a" * 65536] * 8)]
            case 2:
                pieces = [b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n", b"Host: 127.0.0.1\r\n\r\n"]
            case 3:
                pieces = [(start + b"\r\n") * 30, start + b"Connection: close\r\n\r\n"]
            case _:
                pieces = [start + b"Cookie: a=b\r\n" * 20_000 + b"Connection: close\r\n\r\n"]
        return Case("header floods", pieces, says=f"{len(pieces)} pieces")

    def no_http(self) -> Case:
        """What is nearly HTTP."""
        post = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()
        chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
        whole = self._one(
            (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /health\r\n\r\n",
                b"GET /health HTTP/1.1\r\n\r\n",
                b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX\x00: y\r\n\r\n",
                b"GET /health HTTP/1.1\r\nHost: [::1\r\nConnection: close\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                post + b"Content-Length: -1\r\n\r\n",
                post + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
                post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
                post + b"Content-Length: 99999999999\r\n\r\n{}",
                chunked + b"ffffffffffffffffffff\r\n{}",
                chunked + b"zz\r\n{}\r\n0\r\n\r\n",
                chunked + b"2\r\n{}\r\nnonsense",
                post + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
                b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                b"OPTIONS /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://a\r\nConnection: close\r\n\r\n",
                b"CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
                b"GET http://10.0.0.1/ HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n",
                b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                *FORMS,
                b"\r\n" * 50,
                b"",
            )
        )
        return Case("no HTTP", [whole], says=repr(whole[:60]))

    def slow(self) -> Case:
        """A head or a body that comes a byte at a time, or breaks off."""
        head = f"POST {self._one((CHAT, '/v1/nothing'))} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
        head += b"Content-Type: application/json\r\nContent-Length: 1000\r\n"
        match self.random.integers(4):
            case 0:
                return Case("slow", [head[:20], *([b"X"] * 100)], 0.5, "a head byte by byte")
            case 1:
                return Case("slow", [head + b"\r\n", *([b"{"] * 100)], 0.5, "a body byte by byte")
            case 2:
                start = b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n"
                start += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + UPLOAD
                return Case("slow", [start], says="an upload that breaks off", leaves=True)
        return Case("slow", [head + b"\r\n{"], says="a body that doesn't come")

    def _one(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def _chat(self, kind: str, content: Any, says: str) -> Case:
        case = self._post(kind, json.dumps(self._chat_of(content)).encode())
        case.says = says
        return case

    def _chat_of(self, content: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": content}]
        return {"model": self.model, "max_tokens": 1, "modalities": ["text"], "messages": messages}

    def _post(self, kind: str, body: bytes, path: str = CHAT, form: str = "application/json") -> Case:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {form}\r\nContent-Length: {len(body)}\r\n"
        head += "Accept: application/json, text/event-stream\r\n"
        return Case(kind, [head.encode() + b"Connection: close\r\n\r\n", body], says=repr(body[:80]))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _medium(modality: str, kind: str, data: bytes) -> dict[str, Any]:
    part = f"{modality}_url"
    return {"type": part, part: {"url": f"data:{kind};base64,{_text(data)}"}}


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key within a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)
