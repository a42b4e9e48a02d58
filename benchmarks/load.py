"""Clients of a server on loopback: each asks, reads its answer as a stream, and asks again."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Load:
    """What clients saw.

    Attributes:
        seconds: from the first request to the last answer; by the CPU clock, those that the server computed.
        tokens: of all answers.
        firsts: seconds of each request to its first piece of text.
        refused: requests that were answered by 429.
    """

    seconds: float = 0.0
    tokens: int = 0
    firsts: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    def first(self, share: float) -> float:
        """The seconds to the first piece of text that so large a share of requests didn't exceed."""
        return sorted(self.firsts)[min(len(self.firsts) - 1, int(share * len(self.firsts)))]


def loaded(
    port: int, process: int, clients: int, body: Callable[[int], dict[str, Any]], goes_on: Callable[[int, float], bool]
) -> Load:
    """The load of so many clients.

    Args:
        port: of the server.
        process: of the server.
        clients: who ask at the same time.
        body: number of a request -> its body.
        goes_on: a client's requests so far, and seconds since the beginning -> whether it asks again.
    """
    before = computed(process)
    load = asyncio.run(_loaded(port, clients, body, goes_on))
    if os.environ.get("ISTHMUS_BENCHMARK_CLOCK") == "cpu":
        load.seconds = computed(process) - before
    return load


async def _loaded(
    port: int, clients: int, body: Callable[[int], dict[str, Any]], goes_on: Callable[[int, float], bool]
) -> Load:
    load, begun, count = Load(), time.perf_counter(), 0

    async def client() -> None:
        nonlocal count
        asked = 0
        while goes_on(asked, time.perf_counter() - begun):
            asked, count = asked + 1, count + 1
            await _ask(port, body(count), load)

    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - begun
    return load


async def _ask(port: int, body: dict[str, Any], load: Load) -> None:
    """Asks once, by plain sockets: the clients take the server's cores, and must cost little."""
    content = json.dumps(body | {"stream": True, "stream_options": {"include_usage": True}}).encode()
    begun, is_first = time.perf_counter(), True
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        "Connection: close",
        f"Content-Length: {len(content)}",
    ]
    writer.write("\r\n".join([*head, "", ""]).encode() + content)
    status = (await reader.readline()).split()[1]
    if status == b"429":
        load.refused += 1
        await asyncio.sleep(0.2)
    elif status != b"200":
        raise RuntimeError((await reader.read()).decode())
    async for line in reader:
        if is_first and line.startswith(b"data: ") and b'"content": ""' not in line:
            load.firsts.append(time.perf_counter() - begun)
            is_first = False
        if line.startswith(b'data: {"error"'):
            raise RuntimeError(line.decode())
        if line.startswith(b"data: ") and b'"usage"' in line:
            load.tokens += json.loads(line[6:])["usage"]["completion_tokens"]
    writer.close()


def computed(process: int) -> float:
    """CPU seconds of a process so far, of all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(process: int) -> int:
    """Bytes of a process's memory that are in use."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])
