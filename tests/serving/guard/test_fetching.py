"""Fetching: the connection goes to the address that was checked, redirects stay on the list, and sizes are bounded.

A real TLS server answers on loopback. Loopback is never fetched, so that names resolve, and connections are made, by
functions that the tests give: one that names public addresses, and one that leads these to the server.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from isthmus.data.errors import DataError
from isthmus.serving.guard.fetching import Fetcher

PUBLIC = "93.184.216.34"
HOSTS = ("media.example.org", "other.example.org")


class Answers(BaseHTTPRequestHandler):
    """Answers by the path."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).asked.append(f"{self.headers['Host']}{self.path}")
        kind, _, rest = self.path[1:].partition("/")
        match kind:
            case "to":
                self.send_response(302)
                self.send_header("Location", rest)
                self.end_headers()
            case "endless":
                self.send_response(200)
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(bytes(1 << 14))
                except OSError:
                    return
            case "packed":
                self.answer(200, b"abc", ("Content-Encoding", "gzip"))
            case "short":
                self.answer(200, b"abc", ("Content-Length", "10"))
            case "file":
                self.answer(200, b"content", ("Content-Length", "7"), ("Content-Type", "image/png"))
            case _:
                self.answer(404, b"none")

    def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For media.example.org alone, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test -addext"
    names = "subjectAltName=DNS:media.example.org"
    subprocess.run([*command.split(), names, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture(scope="module")
def port(certificate: Path) -> Iterator[int]:
    """Of the TLS server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


class Network:
    """Names and connections of a test; it notes which were asked for."""

    def __init__(self, port: int, certificate: Path, **names: list[list[str]]) -> None:
        self.port, self.names = port, {"media.example.org": [[PUBLIC]]} | names
        self.reached: list[tuple[str, int]] = []
        self.fetcher = Fetcher(HOSTS, 1 << 16, 5.0, self.resolve, self.connect, f"{certificate}.crt")

    def resolve(self, host: str, port: int) -> list[str]:
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def connect(self, address: tuple[str, int], seconds: float) -> socket.socket:
        self.reached.append(address)
        return socket.create_connection(("127.0.0.1", self.port), seconds)

    def fetch(self, url: str, path: Path) -> dict[str, Any]:
        return self.fetcher({"url": url, "where": "url", "path": str(path)}, lambda _: None)


def test_a_file(port: int, certificate: Path, tmp_path: Path) -> None:
    network = Network(port, certificate)
    found = network.fetch("https://media.example.org/file/a.png?b", tmp_path / "a")
    assert found == {"type": "image/png", "name": "/file/a.png"} and (tmp_path / "a").read_bytes() == b"content"
    network.fetch("https://media.example.org/to/https://media.example.org/file", tmp_path / "b")
    assert network.reached == [(PUBLIC, 443)] * 3
    assert Answers.asked[-1] == "media.example.org/file"


def test_a_name_that_changes_is_looked_up_once(port: int, certificate: Path, tmp_path: Path) -> None:
    network = Network(port, certificate, **{"media.example.org": [[PUBLIC], ["127.0.0.1"]]})
    network.fetch("https://media.example.org/file", tmp_path / "a")
    assert network.reached == [(PUBLIC, 443)], "not where the name leads by now"
    with pytest.raises(DataError, match="public addresses alone"):
        network.fetch("https://media.example.org/file", tmp_path / "a")
    assert len(network.reached) == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("to/https://evil.example.org/", "found the host 'evil.example.org'"),
        ("to/http://media.example.org/file", "expected https://HOST/PATH"),
        ("to/file:///etc/passwd", "expected https://HOST/PATH"),
        ("to/https://127.0.0.1/", "found the host '127.0.0.1'"),
        ("to/https://other.example.org/file", "public addresses alone"),
        ("to//to/", "over 3 redirects"),
        ("endless", "at most 65536 bytes"),
        ("packed", "status 200"),
        ("short", "broke off"),
        ("nothing", "status 404"),
    ],
)
def test_what_is_refused(url: str, expected: str, port: int, certificate: Path, tmp_path: Path) -> None:
    network = Network(port, certificate, **{"other.example.org": [["169.254.169.254"]]})
    with pytest.raises(DataError, match=expected):
        network.fetch(f"https://media.example.org/{url}", tmp_path / "a")
    assert {address for address, _ in network.reached} == {PUBLIC}


def test_the_certificate_must_be_the_hosts(port: int, certificate: Path, tmp_path: Path) -> None:
    network = Network(port, certificate, **{"other.example.org": [[PUBLIC]]})
    with pytest.raises(DataError, match="SSLCertVerificationError"):
        network.fetch("https://other.example.org/file", tmp_path / "a")
    network.fetcher = Fetcher(HOSTS, 1 << 16, 5.0, network.resolve, network.connect)
    with pytest.raises(DataError, match="SSLCertVerificationError"):
        network.fetch("https://media.example.org/file", tmp_path / "a")
